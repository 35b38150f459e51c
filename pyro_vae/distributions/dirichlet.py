"""Dirichlet distributions, as logs of their points."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_vae.distributions.log_simplex import AsLogs

__all__ = ["Dirichlet"]


# torch's Dirichlet rounds the elements of its draws up to the smallest float, and draws with a concentration of 0.01
# have most of their elements below that.
class Dirichlet(AsLogs):
    """A Dirichlet distribution, as the logs z of its points y of a simplex.

    Density of z with respect to the log ratios z_i − z_K: Γ(Σ_k α_k) Π_k exp(α_k z_k) / Γ(α_k). Small concentrations
    lose nothing: log of a Gamma(α) draw is that of a Gamma(α + 1) draw, plus log U / α (Marsaglia and Tsang 2000).

    Args:
        concentration: α, above 0, ``(*batch, K)``.

    Example:
        >>> d = Dirichlet(torch.full((3,), 0.001))
        >>> z = d.sample((1000,))
        >>> bool(z.isfinite().all()), d.log_prob(z).shape
        (True, torch.Size([1000]))
    """

    def __init__(self, concentration: Tensor, validate_args: bool | None = None) -> None:
        super().__init__(dist.Dirichlet(concentration, validate_args=validate_args))

    @property
    def concentration(self) -> Tensor:
        """α, ``(*batch, K)``."""
        return self.base.concentration

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of shape ``(*sample_shape, *batch_shape, K)``, without gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of shape ``(*sample_shape, *batch_shape, K)``, with gradient."""
        one_more = torch.distributions.Gamma(self.concentration + 1, 1.0).rsample(torch.Size(sample_shape))
        minus_log_u = torch.empty_like(one_more).exponential_()
        return (one_more.log() - minus_log_u / self.concentration).log_softmax(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, of shape ``(..., *batch_shape)``."""
        total = self.concentration.sum(-1).lgamma() - self.concentration.lgamma().sum(-1)
        return (self.concentration * value).sum(-1) + total

    def expand(self, batch_shape: Any, _instance: None = None) -> Dirichlet:
        """The same distribution with another batch shape."""
        return Dirichlet(self.concentration.expand(torch.Size((*batch_shape, *self.event_shape))))
