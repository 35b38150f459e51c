"""What the networks for images share: the sizes they go through, and all but their convolutions."""

from __future__ import annotations

import math

from torch import Tensor, nn

from pyro_vae.argument_checks import at_least
from pyro_vae.nets.layers import Activation, Normalization, linear
from pyro_vae.nets.mlp import MLP
from pyro_vae.nets.shapes import Shape, as_shape, as_widths, check_inputs

__all__ = ["Decoder", "Encoder"]

_SMALLEST = 8  # pixels a side; below, convolutions have next to nothing to share


class _Images(nn.Module):
    """The arguments that all of them have; ``convolutions`` is for the subclasses to fill."""

    def __init__(
        self,
        in_shape: Shape,
        hidden: Shape,
        out_shape: Shape,
        activation: Activation,
        context_features: int,
        normalization: Normalization,
    ) -> None:
        super().__init__()
        self.in_shape = as_shape("in_shape", in_shape)
        self.hidden = as_widths("hidden", hidden)
        self.out_shape = as_shape("out_shape", out_shape)
        self.activation = activation
        self.context_features = at_least(0, "context_features", context_features)
        self.normalization = normalization
        self.convolutions = nn.Sequential()


class Encoder(_Images):
    """A net from images to events of any shape: convolutions that halve the image, then dense layers."""

    def __init__(
        self,
        in_shape: Shape,
        hidden: Shape,
        out_shape: Shape,
        activation: Activation,
        context_features: int,
        normalization: Normalization,
        channels: Shape | None,
    ) -> None:
        super().__init__(in_shape, hidden, out_shape, activation, context_features, normalization)
        sides = _sides(type(self).__name__, "in_shape", self.in_shape, channels)
        self.channels = _default_channels(len(sides) - 1) if channels is None else as_shape("channels", channels)
        self.image = (math.prod(self.in_shape[:-2]), *sides[0])
        self.dense = MLP((self.channels[-1], *sides[-1]), self.hidden, self.out_shape, activation, context_features)

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """Maps ``(*batch, *in_shape)`` and contexts ``(*batch, features)`` to ``(*batch, *out_shape)``.

        The leading dimensions broadcast in both directions, as in :class:`pyro_vae.nets.MLP`.
        """
        check_inputs(type(self).__name__, x, self.in_shape, context, self.context_features)
        batch = x.shape[: x.dim() - len(self.in_shape)]
        h = self.convolutions(x.reshape(math.prod(batch), *self.image))
        return self.dense(h.reshape(*batch, *self.dense.in_shape), *context)


class Decoder(_Images):
    """A net from events of any shape to images: dense layers, then convolutions that double the image."""

    def __init__(
        self,
        in_shape: Shape,
        hidden: Shape,
        out_shape: Shape,
        activation: Activation,
        context_features: int,
        normalization: Normalization,
        channels: Shape | None,
    ) -> None:
        super().__init__(in_shape, hidden, out_shape, activation, context_features, normalization)
        sides = _sides(type(self).__name__, "out_shape", self.out_shape, channels)[::-1]
        self.channels = _default_channels(len(sides) - 1)[::-1] if channels is None else as_shape("channels", channels)
        self.dense = MLP(self.in_shape, self.hidden, (self.channels[0], *sides[0]), activation, context_features)
        width = (math.prod(self.in_shape) + self.context_features, *self.hidden)[-1]
        self.dense.layers[-1] = linear(width, math.prod(self.dense.out_shape))  # an activation follows it here
        after = (*self.channels[1:], math.prod(self.out_shape[:-2]))
        self.doublings = tuple(zip(self.channels, after, sides[1:], strict=True))  # channels from and to, sides to

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """Maps ``(*batch, *in_shape)`` and contexts ``(*batch, features)`` to ``(*batch, *out_shape)``.

        The leading dimensions broadcast in both directions, as in :class:`pyro_vae.nets.MLP`.
        """
        batch = check_inputs(type(self).__name__, x, self.in_shape, context, self.context_features)
        h = self.dense(x, *context)
        h = self.convolutions(h.reshape(math.prod(batch), *self.dense.out_shape))
        return h.reshape(*batch, *self.out_shape)


def _sides(net: str, name: str, shape: tuple[int, ...], channels: Shape | None) -> list[tuple[int, int]]:
    """Height and width, then what each halving leaves of them."""
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
            f"channels must be at most {most} numbers for {net} with images of {height} x {width}, which each of "
            f"them halves; got {channels!r}"
        )
    return [(height >> i, width >> i) for i in range(halvings + 1)]


def _default_channels(halvings: int) -> tuple[int, ...]:
    return tuple(min(32 * 2**i, 256) for i in range(halvings))
