"""Neural networks; no probability in here."""

from pyro_vae.nets.images import ConvDecoder, ConvEncoder, ResNetDecoder, ResNetEncoder
from pyro_vae.nets.mlp import MLP, GatedMLP
from pyro_vae.nets.tables import TableEncoding

__all__ = [
    "MLP",
    "ConvDecoder",
    "ConvEncoder",
    "GatedMLP",
    "ResNetDecoder",
    "ResNetEncoder",
    "TableEncoding",
]
