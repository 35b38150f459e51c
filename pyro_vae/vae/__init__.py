"""The variational autoencoder: its model and guide, and what a trained one is used for."""

from pyro_vae.vae.calls import evaluating
from pyro_vae.vae.model import VAE

__all__ = ["VAE", "evaluating"]
