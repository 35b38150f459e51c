"""Checks of shapes that constructors take, and of the inputs and contexts of nets."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Shape", "as_shape", "as_widths", "check_inputs", "check_layout", "join", "remedy_of_shape"]

_MOST_CHANNELS = 4  # of pictures: grey, grey with alpha, colour, colour with alpha

Shape = int | Sequence[int]
"""The shape of one event: ``20`` and ``(20,)`` are the same."""


def as_shape(name: str, shape: Shape) -> tuple[int, ...]:
    """Return a shape as a tuple; raise a ValueError with its name if it is not a shape."""
    try:
        given = tuple(shape) if isinstance(shape, Sequence) else (shape,)
        sizes = () if any(isinstance(n, bool) for n in given) else tuple(operator.index(n) for n in given)
    except TypeError:  # not integers of Python or NumPy
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise ValueError(f"{name} must be an integer or integers of at least 1; got {shape!r}")
    return sizes


def as_widths(name: str, widths: Shape) -> tuple[int, ...]:
    """Return widths of layers as a tuple, which may be empty."""
    return () if isinstance(widths, (tuple, list)) and not widths else as_shape(name, widths)


def check_inputs(
    net: str, x: Tensor, in_shape: tuple[int, ...], context: tuple[Tensor, ...], context_features: int
) -> torch.Size:
    """Check the shapes and dtypes of the input and the contexts of a net.

    Args:
        net: the name of its class, for errors.
        x: the input, ``(*batch, *in_shape)`` in floating point.
        in_shape: the shape of one input that the net was built for.
        context: tensors ``(*batch, features)`` in floating point.
        context_features: how many features the contexts must have in total.

    Returns:
        The leading dimensions of the output, to which those of the input and of the contexts broadcast.

    Raises:
        ValueError: if one of them does not fit.
    """
    if tuple(x.shape[-len(in_shape) :]) != in_shape:
        raise ValueError(
            f"{net} needs input of shape (batch, {', '.join(map(str, in_shape))}); got {tuple(x.shape)}"
            f"{remedy_of_shape(tuple(x.shape[1:]), in_shape)}"
        )
    if not x.is_floating_point():
        raise ValueError(
            f"{net} needs floating-point input; got {x.dtype}. Convert it with x.float(), and grey levels to [0, 1]"
        )
    for c in context:
        if c.dim() < 2 or not c.is_floating_point():
            raise ValueError(
                f"{net} needs each context as floating-point (batch, features); got {c.dtype} of shape "
                f"{tuple(c.shape)}. Give class labels as torch.nn.functional.one_hot(labels, classes).float()"
            )
    features = sum(c.shape[-1] for c in context)
    if features != context_features:
        remedy = (
            f"Pass the context, (batch, {context_features}), after the input; a Dataset or DataLoader gives it with "
            "has_context=True, and data.load with labels=True"
            if features == 0
            else f"Build it with {net}(..., context_features={features}), or leave the context out"
        )
        raise ValueError(f"{net} was built for {context_features} context features; got {features}. {remedy}")
    batch = x.shape[: x.dim() - len(in_shape)]
    if not context:
        return batch
    try:
        return torch.broadcast_shapes(batch, *(c.shape[:-1] for c in context))
    except RuntimeError as error:
        shapes = " and ".join(str(tuple(c.shape)) for c in context)
        raise ValueError(
            f"{net} needs a context whose leading dimensions broadcast with those of the input; got context "
            f"{shapes} for input {tuple(x.shape)}. Give the context one row per example"
        ) from error


def check_layout(nets: str, event_shape: tuple[int, ...]) -> None:
    """Raise a ValueError if a shape is not that of images, or looks like that of images with their channels last.

    Args:
        nets: the kind of networks, which are over images with channels first.
        event_shape: of one image.
    """
    if len(event_shape) != 3:
        raise ValueError(
            f"nets: {nets} is for images, (channels, height, width); an example has shape {event_shape}. Take mlp, "
            "which takes any shape"
        )
    if event_shape[-1] <= _MOST_CHANNELS < min(event_shape[:2]):
        height, width, channels = event_shape
        raise ValueError(
            f"nets: {nets} is for images, (channels, height, width); {event_shape} has the channels last. Give "
            f"event_shape {(channels, height, width)}, and data as numpy.moveaxis(x, -1, 1)"
        )


def remedy_of_shape(got: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Return what to do about an example of another shape, as the end of an error; empty if that is not clear.

    Args:
        got: the shape of one example.
        wanted: the shape that it must have.
    """
    if len(got) != 3 or len(wanted) != 3:
        return ""
    if got != wanted and (got[2], *got[:2]) == wanted:
        return ". Its channels are last: put them first with numpy.moveaxis(x, -1, 1), or x.permute(0, 3, 1, 2)"
    if got[0] == wanted[0] <= _MOST_CHANNELS:
        sides = list(wanted[1:])
        return f". For images of another size: torchvision.transforms.v2.functional.resize(x, {sides})"
    return ""


def join(x: Tensor, in_shape: tuple[int, ...], context: tuple[Tensor, ...], batch: torch.Size) -> Tensor:
    """Return the flattened input and its contexts side by side, ``(*batch, features)``."""
    h = x.reshape(*x.shape[: x.dim() - len(in_shape)], math.prod(in_shape))
    if not context:
        return h
    return torch.cat([part.expand(*batch, part.shape[-1]) for part in (h, *context)], dim=-1)
