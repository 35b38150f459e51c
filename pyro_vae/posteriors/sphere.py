"""Posteriors over directions."""

from __future__ import annotations

from typing import Any

from pyro.distributions import constraints
from torch import Tensor, nn

from pyro_vae.argument_checks import at_least
from pyro_vae.distributions import PowerSpherical as PowerSphericalDistribution
from pyro_vae.parts import Posterior

__all__ = ["PowerSpherical"]


class PowerSpherical(Posterior):
    """Vectors of length 1 around a direction: what the von Mises-Fisher distribution is for, without its instabilities.

    (De Cao and Aziz 2020, arXiv 2006.04437.) Goes with the prior ``UniformOnSphere``; the KL has a closed form.

    Direction and concentration come from one vector v, as v / |v| and latent_dim · |v| + 1e-6. A concentration of its
    own, softplus(raw), has next to no gradient once it is near 0, and in ten dimensions none came back from there.

    Args:
        net: maps x, and the context if there is any, to v, ``(batch, latent_dim)``.

    Raises:
        ValueError: where the net gives fewer than two outputs.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> q = PowerSpherical(nets.MLP((1, 8, 8), (64,), 5))
        >>> q(torch.rand(16, 1, 8, 8)).event_shape
        torch.Size([5])
    """

    support = constraints.sphere

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    @classmethod
    def net_shape(cls, latent_dim: int) -> tuple[int, ...]:
        """The shape that the net must give for a sphere in ``latent_dim`` dimensions."""
        return (at_least(2, "latent_dim", latent_dim),)

    def forward(self, x: Tensor, *context: Tensor) -> Any:
        """The distribution, with batch shape ``(batch,)`` and event shape ``(latent_dim,)``."""
        # The small number gives an output of zeros, as a new net makes of an x of zeros, a direction too.
        v = self.net(x, *context) + 1e-6
        if v.shape[-1] < 2:
            raise ValueError(
                "posterior PowerSpherical needs a net whose last dimension is latent_dim, at least 2; "
                f"got {v.shape[-1]}"
            )
        length = v.norm(dim=-1)
        return PowerSphericalDistribution(v / length.unsqueeze(-1), v.shape[-1] * length + 1e-6)
