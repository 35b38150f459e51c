"""The data as a checked array, with its names and levels if they are known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from pyro_vae.data import DataSet, DataSource, Images, Rows, Split, check_array
from pyro_vae.data.arrays import hint
from pyro_vae.data.frames import column_names, from_objects, is_frame, is_sparse, numbers_of
from pyro_vae.data.gathering import gathered, is_supply

__all__ = ["FEW", "LEVELS", "ROWS", "TABLE", "Data", "Values", "percent", "read"]

ROWS = 4000  # Enough for a standard error of a few per cent in every figure judged here.
TABLE = 100  # Columns of a table, at most: one likelihood per column is of no use for a thousand columns.
LEVELS, FEW = 256, 32  # Levels of a grid, at most (a byte); and levels with a free probability each, at most.


Data = DataSource | DataSet[Any]


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
    data = _examples(data) if isinstance(data, DataSet) else data
    if isinstance(data, Images):
        return _of_images(data, names)
    data, known = _array(data)
    names = known or None if names is None else names
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


def _array(data: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the data, or a sample of data that are not in memory, as an array, and the names of columns if known."""
    if isinstance(data, tuple) and data:
        data = data[0]
    if is_frame(data):
        return numbers_of("data", data), column_names(data)
    names = data.columns if isinstance(data, Rows) else ()
    if isinstance(data, Split):
        step = 1 if isinstance(data, Rows) and isinstance(data.values, Tensor) else -(-len(data) // ROWS)
        data = data.x(slice(None, None, step), torch.float64)
    elif is_supply(data):
        (data,) = gathered(_sample(data), dtype=torch.float64, most=ROWS)
    elif is_sparse(data):
        data = data.tocsr()[:: max(1, -(-data.shape[0] // ROWS))].toarray()
    if isinstance(data, Tensor) or (isinstance(data, np.ndarray) and data.dtype != object):  # whose None is missing
        check_array("data", data)
    if isinstance(data, Tensor):
        data = data.detach().cpu()
        data = (data.float() if data.dtype in (torch.float16, torch.bfloat16) else data).numpy()
    if not isinstance(data, np.ndarray):
        raise TypeError(
            "data must be a tensor, a NumPy array, a table, a sparse matrix, a Dataset, a DataLoader or data of "
            f"pyro_vae.data.load; got {type(data).__name__}{hint(data)}"
        )
    return data, names


def _sample(data: Any) -> Any:
    """Return evenly spaced examples of a Dataset, or of that of a DataLoader; a stream as it is."""
    dataset = data.dataset if isinstance(data, DataLoader) else data
    if not isinstance(dataset, Dataset) or isinstance(dataset, IterableDataset):
        return data
    n = len(dataset)  # type: ignore[arg-type]
    sample: Dataset[Any] = Subset(dataset, range(0, n, max(1, -(-n // ROWS))))
    if isinstance(data, DataLoader):
        return DataLoader(sample, data.batch_size or 1, collate_fn=data.collate_fn)
    return sample


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
    return from_objects("data", data, labels)


def percent(share: float) -> str:
    """Return a share as text."""
    return f"{100 * share:.3g} %"
