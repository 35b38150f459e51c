"""Tables for a VAE that knows their schema: DataFrames as x, and x as DataFrames."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from pyro_vae.data import DataSource, Rows
from pyro_vae.data.frames import column_names, has_columns, is_data_frame
from pyro_vae.data.schema import Column, Schema
from pyro_vae.data.table_frames import as_frame, context_as_frame, within_bounds
from pyro_vae.data.table_gaps import with_values
from pyro_vae.data.tables import context_of_frame, rows_of_frame

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TensorOrTable", "as_context", "as_rows", "as_table", "filled_in", "is_table", "with_index"]


TensorOrTable: TypeAlias = "Tensor | pd.DataFrame"
"""x of a VAE: a DataFrame if the VAE has the schema of a table."""


def is_table(x: object) -> bool:
    """Return True for a DataFrame, and for rows of a table."""
    return has_columns(x) or (isinstance(x, Rows) and x.schema is not None)


def as_rows(schema: Schema | None, source: DataSource, context: bool = True) -> Any:
    """Return a table as the rows that a schema says; other data, and all without a schema, as they are.

    Args:
        schema: of the VAE.
        source: data.
        context: False if the context is given beside the table, which need not have its columns.

    Raises:
        BadDataError: if it lacks a column, or has a value that the schema does not know.
    """
    if schema is None:
        return source
    if isinstance(source, tuple) and source:
        x = as_rows(schema, source[0], context=False)
        return source if x is source[0] else (x.values, *source[1:])
    if has_columns(source):
        return rows_of_frame(source, schema, context)
    if not isinstance(source, Rows) or source.schema is None:
        return source
    if not _coded_alike(source.schema, schema):
        source = _recoded(source, source.schema, schema, context)
    # The context is encoded by the schema of the VAE, which knows means and standard deviations.
    return replace(source, schema=schema, given=source.given if context else None) if schema.context else source


def as_context(schema: Schema | None, context: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the context with DataFrames as the features of the context columns that a schema says.

    Raises:
        NoColumnError: if a DataFrame lacks one.
        BadDataError: if a value is missing, or the schema does not know it.
    """
    if schema is None or not schema.context:
        return context
    return tuple(context_of_frame(c, schema) if is_data_frame(c) else c for c in context)


def _as_frame(rows: Rows) -> pd.DataFrame:
    """Return rows as a DataFrame, with the context."""
    assert rows.schema is not None, "they are those of a table"
    found = as_frame(rows.schema, torch.cat(list(rows.stored())))
    return found if rows.given is None else found.join(context_as_frame(rows.schema, rows.given))


def _recoded(rows: Rows, before: Schema, schema: Schema, context: bool) -> Rows:
    """Return rows with the numbers of another schema."""
    values = torch.cat(list(rows.stored()))
    if before.names == schema.names and not schema.context:
        starts = [_start(*pair) for pair in zip(before.data, schema.data, strict=True)]
        if None not in starts:
            coded = values - torch.tensor(starts, dtype=values.dtype)
            changed = [i for i, start in enumerate(starts) if start]
            tops = coded.new_tensor([len(schema.data[i].values) - 1 for i in changed])
            if not ((coded[:, changed] < 0) | (coded[:, changed] > tops)).any():
                return replace(rows, values=coded, schema=schema)
    found = rows_of_frame(_as_frame(rows), schema, context)  # refuses by name what the schema does not know
    return replace(rows, values=found.values, columns=found.columns, schema=schema, given=found.given)


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
    gaps, filled = as_rows(schema, x, context=False).values.isnan().cpu(), filled.cpu()
    new = as_frame(schema, torch.where(gaps, within_bounds(schema, filled), filled))
    if isinstance(x, Rows):
        return new
    found = (x if words is None else words).copy()
    labels = dict(zip(column_names(x), x.columns, strict=True))
    missing = dict(zip(schema.names, gaps.numpy().T, strict=True))
    for column in schema.columns:
        if column.kind == "constant" and column.values and column.name in labels:
            there = x[labels[column.name]]
            missing[column.name] = (there.isna() | there.astype(str).isin(map(str, column.missing))).to_numpy()
        if column.name not in missing:
            continue
        label = labels[column.name]
        real_for_gaps = column.dtype in ("int64", "Int64") and x[label].dtype.kind == "f"
        if real_for_gaps and words is not None:
            found[label] = found[label].str.replace(r"\.0*$", "", regex=True)
        if missing[column.name].any() or real_for_gaps:
            found[label] = with_values(column, found[label], missing[column.name], new[column.name])
    _warn_of_gaps([name for name, label in labels.items() if found[label].isna().any()])
    return found


def _warn_of_gaps(names: Sequence[str]) -> None:
    if names:
        warnings.warn(
            f"impute leaves missing values in {', '.join(map(repr, names[:10]))}: its schema leaves "
            f"{'this column' if len(names) == 1 else 'these columns'} out",
            stacklevel=4,
        )


def as_table(schema: Schema | None, x: Tensor) -> TensorOrTable:
    """Return x of a VAE as the DataFrame of its schema, within the bounds of the columns; without a schema, x."""
    return x if schema is None else as_frame(schema, within_bounds(schema, x))


def with_index(frame: pd.DataFrame, x: object) -> pd.DataFrame:
    """Return a table of the VAE with the index of the DataFrame that its rows are of, if x is one."""
    return frame.set_axis(x.index) if is_data_frame(x) else frame


def _coded_alike(one: Schema, other: Schema) -> bool:
    """Return True if x and the context hold the same numbers by two schemas."""
    pairs = ((one.data, other.data), (one.context, other.context))
    return all(list(map(_coding, mine)) == list(map(_coding, theirs)) for mine, theirs in pairs)


def _coding(column: Column) -> tuple[Any, ...]:
    values = column.values if column.is_coded else ()
    # 0 and 1 as codes of 0 and 1 are the numbers themselves.
    return column.name, () if values == tuple(range(len(values))) else values, column.origin
