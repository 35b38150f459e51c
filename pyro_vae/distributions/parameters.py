"""From unconstrained numbers to parameters of distributions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["inverse_positive", "part_name", "positive"]


def positive(raw: Tensor) -> Tensor:
    """The scale of a distribution from an unconstrained number: softplus(raw) + 1e-6."""
    return torch.nn.functional.softplus(raw) + 1e-6


def inverse_positive(scale: Tensor) -> Tensor:
    """The ``raw`` of which :func:`positive` makes ``scale``, for scales above 1e-6."""
    return torch.log(torch.expm1(scale - 1e-6))


def part_name(part: Any) -> str:
    """What errors call a prior, likelihood or posterior: the name of its class or function."""
    return getattr(part, "__name__", None) or type(part).__name__
