"""The variational autoencoder: its model and guide, and what a trained one is used for."""

from pyro_vae.vae.model import VAE
from pyro_vae.vae.parts import evaluating

__all__ = ["VAE", "evaluating"]
