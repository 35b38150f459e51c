"""The variational autoencoder: its model and guide, and what a trained one is used for."""

from pyro_vae.vae.calls import evaluating
from pyro_vae.vae.masking import NoGapsError
from pyro_vae.vae.model import VAE
from pyro_vae.vae.target import as_vae, suited, takes_context

__all__ = ["VAE", "NoGapsError", "as_vae", "evaluating", "suited", "takes_context"]
