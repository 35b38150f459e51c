"""Whether the three distributions are what they say: densities of mass one, and draws that follow them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from pyro.distributions.constraints import sphere
from scipy.stats import binom
from torch import Tensor
from torch.distributions import biject_to

from pyro_vae.checks.case import Case, Check, base_constraint, small
from pyro_vae.checks.report import Finding, worst
from pyro_vae.checks.statistics import mean_is_zero
from pyro_vae.distributions import TorchToPyro
from pyro_vae.distributions.columns import Columns
from pyro_vae.distributions.grid import Grid
from pyro_vae.evaluation.real_codes import support_of

__all__ = ["CHECKS"]

Draw = Callable[[tuple[int, ...]], Tensor]  # what a distribution's sample or rsample is

_SECTION = "Distributions"
_DRAWS = 2000
_LOOK = "look for a missing constant, Jacobian or normalisation"
_ELEMENTS = 50  # of a likelihood's many, chosen at random
_MOST = 20_000  # values of a count that are summed over
_OVERLAP = 0.02  # of a density and a normal; with less the two sides of the bridge are both nothing


# What is looked at: p(z) for one example, q(z|x) for a few, and the elements of p(x|z).


def _prior(case: Case) -> Any:
    return case.exact.rows(0, 1).prior()


def _posterior(case: Case) -> Any:
    return case.exact.rows(0, 3).posterior()


def _likelihood(case: Case) -> Any:
    p = case.exact.rows(0, 3)
    return p.likelihood(p.draw(1)[0])


def _elements(distribution: Any) -> Iterator[Any]:
    """The distribution without the dimensions that only count, column by column where columns differ."""
    while True:
        if isinstance(distribution, TorchToPyro):
            distribution = distribution.base
        elif isinstance(distribution, (torch.distributions.Independent, dist.MaskedDistribution)):
            distribution = distribution.base_dist
        else:
            break
    if isinstance(distribution, Columns):
        for column in distribution.columns:
            yield from _elements(column)
    else:
        yield distribution


# The mass of a density.


def _mass(distribution: Any, case: Case) -> Finding:
    elements = list(_elements(distribution))
    part = replace(case, level=case.level / len(elements))
    with torch.no_grad(), case.seeded(10):
        return worst([_mass_of(element, part) for element in elements])


def _mass_of(d: Any, case: Case) -> Finding:
    if isinstance(d, dist.Delta):
        return Finding("skipped", "a point has no density")
    if (values := _values(d)) is not None:
        return _is_one(d.log_prob(values).logsumexp(0), 1e-6)
    support = base_constraint(support_of(d))
    if support.is_discrete:
        return _mass_of_counts(d, support)
    if not d.event_shape:
        return _is_one(_line(d, case), 1e-3)
    transform = _to_reals(d)
    if transform is None:
        return Finding("skipped", f"no way to integrate over {type(support).__name__.strip('_').lower()} is known")
    if transform.inv(d.sample()).shape[-1] <= 2:
        return _is_one(_plane(d, transform), 1e-2)
    return _mass_by_bridge(d, transform, case)


def _values(d: Any) -> Tensor | None:
    """All values, ``(values, *batch, *event)``, where they can be listed."""
    if d.has_enumerate_support:
        return d.enumerate_support(expand=True)
    support = base_constraint(support_of(d))
    if not isinstance(support, Grid) or d.event_shape:
        return None
    values = support.from_index(torch.arange(support.levels, dtype=d.sample().dtype))
    return values.view(-1, *(1 for _ in d.batch_shape)).expand(-1, *d.batch_shape)


def _is_one(log_mass: Tensor, tolerance: float) -> Finding:
    mass = log_mass.exp().flatten()
    worst_ = mass[(mass - 1).abs().nan_to_num(math.inf).argmax()].item()
    failed = not abs(worst_ - 1) <= tolerance
    detail = (
        f"the mass is {worst_:.6g} and not 1: look for a missing constant, Jacobian or normalisation" if failed else ""
    )
    return Finding("failed" if failed else "passed", detail, worst_ - 1, None, tolerance)


def _mass_of_counts(d: Any, support: Any) -> Finding:
    """A sum over the whole numbers, to far beyond what is drawn."""
    if d.event_shape:
        return Finding("skipped", "the values of a vector of counts are too many to sum over")
    drawn = d.sample((200,))
    top = int(min(_MOST, 10 * drawn.max().item() + 50 * drawn.std().item() + 100))
    start = int(getattr(support, "lower_bound", 0))
    keep = small(drawn[0], _ELEMENTS, 0)
    counts = torch.arange(start, start + top + 1, dtype=drawn.dtype, device=drawn.device)
    shape = (-1, *(1 for _ in d.batch_shape))
    log_p = torch.cat(
        [d.log_prob(c.view(shape).expand(-1, *d.batch_shape)).flatten(1)[:, keep] for c in counts.split(500)]
    )
    return _is_one(log_p.logsumexp(0), 1e-3)


def _line(d: Any, case: Case) -> Tensor:
    """Log-mass of each of some elements, by the trapezium rule along t in u = middle + width sinh(t), in the reals."""
    transform = biject_to(support_of(d))
    u = transform.inv(d.sample((401,)))
    middle, width = u.median(0).values, u.std(0).clamp_min(1e-12)
    t = torch.linspace(-10, 10, 4001, dtype=u.dtype, device=u.device)
    keep = small(middle, _ELEMENTS, case.seed)
    found = []
    # Spread along t: the elements of a batch all at once, a slice of t at a time.
    for part in t.split(200):
        at = part.view(-1, *(1 for _ in d.batch_shape))
        points = middle + width * torch.sinh(at)
        log_density = _log_density(d, transform, points) + torch.log(width * torch.cosh(at))
        found.append(log_density.flatten(1)[:, keep])
    return torch.cat(found).logsumexp(0) + math.log((t[1] - t[0]).item())


def _plane(d: Any, transform: Any) -> Tensor:
    """Log-mass over one or two dimensions, on a grid along the axes of the draws."""
    u = transform.inv(d.sample((401,)))
    middle, width = u.mean(0), u.std(0).clamp_min(1e-12)
    t = torch.linspace(-6, 6, 301, dtype=u.dtype, device=u.device)
    grid = torch.cartesian_prod(*[t] * u.shape[-1]).view(-1, u.shape[-1])
    found = []
    for part in grid.split(10_000):
        at = part.view(-1, *(1 for _ in d.batch_shape), u.shape[-1])
        points = middle + width * torch.sinh(at)
        log_density = _log_density(d, transform, points)
        found.append(log_density + torch.log(width * torch.cosh(at)).sum(-1))
    return torch.cat(found).logsumexp(0) + u.shape[-1] * math.log((t[1] - t[0]).item())


def _log_density(d: Any, transform: Any, u: Tensor) -> Tensor:
    """Log-density of the unconstrained u; minus infinity where rounding takes its image out of the support."""
    value = transform(u)
    jacobian = transform.log_abs_det_jacobian(u, value)
    if jacobian.dim() > d.log_prob(value[:1]).dim():
        jacobian = jacobian.sum(-1)
    return torch.nan_to_num(d.log_prob(value) + jacobian, nan=-math.inf, posinf=-math.inf)


def _to_reals(d: Any) -> Any:
    """The bijection from real vectors to the support, or None."""
    try:
        return biject_to(support_of(d))
    except NotImplementedError:
        return None


def _mass_by_bridge(d: Any, transform: Any, case: Case) -> Finding:
    """E_r[d / (d + r)] = E_d[r / (d + r)] for any density r of mass one: here a normal fitted to other draws of d.

    (Bridge sampling: Meng and Wong 1996.) Both sides lie between 0 and 1, so that no weight can be too large.
    """
    u = transform.inv(d.sample((2 * _DRAWS,)))
    fit, at = u[:_DRAWS], u[_DRAWS:]
    middle = fit.mean(0)
    centred = (fit - middle).movedim(0, -2)
    covariance = centred.mT @ centred / _DRAWS
    ridge = 1e-9 * covariance.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    r = torch.distributions.MultivariateNormal(middle, covariance + ridge * torch.eye(u.shape[-1]).to(u))
    other = r.sample((_DRAWS,))
    from_r = torch.sigmoid(_log_density(d, transform, other) - r.log_prob(other))
    from_d = torch.sigmoid(r.log_prob(at) - _log_density(d, transform, at))
    if bool((from_r.mean(0) + from_d.mean(0) < _OVERLAP).any()):
        return Finding("skipped", f"{u.shape[-1]} dimensions are too many to integrate this density over")
    return mean_is_zero(from_r - from_d, case.level, f"the mass is not 1: {_LOOK}")


# Draws against the density.


def _draws(distribution: Any, case: Case) -> Finding:
    """Each element by itself, and drawn both ways: by rsample, as Pyro trains, and by sample."""
    elements = list(_elements(distribution))
    kinds = [(d, "sample") for d in elements] + [(d, "rsample") for d in elements if d.has_rsample]
    part = replace(case, level=case.level / len(kinds))
    with case.seeded(11):
        return worst([_draws_of(d, getattr(d, way), part) for d, way in kinds])


_UNLIKE = (
    "draws do not follow the density: look for a scale taken for a variance, a Jacobian, a wrong component, or one "
    "noise for all draws"
)


def _draws_of(d: Any, draw: Draw, case: Case) -> Finding:
    if isinstance(d, dist.Delta):
        return Finding("skipped", "a point has no density")
    support = base_constraint(support_of(d))
    if (values := _values(d)) is not None:
        return _frequencies(d, draw, values, case)
    if support.is_discrete:
        if d.event_shape:
            return Finding("skipped", "no identity for vectors of counts is known here")
        return _neighbours(d, draw, case)
    if support is sphere:
        return _on_sphere(d, draw, case)
    transform = _to_reals(d)
    if transform is None:
        return Finding("skipped", "no map of the support to the reals is known")
    return _stein(d, draw, transform, case)


def _frequencies(d: Any, draw: Draw, values: Tensor, case: Case) -> Finding:
    """How often each value is drawn, beside the binomial distribution of that number; Bonferroni over the values."""
    p = d.log_prob(values).exp()  # (values, *batch)
    same = draw((_DRAWS,)).unsqueeze(1) == values.unsqueeze(0)
    same = same.flatten(-len(d.event_shape)).all(-1) if d.event_shape else same
    keep = small(p, 1000, case.seed)
    p, count = p.flatten()[keep].clamp(0, 1), same.sum(0).flatten()[keep]
    n, k, chance = _DRAWS, count.cpu().numpy(), p.detach().cpu().numpy()
    tail = 2 * np.minimum(binom.cdf(k, n, chance), binom.sf(k - 1, n, chance))
    most = int(tail.argmin())
    least = min(1.0, len(tail) * float(tail[most]))
    failed = not least >= case.level
    off, error = k[most] / n - chance[most], math.sqrt(chance[most] * (1 - chance[most]) / n)
    return Finding("failed" if failed else "passed", _UNLIKE if failed else "", float(off), error, None, least)


def _neighbours(d: Any, draw: Draw, case: Case) -> Finding:
    """For counts: E[p(x+1)/p(x)] = 1 − p(0), and E[(x+1) p(x+1)/p(x)] = E[x]."""
    x = draw((_DRAWS,))
    keep = small(x[0], _ELEMENTS, case.seed)
    ratio = (d.log_prob(x + 1) - d.log_prob(x)).exp()
    zero = d.log_prob(torch.zeros_like(x[0])).exp()
    both = torch.cat([(ratio - 1 + zero).flatten(1)[:, keep], ((x + 1) * ratio - x).flatten(1)[:, keep]], dim=1)
    varies = both.std(0) > 1e-9
    return (
        mean_is_zero(both[:, varies], case.level, _UNLIKE)
        if varies.any()
        else Finding("skipped", "all draws are alike")
    )


def _stein(d: Any, draw: Draw, transform: Any, case: Case) -> Finding:
    """Stein's identity, E[∂_j log p(u)] = 0 and E[u_i ∂_j log p(u)] = −[i = j], for u in the reals."""
    u = transform.inv(draw((_DRAWS,))).detach()
    middle, width = u[:200].median(0).values, u[:200].std(0).clamp_min(1e-12)
    u = u[200:].clone().requires_grad_()
    value = transform(u)
    jacobian = transform.log_abs_det_jacobian(u, value)
    log_p = d.log_prob(value)
    if jacobian.dim() > log_p.dim():
        jacobian = jacobian.sum(-1)
    (slope,) = torch.autograd.grad((log_p + jacobian).sum(), u)
    slope, at = slope * width, (u.detach() - middle) / width
    usable = torch.isfinite(slope).all() and torch.isfinite(at).all()
    if not usable:
        return Finding("skipped", "rounding takes draws to the edge of the support")
    if not d.event_shape:
        keep = small(u[0], _ELEMENTS, case.seed)
        first, second = slope.flatten(1)[:, keep], (at * slope + 1).flatten(1)[:, keep]
        return mean_is_zero(torch.cat([first, second], dim=1), case.level, _UNLIKE)
    n = u.shape[-1]
    dims = small(u[0, ..., 0].new_empty(n), 12, case.seed)
    slope, at = slope[..., dims], at[..., dims]
    products = at.unsqueeze(-1) * slope.unsqueeze(-2) + torch.eye(len(dims), dtype=u.dtype, device=u.device)
    return mean_is_zero(torch.cat([slope.flatten(1), products.flatten(1)], dim=1), case.level, _UNLIKE)


