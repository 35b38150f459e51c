"""Fully connected networks."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pyro_vae.argument_checks import at_least, true_or_false
from pyro_vae.nets.layers import Activation, Normalization, find_activation, find_normalization, initialise, linear
from pyro_vae.nets.shapes import Shape, as_shape, as_widths, check_inputs, join
from pyro_vae.nets.tables import TableEncoding, log_of_counts
from pyro_vae.registry import Kind, Spec
from pyro_vae.resolver import build_from

__all__ = ["MLP", "GatedMLP"]

Encoding = Spec | nn.Module | None
"""A module with the attributes ``inputs`` and ``features``, or the mapping that it is made from."""


class _Dense(nn.Module):
    """Everything that the fully connected networks share, except their hidden layers."""

    def __init__(
        self,
        in_shape: Shape,
        hidden: Shape,
        out_shape: Shape,
        context_features: int,
        layer: Callable[[int, int], list[nn.Module]],
        log1p: bool,
        encoding: Encoding,
    ) -> None:
        super().__init__()
        self.log1p = true_or_false("log1p", log1p)
        self.encoding = _made(encoding)
        self.in_shape = as_shape("in_shape", in_shape)
        self.out_shape = as_shape("out_shape", out_shape)
        self.hidden = as_widths("hidden", hidden)
        self.context_features = at_least("context_features", context_features, 0)

        self._seen_shape = self.in_shape
        if self.encoding is not None:
            self._seen_shape = _encoded_shape(type(self).__name__, self.encoding, self.in_shape, log1p)
        layers: list[nn.Module] = []
        width = math.prod(self._seen_shape) + self.context_features
        for size in self.hidden:
            layers += layer(width, size)
            width = size
        layers.append(linear(width, math.prod(self.out_shape), gain=math.sqrt(0.5)))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """Map ``(*batch, *in_shape)`` and contexts ``(*batch, features)`` to ``(*batch, *out_shape)``.

        The leading dimensions broadcast in both directions: codes ``(n, 1, latent_dim)`` meet a context
        ``(batch, features)``, and codes ``(batch, latent_dim)`` a context ``(particles, batch, features)``.
        """
        batch = check_inputs(type(self).__name__, x, self.in_shape, context, self.context_features)
        if self.encoding is not None:
            x = self.encoding(x.flatten(-len(self.in_shape)))
        h = join(log_of_counts(x) if self.log1p else x, self._seen_shape, context, batch)
        # One batch dimension: a batch normalisation would take a second one for the features.
        out = self.layers(h.reshape(math.prod(batch), h.shape[-1]))
        return out.reshape(*batch, *self.out_shape)


class MLP(_Dense):
    """A multi-layer perceptron from events of one shape to events of another.

    Args:
        in_shape: shape of one input, such as ``(1, 28, 28)`` or ``20``.
        hidden: widths of the hidden layers; one number for one layer, ``()`` for a linear map.
        out_shape: shape of one output.
        activation: name of an activation in :mod:`torch.nn`, or a class or function that makes one.
        context_features: number of features of the context that follow the input (labels, covariates), 0 for none.
        normalization: of each hidden layer, before its activation: None, the name of one in :mod:`torch.nn`
            (``"LayerNorm"``, ``"RMSNorm"``, ``"BatchNorm1d"``, ``"GroupNorm"``), or a class or function that takes
            the number of features and makes one.
        log1p: True for counts as the input: the first layer sees log(1 + x), which has no long tail.
        encoding: for rows of a table as the input: a :class:`~pyro_vae.nets.TableEncoding`, or the mapping that it is
            made from, ``{"class": "TableEncoding", "columns": [...]}``. The first layer sees its features in place of
            x. ``in_shape`` stays the shape of x.

    Raises:
        ValueError: at construction for widths below one, an unknown activation or normalisation, or an encoding of
            another number of columns; in ``forward`` for an input or a context of the wrong shape or dtype.

    Example:
        >>> import torch
        >>> MLP((1, 28, 28), (400,), 40)(torch.rand(16, 1, 28, 28)).shape
        torch.Size([16, 40])
        >>> MLP(20, (400,), (1, 28, 28), context_features=10)(torch.rand(16, 20), torch.rand(16, 10)).shape
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
        log1p: bool = False,
        encoding: Encoding = None,
    ) -> None:
        make_activation = find_activation(activation)
        normalize = find_normalization(normalization, images=False)

        def layer(inputs: int, outputs: int) -> list[nn.Module]:
            return [linear(inputs, outputs), *normalize(outputs), make_activation()]

        super().__init__(in_shape, hidden, out_shape, context_features, layer, log1p, encoding)
        self.activation = activation
        self.normalization = normalization


