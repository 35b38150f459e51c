"""split(): hold out some of the data of any kind, by the same hash as :func:`pyro_vae.data.load`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from pyro_vae.argument_checks import is_finite_number
from pyro_vae.data.arrays import Array
from pyro_vae.data.conversion import keys_of_split
from pyro_vae.data.counts import Counts
from pyro_vae.data.frames import SparseMatrix, is_frame, is_sparse
from pyro_vae.data.items import as_array, as_numbers, length, parts_of_item
from pyro_vae.data.reading import BadDataError, Reading
from pyro_vae.data.splits import Split
from pyro_vae.data.splitting import assign, keys_of_rows, none_left
from pyro_vae.data.table_columns import group_keys
from pyro_vae.data.tables import check_column, columns_of_frame, rows_of_columns
from pyro_vae.seeds import seeded

__all__ = ["split"]

Splittable = Split | Array | tuple[Array, ...] | Dataset[Any]
"""Examples that can be told apart and counted."""

Groups = str | Sequence[Any] | Array
"""A value for each example, or the name of the column that holds them."""


def split(
    x: Splittable, *, valid: float = 0.1, test: float = 0.0, group: Groups | None = None, label: str | None = None
) -> tuple[Any, ...]:
    """Return some of the data to train on, and others to validate and test with, each of the kind that came.

    A hash of each example says where it goes. So an example stays there if others are added, and equal examples stay
    together. :func:`pyro_vae.data.load` puts the same examples into the same splits, with the same group and label.

    Args:
        x: a tensor, a NumPy array, a SciPy sparse matrix or a pandas DataFrame, one example per row; a tuple
            ``(x, *context)`` of tensors and arrays; a split of :func:`pyro_vae.data.load`; or a Dataset with a length,
            which is read once. The pictures of torchvision's ``ImageFolder`` go by their file names.
        valid: the share to validate with, above 0.
        test: the share to test with.
        group: a value for each example ``(n,)``, or the name of a column of a DataFrame; examples with the same value
            stay in one split.
        label: name of the column of a DataFrame that holds the labels; the hash leaves it out. Of a tuple, it goes by x
            alone.

    Returns:
        ``(train, valid)``, or ``(train, valid, test)`` if there is a share to test with. Of a Dataset, each is a
        :class:`torch.utils.data.Subset`; of a tuple, a tuple.

    Raises:
        TypeError: if ``x`` is of another kind.
        ValueError: if the shares, the groups or the label do not fit, or a part has no example.

    Example:
        >>> import torch
        >>> train, valid = split(torch.arange(100.0), valid=0.2)
        >>> len(train) + len(valid), bool((train[:, None] == valid).any())
        (100, False)
    """
    shares = _shares(valid, test)
    if label is not None and not is_frame(x):
        raise ValueError(
            f"label names a column of a DataFrame; x is a {type(x).__name__}. Give (x, labels), or x alone"
        )
    _check_kind(x)
    keys = _keys(x, label) if group is None else _keys_of_group(x, group)
    places = assign(keys, shares).clamp_max(len(shares) - 1)  # 1 - 1e-17 is no share
    rows = [(places == i).nonzero()[:, 0] for i in range(len(shares))]
    for name, some in zip(("train", "valid", "test"), rows, strict=False):
        if not len(some):
            more = "" if group is None else f", in {len(set(_keys_of_group(x, group))):,} groups"
            raise BadDataError(none_left(f"{len(places):,} examples{more}", name, shares="valid=0.3"))
    return tuple(_take(x, some) for some in rows)


def _shares(valid: float, test: float) -> tuple[float, ...]:
    right = is_finite_number(valid) and is_finite_number(test) and valid > 0 and test >= 0 and valid + test < 1
    if not right:
        raise ValueError(
            "valid and test must be shares of the data, with valid above 0 and the sum below 1, such as valid=0.1, "
            f"test=0.1; got valid={valid!r}, test={test!r}"
        )
    shares = (1 - valid - test, valid, test)
    return shares if test else shares[:2]


def _check_kind(x: Splittable) -> None:
    """Raise a TypeError if x is none of the kinds that can be split."""
    if isinstance(x, DataLoader):
        raise TypeError(
            "split takes a Dataset, not a DataLoader: split(loader.dataset), and a DataLoader for each part"
        )
    kinds = (Split, Tensor, np.ndarray, tuple, list, Dataset)
    if isinstance(x, IterableDataset) or not (isinstance(x, kinds) or is_frame(x) or is_sparse(x)):
        raise TypeError(
            "x must be a tensor, a NumPy array, a SciPy sparse matrix, a pandas DataFrame, a tuple (x, *context), a "
            f"split of pyro_vae.data.load or a torch Dataset with a length; got {type(x).__name__}"
        )


def _keys(x: Splittable, label: str | None = None) -> Iterable[bytes]:
    """Return the bytes that say where each example goes."""
    if isinstance(x, Split):
        return keys_of_split(x)
    if is_frame(x):
        return rows_of_columns("x", columns_of_frame(x), Reading(label=label))[1]
    if isinstance(x, (Tensor, np.ndarray)):
        return keys_of_rows(_array("x", x))
    if is_sparse(x):
        return _keys_of_sparse(x)
    if isinstance(x, (tuple, list)):
        return _keys(_x_of_tuple(x))
    return _keys_of_dataset(x)


def _keys_of_sparse(x: SparseMatrix) -> Iterable[bytes]:
    """Return the bytes of each row of a sparse matrix; of counts, as they have them."""
    try:
        return Counts(x).keys()
    except BadDataError:  # other numbers
        rows = x.tocsr(copy=True)
        rows.sum_duplicates()
        rows.eliminate_zeros()
    columns, values = rows.indices.astype("<i8"), rows.data.astype("<f8")
    ends = zip(rows.indptr[:-1], rows.indptr[1:], strict=True)
    return (columns[start:end].tobytes() + values[start:end].tobytes() for start, end in ends)


def _array(name: str, value: Array) -> NDArray[Any]:
    array = as_array(name, value)
    if array.ndim == 0:
        raise ValueError(f"{name} must have a first dimension that counts the examples; got a single number")
    return array


def _x_of_tuple(x: Sequence[Array]) -> NDArray[Any]:
    if not x:
        raise ValueError("x must be a tuple (x, *context) of tensors or arrays; got an empty one")
    first = _array("x", x[0])
    for i, part in enumerate(x[1:]):
        if not isinstance(part, (Tensor, np.ndarray)):
            raise TypeError(f"context {i} must be a tensor or a NumPy array; got {type(part).__name__}")
        if len(part) != len(first):
            raise ValueError(f"context {i} must have one row per example: {len(first)}; got {len(part)}")
    return first


def _keys_of_dataset(dataset: Dataset[Any]) -> Iterator[bytes]:
    n = length("x", dataset)
    samples, root = getattr(dataset, "samples", None), getattr(dataset, "root", None)
    if isinstance(samples, list) and root is not None and len(samples) == n:
        return (Path(path).relative_to(root).as_posix().encode() for path, *_ in samples)
    _refuse_random(dataset)
    return (_key_of_item(dataset, i) for i in range(n))


def _key_of_item(dataset: Dataset[Any], i: int) -> bytes:
    return next(iter(keys_of_rows(as_numbers(f"x of item {i}", parts_of_item("x", dataset[i])[0])[None])))


def _refuse_random(dataset: Dataset[Any]) -> None:
    """Raise a ValueError if an item of a Dataset is drawn at random, so that no hash of it stays the same."""
    found = []
    for seed in (0, 1, 2):
        with seeded(seed):
            found.append(_key_of_item(dataset, 0))
    if len(set(found)) > 1:
        raise ValueError(
            "x is a Dataset that changes its examples at random, so they have no place of their own. Split the Dataset "
            "without these changes, or go by the order: group=range(len(dataset))"
        )


def _keys_of_group(x: Splittable, group: Groups) -> list[bytes]:
    """Return a key for each value of the groups; 3 and 3.0 are one group."""
    if is_frame(x) and isinstance(group, str):
        columns = columns_of_frame(x)
        check_column("x", "group", group, columns)
        return list(group_keys(f"x: group {group!r}", columns[group]))
    values = np.asarray(group.cpu() if isinstance(group, Tensor) else group)
    n = x.shape[0] if is_sparse(x) else len(_x_of_tuple(x) if isinstance(x, (tuple, list)) else x)  # type: ignore[arg-type]
    if values.shape != (n,):
        raise ValueError(f"group must have one value per example, ({n},); got {values.shape}")
    plain = [int(v) if isinstance(v, float) and v.is_integer() else v for v in values.tolist()]
    lacking = sum(v is None or (isinstance(v, float) and math.isnan(v)) for v in plain)
    if lacking:
        raise ValueError(f"group lacks the value of {lacking:,} examples")
    return [str(v).encode() for v in plain]


def _take(x: Splittable, rows: Tensor) -> Any:
    """Return some of the examples, of the kind that came."""
    if isinstance(x, (tuple, list)):
        return tuple(_take(part, rows) for part in x)
    if isinstance(x, Tensor):
        return x[rows.to(x.device)]
    if isinstance(x, Split):
        return x[rows.to(x.device)]
    if isinstance(x, np.ndarray):
        return x[rows.numpy()]
    if is_sparse(x):
        return x.tocsr()[rows.numpy()]
    if is_frame(x):
        frame: Any = x
        return frame.iloc[rows.numpy()]
    return Subset(x, rows.tolist())
