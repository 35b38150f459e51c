"""Supports of distributions, and the constraints on one element or vector that they are made of."""

from __future__ import annotations

from typing import Any

from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

__all__ = ["base_constraint", "stated_support", "support_of"]


def base_constraint(
    support: Constraint,
    through: tuple[type[Any], ...] = (constraints.independent, constraints.MixtureSameFamilyConstraint),
) -> Constraint:
    """Return the constraint on one element or vector, which a support applies to all of its dimensions.

    Args:
        support: the support of a distribution.
        through: the kinds of constraint to look into.

    Example:
        >>> base_constraint(constraints.real_vector)
        Real()
    """
    while isinstance(support, through):
        support = support.base_constraint
    return support


def stated_support(distribution: TorchDistribution) -> Constraint | None:
    """Return the support of a distribution; None if it states none, as Zuko's flows do."""
    try:
        return distribution.support
    except NotImplementedError:
        return None


def support_of(distribution: TorchDistribution) -> Constraint:
    """Return the support of a distribution, or all real vectors if it states none.

    The support of a mixture is that of its components, unless it differs between them.
    """
    support = stated_support(distribution)
    if support is None:
        return constraints.independent(constraints.real, len(distribution.event_shape))
    if isinstance(support, constraints.MixtureSameFamilyConstraint) and not _has_tensors(support.base_constraint):
        return support.base_constraint
    return support


def _has_tensors(support: Constraint) -> bool:
    """Return True if the limits of a support are tensors, which may differ between components."""
    parts = vars(support).values()
    inner = [part for part in parts if isinstance(part, Constraint)]
    return any(isinstance(part, Tensor) and part.dim() > 0 for part in parts) or any(map(_has_tensors, inner))
