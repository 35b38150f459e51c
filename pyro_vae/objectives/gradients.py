"""Losses with gradients that are put together, and are not those of their values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["gradients", "parameters_of", "trained", "with_gradients"]


def parameters_of(traces: list[Any]) -> dict[int, tuple[str, Tensor]]:
    """Name and leaf of each parameter that runs have used, by identity."""
    sites = [site for trace in traces for site in trace.nodes.values() if site["type"] == "param"]
    found = [(site["name"], site["value"].unconstrained()) for site in sites]
    return {id(leaf): (name, leaf) for name, leaf in found}


def trained(parameters: dict[int, tuple[str, Tensor]]) -> list[Tensor]:
    """Those of which a gradient is wanted."""
    return [p for _, p in parameters.values() if p.requires_grad]


def gradients(of: Tensor, by: list[Tensor]) -> list[Tensor]:
    """The derivatives of a number by tensors, zero where it does not depend on one."""
    if not by or not of.requires_grad:
        return [torch.zeros_like(t) for t in by]
    found = torch.autograd.grad(of, by, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(by, found, strict=True)]


def with_gradients(scale: Any, value: Tensor, found: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """``scale * value``, with ``scale * gradient`` for the gradient by each tensor."""
    surrogate = sum(((tensor * gradient.detach()).sum() for tensor, gradient in found), torch.zeros_like(value))
    return scale * (value.detach() + (surrogate - surrogate.detach()))