class GatedMLP(_Dense):
    """A multi-layer perceptron of gated linear units: a sigmoid of the input opens and closes each unit.

    Each hidden layer is (W₁x + b₁) · sigmoid(W₂x + b₂) (Dauphin et al. 2016, arXiv 1612.08083). Tomczak and Welling
    (2017, arXiv 1705.07120, the VampPrior) use such networks.

    Args:
        in_shape: shape of one input, such as ``(1, 28, 28)`` or ``20``.
        hidden: widths of the hidden layers; one number for one layer, ``()`` for a linear map.
        out_shape: shape of one output.
        context_features: number of features of the context that follow the input (labels, covariates), 0 for none.
        normalization: of each hidden layer, after its gate; see :class:`MLP`.
        log1p: see :class:`MLP`.
        encoding: see :class:`MLP`.

    Raises:
        ValueError: as :class:`MLP` does.

    Example:
        >>> import torch
        >>> GatedMLP((1, 28, 28), (300, 300), 40)(torch.rand(16, 1, 28, 28)).shape
        torch.Size([16, 40])
    """

    def __init__(
        self,
        in_shape: Shape,
        hidden: Shape,
        out_shape: Shape,
        context_features: int = 0,
        normalization: Normalization = None,
        log1p: bool = False,
        encoding: Encoding = None,
    ) -> None:
        normalize = find_normalization(normalization, images=False)

        def layer(inputs: int, outputs: int) -> list[nn.Module]:
            return [_gated(inputs, outputs), nn.GLU(), *normalize(outputs)]

        super().__init__(in_shape, hidden, out_shape, context_features, layer, log1p, encoding)
        self.normalization = normalization


def _made(encoding: Encoding) -> nn.Module | None:
    """Return an encoding from its spec."""
    if encoding is None or isinstance(encoding, nn.Module):
        return encoding
    made: nn.Module = build_from(Kind("encoding", {"TableEncoding": TableEncoding}), encoding)
    return made


def _encoded_shape(net: str, encoding: nn.Module, in_shape: tuple[int, ...], log1p: bool) -> tuple[int, ...]:
    """Return the shape of what an encoding gives; raise a ValueError if it does not fit the net."""
    name, inputs, features = type(encoding).__name__, *(getattr(encoding, n, None) for n in ("inputs", "features"))
    if inputs is None or features is None:
        raise ValueError(f"the encoding of {net} must have the attributes inputs and features; {name} has not")
    if inputs != math.prod(in_shape):
        mask = ". With missing=True it takes values and their mask" if isinstance(encoding, TableEncoding) else ""
        raise ValueError(f"{net} has input of shape {in_shape}, and its encoding {name} takes {inputs} numbers{mask}")
    if log1p:
        raise ValueError(
            f"{net} takes log1p=True or an encoding, not both. In an encoding, a column may have a logarithm of its "
            'own: {"as": "number", "log": "log1p"}'
        )
    return as_shape("features", features)


_MEAN_SQUARE_GATE = 0.2933790359
"""The mean of sigmoid(u)² over a standard normal u: a gate scales the second moment of its unit by this."""


def _gated(inputs: int, outputs: int) -> nn.Module:
    """Return W₁ above W₂, scaled so that inputs of second moment 1 give gated units of second moment 1."""
    layer = nn.Linear(inputs, 2 * outputs)
    initialise(layer, inputs, gain=1.0)
    with torch.no_grad():
        layer.weight[:outputs] /= math.sqrt(_MEAN_SQUARE_GATE)
    return layer
