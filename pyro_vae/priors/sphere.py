"""Priors over directions."""

from __future__ import annotations

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from pyro_vae.argument_checks import at_least
from pyro_vae.distributions import UniformOnSphere as UniformDistribution
from pyro_vae.parts import Prior

__all__ = ["UniformOnSphere"]


class UniformOnSphere(Prior):
    """The uniform distribution over vectors of length 1.

    It goes with the posterior ``PowerSpherical``. A sphere has no middle to which a prior could pull the codes
    (Davidson et al. 2018, arXiv 1804.00891).

    Args:
        latent_dim: dimensions of the space around the sphere, at least 2.

    Raises:
        ValueError: if ``latent_dim`` is below 2.

    Example:
        >>> UniformOnSphere(10)().sample().norm().round(decimals=3)
        tensor(1.)
    """

    support = constraints.sphere
    like: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = at_least("latent_dim", latent_dim, 2)
        self.register_buffer("like", torch.zeros(latent_dim), persistent=False)

    def forward(self, *context: Tensor) -> TorchDistribution:
        """Return the uniform distribution, with batch shape ``()`` and event shape ``(latent_dim,)``."""
        return UniformDistribution(len(self.like), self.like)
