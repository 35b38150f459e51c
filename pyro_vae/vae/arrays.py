"""Data and contexts as tensors that the parts of a VAE can work with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pyro_vae.data.arrays import as_tensor

__all__ = ["as_tensors", "batch_size", "reference"]


def reference(module: nn.Module) -> tuple[torch.dtype | None, torch.device | None]:
    """The dtype and the device of the parameters, or of the buffers where there are none; None where neither."""
    for tensor in module.parameters():
        if tensor.is_floating_point():
            return tensor.dtype, tensor.device
    tensors = (tensor for tensor in module.buffers() if tensor.is_floating_point())
    return next(((tensor.dtype, tensor.device) for tensor in tensors), (None, None))


def as_tensors(module: nn.Module, posterior: Any, x: Any, *context: Any) -> tuple[Any, tuple[Tensor, ...]]:
    """X, which may be None, and its context in the dtype and on the device of the parameters.

    Args:
        module: whose parameters.
        posterior: what sees x: a function may want integers, and an embedding looks them up.
        x: a tensor or NumPy array ``(batch, *event_shape)``, or None.
        context: tensors or NumPy arrays ``(batch, ...)``.
    """
    dtype, device = reference(module)
    rest = tuple(as_tensor(f"context {i}", c, dtype, device) for i, c in enumerate(context))
    if x is None:
        return None, rest
    x = as_tensor("x", x, dtype, device)
    if not x.is_floating_point() and not _takes_integers(posterior):
        x = as_tensor("x", x, dtype, device, integers=True)
    return x, rest


def batch_size(x: Tensor | None, context: tuple[Tensor, ...]) -> int:
    """The number of examples; without x and context, 1. Raises a ValueError where x and context differ in it."""
    if x is None:
        return context[0].shape[0] if context else 1
    for i, c in enumerate(context):
        if c.shape[:1] != x.shape[:1]:
            raise ValueError(
                f"context {i} must have one row an example; got {tuple(c.shape)} for x of shape {tuple(x.shape)}"
            )
    return x.shape[0]


def _takes_integers(posterior: Any) -> bool:
    if not isinstance(posterior, nn.Module):
        return True
    return any(isinstance(module, (nn.Embedding, nn.EmbeddingBag)) for module in posterior.modules())