def _on_sphere(d: Any, draw: Draw, case: Case) -> Finding:
    """Stein's identity on the sphere in n dimensions: E[(g − (g·x) x) − (n − 1) x] = 0, with g = ∇ log p."""
    x = draw((_DRAWS,)).detach().clone().requires_grad_()
    log_p = d.log_prob(x).sum()
    slope = torch.autograd.grad(log_p, x)[0] if log_p.requires_grad else torch.zeros_like(x)
    x = x.detach()
    tangent = slope - (slope * x).sum(-1, keepdim=True) * x
    return mean_is_zero(tangent - (x.shape[-1] - 1) * x, case.level, _UNLIKE)


def _noise(case: Case) -> Finding:
    """Correlation between draws of neighbouring examples, over many draws."""
    p = case.few
    if p.batch < 2:
        return Finding("skipped", "there is only one example")
    with torch.no_grad(), case.seeded(12):
        # As pyro.sample draws: by rsample where there is one, of which sample may know nothing.
        z = torch.stack([p.draw(1)[0] for _ in range(400)]).double()
    z = (z - z.mean(0)) / z.std(0)
    products = (z[:, 1:] * z[:, :-1]).flatten(1)
    products = products[:, torch.isfinite(products).all(0)]  # what never changes has no correlation
    if not products.numel():
        return Finding("skipped", "q has no noise")
    found = mean_is_zero(products, case.level)
    if found.verdict == "failed" and abs(found.difference or 0) > 0.05:
        words = (
            f"draws of z of neighbouring examples have a correlation of {found.difference:.2g}: do all examples share "
            "one noise? Draw it in the shape of the scale"
        )
        return replace(found, detail=words)
    return replace(found, verdict="passed")


_MASS = "A density that does not integrate to one shifts the bound by a constant that no comparison of losses shows."
_FOLLOW = "The bound is a mean over draws; if they come from another distribution than the density, it bounds nothing."


def _three(name: str, compared: str, why: str, look: Callable[[Any, Case], Finding]) -> list[Check]:
    """A line for each of the three distributions."""
    of = {"prior": ("p(z)", _prior), "posterior": ("q(z|x)", _posterior), "likelihood": ("p(x|z)", _likelihood)}

    def check(place: str, symbol: str, distribution: Callable[[Case], Any]) -> Check:
        return Check(f"{place}-{name}", _SECTION, compared.format(symbol), why, lambda c: look(distribution(c), c))

    return [check(place, *what) for place, what in of.items()]


CHECKS = [
    Check(
        "noise",
        _SECTION,
        "the draws of z of neighbouring examples",
        "Each example has its own z; noise that is shared makes the loss far noisier and its error wrong.",
        _noise,
    ),
    *_three("mass", "the integral, or sum, of {} with 1", _MASS, _mass),
    *_three("draws", "draws of {} with its density (Stein's identity, frequencies)", _FOLLOW, _draws),
]
