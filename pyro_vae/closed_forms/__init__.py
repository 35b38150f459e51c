"""Models with exact evidence and posterior, to check bounds, estimators and training against."""

from pyro_vae.closed_forms.conjugate import BetaBernoulli, DirichletMultinomial, GammaPoisson, NormalNormal
from pyro_vae.closed_forms.linear_gaussian import LinearGaussian

__all__ = ["BetaBernoulli", "DirichletMultinomial", "GammaPoisson", "LinearGaussian", "NormalNormal"]
