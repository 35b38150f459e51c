"""What a column of a table holds: its kind, found by looking at its values."""

from __future__ import annotations

import datetime
import re
from dataclasses import replace

import numpy as np

from pyro_vae.data.frames import EXACT
from pyro_vae.data.reading import import_optional
from pyro_vae.data.schema import Column, Kind
from pyro_vae.data.splits import may_be_classes
from pyro_vae.data.table_coding import Numbers, as_dates, codes_of, days_of, time_zone, trimmed, without
from pyro_vae.data.table_columns import (
    NO_VALUE,
    ArrowColumn,
    NotNumbersError,
    check_commas,
    counts_rows,
    is_text,
    matches_number,
    not_numbers,
    numbers,
)

__all__ = ["MARKS", "look_at"]

MARKS = ("?", "-", "--", ".", "*", "missing", "none", "unknown")
"""Text that stands for a missing value if everything else in the column is a number."""

_FAR = 2**13  # standard deviations from 0, beyond which float32 rounds to more than 0.05 % of one
_ROW_NUMBERS = re.compile(
    r"(?i:|id|index|rowid|unnamed: .*|.*[^a-z]id)|.*[a-z](?:Id|ID)"
    "|(?i:(row|case|record|patient|subject|participant|person|customer|user)([ _.-]*(no|nr|number))?)"
)
_DIGITS = 15  # that float64 has; more are no number but a name, such as an account number
_MOST_DECIMALS, _LOOKED_AT = 6, 1000
_FEW = 20  # rows, in which whole numbers often differ by chance


def look_at(where: str, name: str, column: ArrowColumn) -> tuple[Column, Numbers]:
    """Return what a column holds, and its numbers as they stand in x: NaN where one is missing.

    Text of few different values becomes codes, dates become days since the first, other numbers stay.

    Args:
        where: the table and the column, for errors.
        name: of the column.
        column: an Arrow array.

    Raises:
        NotNumbersError: if it holds nothing that a VAE can take; the message says what it holds instead.
        BadDataError: if a number is infinite, or written with commas.
    """
    types = import_optional("pyarrow", "tables").types
    if column.null_count == len(column):
        raise NotNumbersError(NO_VALUE)
    if types.is_dictionary(column.type):
        return _of_dictionary(where, name, column)
    if types.is_boolean(column.type):
        dtype, values = "boolean" if column.null_count else "bool", numbers(where, column)
        low, high = np.nanmin(values), np.nanmax(values)
        if low == high:
            return Column(name, "constant", "out", values=(bool(low),), dtype=dtype), values
        return Column(name, "binary", values=(False, True), dtype=dtype), values
    if types.is_timestamp(column.type) or types.is_date(column.type):
        return _of_dates(name, column)
    if is_text(column.type):
        return _of_text(where, name, column)
    return _of_numbers(name, column, numbers(where, column))


def _of_numbers(
    name: str, column: ArrowColumn, values: Numbers, missing: tuple[str, ...] = ()
) -> tuple[Column, Numbers]:
    """Return what numbers are: numbers of rows, one number, two numbers, numbers far from 0, or any others."""
    there = values[~np.isnan(values)]
    low, high = there.min(), there.max()
    whole = bool((there == np.round(there)).all())
    dtype = _dtype(column, there, whole)
    if _numbers_rows(name, column, there, whole):
        return Column(name, "identifier", "out", dtype=dtype), values
    ends = tuple(int(end) if whole else float(end) for end in (low, high))
    if low == high and low not in (0, 1):
        return Column(name, "constant", "out", values=ends[:1], missing=missing, dtype=dtype), values
    if ends != (0, 1) and _are_two(there, low, high):
        found = Column(name, "binary", values=ends, missing=missing, dtype=dtype, whole=whole)
        return found, (values - low) / (high - low)
    decimals = None if whole or len(there) <= _FEW else _decimals(there)
    found = Column(name, "number", missing=missing, dtype=dtype, whole=whole, decimals=decimals)
    with np.errstate(over="ignore"):  # the deviation of the largest numbers is infinite
        is_far = np.abs(there).max() > _FAR * there.std() > 0
    if not is_far:
        return found, values
    origin = float(np.floor(low))
    return replace(found, kind="real", origin=origin), values - origin


