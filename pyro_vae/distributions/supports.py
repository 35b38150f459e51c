"""Constraints, seen from inside."""

from __future__ import annotations

from typing import Any

from torch.distributions import constraints
from torch.distributions.constraints import Constraint

__all__ = ["base_constraint"]


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
