"""Priors over directions."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import constraints
from torch import Tensor

from pyro_vae.argument_checks import at_least
from pyro_vae.distributions import UniformOnSphere as UniformDistribution
from pyro_vae.parts import Prior

__all__ = ["UniformOnSphere"]


class UniformOnSphere(Prior):
    """All directions alike: the uniform distribution over vectors of length 1.

    Goes with the posterior ``PowerSpherical``. Codes on a sphere have no middle to which a prior could pull them
    (Davidson et al. 2018, arXiv 1804.00891).

    Args:
        latent_dim: dimensions of the space that the sphere is in, at least 2.

    Raises:
        ValueError: where ``latent_dim`` is below 2.

    Example:
        >>> UniformOnSphere(10)().sample().norm().round(decimals=3)
        tensor(1.)
    """

    support = constraints.sphere
    like: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = at_least(2, "latent_dim", latent_dim)
        self.register_buffer("like", torch.zeros(latent_dim), persistent=False)

    def forward(self, *context: Tensor) -> Any:
        """The uniform distribution, with batch shape ``()`` and event shape ``(latent_dim,)``."""
        return UniformDistribution(len(self.like), self.like)
