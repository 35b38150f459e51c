"""Posteriors q(z | x, c): modules that take data and context and return a distribution over z."""

from pyro_vae.posteriors.normal import DiagonalNormal

__all__ = ["DiagonalNormal"]
