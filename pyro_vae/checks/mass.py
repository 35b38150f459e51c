"""Checks the mass of a density: by sums, by integrals in one or two dimensions, by bridge sampling in more."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from pyro.distributions import Delta, TorchDistribution
from pyro.distributions.constraints import sphere
from torch import Tensor
from torch.distributions import Distribution, Transform
from torch.distributions.constraints import Constraint

from pyro_vae.checks.inputs import Inputs, random_indices
from pyro_vae.checks.report import Finding
from pyro_vae.checks.sampling import ELEMENTS, check_draws
from pyro_vae.checks.statistics import mean_is_zero, not_above
from pyro_vae.checks.supports import (
    counts_of,
    is_circle,
    is_lossy,
    log_density,
    log_probs,
    take_elements,
    to_reals,
    values_of,
)
from pyro_vae.checks.vectors import Product, all_vectors, fitted_product, too_slow
from pyro_vae.distributions import base_constraint, support_of

__all__ = ["check_mass"]

_DRAWS = 2000
_LOOK = "look for a missing constant, Jacobian or normalisation"
_LEAK = (
    "does a factor see its own element (an autoregressive mask that leaks)? Otherwise, look for a missing constant or "
    "normalisation"
)
_OVERLAP = 0.02  # of a density and the one fitted to it, at most 1; with less, a bridge says nothing
_ENOUGH = 0.2  # with less, another fit is tried


def check_mass(d: TorchDistribution, inputs: Inputs) -> Finding:
    """Check that a density has mass 1, for the distribution of single elements (no Independent around it)."""
    if isinstance(d, Delta):
        return Finding("skipped", "a point has no density", applies=False)
    support = base_constraint(support_of(d))
    if (values := values_of(d)) is not None:
        return _summed(d, values)
    if support.is_discrete:
        return _of_vectors(d, inputs) if d.event_shape else _of_counts(d, inputs)
    if is_circle(d) or support is sphere:
        around = _around(d, inputs)
        if around.verdict != "skipped":
            return around
    transform = to_reals(d)
    if transform is None:
        name = type(support).__name__.strip("_").lower()
        return Finding("skipped", f"the mass is not checked: no way to integrate over {name} is known")
    if not d.event_shape:
        return _line(d, transform, inputs)
    if transform.inv(d.sample()).shape[-1] <= 2:
        plane = _plane(d, transform)
        if plane.verdict != "skipped":
            return plane
    return _bridge(d, transform, inputs)


# Sums.


def _summed(d: TorchDistribution, values: Tensor, within: Constraint | None = None) -> Finding:
    """Check the sum over all values."""
    log_p = log_probs(d, values, within)
    mass = log_p.logsumexp(0).exp()
    tolerance = 1e-6 if log_p.dtype == torch.float64 else 1e-4
    look = _LEAK if d.event_shape and _several(d, values) else _LOOK
    return _is_one(mass, torch.zeros_like(mass), torch.zeros_like(mass), tolerance, look)


def _several(d: TorchDistribution, values: Tensor) -> bool:
    """True for vectors of several elements, and False for a single one-hot vector."""
    return len(values) > math.prod(d.event_shape)


def _of_counts(d: TorchDistribution, inputs: Inputs) -> Finding:
    """Check the sum over counts."""
    if isinstance(found := counts_of(d), str):
        return Finding("skipped", f"the mass is not checked: {found}")
    keep = random_indices(found[1][0], ELEMENTS, inputs.seed)
    counts, log_p = (t.reshape(len(t), -1)[:, keep] for t in found)
    # Log-probabilities of counts x are differences of terms as large as x log x.
    rounding = torch.finfo(log_p.dtype).eps * torch.special.xlogy(counts, counts.abs()).abs().amax(0)
    return _is_one(log_p.logsumexp(0).exp(), rounding, torch.zeros_like(rounding), 1e-3)


def _of_vectors(d: TorchDistribution, inputs: Inputs) -> Finding:
    """Check the sum over at most 100,000 vectors; of more, bridge to a product of the elements' distributions."""
    values = all_vectors(d)
    if values is not None:
        return _summed(d, values.expand(-1, *d.batch_shape, *d.event_shape), support_of(d))
    if slow := too_slow(d, d.sample, 2 * _DRAWS):
        return Finding(
            "skipped", f"the mass is not checked: the vectors of the support cannot all be listed, and {slow}"
        )
    drawn = d.sample((2 * _DRAWS,)).flatten(1 + len(d.batch_shape))
    r = fitted_product(d, drawn[:_DRAWS])
    many = "the mass is not checked: the vectors of the support cannot all be listed"
    if r is None:
        return Finding("skipped", f"{many}, and there is no similar density of known mass")

    def log_p(flat: Tensor) -> Tensor:
        return log_probs(d, flat.unflatten(-1, tuple(d.event_shape)), support_of(d))

    bridge = _between(log_p, drawn[_DRAWS:], r)
    if bridge.overlap >= _OVERLAP:
        return _bridged(bridge, d, inputs, _LEAK)
    return Finding("skipped", f"{many}, and their elements are too dependent for an estimate")


