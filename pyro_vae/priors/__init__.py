"""Priors p(z | c): modules that take the context and return a distribution over z."""

from pyro_vae.priors.simple import StandardNormal

__all__ = ["StandardNormal"]
