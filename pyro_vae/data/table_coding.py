"""Columns of a table as numbers: what each holds is looked at, or known from a schema."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_vae.data.frames import EXACT
from pyro_vae.data.reading import BadDataError, import_optional
from pyro_vae.data.schema import Column, text_of
from pyro_vae.data.splits import may_be_classes
from pyro_vae.data.table_columns import (
    ArrowColumn,
    NotNumbersError,
    counts_rows,
    is_text,
    matches_number,
    not_numbers,
    numbers,
)

__all__ = ["MARKS", "as_dates", "code", "days_of", "look_at"]

MARKS = ("?", "-", "--", ".", "*", "missing", "unknown")
"""Text that stands for a missing value if everything else in the column is a number."""

_DAY = 86_400_000_000  # microseconds
_FAR = 2**13  # standard deviations from 0, beyond which float32 rounds to more than 0.05 % of one
_ROW_NUMBERS = ("", "id", "index", "rowid", "row_id")
_DIGITS = 15
_YES_OR_NO = frozenset(("yes", "no", "on", "off"))  # what YAML takes for true and false
_FEW = 20  # rows, in which whole numbers often differ by chance

Numbers = NDArray[Any]


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
    if types.is_dictionary(column.type):
        return _of_dictionary(where, name, column)
    if types.is_boolean(column.type) and column.null_count < len(column):
        dtype = "boolean" if column.null_count else "bool"
        found = Column(name, "binary", values=(False, True), dtype=dtype)
        return found, numbers(where, column)
    if types.is_timestamp(column.type) or types.is_date(column.type):
        return _of_dates(where, name, column)
    if is_text(column.type) and column.null_count < len(column):
        return _of_text(where, name, column)
    return _of_numbers(name, column, numbers(where, column))


def _of_numbers(
    name: str, column: ArrowColumn, values: Numbers, missing: tuple[str, ...] = ()
) -> tuple[Column, Numbers]:
    types = import_optional("pyarrow", "tables").types
    integers = types.is_integer(column.type)
    there = values[~np.isnan(values)]
    low, high = there.min(), there.max()
    whole = integers or bool((there == np.round(there)).all())
    if integers:
        dtype = "Int64" if column.null_count else "int64"
    else:  # pandas holds whole numbers with gaps as real ones
        dtype = "int64" if whole and len(there) < len(values) and np.abs(there).max() <= EXACT else "float64"
    if (name.lower() in _ROW_NUMBERS or name.startswith("Unnamed: ")) and (
        counts_rows(column) or (whole and len(np.unique(there)) == len(there) > _FEW)
    ):
        return Column(name, "identifier", "out", dtype=dtype), values
    if low == high and low not in (0, 1):
        return Column(name, "constant", "out", values=(_plain(low, whole),), dtype=dtype), values
    two = (there == low) | (there == high)
    if two.all() and low < high and (low, high) != (0, 1) and min((there == low).sum(), (there == high).sum()) > 1:
        both = (_plain(low, whole), _plain(high, whole))
        return Column(name, "binary", values=both, missing=missing, dtype=dtype, whole=whole), (values - low) / (
            high - low
        )
    if np.abs(there).max() > _FAR * there.std() > 0:
        origin = float(np.floor(low))
        return Column(name, "real", missing=missing, dtype=dtype, whole=whole, origin=origin), values - origin
    return Column(name, "number", missing=missing, dtype=dtype, whole=whole), values


def _plain(value: Any, whole: bool) -> int | float:
    return int(value) if whole else float(value)


def _of_dictionary(where: str, name: str, column: ArrowColumn) -> tuple[Column, Numbers]:
    """Return a column of pandas' categories, whose order counts if they have one."""
    arrow = import_optional("pyarrow", "tables")
    column = column.combine_chunks() if isinstance(column, arrow.ChunkedArray) else column
    values = column.dictionary.to_pylist()
    if not all(isinstance(value, (str, bool, int, float)) for value in values):
        return look_at(where, name, column.cast(column.type.value_type))
    if len(values) < 2:
        return look_at(where, name, column.cast(column.type.value_type)) if values else _of_nothing()
    kind = "ordered" if column.type.ordered and len(values) > 2 else "category" if len(values) > 2 else "binary"
    found = Column(name, kind, values=tuple(values), dtype="category")  # type: ignore[arg-type]
    return found, _codes_of(where, found, column)


def _of_nothing() -> Any:
    raise NotNumbersError("has no value in any row")


