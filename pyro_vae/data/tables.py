"""Tables: the columns of numbers of a text file, a Parquet file or a pandas DataFrame."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyro_vae.data.keyed_splits import split_by_keys
from pyro_vae.data.reading import BadDataError, Reading, import_optional
from pyro_vae.data.rows import Rows
from pyro_vae.data.splits import DataSet
from pyro_vae.data.splitting import keys_of_rows
from pyro_vae.data.table_columns import ArrowColumn, NotNumbersError, counts_rows, group_keys, label_codes, numbers
from pyro_vae.data.table_files import Columns, read_parquet, read_text

if TYPE_CHECKING:
    import pandas

__all__ = [
    "TABLES",
    "NoColumnError",
    "check_column",
    "columns_of_frame",
    "keys_of_table",
    "load_table",
    "rows_of_columns",
    "table",
]

TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")
"""The endings of files that are tables."""

_LABELS = ("label", "labels", "class", "classes", "target")  # names of columns that often hold labels
_NAMED = 10  # columns that are left out, with the reason for each


class NoColumnError(ValueError):
    """A table lacks a column that is asked for.

    Args:
        option: that asks for it, such as "label".
        found: what the table has instead.
    """

    def __init__(self, option: str, found: str) -> None:
        super().__init__(option, found)
        self.option = option
        self.found = found

    def __str__(self) -> str:
        """Return the option and what the table has instead."""
        return f"{self.option}: {self.found}"


def load_table(path: Path, how: Reading) -> DataSet[Rows]:
    """Return the data set of a table in a file: its columns of numbers and booleans as x; NaN where one is missing.

    Args:
        path: of the file, which ends in .csv, .tsv, .csv.gz, .tsv.gz or .parquet.
        how: options; of these, ``split``, ``group``, ``label`` and ``columns`` count, and in text files ``delimiter``.

    Raises:
        DamagedDataError: if the file cannot be read.
        BadDataError: if it holds no table, or values that no VAE can take.
        ValueError: for a label, a group or a column that the table does not have.
        ImportError: if pyarrow is not installed.
    """
    options = ("split", "group", "label", "columns")
    if path.suffix.lower() == ".parquet":
        how.check_used(f"{path} is a Parquet file", *options)
        columns, notes = read_parquet(path)
    else:
        how.check_used(f"{path} is a table", *options, "delimiter")
        columns, notes = read_text(path, how.delimiter)
    return data_set_of_columns(str(path), columns, how, notes)


def table(
    df: pandas.DataFrame, label: str | None = None, group: str | None = None, split: str | Sequence[float] | None = None
) -> DataSet[Rows]:
    """Return the data set of a pandas DataFrame: its columns of numbers and booleans as x; NaN where one is missing.

    Other columns are left out, and ``notes`` says which, and why. A hash of the numbers of a row says in which split it
    is. So a row stays there if others are added.

    Args:
        df: the table, one row per example. Its index does not count.
        label: name of the column that holds the labels, numbers or text.
        group: name of a column; rows with the same value stay in one split.
        split: shares of training, validation and test data, by default ``(0.8, 0.1, 0.1)``.

    Raises:
        TypeError: if ``df`` is no DataFrame.
        ValueError: for a label or group that is no column, and for data that cannot be used.
        ImportError: if pyarrow is not installed.

    Example:
        >>> import pandas as pd
        >>> from pyro_vae import data
        >>> people = pd.DataFrame({"height": range(150, 190), "smokes": [True, False] * 20, "name": ["Bo", "Al"] * 20})
        >>> found = data.table(people, label="smokes")
        >>> found.train.columns, found.classes, found.notes
        (('height',), 2, ("1 of 2 columns is left out: 'name' is text, such as 'Bo'",))
    """
    found = data_set_of_columns("the table", columns_of_frame(df), Reading(split=split, group=group, label=label), [])
    return found.map(lambda part: replace(part, name=None))


def columns_of_frame(df: pandas.DataFrame | pandas.Series) -> Columns:
    """Return the columns of a pandas DataFrame, or a Series as one column, as Arrow has them.

    Raises:
        TypeError: if it is neither.
        BadDataError: if it has no rows, or two columns of one name.
    """
    if not hasattr(df, "iloc"):
        hint = ". Give its to_pandas()" if hasattr(df, "to_pandas") else ""
        raise TypeError(f"df must be a pandas DataFrame; got {type(df).__name__}{hint}")
    if not len(df):
        raise BadDataError("the table has no rows")
    df = df if hasattr(df, "columns") else df.to_frame()
    names = [str(name) for name in df.columns]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise BadDataError(f"the table has two columns of one name: {', '.join(map(repr, twice))}. Rename one of them")
    return {name: _of_series(series) for name, (_, series) in zip(names, df.items(), strict=True)}


def _of_series(series: pandas.Series) -> ArrowColumn:
    """Return a column of pandas' as Arrow has it; one with objects of several kinds as text."""
    arrow = import_optional("pyarrow", "tables")
    try:
        return arrow.array(np.asarray(series) if hasattr(series, "sparse") else series, from_pandas=True)
    except (arrow.ArrowException, OverflowError, TypeError, ValueError):
        return arrow.array([None if value is None or value != value else str(value) for value in series])  # NaN != NaN


