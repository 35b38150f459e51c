"""The key of each row of a table, which says in which split it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_vae.data.reading import BadDataError, import_optional
from pyro_vae.data.schema import Column, Schema
from pyro_vae.data.splitting import keys_of_rows
from pyro_vae.data.table_coding import as_dates, days_of
from pyro_vae.data.table_columns import ArrowColumn, is_text, matches_number, numbers

__all__ = ["as_written", "keys_of_columns", "keys_of_table"]

_ROWS_AT_ONCE = 4096  # which stay in the cache of a processor
_FIRST_OF_1970 = 719_163  # days since the year 1
_DROPPED_BITS = 53 - 24  # of the digits of float64


def keys_of_columns(columns: Mapping[str, ArrowColumn]) -> Iterable[bytes]:
    """Return the bytes of each row of a table, by all its columns, also those that are no part of x.

    More rows may give a column values that it lacks now, or a second value, so that it becomes a part of x. Each row
    stays in its split then.
    """
    found = {name: _written(name, column) for name, column in columns.items()}
    known = {name: of for name, of in found.items() if of is not None}
    for start in range(0, max(map(len, known.values())), _ROWS_AT_ONCE):
        some = [of[start : start + _ROWS_AT_ONCE].astype(np.float64) for of in known.values()]
        yield from keys_of_table(tuple(known), np.stack(some, 1))


def _written(name: str, column: ArrowColumn) -> NDArray[Any] | None:
    """Return a column as numbers that do not depend on other rows; None for values of another kind."""
    types = import_optional("pyarrow", "tables").types
    if column.null_count == len(column):
        return np.full(len(column), np.nan)
    if types.is_timestamp(column.type) or types.is_date(column.type):
        return days_of(column) + _FIRST_OF_1970
    text = column.type.value_type if types.is_dictionary(column.type) else column.type
    if is_text(text):
        dates = None if types.is_dictionary(column.type) else as_dates(column)
        return _of_text(column) if dates is None else days_of(dates) + _FIRST_OF_1970
    try:
        return numbers(name, column.cast(text) if types.is_dictionary(column.type) else column)
    except BadDataError:  # other than numbers
        return None


def _of_text(column: ArrowColumn) -> NDArray[np.float64]:
    arrow = import_optional("pyarrow", "tables")
    coded = column if arrow.types.is_dictionary(column.type) else column.dictionary_encode()
    coded = coded.combine_chunks() if isinstance(coded, arrow.ChunkedArray) else coded
    texts = [None if text is None else text.strip() for text in coded.dictionary.to_pylist()]
    of = np.array([np.nan if not text else _number_of(text) for text in texts] or [np.nan])
    found: NDArray[np.float64] = of[coded.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)]
    found[column.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return found


def keys_of_table(names: Sequence[str], values: NDArray[Any]) -> Iterable[bytes]:
    """Return the bytes of each row, with the columns by name and the numbers in the 24 bits of float32.

    So the same table has the same splits however it is read. The order of the columns does not count, nor the last
    bits: pandas before 3 reads some decimals otherwise, and a file may be in single precision.

    Args:
        names: of the columns.
        values: numbers ``(n, columns)``.
    """
    order = np.argsort(list(names))
    for start in range(0, len(values), _ROWS_AT_ONCE):
        yield from keys_of_rows(_rounded(values[start : start + _ROWS_AT_ONCE, order].astype(np.float64)))


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round numbers to 24 bits in place, to the even one of two that are as near, and return them."""
    values[np.isnan(values)] = np.nan  # the bits of another NaN might overflow
    bits = values.view(np.int64)
    bits += (bits >> _DROPPED_BITS & 1) + (2 ** (_DROPPED_BITS - 1) - 1)
    bits &= -(2**_DROPPED_BITS)
    return values


def as_written(schema: Schema, values: NDArray[Any]) -> NDArray[Any]:
    """Return numbers that stay the same when other rows are added to a table: not codes, nor days since the first.

    Args:
        schema: of the table.
        values: x, ``(n, columns)``.
    """
    return np.stack([_as_written(column, values[:, place]) for place, column in enumerate(schema.data)], 1)


def _as_written(column: Column, values: NDArray[Any]) -> NDArray[Any]:
    if column.is_coded:
        known = ~np.isnan(values)
        of = np.array([_number_of(value) for value in column.values])
        found = np.full(len(values), np.nan)
        found[known] = of[values[known].astype(np.int64)]
        return found
    if column.kind == "date":
        return values + column.start.toordinal()
    return values + float(column.origin)


def _number_of(value: Any) -> float:
    """Return a number itself, and a number for a text."""
    if isinstance(value, str) and not matches_number([value]):
        return float(int.from_bytes(hashlib.blake2b(value.encode(), digest_size=3).digest(), "big"))
    return float(value)
