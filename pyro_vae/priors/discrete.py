"""Priors over categories, as one-hot vectors, and over points between them."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_vae.distributions import Grouped, RelaxedOneHot, categories, check_temperature
from pyro_vae.distributions.log_simplex import log_simplex
from pyro_vae.parts import Prior

__all__ = ["Categorical", "RelaxedCategorical"]


class Categorical(Prior):
    """Groups of categories with learned probabilities; z holds a one-hot vector for each group, side by side.

    Goes with the posterior of the same name, summed over exactly by ``TraceEnum_ELBO``. (Kingma et al. 2014, arXiv
    1406.5298, have one such group for the class.)

    Args:
        latent_dim: dimensions of z: groups × classes.
        classes: categories in a group; None for one group of ``latent_dim``.

    Raises:
        ValueError: where ``classes`` is below 2 or does not divide ``latent_dim``.

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

    def forward(self, *context: Tensor) -> Any:
        """One-hot vectors side by side, with batch shape ``()`` and event shape ``(latent_dim,)``."""
        return Grouped(dist.OneHotCategorical(logits=self.logits))


class RelaxedCategorical(Prior):
    """Groups of points of a simplex that lie near its corners, with learned probabilities: the Concrete distribution.

    Goes with the posterior of the same name (Maddison, Mnih and Teh 2016, arXiv 1611.00712; Jang, Gu and Poole 2016,
    arXiv 1611.01144): a relaxed posterior against a relaxed prior makes a bound, against a discrete one it does not.
    Codes z are the logs of the points, and the likelihood sees the points.

    Args:
        latent_dim: dimensions of z: groups × classes.
        classes: categories in a group; None for one group of ``latent_dim``.
        temperature: from 0.01 on; the lower, the nearer to one-hot.

    Raises:
        ValueError: where ``classes`` is below 2 or does not divide ``latent_dim``, or the temperature is below 0.01.

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

    def forward(self, *context: Tensor) -> Any:
        """Logs of points side by side, with batch shape ``()`` and event shape ``(latent_dim,)``."""
        return Grouped(RelaxedOneHot(self.temperature, logits=self.logits))
