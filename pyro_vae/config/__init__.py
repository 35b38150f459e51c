"""From names and numbers to a VAE and an objective, and back: what config.yaml holds."""

from pyro_vae.config.building import NoContextError, build
from pyro_vae.config.description import describe, describe_objective
from pyro_vae.config.names import KINDS, find
from pyro_vae.config.objectives import make_objective
from pyro_vae.registry import Spec

__all__ = [
    "KINDS",
    "NoContextError",
    "Spec",
    "build",
    "describe",
    "describe_objective",
    "find",
    "make_objective",
]
