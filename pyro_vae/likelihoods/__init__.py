"""Likelihoods p(x | z, c): modules that take latent codes and context and return a distribution over x."""

from pyro_vae.likelihoods.binary import Bernoulli
from pyro_vae.likelihoods.counts import Multinomial, NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
from pyro_vae.likelihoods.levels import Categorical, DiscretizedLogistic, DiscretizedLogisticMixture
from pyro_vae.likelihoods.mixed import Mixed
from pyro_vae.likelihoods.positive import Gamma
from pyro_vae.likelihoods.real import Laplace, Normal, StudentT
from pyro_vae.likelihoods.standardized import Standardized
from pyro_vae.likelihoods.unit import Beta, ContinuousBernoulli, LogitNormal

__all__ = [
    "Bernoulli",
    "Beta",
    "Categorical",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "Gamma",
    "Laplace",
    "LogitNormal",
    "Mixed",
    "Multinomial",
    "NegativeBinomial",
    "Normal",
    "Poisson",
    "Standardized",
    "StudentT",
    "ZeroInflatedNegativeBinomial",
]
