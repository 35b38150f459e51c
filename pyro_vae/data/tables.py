"""Tables: the columns of a text file, a Parquet file or a pandas DataFrame, as rows of numbers with a schema."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyro_vae.data.keyed_splits import split_by_keys
from pyro_vae.data.reading import BadDataError, Reading, import_optional
from pyro_vae.data.rows import Rows
from pyro_vae.data.schema import Column, Schema
from pyro_vae.data.splits import DataSet
from pyro_vae.data.table_coding import code
from pyro_vae.data.table_columns import ArrowColumn, NotNumbersError, counts_rows, group_keys, label_codes
from pyro_vae.data.table_context import coded_context, encoded_context
from pyro_vae.data.table_files import Columns, read_parquet, read_text, read_words
from pyro_vae.data.table_keys import keys_of_columns
from pyro_vae.data.table_kinds import look_at

if TYPE_CHECKING:
    import pandas

__all__ = [
    "TABLES",
    "NoColumnError",
    "check_column",
    "columns_of_frame",
    "context_of_frame",
    "frame_of_file",
    "load_table",
    "rows_of_columns",
    "rows_of_frame",
    "table",
    "words_of_file",
]

TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")
"""The endings of files that are tables."""

_LABELS = ("label", "labels", "class", "classes", "target")  # names of columns that often hold labels
_NAMED = 10  # columns that are left out, with the reason for each
_CATEGORIES = ("string", "integer", "floating", "boolean", "date", "datetime64", "empty")  # that Arrow has, of pandas
_ROWS_AT_ONCE = 4096  # which stay in the cache of a processor, while they go from columns into rows


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
    """Return the data set of a table in a file: numbers, codes of categories and days of dates as x; NaN for gaps.

    Args:
        path: of the file, which ends in .csv, .tsv, .csv.gz, .tsv.gz or .parquet.
        how: options; of these, ``split``, ``group``, ``label``, ``columns`` and ``schema`` count, and in text files
            ``delimiter``.

    Raises:
        DamagedDataError: if the file cannot be read.
        BadDataError: if it holds no table, or values that no VAE can take.
        ValueError: for a label, a group or a column that the table does not have.
        ImportError: if pyarrow is not installed.
    """
    options = ("split", "group", "label", "columns", "schema")
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
    """Return the data set of a pandas DataFrame: numbers, codes of categories and days of dates as x; NaN for gaps.

    Columns that tell nothing are left out, and ``notes`` says which, and why. A hash of the values of a row says in
    which split it is. So a row stays there if others are added.

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
        >>> people = pd.DataFrame({"height": range(150, 190), "smokes": [True, False] * 20})
        >>> found = data.table(people.assign(town=["Ulm", "Bonn"] * 20, planet="Earth"), label="smokes")
        >>> found.train.columns, found.train.schema["town"].values, found.classes, found.notes
        (('height', 'town'), ('Bonn', 'Ulm'), 2, ("1 of 3 columns is left out: 'planet' is always Earth",))
    """
    found = data_set_of_columns("the table", columns_of_frame(df), Reading(split=split, group=group, label=label), [])
    return found.map(lambda part: replace(part, name=None))


def frame_of_file(path: str, delimiter: str | None = None) -> pandas.DataFrame:
    """Return all columns of a table in a file as a pandas DataFrame.

    A Parquet file that pandas wrote has the types and the index that it had. Otherwise, whole numbers and booleans are
    of pandas' own types if some are missing.

    Args:
        path: of the file.
        delimiter: of a text file.
    """
    arrow, frames = import_optional("pyarrow", "tables"), import_optional("pandas", "tables")
    if path.lower().endswith(".parquet"):
        columns, _ = read_parquet(Path(path))
        with suppress(ValueError, TypeError, KeyError):  # what pandas wrote of the types is damaged
            whole = import_optional("pyarrow.parquet", "tables").read_table(path)
            if whole.schema.pandas_metadata:
                written: pandas.DataFrame = whole.to_pandas()
                return written
    else:
        columns, _ = read_text(Path(path), delimiter)
    with_gaps = {arrow.int64(): frames.Int64Dtype(), arrow.bool_(): frames.BooleanDtype()}
    found: pandas.DataFrame = arrow.table(columns).to_pandas(types_mapper=with_gaps.get)
    plain = {"Int64": "int64", "boolean": "bool"}
    types = {name: plain.get(str(of.dtype)) for name, of in found.items() if not of.hasnans}
    return found.astype({name: dtype for name, dtype in types.items() if dtype is not None})


def words_of_file(path: str, delimiter: str | None = None) -> pandas.DataFrame:
    """Return all columns of a text file as pandas' text, as they are written there; NA where a value is missing."""
    frames, columns = import_optional("pandas", "tables"), read_words(Path(path), delimiter)
    return frames.DataFrame({name: of.to_pandas().astype("string") for name, of in columns.items()})