def data_set_of_columns(name: str, columns: Columns, how: Reading, notes: Sequence[str]) -> DataSet[Rows]:
    """Return the data set of columns of Arrow's; see :func:`load_table`."""
    rows, keys, left_out = rows_of_columns(name, columns, how)
    return split_by_keys(rows, keys, how.shares, [*notes, *left_out], how.group)


def rows_of_columns(name: str, columns: Columns, how: Reading) -> tuple[Rows, list[bytes], list[str]]:
    """Return the rows of a table, the key of each, which says in which split it is, and notes, in sentences.

    Args:
        name: of the table, for errors.
        columns: Arrow arrays by name.
        how: options; of these, ``group``, ``label`` and ``columns`` count.
    """
    for option in ("label", "group"):
        check_column(name, option, getattr(how, option), columns)
    if how.label is not None and how.label == how.group:
        raise ValueError(
            f"label and group must be two columns; got {how.label!r} for both: no class would be in two splits"
        )
    rest = {column: values for column, values in columns.items() if column not in (how.label, how.group)}
    x, left_out = _all_numbers(name, rest) if how.columns is None else _chosen(name, columns, how)
    if how.label is None and how.columns is None:
        left_out += notes_on_labels({column: of.dtype.kind in "iu" for column, of in x.items()})
    values = _side_by_side(list(x.values()))
    if empty := int(np.isnan(values).all(1).sum()):
        left_out.append(f"{empty:,} of {len(values):,} rows have no value in any column of x")
    rows = Rows(torch.from_numpy(values), columns=tuple(x), name=name)
    if how.label is not None:
        labels, classes, class_names = label_codes(f"{name}: label {how.label!r}", columns[how.label])
        rows = replace(rows, labels=labels, classes=classes, class_names=class_names)
    if how.group is None:
        known = _known_by(name, rest, x)
        return rows, list(keys_of_table(tuple(known), _side_by_side(list(known.values())))), left_out
    return rows, list(group_keys(f"{name}: group {how.group!r}", columns[how.group])), left_out


