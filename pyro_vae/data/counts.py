"""Counts, most of them 0: sparse in memory, dense a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_vae.data.arrays import as_tensor
from pyro_vae.data.frames import EXACT
from pyro_vae.data.reading import BadDataError
from pyro_vae.data.splits import Split, labels_of_both

if TYPE_CHECKING:
    from scipy import sparse

__all__ = ["Counts"]

_Matrix: TypeAlias = "sparse.sparray | sparse.spmatrix | NDArray[Any] | Tensor"


@dataclass(frozen=True, eq=False, repr=False)
class Counts(Split):
    """One split of counts ``(n, columns)``, such as the genes of cells or the words of documents.

    A row becomes dense only in its batch, so memory holds little but the counts above 0. The batches end with the
    logarithm of the library size, the total of each row: likelihoods with ``library=True`` take it (Lopez et al. 2018,
    "Deep generative modeling for single-cell transcriptomics"). :func:`pyro_vae.fit` and :func:`pyro_vae.average_elbo`
    leave it out for a VAE with another likelihood.

    Args:
        matrix: whole numbers of at least 0, ``(n, columns)``: a sparse matrix of SciPy's in any format, or an array.
            It may have explicit zeros, indices in any order, and any real dtype. Kept as CSR.
        labels: class of each row, int64 ``(n,)``; None without labels.
        classes: how many classes there are.
        class_names: names of the classes; empty if they have none but their numbers.
        with_labels: give the one-hot label with each batch as context, for a conditional VAE.
        columns: names of the columns; empty if they have none.
        library: give the log library size ``(n, 1)`` with each batch, as the last context.
        name: of the data set, as :func:`pyro_vae.data.load` takes it.
        origin: what :func:`pyro_vae.data.load` read it from, and with which options; it records them.

    Raises:
        BadDataError: if a value is not a count; names the first.
        TypeError: if ``matrix`` is something else.

    Example:
        >>> from scipy.sparse import csr_array
        >>> counts = Counts(csr_array([[0, 3, 1], [2, 0, 0]]))
        >>> counts
        Counts(unnamed: 2 rows; x (3,), counts up to 3, 50 % of them above 0)
        >>> counts.x(slice(None), torch.float32)
        tensor([[0., 3., 1.],
                [2., 0., 0.]])
        >>> counts.context(slice(None), torch.float32)
        (tensor([[1.3863],
                [0.6931]]),)
    """

    matrix: Any
    labels: Tensor | None = None
    classes: int = 0
    class_names: tuple[str, ...] = ()
    with_labels: bool = False
    columns: tuple[str, ...] = ()
    library: bool = True
    name: str | None = None
    origin: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "matrix", _as_counts(self.name or "the matrix", self.matrix, self.columns))
        if self.columns and len(self.columns) != self.matrix.shape[1]:
            raise ValueError(
                f"columns must have one name for each of {self.matrix.shape[1]:,} columns; got {len(self.columns):,}"
            )
        if self.labels is not None and len(self) != len(self.labels):
            raise ValueError(f"labels must have one entry per row: {len(self):,}; got {len(self.labels):,}")

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def __getitem__(self, rows: slice | Tensor) -> Self:
        """Return some of the rows, by slice or by index."""
        labels = None if self.labels is None else self.labels[rows]
        return replace(self, matrix=self.matrix[_index(rows)], labels=labels)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The number of columns, in a tuple."""
        return (int(self.matrix.shape[1]),)

    @property
    def device(self) -> torch.device:
        """Where the batches come from: the CPU."""
        return torch.device("cpu")

    def to(self, device: torch.device | str | None) -> Self:
        """Return the same rows, which stay on the CPU; batches of them are moved."""
        return self

    def x(self, rows: slice | Tensor, dtype: torch.dtype, generator: torch.Generator | None = None) -> Tensor:
        """Return some of the rows, dense.

        Raises:
            ValueError: if ``dtype`` rounds a count.
        """
        counts = torch.from_numpy(self.matrix[_index(rows)].toarray())
        if self._largest <= 2 / torch.finfo(dtype).eps:
            return counts.to(dtype)
        return as_tensor("x", counts, dtype, integers=True)

    @cached_property
    def _largest(self) -> int:
        return int(self.matrix.data.max(initial=0))

    @cached_property
    def log_library(self) -> Tensor:
        """The logarithm of the total of each row, float64 ``(n, 1)``.

        Raises:
            BadDataError: if a row has no counts.
        """
        totals = self.matrix.sum(1)
        empty = int((totals == 0).sum())
        if empty:
            raise BadDataError(
                f"{self.name or 'the matrix'}: {empty:,} of {len(self):,} rows have no counts, so they have no library "
                "size. skip_bad leaves them out; or use a likelihood without library=True"
            )
        return torch.from_numpy(totals).double().log()[:, None]

    def some_library_sizes(self, most: int) -> tuple[int, ...]:
        """Return the totals of the rows in order or, if there are more than ``most``, evenly spaced ones."""
        sizes = np.sort(self.matrix.sum(1))
        if len(sizes) > most:
            sizes = sizes[np.linspace(0, len(sizes) - 1, most).round().astype(int)]
        return tuple(sizes.tolist())

    def context(self, rows: slice | Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Return the context of some rows: the one-hot label ``(n, classes)`` and the log library size ``(n, 1)``."""
        labels = super().context(rows, dtype)
        return (*labels, self.log_library[rows].to(dtype)) if self.library else labels

    def followed_by(self, other: Self) -> Self:
        """Return these rows and then those of another split of the same data set."""
        from scipy import sparse  # slow to import

        both = sparse.vstack([self.matrix, other.matrix], format="csr")
        return replace(self, matrix=both, labels=labels_of_both(self, other))

    def empty_rows(self) -> NDArray[np.int64]:
        """Return the numbers of the rows that have no counts."""
        return np.flatnonzero(self.matrix.sum(1) == 0)

    def without_empty_rows(self) -> tuple[Self, str]:
        """Return the rows that have counts, and in words which have none; no words if all have."""
        empty = self.empty_rows()
        if not len(empty):
            return self, ""
        shown = ", ".join(map(str, empty[:10])) + (", ..." if len(empty) > 10 else "")
        are = "row is left out, which has" if len(empty) == 1 else "rows are left out, which have"
        some = torch.from_numpy(np.setdiff1d(np.arange(len(self)), empty))
        return self[some], f"{len(empty):,} {are} no counts: {shown} (counted from 0)"

    def with_columns(self, names: Sequence[str]) -> Self:
        """Return some of the columns, in the order of their names.

        Raises:
            ValueError: if two columns have one of the names.
        """
        if tuple(names) == self.columns:
            return self
        place = {name: i for i, name in enumerate(self.columns)}
        if len(place) < len(self.columns):
            twice = next(name for i, name in enumerate(self.columns) if place[name] != i)
            raise ValueError(f"{self.name}: columns cannot be chosen by name, since two are named {twice!r}")
        return replace(self, matrix=self.matrix[:, [place[name] for name in names]], columns=tuple(names))

    def keys(self) -> Iterable[bytes]:
        """Return the bytes of each row, the same however the matrix was stored; for :func:`assign`."""
        columns, counts = self.matrix.indices.astype("<i8"), self.matrix.data.astype("<i8")
        for start, end in zip(self.matrix.indptr[:-1], self.matrix.indptr[1:], strict=True):
            yield columns[start:end].tobytes() + counts[start:end].tobytes()

    def _stored(self, rows: slice) -> Tensor:
        """Return the lengths of some rows, the columns of their counts, and the counts: what the matrix holds."""
        some = self.matrix[rows]
        parts = (np.diff(some.indptr), some.indices, some.data)
        return torch.from_numpy(np.concatenate([part.astype(np.int64) for part in parts]))

    def values_in_words(self) -> str:
        """Return what numbers x has, in words."""
        share = self.matrix.nnz / max(1, len(self) * self.event_shape[0])
        return f"counts up to {self._largest:,}, {100 * share:.2g} % of them above 0"


def _index(rows: slice | Tensor) -> slice | NDArray[np.int64]:
    return rows if isinstance(rows, slice) else rows.cpu().numpy()


def _as_counts(name: str, matrix: _Matrix, columns: tuple[str, ...]) -> sparse.csr_array:
    """Return counts as CSR in its one canonical form: whole numbers above 0, of increasing columns in each row."""
    from scipy import sparse  # slow to import

    if isinstance(matrix, Tensor):
        matrix = matrix.detach().cpu().numpy()
    if not (sparse.issparse(matrix) or isinstance(matrix, np.ndarray)):
        raise TypeError(f"{name} must be a sparse matrix of SciPy's, or an array; got {type(matrix).__name__}")
    if matrix.ndim != 2 or not matrix.shape[1]:
        raise BadDataError(f"{name} must be counts (n, columns), with at least one column; got shape {matrix.shape}")
    if matrix.dtype.kind not in "biuf":
        raise BadDataError(f"{name} must hold counts, whole numbers from 0; got {matrix.dtype}")
    try:
        if hasattr(matrix, "check_format"):
            matrix.check_format(full_check=True)  # SciPy would read beyond the ends of the arrays
        # Duplicates are summed here, which would overflow small integers. Two bools are one, as in SciPy.
        wide = sparse.issparse(matrix) and matrix.dtype.kind != "b"
        rows = sparse.csr_array(matrix.astype(np.float64, copy=False) if wide else matrix)
    except ValueError as error:
        raise BadDataError(f"{name} is no valid sparse matrix: {error}") from error
    if not rows.has_canonical_format or (rows.data == 0).any():
        rows = rows.copy()  # the caller's own stays as it is
        rows.sum_duplicates()
        rows.eliminate_zeros()
    _check_counts(name, rows, columns)
    small = rows.data.max(initial=0) <= np.iinfo(np.int32).max
    return rows.astype(np.int32 if small else np.int64, copy=False)


def _check_counts(name: str, rows: sparse.csr_array, columns: tuple[str, ...]) -> None:
    """Raise a BadDataError that names the first value that is no count."""
    values = rows.data
    if values.dtype.kind == "b":
        return
    with np.errstate(invalid="ignore"):
        right = (values >= 0) & (values <= EXACT)
        if values.dtype.kind == "f":
            right &= values == np.floor(values)
    if right.all():
        return
    first = int((~right).argmax())
    row, column = int(np.searchsorted(rows.indptr, first, side="right")) - 1, int(rows.indices[first])
    named = f" ({columns[column]!r})" if column < len(columns) else ""
    raise BadDataError(
        f"{name} must hold counts, whole numbers from 0 to 2^53; row {row}, column {column}{named} has "
        f"{values[first]:.6g}. Give the counts themselves: not normalised, not logarithmic"
    )
