"""Losses whose gradient is computed apart from their value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from pyro.poutine import Trace
from torch import Tensor

__all__ = ["gradients", "parameters_of", "trained", "with_gradients"]


def parameters_of(traces: Sequence[Trace]) -> dict[int, tuple[str, Tensor]]:
    """Return the name and the leaf tensor of each parameter in the traces, by identity."""
    sites = [site for trace in traces for site in trace.nodes.values() if site["type"] == "param"]
    found = [(site["name"], site["value"].unconstrained()) for site in sites]
    return {id(leaf): (name, leaf) for name, leaf in found}


def trained(parameters: dict[int, tuple[str, Tensor]]) -> list[Tensor]:
    """Return the parameters that require a gradient."""
    return [p for _, p in parameters.values() if p.requires_grad]


def gradients(of: Tensor, by: Sequence[Tensor]) -> list[Tensor]:
    """Return the derivatives of a number by tensors; zeros for tensors that it does not depend on."""
    if not by or not of.requires_grad:
        return [torch.zeros_like(t) for t in by]
    found = torch.autograd.grad(of, by, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(by, found, strict=True)]


def with_gradients(scale: float, value: Tensor, pairs: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Return ``scale * value`` as a tensor with the given gradients, times ``scale``.

    Args:
        scale: a factor for value and gradients.
        value: a number, ``()``.
        pairs: tensors, each with the gradient of ``value`` by it.
    """
    surrogate = sum(((tensor * gradient.detach()).sum() for tensor, gradient in pairs), torch.zeros_like(value))
    return scale * (value.detach() + (surrogate - surrogate.detach()))
