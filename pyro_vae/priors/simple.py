"""Priors p(z | c): modules that take the context and return a distribution over z."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn

__all__ = ["StandardNormal"]


class StandardNormal(nn.Module):
    """N(0, I) over the latent space, whatever the context.

    The prior of Kingma and Welling (2013, arXiv 1312.6114).

    Args:
        latent_dim: dimensions of z, at least 1.

    Raises:
        ValueError: where ``latent_dim`` is below 1.

    Example:
        >>> StandardNormal(20)().event_shape
        torch.Size([20])
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        if not isinstance(latent_dim, int) or latent_dim < 1:
            raise ValueError(f"latent_dim must be an integer of at least 1; got {latent_dim!r}")
        self.latent_dim = latent_dim
        # Buffers, so that the prior follows the device and the dtype of the parameters; nothing to save.
        self.register_buffer("loc", torch.zeros(latent_dim), persistent=False)
        self.register_buffer("scale", torch.ones(latent_dim), persistent=False)

    def forward(self, *context: Tensor) -> dist.Distribution:
        """N(0, I) with batch shape ``()`` and event shape ``(latent_dim,)``."""
        return dist.Normal(self.loc, self.scale).to_event(1)
