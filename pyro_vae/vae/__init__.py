"""The variational autoencoder: its model and guide, its parts, its weights on disk."""

from pyro_vae.vae.arrays import reference
from pyro_vae.vae.model import VAE
from pyro_vae.vae.parts import evaluating, repeat
from pyro_vae.vae.weights import CheckpointError

__all__ = ["VAE", "CheckpointError", "evaluating", "reference", "repeat"]
