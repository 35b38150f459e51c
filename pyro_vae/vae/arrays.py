"""Data and context as tensors in the dtype and on the device of a VAE's parameters."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from pyro_vae.data.arrays import Array, as_tensor, module_dtype_and_device
from pyro_vae.parts import Part

__all__ = ["as_tensors", "batch_size"]


def as_tensors(module: nn.Module, posterior: Part, x: Array | None, *context: Array) -> tuple[Any, tuple[Tensor, ...]]:
    """Return x and context in the dtype and on the device of the parameters.

    Args:
        module: the VAE.
        posterior: is called with x. If it is a function or has an embedding, integers in x stay integers.
        x: a tensor or NumPy array ``(batch, *event_shape)``, or None.
        context: tensors or NumPy arrays ``(batch, ...)``.
    """
    dtype, device = module_dtype_and_device(module)
    rest = tuple(as_tensor(f"context {i}", c, dtype, device) for i, c in enumerate(context))
    if x is None:
        return None, rest
    x = as_tensor("x", x, dtype, device)
    if not x.is_floating_point() and not _takes_integers(posterior):
        x = as_tensor("x", x, dtype, device, integers=True)
    return x, rest


def batch_size(x: Tensor | None, context: tuple[Tensor, ...]) -> int:
    """Return the number of examples: 1 without x and context. Raises a ValueError if x and context differ in it."""
    if x is None:
        return context[0].shape[0] if context else 1
    for i, c in enumerate(context):
        if c.shape[:1] != x.shape[:1]:
            raise ValueError(
                f"context {i} must have one row per example; got {tuple(c.shape)} for x of shape {tuple(x.shape)}"
            )
    return x.shape[0]


def _takes_integers(posterior: Part) -> bool:
    if not isinstance(posterior, nn.Module):
        return True
    return any(isinstance(module, (nn.Embedding, nn.EmbeddingBag)) for module in posterior.modules())
