"""The data as a checked array, with its names and levels if they are known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pyro_vae.data import Counts, DataSet, Images, Rows, Split, check_array

__all__ = ["FEW", "LEVELS", "ROWS", "TABLE", "Data", "Values", "percent", "read"]

ROWS = 4000  # Enough for a standard error of a few per cent in every figure judged here.
TABLE = 100  # Columns of a table, at most: one likelihood per column is of no use for a thousand columns.
LEVELS, FEW = 256, 32  # Levels of a grid, at most (a byte); and levels with a free probability each, at most.


class Table(Protocol):
    """A table of pandas or polars."""

    @property
    def columns(self) -> Iterable[Any]:
        """The names of the columns."""

    def to_numpy(self) -> np.ndarray:
        """Return the values, ``(n, columns)``."""


Data = Tensor | np.ndarray | Table | DataSet[Any] | Split


@dataclass(frozen=True, eq=False)
class Values:
    """The values of all elements, or of one column.

    Args:
        x: floating-point numbers ``(n, elements)``; NaN if missing.
        names: the names of the columns of a table; else empty.
        levels: the number of grey levels if known, else 0.
        dequantise: how to dequantise the data if known, else empty.
    """

    x: np.ndarray
    names: tuple[str, ...] = ()
    levels: int = 0
    dequantise: str = ""

    @property
    def low(self) -> float:
        """The smallest value."""
        return float(np.nanmin(self.x))

    @property
    def high(self) -> float:
        """The largest value."""
        return float(np.nanmax(self.x))

    def all(self, holds: Callable[[np.ndarray], np.ndarray]) -> bool:
        """Return True if a condition holds for all values that are not missing."""
        return bool((holds(self.x) | np.isnan(self.x)).all())

    def count(self, value: float) -> int:
        """Return how often a value occurs."""
        return int((self.x == value).sum())

    def percent(self, value: float) -> str:
        """Return the share of a value among those that are not missing, as text."""
        return percent(self.count(value) / (~np.isnan(self.x)).sum())

    def sample(self) -> np.ndarray:
        """Return at most ``ROWS`` evenly spaced rows."""
        return self.x[:: -(-len(self.x) // ROWS)].astype(np.float64)


def read(data: Data, names: Sequence[str] | None) -> Values:
    """Return the data as a checked array ``(n, elements)``."""
    split = _examples(data) if isinstance(data, DataSet) else data
    if isinstance(split, Images):
        return _of_images(split, names)
    if isinstance(split, Counts):
        data = split.x(slice(None, None, -(-len(split) // ROWS)), torch.float64).numpy()
    if isinstance(split, Rows):
        names = split.columns or None if names is None else names
        step = 1 if isinstance(split.values, Tensor) else -(-len(split) // ROWS)  # on disk, a sample
        data = split.x(slice(None, None, step), torch.float64).numpy()
    if isinstance(data, Tensor) or (isinstance(data, np.ndarray) and data.dtype != object):  # whose None is missing
        check_array("data", data)
    if isinstance(data, Tensor):
        data = data.detach().cpu()
        data = (data.float() if data.dtype in (torch.float16, torch.bfloat16) else data).numpy()
    elif hasattr(data, "columns") and hasattr(data, "to_numpy"):
        names, data = list(data.columns) if names is None else names, data.to_numpy()
    if not isinstance(data, np.ndarray):
        raise TypeError(f"data must be a tensor, a NumPy array, a table or Images; got {type(data).__name__}")
    if data.ndim == 0 or data.size == 0:
        raise ValueError(f"data must hold at least one example with at least one value; got shape {data.shape}")
    labels = _labels(data.shape, names)
    x = _numbers(data, labels).reshape(len(data), -1)
    if np.isinf(x).any():
        raise ValueError(
            f"data has infinite values: {np.isinf(x).sum()} of {x.size}. Remove them, or replace them by NaN"
        )
    empty = np.isnan(x).all(0)
    if empty.all() or (labels and empty.any()):
        raise ValueError(f"data must have values; {labels[empty.argmax()] if labels else 'all of it'} is only NaN")
    is_bytes = data.dtype == np.uint8 and (data.ndim > 2 or len(labels) > TABLE) and data.max() >= LEVELS / 2
    v = Values(x[:, ~empty], labels if len(labels) <= TABLE else (), levels=LEVELS if is_bytes else 0)
    if v.low == v.high and v.low not in (0, 1):
        raise ValueError(f"data must vary; every value is {v.low:.4g}, which needs no likelihood")
    return v


def _examples(data: DataSet[Any]) -> Split:
    """Return the examples to judge: of a table all, since a rare value in any of them rules a likelihood out."""
    return data.everything if isinstance(data.train, Rows) else data.train


def _of_images(images: Images, names: Sequence[str] | None) -> Values:
    if names is not None or not len(images):
        raise ValueError(f"there must be at least one image, and no names; got {len(images)} and names {names}")
    some = slice(None, None, -(-len(images) // ROWS))
    x = images.x(some, torch.float32, torch.Generator(images.device).manual_seed(0)).flatten(1).cpu().numpy()
    levels = 0 if images.dequantize or images.binarize else images.levels + 1
    return Values(x, (), levels, "Dequantise: data.load(..., dequantize=True)")


def _labels(shape: tuple[int, ...], names: Iterable[object] | None) -> tuple[str, ...]:
    if names is None:
        return tuple(f"column {j}" for j in range(shape[1])) if len(shape) == 2 else ()
    labels = tuple(str(name) for name in names)
    if len(shape) != 2 or len(labels) != shape[1] or len(set(labels)) < len(labels):
        raise ValueError(f"names must have one name per column of a table, all different; got {labels} for {shape}")
    return labels


def _numbers(data: np.ndarray, labels: tuple[str, ...]) -> np.ndarray:
    """Return the data as floating-point numbers; None and pandas' NA become NaN."""
    if data.dtype.kind in "biuf":
        return data if data.dtype in (np.float32, np.float64) else data.astype(np.float64)
    if data.dtype != object:
        raise ValueError(f"data must hold real numbers; got dtype {data.dtype}")
    out = np.full(data.shape, np.nan)
    for place, value in np.ndenumerate(data):
        if isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)):
            out[place] = value
        elif value is not None and type(value).__name__ != "NAType":
            where = f" in {labels[place[1]]!r}" if labels else ""
            raise ValueError(f"data must hold real numbers; got {value!r}{where}. Write classes as codes 0, 1, 2, ...")
    return out


def percent(share: float) -> str:
    """Return a share as text."""
    return f"{100 * share:.3g} %"