def _is_one(mass: Tensor, gap: Tensor, unseen: Tensor, tolerance: float, look: str = _LOOK) -> Finding:
    """Judge the elements whose integrals are accurate enough.

    Args:
        mass: the integral of each element.
        gap: its difference from a coarser rule.
        unseen: mass near the ends of the integral; what lies beyond is unlikely to be more.
        tolerance: of the mass.
        look: what to look for if the mass is not 1.
    """
    mass, gap, unseen = mass.flatten(), gap.flatten(), unseen.flatten()
    sure = (gap + unseen < tolerance / 2) | ~torch.isfinite(mass)
    sure |= mass - 10 * gap > 1 + tolerance  # mass beyond the ends only adds to it
    if not sure.any():
        return Finding("skipped", "the mass is not checked: the density is too narrow or too wide to be integrated")
    mass = mass[sure]
    worst = mass[(mass - 1).abs().nan_to_num(math.inf).argmax()].item()
    failed = not abs(worst - 1) <= tolerance
    detail = f"the mass is {worst:.6g}, not 1: {look}" if failed else ""
    return Finding("failed" if failed else "passed", detail, worst - 1, None, tolerance)


# Integrals.


def _around(d: TorchDistribution, inputs: Inputs) -> Finding:
    """Integrate over one or two angles, or over the circle in the plane, by the trapezium rule."""
    like = d.sample()
    on_plane = not is_circle(d)
    angles = 1 if on_plane else math.prod(d.event_shape)
    if angles > 2 or (on_plane and tuple(d.event_shape) != (2,)):
        return Finding("skipped", "the mass is not checked: there are too many angles to integrate over")
    points = 8192 if angles == 1 else 256
    turn = torch.arange(points, dtype=like.dtype, device=like.device) * (2 * math.pi / points) - math.pi
    at = torch.cartesian_prod(*[turn] * angles).view(-1, angles)
    even = torch.cartesian_prod(*[torch.arange(points, device=like.device) % 2 == 0] * angles).view(-1, angles).all(-1)
    if on_plane:
        at = torch.cat([at.cos(), at.sin()], dim=-1)
    at = at.view(-1, *(1 for _ in d.batch_shape), *d.event_shape).expand(-1, *d.batch_shape, *d.event_shape)
    keep = random_indices(like.new_empty(d.batch_shape), ELEMENTS, inputs.seed)
    p = torch.cat([log_probs(d, part).exp().reshape(len(part), -1)[:, keep] for part in at.split(500)])
    area = (2 * math.pi) ** angles
    mass = p.mean(0) * area
    return _is_one(mass, (p[even].mean(0) * area - mass).abs(), torch.zeros_like(mass), 1e-3)


