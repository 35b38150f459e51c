"""Neural networks; no probability in here."""

from pyro_vae.nets.conv import ConvDecoder, ConvEncoder
from pyro_vae.nets.mlp import MLP, GatedMLP
from pyro_vae.nets.resnet import ResNetDecoder, ResNetEncoder

__all__ = [
    "MLP",
    "ConvDecoder",
    "ConvEncoder",
    "GatedMLP",
    "ResNetDecoder",
    "ResNetEncoder",
]
