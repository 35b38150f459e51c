"""Checks whether draws follow a density: by the frequencies of discrete values, else by Stein's identity."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from pyro.distributions import Delta, TorchDistribution
from pyro.distributions.constraints import sphere
from scipy.stats import binom
from torch import Tensor
from torch.distributions import Transform
from torch.distributions.constraints import Constraint

from pyro_vae.checks.covariances import likeliest_mistake
from pyro_vae.checks.inputs import Inputs, random_indices
from pyro_vae.checks.report import Finding, worst
from pyro_vae.checks.statistics import mean_is_zero
from pyro_vae.checks.supports import counts_of, is_circle, is_lossy, log_probs, take_elements, to_reals, values_of
from pyro_vae.checks.vectors import all_vectors, neighbours, too_slow
from pyro_vae.distributions import base_constraint, support_of

__all__ = ["ELEMENTS", "check_draws"]

ELEMENTS = 50  # elements of a likelihood that are checked, chosen at random

Draw = Callable[[tuple[int, ...]], Tensor]  # a distribution's sample or rsample

_DRAWS = 2000
_UNLIKE = (
    "draws do not follow the density: look for a scale taken for a variance, a missing Jacobian, a wrong component, or "
    "one noise for all draws"
)
_UNLIKE_DISCRETE = (
    "draws do not follow the density: look for a logit taken for a probability, elements in another order, a factor "
    "that sees its own element, a wrong component, or one noise for all draws"
)


def check_draws(d: TorchDistribution, draw: Draw, inputs: Inputs) -> Finding:
    """Check that draws follow the density, for the distribution of single elements (no Independent around it)."""
    if isinstance(d, Delta):
        return Finding("skipped", "a point has no density", applies=False)
    support = base_constraint(support_of(d))
    if (values := values_of(d)) is not None:
        return _frequencies(d, draw, values, inputs)
    if support.is_discrete:
        return _vectors(d, draw, inputs) if d.event_shape else _counts(d, draw, inputs)
    if support is sphere:
        return _on_sphere(d, draw, inputs)
    if is_circle(d):
        return _on_circle(d, draw, inputs)
    transform = to_reals(d)
    if transform is None:
        return Finding("skipped", "the draws are not checked: no map from the support to the reals is known")
    return _stein(d, draw, transform, inputs)


# Discrete values.


@torch.no_grad()
def _frequencies(
    d: TorchDistribution, draw: Draw, values: Tensor, inputs: Inputs, within: Constraint | None = None
) -> Finding:
    """Check how often each value is drawn and, for vectors, each value of an element and of pairs of elements."""
    # A density without its constant has the same draws.
    p = log_probs(d, values, within).softmax(0)  # (values, *batch)
    keep = random_indices(p, 1000, inputs.seed)
    value, element = keep // p[0].numel(), keep % p[0].numel()
    flat = (p[0].numel(), -1)
    drawn = draw((_DRAWS,)).reshape(_DRAWS, *flat)
    values = values.reshape(len(values), *flat)
    count = (drawn[:, element] == values[value, element]).all(-1).sum(0)
    if not d.event_shape:
        return _binomial(count, p.flatten()[keep], _DRAWS, inputs)
    alone, chance = _marginals(p.reshape(len(p), -1), values, drawn, inputs)
    fewer = len(drawn) - 200
    first = _binomial(count, p.flatten()[keep], _DRAWS, replace(inputs, level=inputs.level / 2))
    return worst([first, _binomial(alone, chance, fewer, replace(inputs, level=inputs.level / 2))])


def _marginals(p: Tensor, values: Tensor, drawn: Tensor, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Count how often one or two elements equal those of some earlier draws, and return the probability of this.

    Args:
        p: probabilities of the values, ``(values, batch)``.
        values: ``(values, batch, numbers)``.
        drawn: draws, ``(draws, batch, numbers)``; the first 200 choose what is counted in the others.
        inputs: of the check.
    """
    batch, numbers = drawn.shape[1:]
    with inputs.seeded(14):
        most = (200, batch, numbers, numbers)
        like, example, one, two = (torch.randint(m, (300,), device=drawn.device) for m in most)
    alone = min(100, 8 * numbers)
    two[:alone] = one[:alone]
    seen = drawn[like, example]
    first, second = (seen.gather(1, i.unsqueeze(1))[:, 0] for i in (one, two))

    def holds(x: Tensor) -> Tensor:
        near = 1e-5 * (1 + first.abs())
        return ((x[..., one] - first).abs() < near) & ((x[..., two] - second).abs() < near)

    # The values are the same for each example.
    chance = sum(q.mT @ holds(v[:, 0]).to(q) for q, v in zip(p.split(10_000), values.split(10_000), strict=True))
    return holds(drawn[200:]).sum(0).flatten(), torch.as_tensor(chance).flatten()


