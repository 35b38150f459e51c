"""Priors over real vectors with independent dimensions."""

from __future__ import annotations

from typing import ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_vae.argument_checks import at_least, finite_number
from pyro_vae.distributions import StudentT as StudentTDistribution
from pyro_vae.distributions import inverse_positive, positive
from pyro_vae.parts import Prior

__all__ = ["Gumbel", "Laplace", "Normal", "StandardNormal", "StudentT"]


class StandardNormal(Prior):
    """N(0, I) over the latent space, for any context: the prior of Kingma and Welling (2013, arXiv 1312.6114).

    Args:
        latent_dim: dimensions of z, at least 1.

    Raises:
        ValueError: if ``latent_dim`` is below 1.

    Example:
        >>> StandardNormal(20)().event_shape
        torch.Size([20])
    """

    support = constraints.real_vector
    loc: Tensor
    scale: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = at_least("latent_dim", latent_dim, 1)
        # Buffers follow the device and the dtype of the parameters; there is nothing to save.
        self.register_buffer("loc", torch.zeros(latent_dim), persistent=False)
        self.register_buffer("scale", torch.ones(latent_dim), persistent=False)

    def forward(self, *context: Tensor) -> TorchDistribution:
        """Return N(0, I) with batch shape ``()`` and event shape ``(latent_dim,)``."""
        return dist.Normal(self.loc, self.scale).to_event(1)


class _LocationScale(Prior):
    """Independent dimensions of one family, with a learned location and a learned scale each; they start at 0 and 1."""

    support = constraints.real_vector
    family: ClassVar[type[TorchDistribution]]

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = at_least("latent_dim", latent_dim, 1)
        self.loc = nn.Parameter(torch.zeros(latent_dim))
        self.raw_scale = nn.Parameter(inverse_positive(torch.ones(latent_dim)))

    def forward(self, *context: Tensor) -> TorchDistribution:
        """Return ``family(loc, scale)`` with batch shape ``()`` and event shape ``(latent_dim,)``."""
        return self.family(self.loc, positive(self.raw_scale)).to_event(1)


class Normal(_LocationScale):
    """A normal with a learned mean and a learned scale in each dimension; it starts as N(0, I).

    Args:
        latent_dim: dimensions of z, at least 1.

    Raises:
        ValueError: if ``latent_dim`` is below 1.

    Example:
        >>> Normal(20)().event_shape
        torch.Size([20])
    """

    family = dist.Normal


class Laplace(_LocationScale):
    """Independent Laplace dimensions with learned locations and scales: sharper in the middle, heavier in the tails.

    It favours codes with only a few dimensions far from the middle (as in Barello, Charles and Pillow 2018,
    "Sparse-coding variational auto-encoders").

    Args:
        latent_dim: dimensions of z, at least 1.

    Raises:
        ValueError: if ``latent_dim`` is below 1.

    Example:
        >>> Laplace(20)().event_shape
        torch.Size([20])
    """

    family = dist.Laplace


class Gumbel(_LocationScale):
    """Independent Gumbel dimensions with learned locations and scales: skewed, with the long tail to the right.

    (Gumbel 1958, "Statistics of extremes".) The left tail falls as exp(-exp(-z)): a code far to the left of a narrow
    scale has a log-density of −∞.

    Args:
        latent_dim: dimensions of z, at least 1.

    Raises:
        ValueError: if ``latent_dim`` is below 1.

    Example:
        >>> Gumbel(20)().event_shape
        torch.Size([20])
    """

    family = dist.Gumbel


class StudentT(_LocationScale):
    """Independent Student t dimensions with learned locations, scales and degrees of freedom.

    A weakly informative prior: its heavy tails allow distant codes for unusual data (Takahashi et al. 2018, "Student-t
    variational autoencoder for robust density estimation").

    Args:
        latent_dim: dimensions of z, at least 1.
        initial_df: where the degrees of freedom start, above 1. They are learned as 1 + softplus(raw) + 1e-6, because
            the mean must exist.

    Raises:
        ValueError: if ``latent_dim`` is below 1 or ``initial_df`` not above 1.

    Example:
        >>> StudentT(20)().event_shape
        torch.Size([20])
    """

    def __init__(self, latent_dim: int, initial_df: float = 5.0) -> None:
        super().__init__(latent_dim)
        finite_number("initial_df", initial_df, above=1 + 1e-6, why="so that the mean exists")
        self.initial_df = initial_df
        self.raw_df = nn.Parameter(inverse_positive(torch.full((latent_dim,), float(initial_df) - 1)))

    def forward(self, *context: Tensor) -> TorchDistribution:
        """Return a Student t with batch shape ``()`` and event shape ``(latent_dim,)``."""
        return StudentTDistribution(1 + positive(self.raw_df), self.loc, positive(self.raw_scale)).to_event(1)