def _line(d: TorchDistribution, transform: Transform, inputs: Inputs) -> Finding:
    """Integrate by the tanh-sinh rule between draws, and in panels that grow fourfold beyond the outermost draws.

    The draws find all peaks, however narrow or far apart; the rule puts most points near the ends of each panel.
    """
    drawn = d.sample((401,))
    keep = random_indices(drawn[0], ELEMENTS, inputs.seed)
    if drawn[0].numel() > 10 * ELEMENTS and (part := take_elements(d, keep)) is not None:
        d, drawn, transform = part, drawn.flatten(1)[:, keep], to_reals(part) or transform
        keep = torch.arange(len(keep), device=keep.device)
    edge = is_lossy(transform, drawn, transform.inv(drawn)).any(0)
    u = transform.inv(drawn[::4]).sort(0).values
    width = (u[75] - u[25]).clamp_min(1e-12)
    tail = (
        width * (4.0 ** torch.arange(1, 29, dtype=u.dtype, device=u.device).view(-1, *(1 for _ in d.batch_shape))) / 8
    )
    edges = torch.cat([u[:1] - tail.flip(0), u, u[-1:] + tail])
    t = torch.arange(-23, 24, dtype=u.dtype, device=u.device) / 8
    share = (1 + torch.tanh(math.pi / 2 * torch.sinh(t))) / 2
    weight = math.pi / 32 * torch.cosh(t) / torch.cosh(math.pi / 2 * torch.sinh(t)) ** 2
    by_panel, coarse, lossy, broken = [], [], [], []
    for low, high in zip(edges[:-1].split(20), edges[1:].split(20), strict=True):
        points = low + (high - low) * share.view(-1, *(1 for _ in edges.shape))  # (rule, panels, *batch)
        log_p = log_density(d, transform, points)
        none = torch.isneginf(log_p).reshape(*points.shape[:2], -1)[..., keep]
        p = (log_p.exp() * (high - low)).reshape(*points.shape[:2], -1)[..., keep] * weight.view(-1, 1, 1)
        by_panel.append(p.sum(0))
        broken.append(none.any(0) & (p.amax(0) > 1e-6))
        coarse.append(2 * p[1::2].sum(0))
        lossy.append(
            (p * is_lossy(transform, transform(points), points).reshape(*points.shape[:2], -1)[..., keep]).sum((0, 1))
        )
    panels = torch.cat(by_panel)
    outermost = panels[:2].sum(0) + panels[-2:].sum(0)
    unseen = outermost + torch.stack(lossy).sum(0) + edge.flatten()[keep]
    error = (torch.cat(coarse) - panels).abs()
    # Twice the points give twice the digits, unless the density ends within a panel.
    gap = 10 * error.sum(0) ** 2 + (error * torch.cat(broken)).sum(0)
    return _is_one(panels.sum(0), gap, unseen, 1e-3)


def _plane(d: TorchDistribution, transform: Transform) -> Finding:
    """Integrate in one or two dimensions by the trapezium rule in t, with u = middle + width sinh(t)."""
    drawn = d.sample((401,))
    u = transform.inv(drawn)
    quartiles = u.sort(0).values[[100, 200, 300]]
    middle, width = quartiles[1], (quartiles[2] - quartiles[0]).clamp_min(1e-12) / 1.35
    n = u.shape[-1]
    t = torch.linspace(-6, 6, 301, dtype=u.dtype, device=u.device)
    grid = torch.cartesian_prod(*[t] * n).view(-1, n)
    ends = 0.9 * 6
    even = torch.arange(301, device=u.device) % 2 == 0
    even = torch.cartesian_prod(*[even] * n).view(-1, n).all(-1)
    mass, coarse, unseen = (torch.zeros(d.batch_shape, dtype=u.dtype, device=u.device) for _ in range(3))
    for at, half in zip(grid.split(10_000), even.split(10_000), strict=True):
        at = at.view(-1, *(1 for _ in d.batch_shape), n)
        points = middle + width * torch.sinh(at)
        log_p = log_density(d, transform, points) + torch.log(width * torch.cosh(at)).sum(-1)
        p = log_p.exp() * (t[1] - t[0]) ** n
        lossy = is_lossy(transform, transform(points), points).any(-1) | (at.abs() > ends).any(-1)
        mass, coarse, unseen = mass + p.sum(0), coarse + 2**n * p[half].sum(0), unseen + (p * lossy).sum(0)
    edge = is_lossy(transform, drawn, u).flatten(u.dim() - 1).any(-1).any(0)
    return _is_one(mass, (mass - coarse).abs(), unseen + edge, 1e-2)


