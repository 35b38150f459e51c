"""Residual networks."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

from pyro_vae.argument_checks import at_least
from pyro_vae.nets.images import Decoder, Encoder
from pyro_vae.nets.layers import (
    Activation,
    Normalization,
    convolution,
    doubling,
    find_activation,
    find_normalization,
    halving,
)
from pyro_vae.nets.shapes import Shape

__all__ = ["ResNetDecoder", "ResNetEncoder"]


class ResNetEncoder(Encoder):
    """A residual network from images to events of any shape, such as the parameters of q(z | x).

    As :class:`pyro_vae.nets.ConvEncoder`, with pre-activation residual blocks (He et al. 2016, arXiv 1603.05027)
    after each halving, which is linear here.

    Args:
        in_shape: shape of one image, ``(channels, height, width)``, at least 8 pixels a side, odd or even.
            Dimensions in front of the last two are all taken for channels.
        hidden: widths of the dense layers after the convolutions; ``()`` for one linear map.
        out_shape: shape of one output.
        activation: name of an activation in :mod:`torch.nn`, or a class or function that makes one.
        context_features: number of features of the context (labels, covariates), 0 for none.
        normalization: before each activation between convolutions: None, the name of one in :mod:`torch.nn`
            (``"BatchNorm2d"``, ``"InstanceNorm2d"``, ``"GroupNorm"``), or a class or function that makes one of the
            number of channels.
        channels: of the image after each halving; their number is that of the halvings. None halves until the
            smaller side is at most 4 pixels, with 32, 64, 128 and then 256 channels.
        blocks: residual blocks after each halving, at least 1.

    Raises:
        ValueError: as :class:`pyro_vae.nets.ConvEncoder` does, and for less than one block.

    Example:
        >>> import torch
        >>> ResNetEncoder((3, 32, 32), (256,), 40, normalization="GroupNorm")(torch.rand(4, 3, 32, 32)).shape
        torch.Size([4, 40])
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
        blocks: int = 1,
    ) -> None:
        super().__init__(in_shape, hidden, out_shape, activation, context_features, normalization, channels)
        self.blocks = at_least(1, "blocks", blocks)
        activate = _activate(activation, normalization)
        depth = self.blocks * len(self.channels)
        before, gain = self.image[0], math.sqrt(2)
        for after in self.channels:
            self.convolutions.append(halving(before, after, gain))
            self.convolutions.extend(_Residual(after, activate, depth) for _ in range(self.blocks))
            before, gain = after, 1.0
        self.convolutions.extend(activate(before))


class ResNetDecoder(Decoder):
    """A residual network from codes to images, the mirror of ResNetEncoder.

    Dense layers, which the context enters, then pre-activation residual blocks (He et al. 2016, arXiv 1603.05027)
    before each doubling, through the sizes of the encoder in reverse, so that any height and width is hit exactly.

    Args:
        in_shape: shape of one input, such as ``20`` latent dimensions.
        hidden: widths of the dense layers before the convolutions; ``()`` for one linear map.
        out_shape: shape of one output, ``(..., height, width)``, at least 8 pixels a side, such as ``(1, 28, 28)``
            or, with two parameters a pixel, ``(2, 1, 28, 28)``. Dimensions in front of the last two are the
            channels of the last convolution.
        activation: name of an activation in :mod:`torch.nn`, or a class or function that makes one.
        context_features: number of features of the context (labels, covariates), 0 for none.
        normalization: before each activation between convolutions; see :class:`ResNetEncoder`.
        channels: of the image before each doubling, in the order in which the net goes through them, such as
            ``(64, 32)``. None takes those of the encoder in reverse.
        blocks: residual blocks before each doubling, at least 1.

    Raises:
        ValueError: as :class:`ResNetEncoder` does.

    Example:
        >>> import torch
        >>> ResNetDecoder(20, (256,), (2, 3, 32, 32), blocks=2)(torch.randn(4, 20)).shape
        torch.Size([4, 2, 3, 32, 32])
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
        blocks: int = 1,
    ) -> None:
        super().__init__(in_shape, hidden, out_shape, activation, context_features, normalization, channels)
        self.blocks = at_least(1, "blocks", blocks)
        activate = _activate(activation, normalization)
        depth = self.blocks * len(self.channels)
        for before, after, sides in self.doublings:
            self.convolutions.extend(_Residual(before, activate, depth) for _ in range(self.blocks))
            if sides == self.out_shape[-2:]:
                self.convolutions.extend([*activate(before), doubling(before, after, sides, math.sqrt(0.5))])
            else:
                self.convolutions.append(doubling(before, after, sides, 1.0))


class _Residual(nn.Module):
    """h + branch(h), the branch being twice normalisation, activation and convolution.

    Args:
        channels: of h.
        activate: makes the normalisation and the activation of a number of channels.
        depth: blocks in the whole net. At the start each branch adds one part in ``2 * depth`` to the variance (of 2,
            where there is no normalisation), so that all together add at most a factor of √e, however many they are.
    """

    def __init__(self, channels: int, activate: Callable[[int], list[nn.Module]], depth: int) -> None:
        super().__init__()
        first, second = activate(channels), activate(channels)
        for module in first:
            if getattr(module, "inplace", False):
                module.inplace = False  # type: ignore[assignment]  # it would overwrite h, which is still to be added
        gain = math.sqrt(1 / depth)
        self.branch = nn.Sequential(
            *first, convolution(channels, channels), *second, convolution(channels, channels, gain)
        )

    def forward(self, h: Tensor) -> Tensor:
        """The sum, of the shape of h, ``(batch, channels, height, width)``."""
        return h + self.branch(h)


def _activate(activation: Activation, normalization: Normalization) -> Callable[[int], list[nn.Module]]:
    make_activation, normalize = find_activation(activation), find_normalization(normalization, images=True)
    return lambda channels: [*normalize(channels), make_activation()]
