"""Tables for a VAE that knows their schema: DataFrames as x, and x as DataFrames."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyro_vae.data import DataSource, Rows
from pyro_vae.data.frames import column_names, has_columns, is_data_frame
from pyro_vae.data.schema import Column, Schema
from pyro_vae.data.table_frames import as_frame
from pyro_vae.data.table_gaps import with_values
from pyro_vae.data.tables import rows_of_frame

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["as_rows", "filled_in", "is_table", "with_index"]


def is_table(x: object) -> bool:
    """Return True for a DataFrame, and for rows of a table."""
    return has_columns(x) or (isinstance(x, Rows) and x.schema is not None)


def as_rows(schema: Schema | None, source: DataSource) -> Any:
    """Return a table as the rows that a schema says; other data, and all without a schema, as they are.

    Raises:
        BadDataError: if it lacks a column, or has a value that the schema does not know.
    """
    if schema is None:
        return source
    if isinstance(source, tuple) and source:
        x = as_rows(schema, source[0])
        return source if x is source[0] else (x.values, *source[1:])
    if has_columns(source):
        return rows_of_frame(source, schema)
    if isinstance(source, Rows) and source.schema is not None and not _coded_alike(source.schema, schema):
        return _recoded(source, source.schema, schema)
    return source


def _recoded(rows: Rows, before: Schema, schema: Schema) -> Rows:
    """Return rows with the numbers of another schema."""
    values = torch.cat(list(rows.stored()))
    if before.names == schema.names:
        starts = [_start(*pair) for pair in zip(before.data, schema.data, strict=True)]
        if None not in starts:
            coded = values - torch.tensor(starts, dtype=values.dtype)
            changed = [i for i, start in enumerate(starts) if start]
            tops = coded.new_tensor([len(schema.data[i].values) - 1 for i in changed])
            if not ((coded[:, changed] < 0) | (coded[:, changed] > tops)).any():
                return replace(rows, values=coded, schema=schema)
    found = rows_of_frame(as_frame(before, values), schema)  # refuses by name what the schema does not know
    return replace(rows, values=found.values, columns=found.columns, schema=schema)


def _start(one: Column, other: Column) -> int | None:
    """Return what is subtracted from numbers to get codes of 1, 2, 3, ..., say; None if more than that changes."""
    if _coding(one) == _coding(other):
        return 0
    if one.is_coded or not other.is_coded or one.origin or not isinstance(other.values[0], int):
        return None
    start = int(other.values[0])
    return start if other.values == tuple(range(start, start + len(other.values))) else None


def filled_in(
    schema: Schema, x: pd.DataFrame | Rows, filled: Tensor, words: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return a table with its missing values replaced; a DataFrame keeps what it has, and its other columns.

    In a column that is constant, its value replaces them. Whole numbers that pandas holds as real ones because of gaps
    become integers.

    Args:
        schema: of the table.
        x: a DataFrame, or rows of a table.
        filled: x without missing values, ``(n, columns)``.
        words: the DataFrame x as text, whose gaps are filled in its place.
    """
    new = as_frame(schema, filled)
    if isinstance(x, Rows):
        return new
    found = (x if words is None else words).copy()
    labels = dict(zip(column_names(x), x.columns, strict=True))
    missing = dict(zip(schema.names, as_rows(schema, x).values.isnan().numpy().T, strict=True))
    for column in schema.columns:
        if column.kind == "constant" and column.values and column.name in labels:
            missing[column.name] = x[labels[column.name]].isna().to_numpy()
        if column.name not in missing:
            continue
        label = labels[column.name]
        real_for_gaps = column.dtype in ("int64", "Int64") and x[label].dtype.kind == "f"
        if real_for_gaps and words is not None:
            found[label] = found[label].str.replace(r"\.0*$", "", regex=True)
        if missing[column.name].any() or real_for_gaps:
            found[label] = with_values(column, found[label], missing[column.name], new[column.name])
    return found


def with_index(frame: pd.DataFrame, x: object) -> pd.DataFrame:
    """Return a table of the VAE with the index of the DataFrame that its rows are of, if x is one."""
    return frame.set_axis(x.index) if is_data_frame(x) else frame


def _coded_alike(one: Schema, other: Schema) -> bool:
    """Return True if x holds the same numbers by two schemas."""
    return [_coding(c) for c in one.data] == [_coding(c) for c in other.data]


def _coding(column: Column) -> tuple[Any, ...]:
    values = column.values if column.is_coded else ()
    # 0 and 1 as codes of 0 and 1 are the numbers themselves.
    return column.name, () if values == tuple(range(len(values))) else values, column.origin