def _bridge(d: TorchDistribution, transform: Transform, inputs: Inputs) -> Finding:
    """Check E_r[d / (d + r)] = E_d[r / (d + r)] with a density r of mass 1, fitted to other draws of d.

    (Bridge sampling: Meng and Wong 1996.) Both sides lie between 0 and 1: no weight is too large. The density r is
    a normal or, for several peaks, a mixture of normals.
    """
    drawn = d.sample((2 * _DRAWS,))
    u = transform.inv(drawn)
    if is_lossy(transform, drawn, u).any():
        return Finding("skipped", "the mass is not checked: rounding moves draws to the edge of the support")
    points = u[:_DRAWS].movedim(0, -2)
    bridge = None
    for fit in (_normal, _local_normals):
        found = _between(lambda v: log_density(d, transform, v), u[_DRAWS:], fit(points))
        if bridge is None or found.overlap > bridge.overlap:
            bridge = found
        if bridge.overlap > _ENOUGH:
            break
    if bridge is None or bridge.overlap < _OVERLAP:
        return Finding("skipped", f"the mass is not checked: {u.shape[-1]} dimensions are too many to integrate over")
    return _bridged(bridge, d, inputs, _LOOK)


class _Bridge(NamedTuple):
    """A bridge between a density d and a fitted density r of mass 1.

    Args:
        overlap: of the two, at most 1.
        difference: draws of the difference of the two sides.
        ratio: d / r at draws of r, capped at 20.
    """

    overlap: float
    difference: Tensor
    ratio: Tensor


def _between(log_p: Callable[[Tensor], Tensor], at: Tensor, r: Distribution | Product) -> _Bridge:
    """Return the bridge from the density ``log_p``, with draws ``at``, ``(draws, *batch, n)``, to r, of mass 1."""
    other = r.sample((len(at),))
    log_ratio = log_p(other) - r.log_prob(other)
    from_r, from_d = torch.sigmoid(log_ratio), torch.sigmoid(r.log_prob(at) - log_p(at))
    overlap = (from_r.mean(0) + from_d.mean(0)).min().item()
    return _Bridge(overlap, from_r - from_d, log_ratio.clamp(max=math.log(20)).exp())


def _bridged(bridge: _Bridge, d: TorchDistribution, inputs: Inputs, look: str) -> Finding:
    """Judge a bridge if the draws follow the density up to a constant; else judge only what needs no draws of it."""
    found = mean_is_zero(bridge.difference, inputs.level, f"the mass is not 1: {look}")
    if found.verdict != "failed":
        return found
    with torch.enable_grad():
        drawn = check_draws(d, d.sample, replace(inputs, level=max(inputs.level, 1e-3)))
    if drawn.verdict != "failed":
        return found
    # The mean of min(d / r, 20) over r is at most the mass, whatever the draws of d are.
    least = bridge.ratio.flatten(1)
    largest = least[:, least.mean(0).argmax()]
    above = not_above(largest, torch.ones(()), inputs.level / least.shape[1], f"the mass is above 1: {look}")
    if above.verdict == "failed":
        return above
    return Finding("skipped", "the mass is not checked: its estimate needs draws, and these do not follow the density")


def _normal(points: Tensor) -> torch.distributions.MultivariateNormal:
    """Return a normal with the mean and covariance of points ``(..., points, n)``."""
    middle = points.mean(-2)
    centred = points - middle.unsqueeze(-2)
    covariance = centred.mT @ centred / points.shape[-2]
    ridge = 100 * torch.finfo(points.dtype).eps * covariance.diagonal(dim1=-2, dim2=-1)
    return torch.distributions.MultivariateNormal(middle, covariance + torch.diag_embed(ridge))


def _local_normals(points: Tensor) -> torch.distributions.MixtureSameFamily:
    """Return a mixture of normals at some of the points, each with the covariance of its nearest neighbours."""
    n = points.shape[-1]
    centres = points[..., :64, :]
    nearest = torch.cdist(centres, points).topk(min(4 * n + 8, points.shape[-2]), largest=False).indices
    local = _normal(torch.take_along_dim(points.unsqueeze(-3), nearest.unsqueeze(-1), -2))
    # Much of the correlation among so few points is chance.
    own = torch.diag_embed(local.covariance_matrix.diagonal(dim1=-2, dim2=-1))
    components = torch.distributions.MultivariateNormal(local.loc, 0.7 * local.covariance_matrix + 0.3 * own)
    weights = torch.distributions.Categorical(logits=torch.zeros(centres.shape[:-1]).to(points))
    return torch.distributions.MixtureSameFamily(weights, components)