def rows_of_frame(df: pandas.DataFrame | pandas.Series, schema: Schema | None = None, context: bool = True) -> Rows:
    """Return the rows of a pandas DataFrame, as a schema says or, without one, as they look.

    Args:
        df: the table.
        schema: of it.
        context: False to leave its context columns out, which need not be there.

    Raises:
        BadDataError: if it lacks a column of the schema, or has a value that the schema does not know.
    """
    rows, _, _ = rows_of_columns("the table", columns_of_frame(df), Reading(schema=schema), context)
    return replace(rows, name=None)


def context_of_frame(df: pandas.DataFrame, schema: Schema) -> torch.Tensor:
    """Return the features of the context columns of a schema in a DataFrame, float64 ``(n, features)``.

    Raises:
        NoColumnError: if it lacks one.
        BadDataError: if a value is missing, or the schema does not know it.
    """
    return encoded_context(schema, given_of_columns("the context", columns_of_frame(df), schema))


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
        if hasattr(series, "cat") and series.cat.categories.inferred_type not in _CATEGORIES:
            series = series.cat.rename_categories(str)  # such as the intervals of pandas.cut
        return arrow.array(np.asarray(series) if hasattr(series, "sparse") else series, from_pandas=True)
    except (arrow.ArrowException, OverflowError, TypeError, ValueError):
        return arrow.array([None if value is None or value != value else str(value) for value in series])  # NaN != NaN


def data_set_of_columns(name: str, columns: Columns, how: Reading, notes: Sequence[str]) -> DataSet[Rows]:
    """Return the data set of columns of Arrow's; see :func:`load_table`."""
    how, of_label = _with_label(how, columns)
    rows, keys, left_out = rows_of_columns(name, columns, how)
    return split_by_keys(rows, keys, how.shares, [*notes, *of_label, *left_out], how.group)


def rows_of_columns(
    name: str, columns: Columns, how: Reading, context: bool = True
) -> tuple[Rows, list[bytes], list[str]]:
    """Return the rows of a table, the key of each, which says in which split it is, and notes, in sentences.

    Args:
        name: of the table, for errors.
        columns: Arrow arrays by name.
        how: options; of these, ``group``, ``label``, ``columns`` and ``schema`` count.
        context: False to leave the context of the schema out.
    """
    for option in ("label", "group"):
        check_column(name, option, getattr(how, option), columns)
    if how.label is not None and how.label == how.group:
        raise ValueError(
            f"label and group must be two columns; got {how.label!r} for both: no class would be in two splits"
        )
    rest = {column: values for column, values in columns.items() if column not in (how.label, how.group)}
    schema, x, left_out = _looked_at(name, rest, how) if how.schema is None else _as_known(name, rest, how.schema)
    if how.label is None and how.columns is None:
        left_out += notes_on_labels({column: schema[column].whole for column in x})
    values = _side_by_side(list(x.values()))
    if empty := int(np.isnan(values).all(1).sum()):
        left_out.append(f"{empty:,} of {len(values):,} rows have no value in any column of x")
    rows = Rows(torch.from_numpy(values), columns=tuple(x), name=name, schema=schema)
    if schema.context and context:
        rows = replace(rows, given=given_of_columns(name, rest, schema))
    if how.label is not None:
        labels, classes, class_names = label_codes(f"{name}: label {how.label!r}", columns[how.label])
        rows = replace(rows, labels=labels, classes=classes, class_names=class_names)
    if how.group is None:
        known = rest if how.schema is None else {c.name: rest[c.name] for c in how.schema.columns if c.name in rest}
        named = {column: of for column, of in known.items() if not _is_index(column, of)}
        return rows, list(keys_of_columns(named)), left_out
    return rows, list(group_keys(f"{name}: group {how.group!r}", columns[how.group])), left_out


