"""Files of AnnData, .h5ad: counts of cells, their labels and the names of the genes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyro_vae.data.count_files import check_size, in_splits
from pyro_vae.data.counts import Counts
from pyro_vae.data.hdf5 import check_own
from pyro_vae.data.named import DamagedDataError
from pyro_vae.data.reading import BadDataError, Reading, import_optional
from pyro_vae.data.splits import DataSet
from pyro_vae.data.table_columns import ArrowColumn, group_keys, label_codes
from pyro_vae.data.tables import NoColumnError, check_column

if TYPE_CHECKING:
    import h5py

__all__ = ["load_h5ad"]

_AT_ONCE = 2**24  # numbers of a dense matrix


def load_h5ad(path: Path, how: Reading) -> DataSet[Counts]:
    """Return the data set of an .h5ad file of AnnData's.

    The counts are X or, if X holds something else, the layer ``counts``; the ``notes`` say so. Nothing else of the file
    is read but the columns of ``obs`` that the options name, and the names of the genes.

    Args:
        path: of the file.
        how: options; ``split``, ``label``, ``group``, ``columns`` (names of genes) and ``skip_bad`` count.

    Raises:
        ImportError: if anndata is not installed.
        DamagedDataError: if the file cannot be read.
        BadDataError: if it has no counts, or labels that are none.
        NoColumnError: if ``obs`` lacks the label or group, or ``var`` a gene.
    """
    how.check_used(f"{path} holds counts of cells", "split", "label", "group", "columns", "skip_bad")
    with _opened(path) as file:
        counts, notes = _counts(path, file)
        label, group = (_column(path, file, option, getattr(how, option)) for option in ("label", "group"))
    keys = None if group is None else list(group_keys(f"{path}: group {how.group!r}", group))
    codes, classes, names = (None, 0, ()) if label is None else label_codes(f"{path}: label {how.label!r}", label)
    for what, found in (("label", codes), ("group", keys)):
        if found is not None and len(found) != len(counts):
            raise BadDataError(
                f"{path} has {len(counts):,} rows of counts, and {len(found):,} in the column for {what}"
            )
    if (genes := how.columns_named) is not None:
        for gene in set(genes).difference(counts.columns):
            check_column(str(path), "columns", gene, counts.columns)
        counts = counts.with_columns(genes)
    cells = replace(counts, labels=codes, classes=classes, class_names=names, name=str(path))
    return in_splits(cells, how, notes, keys)


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file; errors of reading it name the file."""
    h5py = import_optional("h5py", "anndata")
    import_optional("anndata.io", "anndata")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (BadDataError, DamagedDataError, NoColumnError):
        raise
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, MemoryError) as error:
        raise DamagedDataError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def _counts(path: Path, file: h5py.File) -> tuple[Counts, list[str]]:
    """Return X or the layer ``counts``, whichever holds counts, and a note if it is the layer."""
    genes = _genes(path, file)
    layers = list(file["layers"]) if _has(path, file, "layers") else []
    why = f"{path} has no X"
    if _has(path, file, "X"):
        try:
            return _matrix(path, file, "X", genes), []
        except BadDataError as error:
            why = str(error)
    if "counts" in layers:
        return _matrix(path, file, "layers/counts", genes), [f"{path}: the layer 'counts' is read, not X: {why}"]
    there = f"its layers are {', '.join(map(repr, layers))}" if layers else "it has no layers"
    raw = ", and raw" if "raw" in file else ""
    raise BadDataError(
        f"{why}. There is no layer 'counts' either; {there}{raw}. If one holds the counts, write it as that: "
        "adata.layers['counts'] = ..."
    )


def _genes(path: Path, file: h5py.File) -> tuple[str, ...]:
    table = _table(path, file, "var")
    return tuple(map(str, _read(path, file, f"var/{table.attrs['_index']}")))


def _column(path: Path, file: h5py.File, option: str, name: str | None) -> ArrowColumn | None:
    """Return the column of obs that an option names, as an Arrow array; None without a name."""
    if name is None:
        return None
    table = _table(path, file, "obs")
    check_column(f"{path}: obs", option, name, [column for column in table if column != table.attrs["_index"]])
    return import_optional("pyarrow", "anndata").array(_read(path, file, f"obs/{name}"), from_pandas=True)


def _table(path: Path, file: h5py.File, name: str) -> h5py.Group:
    if not _has(path, file, name) or "_index" not in file[name].attrs:
        raise BadDataError(f"{path} has no table {name} as anndata has written it since version 0.7. Write it anew")
    return file[name]


def _has(path: Path, file: h5py.File, name: str) -> bool:
    """Return True if there is something of a name at the top of a file, and raise a BadDataError if it is a link."""
    link = file.get(name, getlink=True)
    if link is not None and not isinstance(link, import_optional("h5py", "anndata").HardLink):
        raise BadDataError(f"{path}: {name!r} is a link, which is not followed. Put the data into the file itself")
    return link is not None


def _read(path: Path, file: h5py.File, name: str) -> Any:
    check_own(f"{path}: {name}", file, name)
    try:
        return import_optional("anndata.io", "anndata").read_elem(file[name])
    except Exception as error:  # anndata's own errors have no common class
        raise DamagedDataError(f"{path}: {name} cannot be read: {str(error).splitlines()[0]}") from error


def _matrix(path: Path, file: h5py.File, name: str, genes: tuple[str, ...]) -> Counts:
    """Return a sparse or dense matrix as counts; a dense one is read in pieces.

    Raises:
        BadDataError: if it holds no counts, or has no column for each gene.
    """
    where, found = f"{path}: {name}", file[name]
    check_own(where, file, name)
    if "shape" in found.attrs and len(found.attrs["shape"]) == 2 and found.attrs["shape"][1] != len(genes):
        raise BadDataError(f"{where} has {found.attrs['shape'][1]:,} columns, and var has {len(genes):,} genes")
    if not isinstance(found, import_optional("h5py", "anndata").Dataset):
        matrix = _read(path, file, name)
        if not hasattr(matrix, "tocsr"):
            raise BadDataError(f"{where} is a {type(matrix).__name__}; it must be a matrix, sparse or dense")
        check_size(path, matrix)
        return Counts(matrix, columns=genes, name=where)
    if len(found.shape) != 2 or found.shape[1] != len(genes) or not len(found):
        raise BadDataError(f"{where} has shape {found.shape}, and var has {len(genes):,} genes")
    step = max(1, _AT_ONCE // len(genes))
    pieces = [Counts(found[i : i + step], columns=genes, name=where) for i in range(0, len(found), step)]
    whole = pieces[0]
    for piece in pieces[1:]:
        whole = whole.followed_by(piece)
    return whole
