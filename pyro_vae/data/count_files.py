"""Files of counts: sparse matrices of SciPy's in .npz."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyro_vae.data.array_files import load_arrays
from pyro_vae.data.counts import Counts
from pyro_vae.data.keyed_splits import split_by_keys
from pyro_vae.data.named import DamagedDataError
from pyro_vae.data.reading import BadDataError, Reading
from pyro_vae.data.splits import DataSet

if TYPE_CHECKING:
    from scipy import sparse

__all__ = ["check_size", "in_splits", "load_npz"]

_MOST_COLUMNS = 2**22  # a batch of 128 such rows takes 2 GB
_MOST_EMPTY = 1000  # rows per count above 0


def load_npz(path: Path, how: Reading) -> DataSet[Any]:
    """Return the data set of an .npz file: of a sparse matrix of SciPy's, or of NumPy's arrays.

    Args:
        path: of the file, from ``scipy.sparse.save_npz`` or ``numpy.savez``.
        how: options; for a sparse matrix, ``split`` and ``skip_bad`` count.

    Raises:
        DamagedDataError: if the file cannot be read.
        BadDataError: if it holds something else than counts.
    """
    if not _is_sparse(path):
        return load_arrays(path, how)
    how.check_used(f"{path} is a sparse matrix", "split", "skip_bad")
    from scipy import sparse  # slow to import

    try:
        matrix = sparse.load_npz(path)
    except (OSError, EOFError, ValueError, TypeError, KeyError, NotImplementedError, zipfile.BadZipFile) as error:
        raise DamagedDataError(f"{path} cannot be read as a sparse matrix: {error}") from error
    except MemoryError as error:
        raise DamagedDataError(f"{path} cannot be read as a sparse matrix: it says that it is too large") from error
    check_size(path, matrix)
    return in_splits(Counts(matrix, name=str(path)), how)


def _is_sparse(path: Path) -> bool:
    """Return True if an .npz file has the entries that SciPy writes."""
    try:
        with zipfile.ZipFile(path) as file:
            return {"format.npy", "shape.npy", "data.npy"} <= set(file.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def check_size(path: Path, matrix: sparse.sparray) -> None:
    """Raise a BadDataError if a matrix says that it has far more rows or columns than its counts can fill."""
    if matrix.ndim != 2:
        raise BadDataError(f"{path} must hold a matrix of two dimensions; got shape {matrix.shape}")
    rows, columns = matrix.shape
    if columns > _MOST_COLUMNS or rows > _MOST_EMPTY * (1 + matrix.nnz):
        raise BadDataError(
            f"{path} says that it has {rows:,} rows and {columns:,} columns, with {matrix.nnz:,} counts above 0. It "
            f"may have {_MOST_COLUMNS:,} columns, and must have a count in one row of {_MOST_EMPTY:,}"
        )


def in_splits(
    counts: Counts, how: Reading, notes: Sequence[str] = (), keys: Sequence[bytes] | None = None
) -> DataSet[Counts]:
    """Return counts in three splits by a hash of each row; with ``skip_bad``, without the rows that are empty.

    Args:
        counts: all rows.
        how: options.
        notes: for the data set.
        keys: of the groups that must not be parted, one for each row; by default each row is its own.
    """
    if how.skip_bad:
        empty = set(counts.empty_rows().tolist())
        keys = None if keys is None else [key for i, key in enumerate(keys) if i not in empty]
        counts, said = counts.without_empty_rows()
        notes = [*notes, f"{counts.name}: {said}"] if said else notes
    return split_by_keys(counts, counts.keys() if keys is None else keys, how.shares, notes, how.group)
