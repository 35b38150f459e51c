"""Convolutional and residual networks for images."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from pyro_vae.argument_checks import at_least
from pyro_vae.nets.layers import (
    Activation,
    Normalization,
    convolution,
    doubling,
    find_activation,
    find_normalization,
    halving,
    linear,
)
from pyro_vae.nets.mlp import MLP
from pyro_vae.nets.shapes import Shape, as_shape, as_widths, check_inputs

__all__ = ["ConvDecoder", "ConvEncoder", "ResNetDecoder", "ResNetEncoder"]

_SMALLEST = 8  # pixels a side; below, convolutions share almost nothing


class _ImageNet(nn.Module):
    """Convolutions and dense layers between one image and one vector; the arguments of all these networks."""

    dense: MLP
    channels: tuple[int, ...]
    fewest_blocks = 0

    def __init__(
        self,
        in_shape: Shape,
        hidden: Shape,
        out_shape: Shape,
        activation: Activation = "SiLU",
        context_features: int = 0,
        normalization: Normalization = None,
        channels: Shape | None = None,
        blocks: int | None = None,
    ) -> None:
        super().__init__()
        self.in_shape = as_shape("in_shape", in_shape)
        self.hidden = as_widths("hidden", hidden)
        self.out_shape = as_shape("out_shape", out_shape)
        self.activation = activation
        self.context_features = at_least("context_features", context_features, 0)
        self.normalization = normalization
        self.blocks = at_least("blocks", self.fewest_blocks if blocks is None else blocks, self.fewest_blocks)
        self.convolutions = nn.Sequential()
        self._make_layers(channels)

    @abstractmethod
    def _make_layers(self, channels: Shape | None) -> None:
        """Set ``channels`` and ``dense``, and fill ``convolutions``."""

    def _activate(self) -> Callable[[int], list[nn.Module]]:
        """Return what makes the normalisation and the activation of a number of channels."""
        make_activation = find_activation(self.activation)
        normalize = find_normalization(self.normalization, images=True)
        return lambda channels: [*normalize(channels), make_activation()]

    def _residuals(self, channels: int, activate: Callable[[int], list[nn.Module]]) -> list[nn.Module]:
        """Return the residual blocks for one size of the image; an empty list for plain convolutions."""
        return [_Residual(channels, activate, self.blocks * len(self.channels)) for _ in range(self.blocks)]


class ConvEncoder(_ImageNet):
    """A convolutional network from images to events of any shape, such as the parameters of q(z | x).

    Strided 4 × 4 convolutions, each of which halves the image, then dense layers, which the context enters. With
    ``blocks``, pre-activation residual blocks (He et al. 2016, arXiv 1603.05027) follow each halving, which is then
    linear.

    Args:
        in_shape: shape of one image, ``(channels, height, width)``, at least 8 pixels a side, odd or even. All
            dimensions in front of the last two count as channels.
        hidden: widths of the dense layers after the convolutions; ``()`` for one linear map.
        out_shape: shape of one output.
        activation: name of an activation in :mod:`torch.nn`, or a class or function that makes one.
        context_features: number of features of the context (labels, covariates), 0 for none.
        normalization: before each activation between convolutions: None, the name of one in :mod:`torch.nn`
            (``"BatchNorm2d"``, ``"InstanceNorm2d"``, ``"GroupNorm"``), or a class or function that takes the number
            of channels and makes one.
        channels: channels after each halving, one number per halving. None halves until the smaller side is at most
            4 pixels, with 32, 64, 128 and then 256 channels.
        blocks: residual blocks after each halving, at least 0; None for 0.

    Raises:
        ValueError: at construction if ``in_shape`` is not an image or too small, or for too many channels, an unknown
            activation or an unknown normalisation; in ``forward`` for an input or a context of the wrong shape or
            dtype.

    Example:
        >>> import torch
        >>> ConvEncoder((1, 28, 28), (256,), 40)(torch.rand(16, 1, 28, 28)).shape
        torch.Size([16, 40])
    """

    def _make_layers(self, channels: Shape | None) -> None:
        sides = _sides(type(self).__name__, "in_shape", self.in_shape, channels)
        self.channels = _default_channels(len(sides) - 1) if channels is None else as_shape("channels", channels)
        self.image = (math.prod(self.in_shape[:-2]), *sides[0])
        code = (self.channels[-1], *sides[-1])
        self.dense = MLP(code, self.hidden, self.out_shape, self.activation, self.context_features)
        activate = self._activate()
        before = self.image[0]
        for i, after in enumerate(self.channels):
            activated = self.blocks == 0  # what follows the halving; the first one takes the image, of variance 1
            self.convolutions.append(halving(before, after, math.sqrt(2) if activated or i == 0 else 1.0))
            self.convolutions.extend(activate(after) if activated else self._residuals(after, activate))
            before = after
        if self.blocks:
            self.convolutions.extend(activate(before))

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """Map ``(*batch, *in_shape)`` and contexts ``(*batch, features)`` to ``(*batch, *out_shape)``.

        The leading dimensions broadcast in both directions, as in :class:`pyro_vae.nets.MLP`.
        """
        check_inputs(type(self).__name__, x, self.in_shape, context, self.context_features)
        batch = x.shape[: x.dim() - len(self.in_shape)]
        h = self.convolutions(x.reshape(math.prod(batch), *self.image))
        return self.dense(h.reshape(*batch, *self.dense.in_shape), *context)


class ConvDecoder(_ImageNet):
    """A convolutional network from codes to images, the mirror of ConvEncoder.

    Dense layers, which the context enters, then transposed 4 × 4 convolutions through the sizes of the encoder in
    reverse (Radford, Metz and Chintala 2015, arXiv 1511.06434), which reach any height and width exactly. With
    ``blocks``, pre-activation residual blocks come before each doubling, which is then linear.

    Args:
        in_shape: shape of one input, such as ``20`` latent dimensions.
        hidden: widths of the dense layers before the convolutions; ``()`` for one linear map.
        out_shape: shape of one output, ``(..., height, width)``, at least 8 pixels a side, such as ``(1, 28, 28)``
            or, with two parameters per pixel, ``(2, 1, 28, 28)``. Dimensions in front of the last two are the
            channels of the last convolution.
        activation: name of an activation in :mod:`torch.nn`, or a class or function that makes one.
        context_features: number of features of the context (labels, covariates), 0 for none.
        normalization: before each activation between convolutions; see :class:`ConvEncoder`.
        channels: channels before each doubling, from the first to the last, such as ``(64, 32)``. None takes those of
            the encoder in reverse.
        blocks: residual blocks before each doubling, at least 0; None for 0.

    Raises:
        ValueError: as :class:`ConvEncoder` does.

    Example:
        >>> import torch
        >>> ConvDecoder(20, (256,), (1, 28, 28))(torch.randn(16, 20)).shape
        torch.Size([16, 1, 28, 28])
    """

    def _make_layers(self, channels: Shape | None) -> None:
        sides = _sides(type(self).__name__, "out_shape", self.out_shape, channels)[::-1]
        self.channels = _default_channels(len(sides) - 1)[::-1] if channels is None else as_shape("channels", channels)
        code = (self.channels[0], *sides[0])
        self.dense = MLP(self.in_shape, self.hidden, code, self.activation, self.context_features)
        width = (math.prod(self.in_shape) + self.context_features, *self.hidden)[-1]
        self.dense.layers[-1] = linear(width, math.prod(code))  # an activation follows it here
        activate = self._activate()
        after = (*self.channels[1:], math.prod(self.out_shape[:-2]))
        for channels_in, channels_out, size in zip(self.channels, after, sides[1:], strict=True):
            last = size == self.out_shape[-2:]
            activated = last or self.blocks == 0  # what comes before the doubling
            self.convolutions.extend(self._residuals(channels_in, activate))
            self.convolutions.extend(activate(channels_in) if activated else [])
            gain = math.sqrt(0.5 if last else 2) if activated else 1.0
            self.convolutions.append(doubling(channels_in, channels_out, size, gain))

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """Map ``(*batch, *in_shape)`` and contexts ``(*batch, features)`` to ``(*batch, *out_shape)``.

        The leading dimensions broadcast in both directions, as in :class:`pyro_vae.nets.MLP`.
        """
        batch = check_inputs(type(self).__name__, x, self.in_shape, context, self.context_features)
        h = self.dense(x, *context)
        h = self.convolutions(h.reshape(math.prod(batch), *self.dense.out_shape))
        return h.reshape(*batch, *self.out_shape)


class ResNetEncoder(ConvEncoder):
    """A residual network from images to events of any shape: a ConvEncoder with at least one block per halving.

    Args and errors are those of :class:`ConvEncoder`; ``blocks`` is at least 1, and None stands for 1.

    Example:
        >>> import torch
        >>> ResNetEncoder((3, 32, 32), (256,), 40, normalization="GroupNorm")(torch.rand(4, 3, 32, 32)).shape
        torch.Size([4, 40])
    """

    fewest_blocks = 1


class ResNetDecoder(ConvDecoder):
    """A residual network from codes to images: a ConvDecoder with at least one block per doubling.

    Args and errors are those of :class:`ConvDecoder`; ``blocks`` is at least 1, and None stands for 1.

    Example:
        >>> import torch
        >>> ResNetDecoder(20, (256,), (2, 3, 32, 32), blocks=2)(torch.randn(4, 20)).shape
        torch.Size([4, 2, 3, 32, 32])
    """

    fewest_blocks = 1


class _Residual(nn.Module):
    """h + branch(h), with normalisation, activation and convolution twice in the branch.

    Args:
        channels: of h.
        activate: makes the normalisation and the activation of a number of channels.
        depth: blocks in the whole net. At the start each branch adds one part in ``2 * depth`` to the variance (of 2
            without normalisation), so all blocks together add at most a factor of √e, whatever their number.
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
        """Return the sum, of the shape of h, ``(batch, channels, height, width)``."""
        return h + self.branch(h)


def _sides(net: str, name: str, shape: tuple[int, ...], channels: Shape | None) -> list[tuple[int, int]]:
    """Return height and width of the image, then those after each halving."""
    if len(shape) < 2 or min(shape[-2:]) < _SMALLEST:
        raise ValueError(
            f"{net} needs {name} to be images, (channels, height, width), of at least {_SMALLEST} x {_SMALLEST} "
            f"pixels; got {shape}. Use an MLP, which takes any shape"
        )
    height, width = shape[-2:]
    smaller = min(height, width)
    most = smaller.bit_length() - 2  # the smaller side is then 2 or 3 pixels
    if channels is None:
        halvings = next(i for i in range(1, most + 1) if smaller >> i <= 4)
    else:
        halvings = len(as_shape("channels", channels))
    if halvings > most:
        raise ValueError(
            f"channels must be at most {most} numbers for {net} with images of {height} x {width}, because each "
            f"number halves the image; got {channels!r}"
        )
    return [(height >> i, width >> i) for i in range(halvings + 1)]


def _default_channels(halvings: int) -> tuple[int, ...]:
    return tuple(min(32 * 2**i, 256) for i in range(halvings))
