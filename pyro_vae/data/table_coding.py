"""The columns of a table as numbers, as its schema says."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_vae.data.reading import BadDataError, import_optional
from pyro_vae.data.schema import Column, text_of
from pyro_vae.data.table_columns import (
    ArrowColumn,
    NotNumbersError,
    is_text,
    matches_number,
    numbers,
)

__all__ = ["Numbers", "as_dates", "code", "codes_of", "days_of", "time_zone", "trimmed", "without"]

_DAY = 86_400_000_000  # microseconds
_FIRST_TEXTS = 1000  # that are tried as dates before the whole column is
_YES_OR_NO = frozenset(("yes", "no", "on", "off"))  # what YAML takes for true and false

Numbers = NDArray[Any]
"""A column as it stands in x: NaN where a value is missing."""


def days_of(column: ArrowColumn) -> NDArray[np.float64]:
    """Return dates as days since 1970, in UTC if they have a time zone; NaN where one is missing."""
    arrow = import_optional("pyarrow", "tables")
    whole = column.cast(arrow.timestamp("us", tz=time_zone(column) or None), safe=False).cast("int64")
    micros = np.asarray(whole.fill_null(0).to_numpy(zero_copy_only=False), np.int64)
    days = micros // _DAY + micros % _DAY / _DAY  # as float64, microseconds after the year 2255 would be rounded
    days[np.asarray(whole.is_null().to_numpy(zero_copy_only=False))] = np.nan
    return days


def time_zone(column: ArrowColumn) -> str:
    """Return the time zone of dates; empty if they have none."""
    return getattr(column.type, "tz", None) or ""


def trimmed(column: ArrowColumn) -> Any:
    """Return text without spaces around it; what is empty is missing."""
    compute = import_optional("pyarrow.compute", "tables")
    text = compute.utf8_trim_whitespace(column)
    return compute.if_else(compute.equal(text, ""), None, text)


def without(text: Any, marks: tuple[Any, ...]) -> Any:
    """Return text with null in the place of marks of missing values."""
    arrow, compute = import_optional("pyarrow", "tables"), import_optional("pyarrow.compute", "tables")
    marked = compute.is_in(text, value_set=arrow.array([str(mark) for mark in marks], text.type))
    return compute.if_else(marked, None, text)


def as_dates(text: ArrowColumn) -> Any:
    """Return text as dates if all of it is dates in ISO 8601, else None."""
    arrow = import_optional("pyarrow", "tables")
    try:
        text[:_FIRST_TEXTS].cast(arrow.timestamp("us"))  # to go no further than needed
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
        column = without(trimmed(column), known.missing) if known.missing else trimmed(column)
    if known.is_coded:
        return codes_of(where, known, column)
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
    zone = time_zone(dates)
    if bool(zone) != bool(known.zone) and dates.null_count < len(dates):
        raise BadDataError(
            f"{where} has {f'the time zone {zone}' if zone else 'no time zone'}; its schema says "
            f"{f'that of {known.zone}' if known.zone else 'none'}. pandas' dt.tz_localize gives or takes one"
        )
    days, epoch = days_of(dates), datetime.datetime(1970, 1, 1)
    for mark in known.missing:
        with suppress(ValueError, TypeError):
            days[days == (datetime.datetime.fromisoformat(str(mark)) - epoch).total_seconds() / 86_400] = np.nan
    return days - (known.start - epoch).total_seconds() / 86_400


def codes_of(where: str, known: Column, column: ArrowColumn) -> Numbers:
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
    is_null = coded.is_null().to_numpy(zero_copy_only=False)
    strange = [here[i] for i in np.unique(indices[(codes[indices] < 0) & ~is_null]).tolist()]
    if strange and not known.other:
        raise BadDataError(
            f"{where} has {', '.join(map(repr, strange[:10]))}, which its schema does not know; it has "
            f"{', '.join(map(repr, known.values[:20]))}. {_remedy_of_strange(known, strange)}"
        )
    codes[codes < 0] = len(known.values) - 1
    found = codes[indices]
    found[is_null] = np.nan
    return found if np.isnan(found).any() else found.astype(np.int64)


def _remedy_of_strange(known: Column, strange: list[Any]) -> str:
    """Return what to write into a schema that does not know values of its table."""
    said = {str(value).lower() for value in strange}
    if any(isinstance(value, bool) for value in known.values) and said <= _YES_OR_NO:
        return "YAML reads yes and no without quotes as true and false: write values: ['no', 'yes']"
    return "To take others as one value, add 'other' at the end of its values and write other: true"


def _places(known: Column) -> Mapping[Any, int]:
    return {text_of(value): code for code, value in enumerate(known.values)}
