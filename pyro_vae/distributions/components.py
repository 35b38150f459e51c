"""The distributions inside a distribution."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import Independent

__all__ = ["HasFactors", "factors", "innermost", "without_independent"]


@runtime_checkable
class HasFactors(Protocol):
    """A distribution that is a product of factors with names, such as the columns of a table."""

    def factor_log_probs(self, value: Tensor) -> dict[str, Tensor]:
        """Return the log-density of each factor in nats, ``(..., *batch_shape)``; ``log_prob`` is their sum."""


def innermost(distribution: TorchDistribution) -> TorchDistribution:
    """Return the distribution inside all others (Independent, transformed, masked, ...)."""
    while hasattr(distribution, "base_dist"):
        distribution = distribution.base_dist
    return distribution


def without_independent(distribution: TorchDistribution) -> TorchDistribution:
    """Return the distribution before its dimensions were declared an event."""
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return distribution


def factors(distribution: TorchDistribution) -> TorchDistribution | None:
    """Return the distributions of the single dimensions of the event; None if it is not a product of them."""
    inner = without_independent(distribution)
    return None if inner.event_shape else inner
