"""Distributions over counts."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch.distributions import constraints

__all__ = ["Multinomial", "ZeroInflatedNegativeBinomial"]


class Multinomial(dist.Multinomial):
    """Pyro's multinomial, where each vector of counts has its own total.

    ``log_prob`` is the log-probability of the counts given their total; only samples and the mean need
    ``total_count``.

    Example:
        >>> p = Multinomial(total_count=10, logits=torch.zeros(2))
        >>> p.log_prob(torch.tensor([[1.0, 0.0], [1.0, 1.0]])).exp()
        tensor([0.5000, 0.5000])
    """

    @property
    def support(self) -> constraints.Constraint:
        """Vectors of whole numbers from 0, of any total."""
        return constraints.independent(constraints.nonnegative_integer, 1)

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        """Draws of shape ``(*sample_shape, *batch_shape, *event_shape)``, each of total ``total_count``."""
        return super().sample(torch.Size(sample_shape))


class ZeroInflatedNegativeBinomial(dist.ZeroInflatedNegativeBinomial):
    """Pyro's zero-inflated negative binomial, which can be expanded after it was sampled, too.

    Example:
        >>> p = ZeroInflatedNegativeBinomial(torch.ones(3), logits=torch.zeros(3), gate_logits=torch.zeros(3))
        >>> x = p.sample()
        >>> p.expand((2, 3)).mean[0]
        tensor([0.5000, 0.5000, 0.5000])
    """

    def expand(self, batch_shape: Any, _instance: Any = None) -> ZeroInflatedNegativeBinomial:
        """The same distribution with another batch shape."""
        # Pyro's passes on both the gate and its logits once both are known, and then refuses to have both.
        if "gate_logits" in self.__dict__:
            self.__dict__.pop("gate", None)
        return super().expand(torch.Size(batch_shape), _instance)
