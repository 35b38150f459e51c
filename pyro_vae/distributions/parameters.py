"""Maps from unconstrained numbers to parameters of distributions, and names of parts."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_vae.argument_checks import at_least

__all__ = ["categories", "inverse_positive", "more_digits", "part_name", "positive"]


def positive(raw: Tensor) -> Tensor:
    """Return the scale of a distribution from an unconstrained number: softplus(raw) + 1e-6."""
    return torch.nn.functional.softplus(raw) + 1e-6


def inverse_positive(scale: Tensor) -> Tensor:
    """Return the ``raw`` that :func:`positive` maps to ``scale``, for scales above 1e-6."""
    y = scale - 1e-6
    return y + torch.log(-torch.expm1(-y))  # log(expm1(y)) would overflow for large y


def more_digits(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors in float64, for differences that cancel in float32; unchanged on devices without float64."""
    return tuple(t if t.device.type == "mps" else t.double() for t in tensors)


def part_name(part: object) -> str:
    """Return the name of the class or function of a prior, likelihood or posterior, for errors."""
    return getattr(part, "__name__", None) or type(part).__name__


def categories(latent_dim: int, classes: int | None) -> tuple[int, int]:
    """Return the number of groups and of classes per group for ``latent_dim`` = groups × classes dimensions."""
    at_least("latent_dim", latent_dim, 2)
    classes = latent_dim if classes is None else at_least("classes", classes, 2)
    if latent_dim % classes:
        raise ValueError(f"classes must divide latent_dim = {latent_dim}, the entries of all groups; got {classes}")
    return latent_dim // classes, classes