@torch.no_grad()
def _vectors(d: TorchDistribution, draw: Draw, inputs: Inputs) -> Finding:
    """Check the frequencies of vectors if all can be listed; else steps from one vector to a neighbour.

    If steps from x to y and from y to x are equally likely, then E[(f(x) - f(y)) p(y) / (p(x) + p(y))] = 0, because the
    sum over both directions is zero (Barker 1965). Like Stein's identity, this does not depend on the constant.
    """
    values = all_vectors(d)
    if values is not None:
        return _frequencies(d, draw, values.expand(-1, *d.batch_shape, *d.event_shape), inputs, support_of(d))
    # More draws if they cost little: steps tell less than frequencies.
    times = 3 if math.prod(d.batch_shape + d.event_shape) <= 200 else 1
    if slow := too_slow(d, draw, times * _DRAWS):
        return Finding("skipped", f"the draws are not checked: {slow}")
    drawn = draw((times * _DRAWS,)).flatten(1 + len(d.batch_shape))
    before, x = drawn[:200], drawn[200:]
    numbers = x.shape[-1]

    def log_p(flat: Tensor) -> Tensor:
        return log_probs(d, flat.unflatten(-1, tuple(d.event_shape)), support_of(d))

    keep = random_indices(x.new_empty(numbers), 12 if numbers < 200 else 6, inputs.seed)
    middle, width = before[..., keep].mean(0), before[..., keep].std(0) + 1e-9
    of_x, at_x, columns = torch.tanh((x[..., keep] - middle) / width), log_p(x), []
    for k, at in enumerate(keep.tolist()):
        y = neighbours(d, x, at, before)
        if y is None:
            return Finding("skipped", "the draws are not checked: the discrete values of their elements are unknown")
        accepted = torch.sigmoid(log_p(y) - at_x).unsqueeze(-1)
        of_y = torch.tanh((y[..., keep] - middle) / width)
        columns.append((of_x - of_y)[..., [k]] * accepted)
        columns.append((of_x[..., [k]] * of_x - of_y[..., [k]] * of_y) * accepted)  # its square too, for its spread
    both = torch.cat(columns, dim=-1).flatten(1)
    # Steps to rare vectors give many tiny numbers, balanced by a few large ones that may not have been drawn. Their
    # columns become zeros but keep their share of the level, because the same draws chose them.
    usable = both.abs().sum(0) > 50
    if not usable.any():
        return Finding("skipped", "the draws are not checked: almost all are equal")
    both = torch.where(usable, both, 0.0)
    return mean_is_zero(both, inputs.level, _UNLIKE_DISCRETE)


def _counts(d: TorchDistribution, draw: Draw, inputs: Inputs) -> Finding:
    """Check how often draws equal some values, and lie below them; earlier draws choose the values, low to high.

    Values are compared one by one and not by the mean, because rare large counts make means that are far from normal.
    """
    if isinstance(found := counts_of(d), str):
        return Finding("skipped", f"the draws are not checked: {found}")
    counts, log_p = found
    drawn = draw((_DRAWS,))
    keep = random_indices(drawn[0], ELEMENTS, inputs.seed)
    # A density without its constant has the same draws.
    counts, p, drawn = (t.reshape(len(t), -1)[:, keep] for t in (counts, log_p.softmax(0), drawn))
    before, drawn = drawn[:200].sort(0).values, drawn[200:]
    at = before[[4, 20, 50, 100, 150, 180, 196]].unsqueeze(1)  # (places, 1, elements)
    same, below = ((p * (counts == at)).sum(1), (p * (counts <= at)).sum(1))
    seen = torch.stack([(drawn == at).sum(1), (drawn <= at).sum(1)])
    return _binomial(seen.flatten(), torch.stack([same, below]).flatten(), len(drawn), inputs)


def _binomial(count: Tensor, p: Tensor, n: int, inputs: Inputs) -> Finding:
    """Compare each count out of n with its binomial distribution, with a Bonferroni correction."""
    k, chance = count.cpu().numpy(), p.detach().clamp(0, 1).double().cpu().numpy()
    tail = 2 * np.minimum(binom.cdf(k, n, chance), binom.sf(k - 1, n, chance))
    most = int(tail.argmin())
    least = min(1.0, len(tail) * float(tail[most]))
    failed = not least >= inputs.level
    off, error = k[most] / n - chance[most], math.sqrt(chance[most] * (1 - chance[most]) / n)
    return Finding("failed" if failed else "passed", _UNLIKE_DISCRETE if failed else "", float(off), error, None, least)


# Stein's identity: E[f' + f d log p] = 0 for every f such that f p vanishes at the ends of the support.


def _slope(d: TorchDistribution, at: Tensor, transform: Transform | None = None, again: bool = False) -> Tensor:
    """Return the gradient of the log-density at u = ``at``, of its shape; with ``again``, it can be differentiated."""
    if not again:
        at = at.detach().clone().requires_grad_()
    value = at if transform is None else transform(at)
    log_p = d.log_prob(value).sum()
    if transform is not None:
        log_p = log_p + transform.log_abs_det_jacobian(at, value).sum()
    return torch.autograd.grad(log_p, at, create_graph=again)[0] if log_p.requires_grad else torch.zeros_like(at)


