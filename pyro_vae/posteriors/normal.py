"""Posteriors q(z | x, c): modules that take data and context and return a distribution over z."""

from __future__ import annotations

import pyro.distributions as dist
from torch import Tensor, nn

from pyro_vae.distributions import positive

__all__ = ["DiagonalNormal"]


class DiagonalNormal(nn.Module):
    """A normal with independent dimensions: the mean-field posterior of Kingma and Welling (arXiv 1312.6114).

    Args:
        net: maps x, and the context if there is any, to ``(batch, 2 * latent_dim)``: the means, then the raw
            scales, which become softplus(raw) + 1e-6.

    Raises:
        ValueError: where the net's output cannot be split into two halves.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> q = DiagonalNormal(nets.MLP((1, 8, 8), (64,), 2 * 5))
        >>> q(torch.rand(16, 1, 8, 8)).event_shape
        torch.Size([5])
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    @staticmethod
    def net_shape(latent_dim: int) -> tuple[int, ...]:
        """The shape that the net must give for a latent space of ``latent_dim`` dimensions."""
        return (2 * latent_dim,)

    def forward(self, x: Tensor, *context: Tensor) -> dist.Distribution:
        """N(loc(x, c), diag(scale(x, c)²)) with batch shape ``(batch,)`` and event shape ``(latent_dim,)``."""
        out = self.net(x, *context)
        if out.shape[-1] % 2:
            raise ValueError(
                f"posterior DiagonalNormal needs a net whose last dimension is 2 * latent_dim, means then raw scales; "
                f"got {out.shape[-1]}, which is odd"
            )
        loc, raw_scale = out.chunk(2, dim=-1)
        return dist.Normal(loc, positive(raw_scale)).to_event(1)
