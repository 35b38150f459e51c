"""Tables and sparse matrices of other libraries as arrays of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    import pandas
    from typing_extensions import TypeIs

__all__ = [
    "EXACT",
    "Frame",
    "SparseMatrix",
    "SparseRows",
    "column_names",
    "from_objects",
    "has_columns",
    "is_data_frame",
    "is_frame",
    "is_sparse",
    "numbers_of",
]

_NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating)
EXACT = 2**53
"""float64 has all whole numbers up to this."""


@runtime_checkable
class Frame(Protocol):
    """A DataFrame or Series of pandas or polars."""

    def to_numpy(self) -> NDArray[Any]:
        """Return the values, ``(n, columns)`` or ``(n,)``."""


@runtime_checkable
class SparseMatrix(Protocol):
    """A sparse matrix or array of SciPy's."""

    shape: tuple[int, ...]

    def toarray(self) -> NDArray[Any]:
        """Return all its values."""

    def tocsr(self, copy: bool = False) -> Any:
        """Return it with rows that can be indexed."""


def is_frame(value: object) -> TypeIs[Frame]:
    """Return True for a DataFrame, a Series and the like."""
    return isinstance(value, Frame)


def is_data_frame(value: object) -> TypeIs[pandas.DataFrame]:
    """Return True for a DataFrame of pandas."""
    return has_columns(value) and hasattr(value, "iloc")


def has_columns(value: object) -> bool:
    """Return True for a DataFrame of any library, but not for a Series."""
    return is_frame(value) and hasattr(value, "columns")


def is_sparse(value: object) -> TypeIs[SparseMatrix]:
    """Return True for a sparse matrix of SciPy's."""
    return not isinstance(value, (Tensor, np.ndarray)) and isinstance(value, SparseMatrix)


def column_names(frame: Frame) -> tuple[str, ...]:
    """Return the names of the columns; of a Series and of what has no columns, nothing."""
    columns = getattr(frame, "columns", ())
    return () if callable(columns) else tuple(map(str, columns))


def numbers_of(name: str, frame: Frame) -> NDArray[Any]:
    """Return the numbers of a table, NaN where one is missing.

    Args:
        name: of the argument, for errors.
        frame: a DataFrame or Series whose columns hold numbers, bools, or classes coded as such.

    Raises:
        ValueError: for text, dates and other objects, and for two columns of one name; names the column.
    """
    names = column_names(frame)
    twice = next((n for i, n in enumerate(names) if n in names[:i]), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise ValueError(f"{name} has two columns named {twice!r}. Rename one, or leave it out")
    values = np.asarray(frame.to_numpy())
    return from_objects(name, values, names) if values.dtype.kind not in "biufc" else values


def from_objects(name: str, values: NDArray[Any], names: Sequence[str] = ()) -> NDArray[np.float64]:
    """Return an array of Python objects as floating-point numbers; None and pandas' NA become NaN.

    Args:
        name: of the argument, for errors.
        values: ``(n, ...)``.
        names: of the columns, if it is a table.

    Raises:
        ValueError: if a value is no number.
    """
    if values.dtype.kind != "O":
        values = values.astype(object)
    columns = [values] if values.ndim < 2 else [values[:, j] for j in range(values.shape[1])]
    found = [_column(name, column, names[j] if j < len(names) else "") for j, column in enumerate(columns)]
    return found[0] if values.ndim < 2 else np.stack(found, 1) if found else np.empty(values.shape)


def _column(name: str, values: NDArray[Any], column: str) -> NDArray[np.float64]:
    flat = values.ravel()
    kinds = set(map(type, flat))
    for kind in kinds:
        if not (issubclass(kind, _NUMBERS) or kind is type(None) or kind.__name__ == "NAType"):
            value = next(v for v in flat if type(v) is kind)
            where = f" in {column!r}" if column else ""
            raise ValueError(
                f"{name} must hold real numbers; got {value!r}{where}. Write classes as codes 0, 1, 2, ..., or leave "
                "them out, as data.table(df) does"
            )
    missing = np.fromiter((v is None or type(v).__name__ == "NAType" for v in flat), bool, len(flat))
    known = np.where(missing, np.nan, flat).astype(np.float64)
    whole = any(issubclass(kind, (int, np.integer)) for kind in kinds)
    if whole and (np.abs(known) > EXACT).any():
        raise ValueError(f"{name} has integers above {EXACT}, which floating-point numbers do not tell apart")
    return known.reshape(values.shape)


class SparseRows:
    """Rows of a sparse matrix, of which each batch becomes dense.

    Args:
        name: of the argument, for errors.
        matrix: of SciPy's, ``(n, elements)``.

    Raises:
        TypeError: if its numbers are not real.
        ValueError: if it has no two dimensions.
    """

    def __init__(self, name: str, matrix: SparseMatrix) -> None:
        if len(matrix.shape) != 2:
            raise ValueError(f"{name} must be a sparse matrix (n, elements); got shape {tuple(matrix.shape)}")
        self.rows = matrix.tocsr()
        if self.rows.dtype.kind not in "biuf":
            raise TypeError(f"{name} must be a sparse matrix of real numbers; got {self.rows.dtype}")
        self.name = name
        self.shape = torch.Size(matrix.shape)
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        """Return some of the rows, dense; integers stay integers."""
        some = self.rows[rows if isinstance(rows, slice) else rows.cpu().numpy()]
        return torch.from_numpy(some.toarray())
