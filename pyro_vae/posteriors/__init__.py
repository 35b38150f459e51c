"""Posteriors q(z | x, c): modules that take data and context and return a distribution over z."""

from pyro_vae.posteriors.discrete import Categorical, LogisticNormal, RelaxedCategorical
from pyro_vae.posteriors.flow import Flow, InverseAutoregressiveFlow
from pyro_vae.posteriors.normal import Delta, DiagonalNormal, FullNormal, Householder, Laplace, LowRankNormal
from pyro_vae.posteriors.sphere import PowerSpherical

__all__ = [
    "Categorical",
    "Delta",
    "DiagonalNormal",
    "Flow",
    "FullNormal",
    "Householder",
    "InverseAutoregressiveFlow",
    "Laplace",
    "LogisticNormal",
    "LowRankNormal",
    "PowerSpherical",
    "RelaxedCategorical",
]
