"""What a distribution is made of."""

from __future__ import annotations

from typing import Any

from torch.distributions import Independent

__all__ = ["factors", "innermost", "without_independent"]


def innermost(distribution: Any) -> Any:
    """The distribution that the others around it (Independent, transformed, masked, ...) are made from."""
    while hasattr(distribution, "base_dist"):
        distribution = distribution.base_dist
    return distribution


def without_independent(distribution: Any) -> Any:
    """The distribution before its dimensions were declared an event."""
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return distribution


def factors(distribution: Any) -> Any:
    """The distributions of the single dimensions of the event; None where it is no product of such."""
    inner = without_independent(distribution)
    return None if inner.event_shape else inner
