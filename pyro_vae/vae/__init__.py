"""The variational autoencoder: its model and guide, its parts, its weights on disk."""

from pyro_vae.vae.arrays import reference
from pyro_vae.vae.model import VAE
from pyro_vae.vae.parts import evaluating, repeat

__all__ = ["VAE", "evaluating", "reference", "repeat"]
