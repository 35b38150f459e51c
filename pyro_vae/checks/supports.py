"""The values that a distribution can take, and maps from the reals to its support."""

from __future__ import annotations

import copy
import math

import torch
from pyro.distributions import SineBivariateVonMises, SineSkewed, TorchDistribution
from pyro.distributions.constraints import sphere
from torch import Tensor
from torch.distributions import Transform, VonMises, biject_to, constraints
from torch.distributions.constraints import Constraint
from torch.distributions.transforms import ComposeTransform, LowerCholeskyTransform, ReshapeTransform

from pyro_vae.checks.sphere_charts import HalfAngle, Stereographic
from pyro_vae.distributions import base_constraint, support_of
from pyro_vae.distributions.grid import Grid

__all__ = [
    "counts_of",
    "is_circle",
    "is_lossy",
    "log_density",
    "log_probs",
    "take_elements",
    "to_reals",
    "values_of",
]

_MOST = 20_000  # values of a count that are summed over
_TORUS = (VonMises, SineBivariateVonMises, SineSkewed)


def values_of(d: TorchDistribution) -> Tensor | None:
    """Return all values, ``(values, *batch, *event)``, if a distribution lists them or they are levels of a grid."""
    if d.has_enumerate_support:
        try:
            return d.enumerate_support(expand=True)
        except (NotImplementedError, ValueError):  # a binomial with several total counts; too many groups
            return None
    support = base_constraint(support_of(d))
    if not isinstance(support, Grid) or d.event_shape:
        return None
    values = support.from_index(torch.arange(support.levels, dtype=d.sample().dtype))
    return values.view(-1, *(1 for _ in d.batch_shape)).expand(-1, *d.batch_shape)