def _known_by(name: str, columns: Columns, x: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the columns of numbers that say which row is which, also those that are no part of x.

    More rows may give a column values that it lacks now, or a second value, so that it becomes a part of x. Each row
    stays in its split then.
    """
    known = dict(x)
    for column, values in columns.items():
        if column in x or _is_index(column, values):
            continue
        try:
            known[column] = numbers(f"{name}: column {column!r}", values)
        except BadDataError:  # other than numbers
            if values.null_count == len(values):
                known[column] = np.full(len(values), np.nan)
    return known


def notes_on_labels(x: Mapping[str, bool]) -> list[str]:
    """Return a note on each column of x that may hold labels, by its name.

    Args:
        x: names of columns, and whether they hold whole numbers.
    """
    named = [column for column, whole in x.items() if whole and column.lower() in _LABELS]
    return [f"{column!r} is a column of x like the others. If it holds labels: label={column!r}" for column in named]


def keys_of_table(names: Sequence[str], values: NDArray[Any]) -> Iterable[bytes]:
    """Return the bytes of each row, with the columns by name and the numbers in the 24 bits of float32.

    So the same table has the same splits however it is read. The order of the columns does not count, nor the last
    bits: pandas before 3 reads some decimals otherwise, and a file may be in single precision.

    Args:
        names: of the columns.
        values: numbers ``(n, columns)``.
    """
    bits, exponents = np.frexp(values[:, np.argsort(list(names))].astype(np.float64))
    with np.errstate(over="ignore"):
        return keys_of_rows(np.ldexp(bits.astype(np.float32).astype(np.float64), exponents))


def _all_numbers(name: str, columns: Columns) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Return all columns of numbers that tell something, and notes on the others."""
    x: dict[str, NDArray[Any]] = {}
    left_out: dict[str, str] = {}
    for column, values in columns.items():
        try:
            found = numbers(f"{name}: column {column!r}", values)
        except NotNumbersError as error:
            left_out[column] = str(error)
            continue
        if _is_index(column, values):
            left_out[column] = "counts the rows"
        elif (low := np.nanmin(found)) == np.nanmax(found) and low not in (0, 1):
            left_out[column] = f"is always {low:.6g}"
        else:
            x[column] = found
    if not x:
        raise BadDataError(f"{name} has no column of numbers that vary: {_in_words(left_out)}")
    if not left_out:
        return x, []
    count = f"{len(left_out)} of {len(columns)} columns {'is' if len(left_out) == 1 else 'are'} left out"
    return x, [f"{count}: {_in_words(left_out)}"]


def _is_index(column: str, values: Any) -> bool:
    """Return True for a column without a name that counts the rows."""
    return (column == "" or column.startswith("Unnamed: ")) and counts_rows(values)


def _in_words(left_out: Mapping[str, str]) -> str:
    said = [f"{column!r} {why}" for column, why in left_out.items()]
    more = (
        f"; and {len(said) - _NAMED} more: {', '.join(map(repr, list(left_out)[_NAMED:]))}"
        if len(said) > _NAMED
        else ""
    )
    return "; ".join(said[:_NAMED]) + more


def _chosen(name: str, columns: Columns, how: Reading) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Return the columns that are asked for, in that order."""
    names = how.columns_named or []
    x = {}
    for column in names:
        check_column(name, "columns", column, columns)
        if column in (how.label, how.group):
            what = "label" if column == how.label else "group"
            raise ValueError(f"columns must be those of x; {column!r} is the {what}, which is no part of x")
        try:
            x[column] = numbers(f"{name}: column {column!r}", columns[column])
        except NotNumbersError as error:
            raise BadDataError(f"{name}: column {column!r} {error}") from error
    if len(x) < len(names) or not x:
        raise ValueError(f"columns must be names of different columns, such as a,b; got {how.columns!r}")
    return x, []


def check_column(name: str, option: str, column: str | None, columns: Iterable[str]) -> None:
    """Raise a NoColumnError if an option names a column that is not there."""
    if column is None or column in columns:
        return
    there = list(columns)
    lower = {word.lower(): word for word in there}
    close = [lower[word] for word in difflib.get_close_matches(column.lower(), lower, n=3)]
    hint = f"Did you mean {' or '.join(map(repr, close))}? " if close else ""
    shown = ", ".join(map(repr, there[:20])) + (f" and {len(there) - 20} more" if len(there) > 20 else "")
    raise NoColumnError(option, f"{name} has no column {column!r}. {hint}It has {shown}")


def _side_by_side(columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return the columns as one array ``(n, columns)``: whole numbers, if all of them are, else real ones."""
    kinds = {column.dtype for column in columns}
    one = kinds.pop() if len(kinds) == 1 else np.dtype(np.float64)
    values = np.empty((len(columns[0]), len(columns)), one)
    for place, column in enumerate(columns):
        values[:, place] = column
    return values
