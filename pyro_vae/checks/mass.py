"""Whether a density has the mass one: summed, integrated in one or two dimensions, bridged in more."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import VonMises, biject_to, constraints

from pyro_vae.checks.case import Case, base_constraint, small
from pyro_vae.checks.report import Finding
from pyro_vae.checks.statistics import mean_is_zero
from pyro_vae.distributions.grid import Grid
from pyro_vae.evaluation.real_codes import support_of

__all__ = ["ELEMENTS", "counts_of", "is_circle", "is_lossy", "log_density", "mass_of", "to_reals", "values_of"]

ELEMENTS = 50  # of a likelihood's many, chosen at random
_DRAWS = 2000
_LOOK = "look for a missing constant, Jacobian or normalisation"
_MOST = 20_000  # values of a count that are summed over
_OVERLAP = 0.02  # of a density and the one beside it, at most 1; with less the two sides of the bridge are nothing
_ENOUGH = 0.2  # with less, a better one is looked for
_MIXTURE = getattr(constraints, "MixtureSameFamilyConstraint", ())
_TORUS = (VonMises, dist.SineBivariateVonMises, dist.SineSkewed)


def mass_of(d: Any, case: Case) -> Finding:
    """The mass of a distribution without dimensions that only count."""
    if isinstance(d, dist.Delta):
        return Finding("skipped", "a point has no density", applies=False)
    if (values := values_of(d)) is not None:
        mass = d.log_prob(values).logsumexp(0).exp()
        return _is_one(mass, torch.zeros_like(mass), torch.zeros_like(mass), 1e-6)
    support = base_constraint(support_of(d))
    if support.is_discrete:
        if isinstance(found := counts_of(d), str):
            return Finding("skipped", found)
        keep = small(found[1][0], ELEMENTS, case.seed)
        counts, log_p = (t.reshape(len(t), -1)[:, keep] for t in found)
        # Log-probabilities are differences of terms of the size of x log x.
        rounding = torch.finfo(log_p.dtype).eps * torch.special.xlogy(counts, counts.abs()).abs().amax(0)
        return _is_one(log_p.logsumexp(0).exp(), rounding, torch.zeros_like(rounding), 1e-3)
    if is_circle(d):
        return _circle(d, case)
    transform = to_reals(d)
    if transform is None:
        return Finding("skipped", f"no way to integrate over {type(support).__name__.strip('_').lower()} is known")
    if not d.event_shape:
        return _line(d, transform, case)
    if transform.inv(d.sample()).shape[-1] <= 2:
        plane = _plane(d, transform)
        if plane.verdict != "skipped":
            return plane
    return _bridge(d, transform, case)


def _is_one(mass: Tensor, gap: Tensor, unseen: Tensor, tolerance: float) -> Finding:
    """A verdict on the elements whose integral is known well enough.

    Args:
        mass: the integral of each element.
        gap: how far a coarser rule is from it.
        unseen: mass near where the integral ends; what lies beyond is unlikely to be more.
        tolerance: of the mass.
    """
    mass, gap, unseen = mass.flatten(), gap.flatten(), unseen.flatten()
    sure = (gap + unseen < tolerance / 2) | ~torch.isfinite(mass)
    sure |= mass - 10 * gap > 1 + tolerance  # whatever lies beyond only adds to it
    if not sure.any():
        return Finding("skipped", "cannot be integrated to enough digits: it is too narrow, or reaches too far")
    mass = mass[sure]
    worst = mass[(mass - 1).abs().nan_to_num(math.inf).argmax()].item()
    failed = not abs(worst - 1) <= tolerance
    detail = f"the mass is {worst:.6g} and not 1: {_LOOK}" if failed else ""
    return Finding("failed" if failed else "passed", detail, worst - 1, None, tolerance)


# Supports.


def values_of(d: Any) -> Tensor | None:
    """All values, ``(values, *batch, *event)``, where they can be listed."""
    if d.has_enumerate_support:
        try:
            return d.enumerate_support(expand=True)
        except NotImplementedError:  # a binomial whose elements have different total counts
            return None
    support = base_constraint(support_of(d))
    if not isinstance(support, Grid) or d.event_shape:
        return None
    values = support.from_index(torch.arange(support.levels, dtype=d.sample().dtype))
    return values.view(-1, *(1 for _ in d.batch_shape)).expand(-1, *d.batch_shape)


def counts_of(d: Any) -> tuple[Tensor, Tensor] | str:
    """The whole numbers about what is drawn and their log-probabilities, each ``(values, *batch)``, or why not.

    The window is widened until next to nothing lies near its ends.
    """
    support = support_of(d)
    if d.event_shape:
        return "the values of a vector of counts are too many to sum over"
    if isinstance(support, _MIXTURE):  # of which support_of leaves those that it cannot describe
        return "the components of the mixture have supports of their own"
    support = base_constraint(support)
    drawn = d.sample((200,))
    first, last = drawn.min(0).values, drawn.max(0).values
    lowest = torch.as_tensor(getattr(support, "lower_bound", -math.inf)).to(drawn)
    pad = 2 * (last - first) + 50
    while True:
        start = torch.maximum(first - pad, lowest)
        length = int((last + pad - start).max().item()) + 1
        if length > _MOST:
            return f"the counts lie too far apart to sum over: more than {_MOST} of them"
        steps = torch.arange(length, dtype=drawn.dtype, device=drawn.device)
        counts = start + steps.view(-1, *(1 for _ in d.batch_shape))
        # By parts, as some distributions make much of each value.
        log_p = torch.cat([d.log_prob(part).where(support.check(part), -math.inf) for part in counts.split(500)])
        p, margin = log_p.exp(), (last + pad - start) / 10
        near_start = (counts < start + margin) & (start > lowest)
        near_end = counts > last + pad - margin
        if not bool(((p * (near_start | near_end)).sum(0) > 1e-7).any()):
            return counts, log_p
        pad = 2 * pad


def is_circle(d: Any) -> bool:
    """Whether torch says that the values are real where they are angles."""
    while isinstance(d, (torch.distributions.MixtureSameFamily, torch.distributions.Independent)):
        d = d.component_distribution if isinstance(d, torch.distributions.MixtureSameFamily) else d.base_dist
    return isinstance(d, _TORUS)


def to_reals(d: Any) -> Any:
    """The bijection from reals or real vectors to the support, or None."""
    try:
        return biject_to(support_of(d))
    except NotImplementedError:
        return None


def is_lossy(transform: Any, value: Tensor, u: Tensor) -> Tensor:
    """Whether rounding of a value, as at the edge of its support, moves its u, of the shape of u."""
    finfo = torch.finfo(value.dtype)
    step, least = 4 * finfo.eps, 1e3 * finfo.tiny
    moved = transform.inv(value * (1 + step) + least) - transform.inv(value * (1 - step) - least)
    return ~(moved.abs() <= 1e-4 * (1 + u.abs()))  # so that NaN is


def log_density(d: Any, transform: Any, u: Tensor) -> Tensor:
    """Log-density of the unconstrained u; minus infinity where rounding takes its image out of the support."""
    value = transform(u)
    jacobian = transform.log_abs_det_jacobian(u, value)
    log_p = d.log_prob(value)
    if jacobian.dim() > log_p.dim():
        jacobian = jacobian.sum(-1)
    return torch.nan_to_num(log_p + jacobian, nan=-math.inf, posinf=-math.inf)


# Integrals.


def _circle(d: Any, case: Case) -> Finding:
    """The mass of angles, by the trapezium rule, which is best on a circle."""
    if d.event_shape:
        return Finding("skipped", "no way to integrate over a torus is known")
    like = d.sample()
    angles = torch.arange(8192, dtype=like.dtype, device=like.device) * (2 * math.pi / 8192) - math.pi
    at = angles.view(-1, *(1 for _ in d.batch_shape)).expand(-1, *d.batch_shape)
    keep = small(like, ELEMENTS, case.seed)
    p = torch.cat([d.log_prob(part).exp().reshape(len(part), -1)[:, keep] for part in at.split(500)])
    mass = p.mean(0) * 2 * math.pi
    return _is_one(mass, (p[::2].mean(0) * 2 * math.pi - mass).abs(), torch.zeros_like(mass), 1e-3)


def _line(d: Any, transform: Any, case: Case) -> Finding:
    """By the tanh-sinh rule between one draw and the next, and in panels that grow fourfold beyond the last draws.

    Draws lie where the density is, however narrow or far apart its peaks; the rule's points crowd at its ends.
    """
    drawn = d.sample((401,))
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
    keep = small(u[0], ELEMENTS, case.seed)
    by_panel, coarse, lossy = [], [], []
    for low, high in zip(edges[:-1].split(20), edges[1:].split(20), strict=True):
        points = low + (high - low) * share.view(-1, *(1 for _ in edges.shape))  # (rule, panels, *batch)
        p = (log_density(d, transform, points).exp() * (high - low)).reshape(*points.shape[:2], -1)[..., keep]
        p = p * weight.view(-1, 1, 1)
        by_panel.append(p.sum(0))
        coarse.append(2 * p[1::2].sum(0))
        lossy.append(
            (p * is_lossy(transform, transform(points), points).reshape(*points.shape[:2], -1)[..., keep]).sum((0, 1))
        )
    panels = torch.cat(by_panel)
    outermost = panels[:2].sum(0) + panels[-2:].sum(0)
    unseen = outermost + torch.stack(lossy).sum(0) + edge.flatten()[keep]
    gap = 10 * (torch.cat(coarse) - panels).abs().sum(0) ** 2  # twice the points are twice the digits
    return _is_one(panels.sum(0), gap, unseen, 1e-3)


def _plane(d: Any, transform: Any) -> Finding:
    """By the trapezium rule along t in u = middle + width sinh(t), in one or two dimensions."""
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


def _bridge(d: Any, transform: Any, case: Case) -> Finding:
    """E_r[d / (d + r)] = E_d[r / (d + r)] for any density r of mass one, fitted to other draws of d.

    (Bridge sampling: Meng and Wong 1996.) Both sides lie between 0 and 1, so that no weight can be too large. A normal
    is tried first, then a mixture of them, for densities of several peaks.
    """
    drawn = d.sample((2 * _DRAWS,))
    u = transform.inv(drawn)
    if is_lossy(transform, drawn, u).any():
        return Finding("skipped", "cannot be integrated: rounding takes draws to the edge of the support")
    fit, at = u[:_DRAWS].movedim(0, -2), u[_DRAWS:]
    log_p = log_density(d, transform, at)
    best = -math.inf
    for beside in (_normal, _local_normals):
        r = beside(fit)
        other = r.sample((_DRAWS,))
        from_r = torch.sigmoid(log_density(d, transform, other) - r.log_prob(other))
        from_d = torch.sigmoid(r.log_prob(at) - log_p)
        overlap = (from_r.mean(0) + from_d.mean(0)).min().item()
        if overlap > best:
            best, difference = overlap, from_r - from_d
        if best > _ENOUGH:
            break
    if best < _OVERLAP:
        return Finding("skipped", f"{u.shape[-1]} dimensions are too many to integrate this density over")
    return mean_is_zero(difference, case.level, f"the mass is not 1: {_LOOK}")


def _normal(points: Tensor) -> Any:
    """A normal of the mean and covariance of points ``(..., points, n)``."""
    middle = points.mean(-2)
    centred = points - middle.unsqueeze(-2)
    covariance = centred.mT @ centred / points.shape[-2]
    ridge = 1e-9 * covariance.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    return torch.distributions.MultivariateNormal(middle, covariance + ridge * torch.eye(points.shape[-1]).to(points))


def _local_normals(points: Tensor) -> Any:
    """A mixture of normals about some of the points, each with the spread of those nearest to it."""
    n = points.shape[-1]
    centres = points[..., :64, :]
    nearest = torch.cdist(centres, points).topk(min(4 * n + 8, points.shape[-2]), largest=False).indices
    local = _normal(torch.take_along_dim(points.unsqueeze(-3), nearest.unsqueeze(-1), -2))
    # Much of the correlation within so few is chance.
    own = torch.diag_embed(local.covariance_matrix.diagonal(dim1=-2, dim2=-1))
    components = torch.distributions.MultivariateNormal(local.loc, 0.7 * local.covariance_matrix + 0.3 * own)
    weights = torch.distributions.Categorical(logits=torch.zeros(centres.shape[:-1]).to(points))
    return torch.distributions.MixtureSameFamily(weights, components)
