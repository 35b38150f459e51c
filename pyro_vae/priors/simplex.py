"""Priors over proportions, such as the topics of a document."""

from __future__ import annotations

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyro_vae.argument_checks import at_least, finite_number
from pyro_vae.distributions import LogDirichlet, inverse_positive, positive
from pyro_vae.distributions import LogisticNormal as LogisticNormalDistribution
from pyro_vae.distributions.log_simplex import log_simplex
from pyro_vae.parts import Prior

__all__ = ["Dirichlet", "LogisticNormal"]


class Dirichlet(Prior):
    """A Dirichlet with learned concentrations, for proportions (Blei, Ng and Jordan 2003, latent Dirichlet allocation).

    It goes with the posterior ``LogisticNormal`` (as in Srivastava and Sutton 2017, arXiv 1703.01488, who approximate
    the Dirichlet by one too), or ``RelaxedCategorical`` with one group. Codes z are the logs of the proportions; the
    likelihood takes the proportions.

    Args:
        latent_dim: number of proportions, at least 2.
        initial_concentration: where each concentration starts, above 1e-6; 1 is uniform, less is sparse.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> Dirichlet(10)().event_shape
        torch.Size([10])
    """

    support = log_simplex

    def __init__(self, latent_dim: int, initial_concentration: float = 1.0) -> None:
        super().__init__()
        self.latent_dim = self.classes = at_least("latent_dim", latent_dim, 2)
        finite_number("initial_concentration", initial_concentration, above=1e-6)
        self.initial_concentration = initial_concentration
        self.raw_concentration = nn.Parameter(inverse_positive(torch.full((latent_dim,), float(initial_concentration))))

    def forward(self, *context: Tensor) -> TorchDistribution:
        """Return the Dirichlet, over logs, with batch shape ``()`` and event shape ``(latent_dim,)``."""
        return LogDirichlet(positive(self.raw_concentration))


class LogisticNormal(Prior):
    """Proportions whose log ratios to the last one are normal, with learned means and scales.

    (Aitchison and Shen 1980, "Logistic-normal distributions: some properties and uses"; as the prior of topics, Blei
    and Lafferty 2006.) It goes with the posterior of the same name; the KL has a closed form. Codes z are the logs of
    the proportions; the likelihood takes the proportions.

    Args:
        latent_dim: number of proportions, at least 2.

    Raises:
        ValueError: if ``latent_dim`` is below 2.

    Example:
        >>> LogisticNormal(10)().event_shape
        torch.Size([10])
    """

    support = log_simplex

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = self.classes = at_least("latent_dim", latent_dim, 2)
        self.loc = nn.Parameter(torch.zeros(latent_dim - 1))
        self.raw_scale = nn.Parameter(inverse_positive(torch.ones(latent_dim - 1)))

    def forward(self, *context: Tensor) -> TorchDistribution:
        """Return the logistic normal, over logs, with batch shape ``()`` and event shape ``(latent_dim,)``."""
        return LogisticNormalDistribution(self.loc, positive(self.raw_scale))
