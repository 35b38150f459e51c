"""The gaps of a pandas Series filled with values of a VAE, in the type and in the words of the Series."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyro_vae.data.reading import import_optional
from pyro_vae.data.schema import Column, text_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["with_values"]


def with_values(column: Column, old: pd.Series, gaps: NDArray[np.bool_], new: pd.Series) -> pd.Series:
    """Return a Series with other values in its gaps; what is there stays as it is.

    Args:
        column: of the schema.
        old: the Series.
        gaps: True where a value is replaced, ``(n,)``.
        new: values for all rows, as :func:`pyro_vae.data.table_frames.as_frame` gives them.
    """
    types, values = import_optional("pandas", "tables").api.types, new.set_axis(old.index)
    if hasattr(old, "cat"):
        return _of_categories(old, gaps, values)
    if old.dtype == values.dtype:
        return old.where(~gaps, values)
    if types.is_float_dtype(old.dtype) and types.is_integer_dtype(values.dtype):
        return _whole(old.astype("float64").where(~gaps, values.astype("float64")), old.dtype)
    if isinstance(old.dtype, import_optional("pandas", "tables").DatetimeTZDtype):
        values = values.dt.tz_localize("UTC") if values.dt.tz is None else values
        return old.where(~gaps, values.astype(old.dtype))
    if column.is_coded and types.is_object_dtype(values.dtype):
        values = _named(values, old[~gaps].dropna().unique())
    is_text = types.is_object_dtype(old.dtype) or types.is_string_dtype(old.dtype)
    words = _in_words_of(column, old[~gaps].dropna(), values) if is_text else values
    kept = old.astype(object).where(~gaps, words.astype(object))
    if is_text and (words is not values or not types.is_object_dtype(old.dtype)):
        return kept.astype(old.dtype)
    dtype = values.dtype if is_text else old.dtype
    if types.is_integer_dtype(dtype) and types.is_float_dtype(values.dtype) and (values[gaps] % 1 != 0).any():
        return kept.infer_objects()  # the schema says that its numbers are not whole
    try:
        return kept.astype(dtype)
    except (TypeError, ValueError, OverflowError):
        has_text = any(isinstance(value, str) for value in kept)  # "other" beside numbers, which no file takes
        return kept.map(text_of) if has_text else kept


def _whole(numbers: pd.Series, dtype: object) -> pd.Series:
    """Return numbers as integers, which may have gaps, or in their own type if one is not whole."""
    if not ((numbers == numbers.round()) | numbers.isna()).all():
        return numbers.astype(dtype)
    return numbers.astype("Int64" if numbers.isna().any() else "int64")


def _of_categories(old: pd.Series, gaps: NDArray[np.bool_], values: pd.Series) -> pd.Series:
    """Return a Series of categories, which gets those that it lacks."""
    words = _named(values.astype(object), old.cat.categories)
    lacking = [word for word in dict.fromkeys(words[gaps]) if word not in old.cat.categories]
    return old.cat.add_categories(lacking).where(~gaps, words)


def _in_words_of(column: Column, known: pd.Series, values: pd.Series) -> pd.Series:
    """Return values as those of a Series of Python objects are; the same object if nothing is to be done."""
    first = known.iloc[0] if len(known) else None
    if column.is_coded and isinstance(first, str):
        return _named(values.astype(object), known.unique())
    if column.kind == "date" and isinstance(first, str):
        return values.map(lambda value: _as_text(value, first))
    if column.kind == "date" and type(first) is datetime.date:
        return values.dt.date
    if isinstance(first, Decimal):
        return values.map(lambda value: Decimal(str(value)))
    return values


def _named(values: pd.Series, names: Iterable[object]) -> pd.Series:
    """Return values by the names that a Series has for them, such as 1.0 for "1"."""
    by_text = {text_of(name): name for name in names}
    return values.map(lambda value: by_text.get(text_of(value), value))


def _as_text(date: datetime.datetime, like: str) -> str:
    """Return a date as text in ISO 8601, to the minute or the second if another one is so."""
    if len(like) <= len("2020-01-31"):
        return date.date().isoformat()
    short = len(like) <= len("2020-01-31 12:00")
    return date.isoformat(sep=like[10], timespec="minutes" if short else "seconds")
