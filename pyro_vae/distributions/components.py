"""What a distribution is made of."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor
from torch.distributions import Independent

__all__ = ["HasFactors", "factors", "innermost", "without_independent"]


@runtime_checkable
class HasFactors(Protocol):
    """A distribution that is a product of factors with names, such as the columns of a table."""

    def factor_log_probs(self, value: Tensor) -> dict[str, Tensor]:
        """Return the log-density of each factor in nats, ``(..., *batch_shape)``; ``log_prob`` is their sum."""


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
