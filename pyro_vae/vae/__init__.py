"""The variational autoencoder: its model and guide, its parts, its weights on disk."""

from pyro_vae.vae.model import VAE
from pyro_vae.vae.parts import evaluating

__all__ = ["VAE", "evaluating"]