def _stein(d: TorchDistribution, draw: Draw, transform: Transform, inputs: Inputs) -> Finding:
    """Check Stein's identity over the reals u, with f = 1 and f = tanh(u_i), and s = ∂ log p(u).

    That is, E[s_j] = 0 and E[tanh(u_i) s_j] = −[i = j] E[1 − tanh(u_i)²]. With f = u_i, heavy tails would have
    no finite variance.
    """
    drawn = draw((_DRAWS,)).detach()
    keep = random_indices(drawn[0], ELEMENTS, inputs.seed)
    if not d.event_shape and drawn[0].numel() > 10 * ELEMENTS and (part := take_elements(d, keep)) is not None:
        d, drawn, transform = part, drawn.flatten(1)[:, keep], to_reals(part) or transform
    u = transform.inv(drawn)
    lossy = is_lossy(transform, drawn, u)
    if _ends_early(d, transform, u):
        return Finding("skipped", "the draws are not checked: the density is zero in a part of its stated support")
    before, u = u[:200].sort(0).values, u[200:]
    middle, width = before[100], (before[150] - before[50]).clamp_min(1e-12)
    slope, at = _slope(d, u, transform) * width, torch.tanh((u - middle) / width)
    lossy = lossy.any(0) | ~(torch.isfinite(slope) & torch.isfinite(at)).all(0)
    at, slope, lossy = at.reshape(len(at), -1), slope.reshape(len(at), -1), lossy.flatten()
    if not d.event_shape:
        keep = random_indices(lossy, ELEMENTS, inputs.seed)
        keep = keep[~lossy[keep]]
        pairs = (at * slope + 1 - at**2)[:, keep]
        both = torch.cat([slope[:, keep], pairs], dim=1)
    else:
        n = u.shape[-1]
        keep = random_indices(u[0, ..., 0].new_empty(n), 12, inputs.seed)
        at, slope, lossy = (t.unflatten(-1, (-1, n))[..., keep] for t in (at, slope, lossy))
        usable = ~lossy.any(-1)
        at, slope = at[:, usable], slope[:, usable]
        pairs = at.unsqueeze(-1) * slope.unsqueeze(-2) + torch.diag_embed(1 - at**2)
        both = torch.cat([slope.flatten(1), pairs.flatten(1)], dim=1)
    if not both.numel():
        return Finding("skipped", "the draws are not checked: rounding moves them to the edge of the support")
    found = mean_is_zero(both, inputs.level, _UNLIKE)
    if found.verdict == "failed":
        return replace(found, detail=_cause(d, transform, u) or _UNLIKE)
    return found


def _ends_early(d: TorchDistribution, transform: Transform, u: Tensor) -> bool:
    """True if the density is zero a little beyond the draws; Stein's identity needs one that fades."""
    low, high = u.amin(0), u.amax(0)
    beyond = torch.stack([low - (high - low) / 2, high + (high - low) / 2])
    with torch.no_grad():
        log_p = d.log_prob(transform(beyond))
    lossy = is_lossy(transform, transform(beyond), beyond)
    lossy = lossy.any(-1) if lossy.dim() > log_p.dim() else lossy
    return bool((torch.isneginf(log_p) & ~lossy).any())


def _cause(d: TorchDistribution, transform: Transform, u: Tensor) -> str:
    """Return the likeliest cause for a density that is normal over the reals."""
    if d.event_shape:
        return likeliest_mistake(lambda at: _slope(d, at, transform, again=True), u)
    return likeliest_mistake(lambda at: _slope(d, at.squeeze(-1), transform, again=True).unsqueeze(-1), u.unsqueeze(-1))


def _on_circle(d: TorchDistribution, draw: Draw, inputs: Inputs) -> Finding:
    """Check Stein's identity on a torus of angles, with f = sin and f = cos of each angle."""
    x = draw((_DRAWS,)).detach()
    x, slope = (t if d.event_shape else t.unsqueeze(-1) for t in (x, _slope(d, x)))
    x, slope = (t.reshape(_DRAWS, -1, t.shape[-1]) for t in (x, slope))
    keep = random_indices(x[0, :, 0], ELEMENTS, inputs.seed)
    sin, cos, slope = (t[:, keep] for t in (x.sin(), x.cos(), slope))
    from_sin = sin.unsqueeze(-1) * slope.unsqueeze(-2) + torch.diag_embed(cos)
    from_cos = cos.unsqueeze(-1) * slope.unsqueeze(-2) - torch.diag_embed(sin)
    return mean_is_zero(torch.cat([from_sin.flatten(1), from_cos.flatten(1)], dim=1), inputs.level, _UNLIKE)


def _on_sphere(d: TorchDistribution, draw: Draw, inputs: Inputs) -> Finding:
    """Check Stein's identity on the sphere in n dimensions: E[(g − (g·x) x) − (n − 1) x] = 0, with g = ∇ log p."""
    x = draw((_DRAWS,)).detach()
    slope = _slope(d, x)
    tangent = slope - (slope * x).sum(-1, keepdim=True) * x
    return mean_is_zero(tangent - (x.shape[-1] - 1) * x, inputs.level, _UNLIKE)
