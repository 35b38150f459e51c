"""Likelihoods p(x | z, c): modules that take latent codes and context and return a distribution over x."""

from pyro_vae.likelihoods.binary import Bernoulli
from pyro_vae.likelihoods.real import Normal

__all__ = ["Bernoulli", "Normal"]