def log_probs(d: TorchDistribution, values: Tensor, within: Constraint | None = None) -> Tensor:
    """Return the log-probabilities of many values ``(values, *batch, *event)``, some at a time: ``(values, *batch)``.

    Args:
        d: the distribution.
        values: to evaluate.
        within: the support, if values may lie outside it; outside, the log-probability is minus infinity.
    """

    def of_some(part: Tensor) -> Tensor:
        log_p = d.log_prob(part)
        return log_p if within is None else log_p.masked_fill(~within.check(part), -math.inf)

    at_once = max(1, 1_000_000 // max(1, values[0].numel()))
    return torch.cat([of_some(part) for part in values.split(at_once)])


def counts_of(d: TorchDistribution) -> tuple[Tensor, Tensor] | str:
    """Return whole numbers around the draws and their log-probabilities, each ``(values, *batch)``; or why not.

    The range grows until almost no mass lies near its ends.
    """
    support = support_of(d)
    if isinstance(support, constraints.MixtureSameFamilyConstraint):  # support_of cannot describe it
        return "the components of the mixture have different supports"
    support = base_constraint(support)
    drawn = d.sample((200,))
    first, last = drawn.min(0).values, drawn.max(0).values
    lowest = torch.as_tensor(getattr(support, "lower_bound", -math.inf)).to(drawn)
    pad = 2 * (last - first) + 50
    while True:
        start = torch.maximum(first - pad, lowest)
        length = int((last + pad - start).max().item()) + 1
        if length > _MOST:
            return f"the counts spread over more than {_MOST} values"
        steps = torch.arange(length, dtype=drawn.dtype, device=drawn.device)
        counts = start + steps.view(-1, *(1 for _ in d.batch_shape))
        # In parts, because some distributions need much memory for each value.
        log_p = torch.cat([d.log_prob(part).where(support.check(part), -math.inf) for part in counts.split(500)])
        p, margin = log_p.exp(), (last + pad - start) / 10
        near_start = (counts < start + margin) & (start > lowest)
        near_end = counts > last + pad - margin
        if not bool(((p * (near_start | near_end)).sum(0) > 1e-7).any()):
            return counts, log_p
        pad = 2 * pad


def take_elements(d: TorchDistribution, keep: Tensor) -> TorchDistribution | None:
    """Return the distributions of some elements of a batch of scalars, by index; None if they cannot be copied.

    Only some of an image's many elements are checked, and the density of all of them takes long. The copy is used for
    its log-density only, which is compared with that of the whole.
    """
    with torch.no_grad():
        drawn = d.sample((2,))
        part = _taken_apart(d, len(d.batch_shape), keep)
        if part is None:
            return None
        try:
            ours = part.log_prob(drawn.flatten(1)[:, keep])
        except (RuntimeError, ValueError, IndexError):  # a part of it has the whole shape
            return None
        whole = d.log_prob(drawn).flatten(1)[:, keep]
    return part if ours.shape == whole.shape and torch.allclose(ours, whole, rtol=1e-6, equal_nan=True) else None


def _taken_apart(d: TorchDistribution, dims: int, keep: Tensor) -> TorchDistribution | None:
    """Return a copy whose tensors and distributions have only some elements of the first dimensions."""
    part, batch = copy.copy(d), d.batch_shape[:dims]
    for name, value in vars(d).items():
        if isinstance(value, torch.distributions.Distribution) and value.batch_shape[:dims] == batch:
            vars(part)[name] = _taken_apart(value, dims, keep)
        elif isinstance(value, Tensor) and value.shape[:dims] == batch:
            vars(part)[name] = value.flatten(0, dims - 1)[keep] if dims else value
    # Private, but torch sets it only in constructors, which differ between distributions.
    part._batch_shape = torch.Size([len(keep), *d.batch_shape[dims:]])
    return part


def is_circle(d: TorchDistribution) -> bool:
    """True for distributions of angles, whose support torch calls real."""
    while isinstance(d, (torch.distributions.MixtureSameFamily, torch.distributions.Independent)):
        d = d.component_distribution if isinstance(d, torch.distributions.MixtureSameFamily) else d.base_dist
    return isinstance(d, _TORUS)


def to_reals(d: TorchDistribution) -> Transform | None:
    """Return the bijection from the reals, or real vectors, to the support; None if none is known."""
    support = support_of(d)
    if base_constraint(support) is sphere:
        return Stereographic.away_from(d.sample((401,)))
    if is_circle(d):
        return HalfAngle.about(d.sample((401,)))
    try:
        transform = biject_to(support)
        # With the batch, because bounds may have its shape.
        shape = transform.inverse_shape(d.batch_shape + d.event_shape)[len(d.batch_shape) :]
    except NotImplementedError:
        return None
    if len(shape) < 2:
        return transform
    if any(isinstance(part, LowerCholeskyTransform) for part in getattr(transform, "parts", [transform])):
        return None  # it ignores half of its arguments
    return ComposeTransform([ReshapeTransform(torch.Size([shape.numel()]), shape), transform])


def is_lossy(transform: Transform, value: Tensor, u: Tensor) -> Tensor:
    """True for each u that rounding of its value moves, as at the edge of the support; of the shape of u."""
    finfo = torch.finfo(value.dtype)
    step, least = 4 * finfo.eps, 1e3 * finfo.tiny
    moved = transform.inv(value * (1 + step) + least) - transform.inv(value * (1 - step) - least)
    return ~(moved.abs() <= 1e-4 * (1 + u.abs()))  # True for NaN


def log_density(d: TorchDistribution, transform: Transform, u: Tensor) -> Tensor:
    """Return the log-density of the unconstrained u; minus infinity if rounding moves its image out of the support."""
    value = transform(u)
    jacobian = transform.log_abs_det_jacobian(u, value)
    log_p = d.log_prob(value)
    if jacobian.dim() > log_p.dim():
        jacobian = jacobian.sum(-1)
    return torch.nan_to_num(log_p + jacobian, nan=-math.inf, posinf=-math.inf, neginf=-math.inf)
