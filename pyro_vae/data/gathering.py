"""All examples of any kind of data as one batch, or batch by batch in their order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pyro_vae.data.arrays import Array, as_tensor
from pyro_vae.data.batches import Batches, DataSource, batches
from pyro_vae.data.splits import DataSet, Split

__all__ = ["Supply", "gathered", "in_order", "is_supply"]

_AT_A_TIME = 1000

Supply = Split | Dataset[Any] | DataLoader[Any] | Batches
"""Data that come a batch at a time."""


def is_supply(source: object) -> TypeGuard[Supply]:
    """Return True for data that come a batch at a time; a :class:`DataSet` too, which :func:`batches` refuses."""
    return not isinstance(source, Tensor) and isinstance(source, (Split, Dataset, DataLoader, Batches, DataSet))


def in_order(
    source: DataSource,
    *context: Array,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    has_context: bool = False,
    seed: int = 0,
    any_order: bool = False,
) -> Iterator[tuple[Tensor, ...]]:
    """Yield batches ``(x, *context)`` in the order of the examples.

    Args:
        source: anything that :func:`batches` takes.
        context: arrays ``(n, ...)``, for data that bring none.
        dtype: of the floating-point tensors.
        device: of the batches.
        has_context: True if what a Dataset or DataLoader yields after x is context.
        seed: of the binarisation.
        any_order: take data that shuffle too.

    Raises:
        ValueError: if a DataLoader or :class:`Batches` shuffle, so that results would not be in the order of the data;
            if the data bring a context and another one is given; if the given one has another length.
    """
    supply = batches(source, _AT_A_TIME, seed=seed, device=device, dtype=dtype, has_context=has_context and not context)
    if supply.shuffled and not any_order:
        remedy = "Give its dataset: loader.dataset" if isinstance(source, DataLoader) else "Leave shuffle out"
        raise ValueError(
            f"the {type(source).__name__} shuffles, so the results would not be in the order of its examples. {remedy}"
        )
    given = [as_tensor(f"context {i}", c, dtype, device) for i, c in enumerate(context)]
    start = 0
    for x, *own in supply:
        if own and given:
            raise ValueError("the data bring a context of their own. Leave the context after them out")
        stop = start + len(x)
        yield x, *own, *(_rows(c, start, stop, i) for i, c in enumerate(given))
        start = stop
    for i, c in enumerate(given):
        _rows(c, 0, start, i, exactly=True)


def _rows(context: Tensor, start: int, stop: int, number: int, exactly: bool = False) -> Tensor:
    if len(context) < stop or (exactly and len(context) != stop):
        count = f"{stop}" if exactly else f"at least {stop}"
        raise ValueError(f"context {number} must have one row per example: {count}; got {len(context)}")
    return context[start:stop]


def gathered(
    source: DataSource,
    *context: Array,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    has_context: bool = False,
    most: int | None = None,
) -> tuple[Tensor, ...]:
    """Return x and its context as one batch of all examples.

    Args:
        source: see :func:`in_order`.
        context: likewise.
        dtype: likewise.
        device: likewise.
        has_context: likewise.
        most: the first so many examples; of data that shuffle, any so many.

    Raises:
        ValueError: as :func:`in_order`, and if there is no example.
    """
    found, rows = [], 0
    some = most is not None and not context
    for batch in in_order(source, *context, dtype=dtype, device=device, has_context=has_context, any_order=some):
        left = len(batch[0]) if most is None else most - rows
        found.append(tuple(t[:left] for t in batch))
        rows += len(found[-1][0])
        if rows == most:
            break
    if not found:
        raise ValueError("data must hold at least one example; got none")
    return found[0] if len(found) == 1 else tuple(torch.cat(parts) for parts in zip(*found, strict=True))
