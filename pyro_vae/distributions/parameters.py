"""From unconstrained numbers to parameters of distributions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_vae.argument_checks import at_least

__all__ = ["categories", "inverse_positive", "more_digits", "part_name", "positive"]


def positive(raw: Tensor) -> Tensor:
    """The scale of a distribution from an unconstrained number: softplus(raw) + 1e-6."""
    return torch.nn.functional.softplus(raw) + 1e-6


def inverse_positive(scale: Tensor) -> Tensor:
    """The ``raw`` of which :func:`positive` makes ``scale``, for scales above 1e-6."""
    y = scale - 1e-6
    return y + torch.log(-torch.expm1(-y))  # log(expm1(y)) would overflow where this does not


def more_digits(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in float64, for a difference that float32 has not the digits for; as they are on devices without."""
    return tuple(t if t.device.type == "mps" else t.double() for t in tensors)


def part_name(part: Any) -> str:
    """What errors call a prior, likelihood or posterior: the name of its class or function."""
    return getattr(part, "__name__", None) or type(part).__name__


def categories(latent_dim: int, classes: int | None) -> tuple[int, int]:
    """Groups, and classes in each, of a latent space of ``latent_dim`` = groups × classes dimensions."""
    at_least(2, "latent_dim", latent_dim)
    classes = latent_dim if classes is None else at_least(2, "classes", classes)
    if latent_dim % classes:
        raise ValueError(f"classes must divide latent_dim = {latent_dim}, the entries of all groups; got {classes}")
    return latent_dim // classes, classes
