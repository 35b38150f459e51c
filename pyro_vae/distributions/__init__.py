"""Densities that torch and Pyro lack, and nothing they have."""

from pyro_vae.distributions.adapter import TorchToPyro, as_pyro
from pyro_vae.distributions.parameters import inverse_positive, part_name, positive

__all__ = ["TorchToPyro", "as_pyro", "inverse_positive", "part_name", "positive"]