def _decimals(there: Numbers) -> int | None:
    """Return how many decimals numbers have; None for more than six."""
    some = there[:_LOOKED_AT]
    for count in range(1, _MOST_DECIMALS + 1):
        if (np.round(some, count) == some).all():
            return count if (np.round(there, count) == there).all() else None
    return None


def _dtype(column: ArrowColumn, there: Numbers, whole: bool) -> str:
    """Return the type of a column of numbers in a DataFrame, of which some are there."""
    if import_optional("pyarrow", "tables").types.is_integer(column.type):
        return "Int64" if column.null_count else "int64"
    # pandas holds whole numbers with gaps as real ones.
    has_gaps = len(there) < len(column)
    return "int64" if whole and has_gaps and np.abs(there).max() <= EXACT else "float64"


def _numbers_rows(name: str, column: ArrowColumn, there: Numbers, whole: bool) -> bool:
    """Return True if a column numbers the rows, by its name and its numbers."""
    if not _ROW_NUMBERS.fullmatch(name):
        return False
    return counts_rows(column) or (whole and len(np.unique(there)) == len(there) > _FEW)


def _are_two(there: Numbers, low: float, high: float) -> bool:
    """Return True if there are two numbers, each of them more than once."""
    lows, highs = (there == low).sum(), (there == high).sum()
    return low < high and bool(lows + highs == len(there) and min(lows, highs) > 1)


def _of_dictionary(where: str, name: str, column: ArrowColumn) -> tuple[Column, Numbers]:
    """Return a column of pandas' categories, whose order counts if they have one."""
    arrow = import_optional("pyarrow", "tables")
    column = column.combine_chunks() if isinstance(column, arrow.ChunkedArray) else column
    values = column.dictionary.to_pylist()
    if len(values) < 2 or not all(isinstance(value, (str, bool, int, float)) for value in values):
        return look_at(where, name, column.cast(column.type.value_type))
    kind: Kind = "binary" if len(values) == 2 else "ordered" if column.type.ordered else "category"
    found = Column(name, kind, values=tuple(values), dtype="category")
    return found, codes_of(where, found, column)


def _of_dates(name: str, column: ArrowColumn, missing: tuple[str, ...] = ()) -> tuple[Column, Numbers]:
    days = days_of(column)
    first = np.floor(np.nanmin(days))
    dtype = "date" if (days == np.floor(days))[~np.isnan(days)].all() else "timestamp"
    try:
        start = datetime.datetime(1970, 1, 1) + datetime.timedelta(days=float(first))
    except OverflowError:
        raise NotNumbersError("has dates before the year 1 or after 9999") from None
    origin, days = start.date().isoformat(), days - first
    low, high = np.nanmin(days), np.nanmax(days)
    if low == high:
        only = origin if dtype == "date" else (start + datetime.timedelta(days=low)).isoformat()
        return Column(name, "constant", "out", values=(only,), missing=missing, dtype=dtype), days
    return Column(name, "date", missing=missing, dtype=dtype, origin=origin, zone=time_zone(column)), days


def _of_text(where: str, name: str, column: ArrowColumn) -> tuple[Column, Numbers]:
    """Return what text is: numbers or dates with marks of missing values, one text, or the names of categories."""
    text = trimmed(column)
    texts = text.drop_null().unique()
    different = texts.to_pylist()
    if not different:
        raise NotNumbersError(NO_VALUE)
    marks = tuple(mark for mark in different if mark.lower() in MARKS)
    if marks and len(different) > len(marks) and matches_number([value for value in different if value not in marks]):
        values = without(text, marks).cast("float64")
        return _of_numbers(name, values, numbers(where, values), missing=marks)
    check_commas(where, texts)
    if matches_number(different) and max(map(len, different)) > _DIGITS:
        raise not_numbers(where, column)
    dates = as_dates(without(text, marks) if marks and len(different) > len(marks) else text)
    if dates is not None:
        return _of_dates(name, dates, missing=marks)
    if not may_be_classes(len(different), len(text)):
        raise NotNumbersError(
            f"has {len(different):,} different texts in {len(text):,} rows, such as {different[0][:40]!r}"
        )
    names = tuple(sorted(different))
    if len(names) == 1:
        return Column(name, "constant", "out", values=names, dtype="str"), np.zeros(len(text))
    found = Column(name, "binary" if len(names) == 2 else "category", values=names, dtype="str")
    return found, codes_of(where, found, text)