def _with_label(how: Reading, columns: Columns) -> tuple[Reading, list[str]]:
    """Return options whose label is that of the schema, if it has one, and a note if the table lacks it.

    Raises:
        ValueError: if another label is asked for.
    """
    of_schema = None if how.schema is None else how.schema.label
    if of_schema is None or how.label == of_schema:
        return how, []
    if how.label is not None:
        raise ValueError(f"label is {how.label!r}, and the schema gives the role label to {of_schema!r}. Leave one out")
    if of_schema not in columns:
        return how, [f"there are no labels: column {of_schema!r} of the schema is not there"]
    return replace(how, label=of_schema), []


def given_of_columns(name: str, columns: Columns, schema: Schema) -> torch.Tensor:
    """Return the numbers and codes of the context columns of a schema, which must be there."""
    for column in schema.context:
        check_column(name, "schema", column.name, columns)
    return coded_context(name, columns, schema)


def notes_on_labels(x: Mapping[str, bool]) -> list[str]:
    """Return a note on each column of x that may hold labels, by its name.

    Args:
        x: names of columns, and whether they hold whole numbers.
    """
    named = [column for column, whole in x.items() if whole and column.lower() in _LABELS]
    return [f"{column!r} is a column of x like the others. If it holds labels: label={column!r}" for column in named]


def _looked_at(name: str, columns: Columns, how: Reading) -> tuple[Schema, dict[str, NDArray[Any]], list[str]]:
    """Return what each column holds, the numbers of x, and notes on the columns that are left out."""
    if how.columns is not None:
        columns = _chosen(name, columns, how)
    found: list[Column] = []
    x: dict[str, NDArray[Any]] = {}
    left_out: dict[str, str] = {}
    for column, values in columns.items():
        where = f"{name}: column {column!r}"
        try:
            known, numbers = look_at(where, column, values)
        except NotNumbersError as error:
            if how.columns is not None:
                raise BadDataError(f"{where} {error}") from error
            left_out[column] = str(error)
            known = Column(column, "identifier", "out", dtype="str")
        else:
            if how.columns is not None and known.kind in ("constant", "identifier"):
                known = replace(known, kind="number", role="data", values=())
            if known.role == "data":
                x[column] = numbers
            else:
                left_out[column] = _why_out(known, values)
        found.append(known)
    if not x:
        raise BadDataError(f"{name} has no column that tells something: {_in_words(left_out)}")
    notes = _notes_on_marks(found)
    if left_out:
        count = f"{len(left_out)} of {len(columns)} columns {'is' if len(left_out) == 1 else 'are'} left out"
        notes.append(f"{count}: {_in_words(left_out)}")
    return Schema(tuple(found)), x, notes


def _why_out(column: Column, values: ArrowColumn) -> str:
    """Return why a column is left out."""
    if column.kind == "constant":
        return f"is always {column.values[0]}"
    return "counts the rows" if counts_rows(values) else "numbers the rows"


def _notes_on_marks(columns: Sequence[Column]) -> list[str]:
    marked = [column for column in columns if column.missing]
    return [f"{', '.join(map(repr, column.missing))} in {column.name!r} is missing" for column in marked]


def _as_known(name: str, columns: Columns, schema: Schema) -> tuple[Schema, dict[str, NDArray[Any]], list[str]]:
    """Return the numbers of x as a schema says, and notes on the columns that it does not have."""
    for column in schema.data:
        check_column(name, "schema", column.name, columns)
    x = {column.name: code(f"{name}: column {column.name!r}", column, columns[column.name]) for column in schema.data}
    known = [column.name for column in schema.columns]
    strange = [repr(column) for column in columns if column not in known]
    return schema, x, [f"{', '.join(strange[:_NAMED])} is left out: not in the schema"] if strange else []


def _is_index(column: str, values: ArrowColumn) -> bool:
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


def _chosen(name: str, columns: Columns, how: Reading) -> Columns:
    """Return the columns that are asked for, in that order."""
    names = how.columns_named or []
    for column in names:
        if column in (how.label, how.group):
            what = "label" if column == how.label else "group"
            raise ValueError(f"columns must be those of x; {column!r} is the {what}, which is no part of x")
        check_column(name, "columns", column, columns)
    if len(set(names)) < len(names) or not names:
        raise ValueError(f"columns must be names of different columns, such as a,b; got {how.columns!r}")
    return {column: columns[column] for column in names}


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
    for start in range(0, len(values), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        for place, column in enumerate(columns):
            values[rows, place] = column[rows]
    return values
