"""Data and context as tensors in the dtype and on the device of a VAE's parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from pyro_vae.data.arrays import Array, as_tensor, module_dtype_and_device
from pyro_vae.data.batches import DataSource
from pyro_vae.data.frames import is_sparse
from pyro_vae.data.gathering import gathered, in_order, is_supply
from pyro_vae.parts import Part
from pyro_vae.vae.labels import as_features

__all__ = ["as_tensors", "batch_by_batch", "batch_size"]


def as_tensors(
    module: nn.Module, posterior: Part, features: int, x: DataSource | None, *context: Array, own: int = 0
) -> tuple[Any, tuple[Tensor, ...]]:
    """Return x and context in the dtype and on the device of the parameters.

    Args:
        module: the VAE.
        posterior: is called with x. If it is a function or has an embedding, integers in x stay integers.
        features: how many features its context has, 0 if that is not known.
        x: one batch ``(batch, *event_shape)``; a tuple ``(x, *context)``; or data whose examples all become one batch,
            with the context that they bring; or None.
        context: arrays ``(batch, ...)``; integer labels ``(batch,)`` become one-hot.
        own: how many of them, the last, are for the likelihood alone and no features.
    """
    dtype, device = module_dtype_and_device(module)
    if isinstance(x, tuple) and x:
        context = (*x[1:], *context)
        x = x[0]
    if not isinstance(x, Tensor) and is_supply(x):
        x, *of_x = gathered(x, *context, dtype=dtype, device=device, has_context=features > 0)
        context = tuple(of_x)
    rest = tuple(as_tensor(f"context {i}", c, dtype, device) for i, c in enumerate(context))
    if features and len(rest) > own:
        shared = len(rest) - own
        rest = as_features(rest[:shared], features, dtype) + rest[shared:]
    if x is None:
        return None, rest
    found = as_tensor("x", x, dtype, device)  # type: ignore[arg-type]  # it refuses what is no array
    if not found.is_floating_point() and not _takes_integers(posterior):
        found = as_tensor("x", found, dtype, device, integers=True)
    return found, rest


def batch_by_batch(
    module: nn.Module, features: int, x: DataSource, context: tuple[Array, ...], mask: Array | None, seed: int | None
) -> Iterator[tuple[Any, tuple[Any, ...], Any]]:
    """Yield x, context and mask in the order of the examples: of one batch as they are, of other data by batches.

    Args:
        module: the VAE.
        features: how many features its context has, 0 if that is not known.
        x: see :func:`as_tensors`.
        context: likewise.
        mask: of all examples, or None.
        seed: of the binarisation, by default 0.
    """
    if isinstance(x, tuple) and x:
        context = (*x[1:], *context)
        x = x[0]
    if not (is_supply(x) or is_sparse(x)):
        yield x, context, mask
        return
    dtype, device = module_dtype_and_device(module)
    start = 0
    of_mask = None if mask is None else as_tensor("mask", mask)
    supply = in_order(x, *context, dtype=dtype, device=device, has_context=features > 0, seed=seed or 0)
    for some, *own in supply:
        stop = start + len(some)
        yield some, tuple(own), None if of_mask is None else of_mask[start:stop]
        start = stop
    if of_mask is not None and len(of_mask) != start:
        raise ValueError(f"mask must have one row per example: {start}; got {len(of_mask)}")
    if not start:
        raise ValueError("x must hold at least one example; got none")


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
