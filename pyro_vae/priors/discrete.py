"""Priors over categories, as one-hot vectors, and over points between them."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_vae.distributions import Grouped, RelaxedOneHot, categories, check_temperature
from pyro_vae.distributions.log_simplex import log_simplex
from pyro_vae.parts import Prior

__all__ = ["Categorical", "RelaxedCategorical"]


class Categorical(Prior):
    """Groups of categories with learned probabilities; z holds a one-hot vector for each group, side by side.

    It goes with the posterior of the same name, and ``TraceEnum_ELBO`` sums over the categories exactly. (Kingma et al.
    2014, arXiv 1406.5298, use one such group for the class.)

    Args:
        latent_dim: dimensions of z: groups × classes.
        classes: categories per group; None for one group of ``latent_dim``.

    Raises:
        ValueError: if ``classes`` is below 2 or does not divide ``latent_dim``.

    Example:
        >>> Categorical(20, classes=10)().event_shape
        torch.Size([20])
    """

    support = constraints.one_hot

    def __init__(self, latent_dim: int, classes: int | None = None) -> None:
        super().__init__()
        groups, size = categories(latent_dim, classes)
        self.latent_dim = latent_dim
        self.classes = size
        self.logits = nn.Parameter(torch.zeros(groups, size))

    def forward(self, *context: Tensor) -> TorchDistribution:
        """Return one-hot vectors side by side, with batch shape ``()`` and event shape ``(latent_dim,)``."""
        return Grouped(dist.OneHotCategorical(logits=self.logits))


class RelaxedCategorical(Prior):
    """Groups of points near the corners of a simplex, with learned probabilities: the Concrete distribution.

    It goes with the posterior of the same name (Maddison, Mnih and Teh 2016, arXiv 1611.00712; Jang, Gu and Poole 2016,
    arXiv 1611.01144): a relaxed posterior gives a bound with a relaxed prior, and none with a discrete one. Codes z are
    the logs of the points; the likelihood takes the points.

    Args:
        latent_dim: dimensions of z: groups × classes.
        classes: categories per group; None for one group of ``latent_dim``.
        temperature: at least 0.01; at low temperatures the points are almost one-hot.

    Raises:
        ValueError: if ``classes`` is below 2 or does not divide ``latent_dim``, or the temperature is below 0.01.

    Example:
        >>> RelaxedCategorical(20, classes=10)().event_shape
        torch.Size([20])
    """

    support = log_simplex
    temperature: Tensor

    def __init__(self, latent_dim: int, classes: int | None = None, temperature: float = 0.5) -> None:
        super().__init__()
        groups, size = categories(latent_dim, classes)
        check_temperature(temperature)
        self.latent_dim = latent_dim
        self.classes = size
        self.register_buffer("temperature", torch.tensor(float(temperature)))
        self.logits = nn.Parameter(torch.zeros(groups, size))

    def forward(self, *context: Tensor) -> TorchDistribution:
        """Return logs of points side by side, with batch shape ``()`` and event shape ``(latent_dim,)``."""
        return Grouped(RelaxedOneHot(self.temperature, logits=self.logits))