def _of_dates(where: str, name: str, column: ArrowColumn) -> tuple[Column, Numbers]:
    days = days_of(column)
    if np.isnan(days).all():
        raise NotNumbersError("has no value in any row")
    first = np.floor(np.nanmin(days))
    dtype = "date" if (days == np.floor(days))[~np.isnan(days)].all() else "timestamp"
    try:
        start = datetime.datetime(1970, 1, 1) + datetime.timedelta(days=float(first))
    except OverflowError:
        raise NotNumbersError("has dates before the year 1 or after 9999") from None
    origin, days = start.date().isoformat(), days - first
    if np.nanmin(days) == np.nanmax(days):
        return Column(name, "constant", "out", values=(origin,), dtype=dtype), days
    return Column(name, "date", dtype=dtype, origin=origin, zone=_zone(column)), days


def days_of(column: ArrowColumn) -> NDArray[np.float64]:
    """Return dates as days since 1970, in UTC if they have a time zone; NaN where one is missing."""
    arrow = import_optional("pyarrow", "tables")
    whole = column.cast(arrow.timestamp("us", tz=_zone(column) or None), safe=False).cast("int64")
    micros = np.asarray(whole.fill_null(0).to_numpy(zero_copy_only=False), np.int64)
    days = micros // _DAY + micros % _DAY / _DAY  # as float64, microseconds after the year 2255 would be rounded
    days[np.asarray(whole.is_null().to_numpy(zero_copy_only=False))] = np.nan
    return days


def _zone(column: ArrowColumn) -> str:
    return getattr(column.type, "tz", None) or ""


def _of_text(where: str, name: str, column: ArrowColumn) -> tuple[Column, Numbers]:
    compute = import_optional("pyarrow.compute", "tables")
    text = _trimmed(column)
    reason = not_numbers(where, column)
    counted = {value["values"]: value["counts"] for value in text.drop_null().value_counts().to_pylist()}
    marks = tuple(mark for mark in counted if mark.lower() in MARKS)
    if marks and len(counted) > len(marks) and matches_number([value for value in counted if value not in marks]):
        return _of_marked_numbers(where, name, text, marks)
    if matches_number(list(counted)) and max(map(len, counted)) > _DIGITS:  # more than a number has
        raise reason
    dates = as_dates(text)
    if dates is not None:
        return _of_dates(where, name, dates)
    if not may_be_classes(len(counted), len(text)):
        raise NotNumbersError(
            f"has {len(counted):,} different texts in {len(text):,} rows, such as {next(iter(counted))[:40]!r}"
        )
    values = tuple(sorted(counted))
    if len(values) == 1:
        return Column(name, "constant", "out", values=values, dtype="str"), np.zeros(len(text))
    found = Column(name, "binary" if len(values) == 2 else "category", values=values, dtype="str")
    return found, _codes_of(where, found, compute.dictionary_encode(text))


def _trimmed(column: ArrowColumn) -> Any:
    """Return text without spaces around it; what is empty is missing."""
    compute = import_optional("pyarrow.compute", "tables")
    text = compute.utf8_trim_whitespace(column)
    return compute.if_else(compute.equal(text, ""), None, text)


def _of_marked_numbers(where: str, name: str, text: Any, marks: tuple[str, ...]) -> tuple[Column, Numbers]:
    known = _without(text, marks)
    values = known.cast("float64")
    return _of_numbers(name, values, numbers(where, values), missing=marks)


def _without(text: Any, marks: tuple[Any, ...]) -> Any:
    """Return text with null in the place of marks of missing values."""
    arrow, compute = import_optional("pyarrow", "tables"), import_optional("pyarrow.compute", "tables")
    marked = compute.is_in(text, value_set=arrow.array([str(mark) for mark in marks], text.type))
    return compute.if_else(marked, None, text)


def as_dates(text: ArrowColumn) -> Any:
    """Return text as dates if all of it is dates in ISO 8601, else None."""
    arrow = import_optional("pyarrow", "tables")
    try:
        return text.cast(arrow.timestamp("us"))
    except arrow.ArrowInvalid:
        return None


