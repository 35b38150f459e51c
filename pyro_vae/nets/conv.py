"""Convolutional networks."""

from __future__ import annotations

import math

from pyro_vae.nets.images import Decoder, Encoder
from pyro_vae.nets.layers import Activation, Normalization, doubling, find_activation, find_normalization, halving
from pyro_vae.nets.shapes import Shape

__all__ = ["ConvDecoder", "ConvEncoder"]


class ConvEncoder(Encoder):
    """A convolutional network from images to events of any shape, such as the parameters of q(z | x).

    Strided 4 × 4 convolutions, each of which halves the image, then dense layers, which the context enters.

    Args:
        in_shape: shape of one image, ``(channels, height, width)``, at least 8 pixels a side, odd or even.
            Dimensions in front of the last two are all taken for channels.
        hidden: widths of the dense layers after the convolutions; ``()`` for one linear map.
        out_shape: shape of one output.
        activation: name of an activation in :mod:`torch.nn`, or a class or function that makes one.
        context_features: number of features of the context (labels, covariates), 0 for none.
        normalization: of each convolution, before its activation: None, the name of one in :mod:`torch.nn`
            (``"BatchNorm2d"``, ``"InstanceNorm2d"``, ``"GroupNorm"``), or a class or function that makes one of the
            number of channels.
        channels: of the image after each halving; their number is that of the halvings. None halves until the
            smaller side is at most 4 pixels, with 32, 64, 128 and then 256 channels.

    Raises:
        ValueError: at construction for images that are none or too small, too many channels, an unknown activation
            or an unknown normalisation; in ``forward`` for an input or a context of the wrong shape or dtype.

    Example:
        >>> import torch
        >>> ConvEncoder((1, 28, 28), (256,), 40)(torch.rand(16, 1, 28, 28)).shape
        torch.Size([16, 40])
    """

    def __init__(
        self,
        in_shape: Shape,
        hidden: Shape,
        out_shape: Shape,
        activation: Activation = "SiLU",
        context_features: int = 0,
        normalization: Normalization = None,
        channels: Shape | None = None,
    ) -> None:
        super().__init__(in_shape, hidden, out_shape, activation, context_features, normalization, channels)
        make_activation = find_activation(activation)
        normalize = find_normalization(normalization, images=True)
        before = self.image[0]
        for after in self.channels:
            self.convolutions.extend([halving(before, after), *normalize(after), make_activation()])
            before = after


class ConvDecoder(Decoder):
    """A convolutional network from codes to images, the mirror of ConvEncoder.

    Dense layers, which the context enters, then transposed 4 × 4 convolutions through the sizes of the encoder in
    reverse (Radford, Metz and Chintala 2015, arXiv 1511.06434), so that any height and width is hit exactly.

    Args:
        in_shape: shape of one input, such as ``20`` latent dimensions.
        hidden: widths of the dense layers before the convolutions; ``()`` for one linear map.
        out_shape: shape of one output, ``(..., height, width)``, at least 8 pixels a side, such as ``(1, 28, 28)``
            or, with two parameters a pixel, ``(2, 1, 28, 28)``. Dimensions in front of the last two are the
            channels of the last convolution.
        activation: name of an activation in :mod:`torch.nn`, or a class or function that makes one.
        context_features: number of features of the context (labels, covariates), 0 for none.
        normalization: of each input of a convolution, before its activation; see :class:`ConvEncoder`.
        channels: of the image before each doubling, in the order in which the net goes through them, such as
            ``(64, 32)``. None takes those of the encoder in reverse.

    Raises:
        ValueError: as :class:`ConvEncoder` does.

    Example:
        >>> import torch
        >>> ConvDecoder(20, (256,), (1, 28, 28))(torch.randn(16, 20)).shape
        torch.Size([16, 1, 28, 28])
    """

    def __init__(
        self,
        in_shape: Shape,
        hidden: Shape,
        out_shape: Shape,
        activation: Activation = "SiLU",
        context_features: int = 0,
        normalization: Normalization = None,
        channels: Shape | None = None,
    ) -> None:
        super().__init__(in_shape, hidden, out_shape, activation, context_features, normalization, channels)
        make_activation = find_activation(activation)
        normalize = find_normalization(normalization, images=True)
        for before, after, sides in self.doublings:
            gain = math.sqrt(0.5 if sides == self.out_shape[-2:] else 2)
            self.convolutions.extend([*normalize(before), make_activation(), doubling(before, after, sides, gain)])
