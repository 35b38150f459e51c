"""Posteriors over directions."""

from __future__ import annotations

from pyro.distributions import TorchDistribution, constraints
from torch import Tensor, nn

from pyro_vae.argument_checks import at_least
from pyro_vae.distributions import PowerSpherical as PowerSphericalDistribution
from pyro_vae.parts import Posterior

__all__ = ["PowerSpherical"]


class PowerSpherical(Posterior):
    """Vectors of length 1 around a direction: like the von Mises-Fisher distribution, but numerically stable.

    (De Cao and Aziz 2020, arXiv 2006.04437.) It goes with the prior ``UniformOnSphere``; the KL has a closed form.

    The direction is v / |v| and the concentration latent_dim · |v| + 1e-6, from one vector v. A separate concentration
    softplus(raw) has almost no gradient near 0: in ten dimensions, none that came there grew again.

    Args:
        net: maps x, and the context if there is any, to v, ``(batch, latent_dim)``.

    Raises:
        ValueError: if the net gives fewer than two outputs.

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
        """Return the shape that the net must give for a sphere in ``latent_dim`` dimensions."""
        return (at_least("latent_dim", latent_dim, 2),)

    def forward(self, x: Tensor, *context: Tensor) -> TorchDistribution:
        """Return the distribution, with batch shape ``(batch,)`` and event shape ``(latent_dim,)``."""
        # The small number gives a direction to zeros too, which a new net returns for an x of zeros.
        v = self.net(x, *context) + 1e-6
        if v.shape[-1] < 2:
            raise ValueError(
                "posterior PowerSpherical needs a net whose last dimension is latent_dim, at least 2; "
                f"got {v.shape[-1]}"
            )
        length = v.norm(dim=-1)
        return PowerSphericalDistribution(v / length.unsqueeze(-1), v.shape[-1] * length + 1e-6)