def code(where: str, known: Column, column: ArrowColumn) -> Numbers:
    """Return the numbers of a column as they stand in x, as its schema says.

    Args:
        where: the table and the column, for errors.
        known: the column in the schema.
        column: an Arrow array.

    Raises:
        BadDataError: if it holds another kind of values, or one that the schema does not know.
    """
    types = import_optional("pyarrow", "tables").types
    if types.is_dictionary(column.type) and not known.is_coded:
        column = column.cast(column.type.value_type)
    if is_text(column.type):
        column = _without(_trimmed(column), known.missing) if known.missing else _trimmed(column)
    if known.is_coded:
        return _codes_of(where, known, column)
    if known.kind == "date":
        return _days_of(where, known, column)
    if is_text(column.type) and matches_number(column.drop_null().unique().to_pylist()):
        column = column.cast("float64")
    try:
        values = numbers(where, column) if column.null_count < len(column) else np.full(len(column), np.nan)
    except NotNumbersError as error:
        raise BadDataError(f"{where} {error}; its schema says {known.kind}") from error
    values = _without_marks(known, values)
    return values - float(known.origin) if known.origin else values


def _without_marks(known: Column, values: Numbers) -> Numbers:
    """Return numbers with NaN in the place of marks of missing values, which a schema may hold as text."""
    marks = [float(mark) for mark in known.missing if not isinstance(mark, bool) and matches_number([str(mark)])]
    if not marks:
        return values
    marked = np.isin(values, np.array(marks, values.dtype if values.dtype.kind == "f" else np.float64))
    return np.where(marked, np.nan, values.astype(np.float64)) if marked.any() else values


def _days_of(where: str, known: Column, column: ArrowColumn) -> NDArray[np.float64]:
    types = import_optional("pyarrow", "tables").types
    dates = as_dates(column) if is_text(column.type) else column
    if types.is_null(column.type):
        return np.full(len(column), np.nan)
    if dates is None or not types.is_temporal(dates.type):
        raise BadDataError(f"{where} must hold dates, such as 2020-01-31, as its schema says; got {column.type}")
    if bool(_zone(dates)) != bool(known.zone) and dates.null_count < len(dates):
        raise BadDataError(
            f"{where} has {f'the time zone {_zone(dates)}' if _zone(dates) else 'no time zone'}; its schema says "
            f"{f'that of {known.zone}' if known.zone else 'none'}. pandas' dt.tz_localize gives or takes one"
        )
    days, epoch = days_of(dates), datetime.datetime(1970, 1, 1)
    for mark in known.missing:
        with suppress(ValueError, TypeError):
            days[days == (datetime.datetime.fromisoformat(str(mark)) - epoch).total_seconds() / 86_400] = np.nan
    return days - (known.start - epoch).total_seconds() / 86_400


def _codes_of(where: str, known: Column, column: ArrowColumn) -> Numbers:
    """Return the code of each value; NaN where it is missing."""
    arrow = import_optional("pyarrow", "tables")
    types = arrow.types
    if types.is_floating(column.type):
        column = arrow.array(column.to_numpy(zero_copy_only=False), from_pandas=True)  # NaN is missing
    coded = column if types.is_dictionary(column.type) else column.dictionary_encode()
    coded = coded.combine_chunks() if isinstance(coded, arrow.ChunkedArray) else coded
    here = coded.dictionary.to_pylist()
    places = _places(known)
    codes = np.array([places.get(text_of(value), -1) for value in here] or [0], np.float64)
    missing = [text_of(mark) for mark in known.missing]
    codes[[i for i, value in enumerate(here) if text_of(value) in missing or value is None]] = np.nan
    indices = coded.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    strange = [here[i] for i in np.unique(indices[(codes[indices] < 0)]).tolist()]
    if strange and not known.other:
        raise BadDataError(
            f"{where} has {', '.join(map(repr, strange[:10]))}, which its schema does not know; it has "
            f"{', '.join(map(repr, known.values[:20]))}. {_remedy_of_strange(known, strange)}"
        )
    codes[codes < 0] = len(known.values) - 1
    found = codes[indices]
    found[coded.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return found if np.isnan(found).any() else found.astype(np.int64)


def _remedy_of_strange(known: Column, strange: list[Any]) -> str:
    """Return what to write into a schema that does not know values of its table."""
    if any(isinstance(value, bool) for value in known.values) and _YES_OR_NO.issuperset(map(str.lower, map(str, strange))):
        return "YAML reads yes and no without quotes as true and false: write values: ['no', 'yes']"
    return "To take others as one value, add 'other' at the end of its values and write other: true"


def _places(known: Column) -> Mapping[Any, int]:
    return {text_of(value): code for code, value in enumerate(known.values)}
