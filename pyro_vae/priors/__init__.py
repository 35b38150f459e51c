"""Priors p(z | c): modules that take the context and return a distribution over z."""

from pyro_vae.priors.conditional import Conditional
from pyro_vae.priors.discrete import Categorical, RelaxedCategorical
from pyro_vae.priors.flow import Flow
from pyro_vae.priors.mixtures import Exemplar, MixtureOfNormals, VampPrior
from pyro_vae.priors.simple import Gumbel, Laplace, Normal, StandardNormal, StudentT
from pyro_vae.priors.simplex import Dirichlet, LogisticNormal
from pyro_vae.priors.sphere import UniformOnSphere

__all__ = [
    "Categorical",
    "Conditional",
    "Dirichlet",
    "Exemplar",
    "Flow",
    "Gumbel",
    "Laplace",
    "LogisticNormal",
    "MixtureOfNormals",
    "Normal",
    "RelaxedCategorical",
    "StandardNormal",
    "StudentT",
    "UniformOnSphere",
    "VampPrior",
]
