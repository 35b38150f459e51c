"""Maps from unconstrained numbers to parameters of distributions, and names of parts."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pyro_vae.argument_checks import at_least

__all__ = ["categories", "given_arguments", "inverse_positive", "more_digits", "part_name", "positive", "uncompiled"]


def positive(raw: Tensor, unit: Tensor | None = None) -> Tensor:
    """Return the scale of a distribution from an unconstrained number: softplus(raw) + 1e-6, softplus in a unit."""
    softplus = torch.nn.functional.softplus(raw)
    return (softplus if unit is None else unit * softplus) + 1e-6


def inverse_positive(scale: Tensor) -> Tensor:
    """Return the ``raw`` that :func:`positive` maps to ``scale``, for scales above 1e-6."""
    y = scale - 1e-6
    return y + torch.log(-torch.expm1(-y))  # log(expm1(y)) would overflow for large y


def more_digits(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors in float64, for differences that cancel in float32; unchanged on devices without float64."""
    return tuple(t if t.device.type == "mps" else t.double() for t in tensors)


def uncompiled(module: nn.Module) -> nn.Module:
    """Return the module that ``torch.compile`` has wrapped; any other module as it is."""
    return next(module.children()) if type(module).__name__ == "OptimizedModule" else module


def part_name(part: object) -> str:
    """Return the name of the class or function of a prior, likelihood or posterior, for errors."""
    if inspect.ismethod(part):
        return part.__qualname__
    if isinstance(part, nn.Module):
        part = uncompiled(part)
    return getattr(part, "__name__", None) or type(part).__name__


def given_arguments(thing: object, kept: Mapping[str, object]) -> str:
    """Return the arguments of an object's constructor as text, without those at their defaults; for its repr.

    Args:
        thing: the object.
        kept: what it keeps, by name. Tensors with several numbers, lists and other long values are left out.
    """
    said = []
    for name, parameter in inspect.signature(type(thing)).parameters.items():
        value = kept.get(name)
        if value is None or value is parameter.default:
            continue
        is_short = isinstance(value, (bool, int, float, str, tuple)) and value != parameter.default
        if isinstance(value, nn.Module) or inspect.isfunction(value):
            said.append(f"{name}={part_name(value)}")
        elif isinstance(value, Tensor) and value.dim() == 0:
            said.append(f"{name}={value.item():.4g}")
        elif is_short or dataclasses.is_dataclass(value):
            said.append(f"{name}={value!r}")
    return ", ".join(said)


def categories(latent_dim: int, classes: int | None) -> tuple[int, int]:
    """Return the number of groups and of classes per group for ``latent_dim`` = groups × classes dimensions."""
    at_least("latent_dim", latent_dim, 2)
    classes = latent_dim if classes is None else at_least("classes", classes, 2)
    if latent_dim % classes:
        raise ValueError(f"classes must divide latent_dim = {latent_dim}, the entries of all groups; got {classes}")
    return latent_dim // classes, classes
