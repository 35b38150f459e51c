"""Neural networks; no probability in here."""

from pyro_vae.nets.mlp import MLP, Shape, as_shape

__all__ = ["MLP", "Shape", "as_shape"]
