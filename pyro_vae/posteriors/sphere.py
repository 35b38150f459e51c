"""Posteriors over directions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pyro_vae.distributions import PowerSpherical as PowerSphericalDistribution
from pyro_vae.distributions import at_least, positive

__all__ = ["PowerSpherical"]


class PowerSpherical(nn.Module):
    """Vectors of length 1 around a direction: what the von Mises-Fisher distribution is for, without its instabilities.

    (De Cao and Aziz 2020, arXiv 2006.04437.) Goes with the prior ``UniformOnSphere``; the KL has a closed form.

    Args:
        net: maps x, and the context if there is any, to ``(batch, latent_dim + 1)``: a vector along the direction, then
            the raw concentration, which becomes softplus(raw) + 1e-6.

    Raises:
        ValueError: where the net gives fewer than three outputs.

    Example:
        >>> from pyro_vae import nets
        >>> q = PowerSpherical(nets.MLP((1, 8, 8), (64,), 5 + 1))
        >>> q(torch.rand(16, 1, 8, 8)).event_shape
        torch.Size([5])
    """

    space = "vectors of length 1"

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    @staticmethod
    def net_shape(latent_dim: int) -> tuple[int, ...]:
        """The shape that the net must give for a sphere in ``latent_dim`` dimensions."""
        return (at_least(2, "latent_dim", latent_dim) + 1,)

    def forward(self, x: Tensor, *context: Tensor) -> Any:
        """The distribution, with batch shape ``(batch,)`` and event shape ``(latent_dim,)``."""
        out = self.net(x, *context)
        if out.shape[-1] < 3:
            raise ValueError(
                f"posterior PowerSpherical needs a net whose last dimension is latent_dim + 1, at least 3; "
                f"got {out.shape[-1]}"
            )
        # The small number gives an output of zeros, as a new net makes of an x of zeros, a direction too.
        direction = torch.nn.functional.normalize(out[..., :-1] + 1e-6, dim=-1)
        return PowerSphericalDistribution(direction, positive(out[..., -1]))
