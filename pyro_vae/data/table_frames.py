"""x of a VAE as a table again: a pandas DataFrame in the units, types and words of the original."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pyro_vae.data.reading import import_optional
from pyro_vae.data.schema import Column, Schema, text_of

__all__ = ["as_frame", "as_values", "context_as_frame", "within_bounds"]

_FURTHEST = 2.0**45  # seconds, a million years


def as_frame(schema: Schema, x: Tensor) -> Any:
    """Return x as a DataFrame: categories by name, integers as integers, dates as dates, constants as they were.

    Columns that the schema leaves out are not there, but for constants.

    Args:
        schema: of the table.
        x: ``(n, columns)``, the columns with the role data in the order of the schema; NaN where one is missing.

    Raises:
        ValueError: if x has another shape.
        ImportError: if pandas is not installed.
    """
    pandas = import_optional("pandas", "tables")
    if x.dim() != 2 or x.shape[1] != len(schema.data):
        raise ValueError(f"x must be of shape (n, {len(schema.data)}), one column per column; got {tuple(x.shape)}")
    numbers = x.detach().cpu().double().numpy()
    of_data = {column.name: numbers[:, i] for i, column in enumerate(schema.data)}
    series: Mapping[str, Any] = {
        column.name: as_values(column, of_data.get(column.name, np.zeros(len(numbers))))
        for column in schema.columns
        if column.name in of_data or column.kind == "constant"
    }
    return pandas.DataFrame(series)


def context_as_frame(schema: Schema, given: Tensor) -> Any:
    """Return the context columns of rows as a DataFrame.

    Args:
        schema: of the table.
        given: their numbers, ``(n, columns)``, in the order of the schema.
    """
    numbers = given.double().cpu().numpy().T
    series = {column.name: as_values(column, of) for column, of in zip(schema.context, numbers, strict=True)}
    return import_optional("pandas", "tables").DataFrame(series)


def as_values(column: Column, numbers: NDArray[np.float64]) -> Any:
    """Return the numbers of a column, as they stand in x, as a pandas Series of the column's type.

    Args:
        column: of a schema.
        numbers: ``(n,)``; NaN where one is missing.
    """
    if column.is_coded or (column.kind == "constant" and column.values):
        return _of_values(column, numbers)
    if column.kind == "date":
        return _as_dates(column, numbers)
    numbers = numbers + float(column.origin)
    if column.whole:
        numbers = np.round(numbers)
    elif column.decimals is not None:
        numbers = _rounded(column, numbers)
    return _of_dtype(column.dtype, numbers)


def _rounded(column: Column, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return numbers with the decimals of their column; what is above 0 or below 1 by its kind stays so."""
    step = 10.0 ** -(column.decimals or 0)
    rounded = np.round(numbers, column.decimals or 0)
    if column.kind in ("positive", "proportion"):
        rounded = np.where((rounded == 0) & (numbers > 0), step, rounded)
    if column.kind == "proportion":
        rounded = np.where((rounded == 1) & (numbers < 1), 1 - step, rounded)
    return rounded


def within_bounds(schema: Schema, x: Tensor) -> Tensor:
    """Return x of a VAE with the numbers of each column within its bounds, ``low`` and ``high`` of the schema.

    Args:
        schema: of the table.
        x: ``(..., columns)``.
    """
    if all(column.low is None and column.high is None for column in schema.data):
        return x
    low = [-math.inf if c.low is None else c.low - float(c.origin) for c in schema.data]
    high = [math.inf if c.high is None else c.high - float(c.origin) for c in schema.data]
    return x.clamp(x.new_tensor(low), x.new_tensor(high))


def _of_values(column: Column, codes: NDArray[np.float64]) -> Any:
    pandas = import_optional("pandas", "tables")
    missing = np.isnan(codes)
    places = np.clip(np.round(np.nan_to_num(codes)), 0, len(column.values) - 1).astype(np.int64)
    if column.dtype == "category":
        return pandas.Series(
            pandas.Categorical.from_codes(
                np.where(missing, -1, places), list(column.values), ordered=column.kind == "ordered"
            )
        )
    has_text = any(isinstance(value, str) for value in column.values)  # also "other", beside numbers
    values = np.array([text_of(v) if has_text else v for v in column.values], dtype=object)[places]
    values[missing] = None
    if column.dtype in ("date", "timestamp"):
        return pandas.Series(pandas.to_datetime(values))
    if column.dtype == "str" or has_text:
        return pandas.Series(values)
    if all(isinstance(value, bool) for value in column.values):
        return pandas.Series(values, dtype="boolean" if missing.any() or column.dtype == "boolean" else "bool")
    return _of_dtype(column.dtype, np.where(missing, np.nan, values).astype(np.float64))


def _as_dates(column: Column, days: NDArray[np.float64]) -> Any:
    """Return dates, in nanoseconds as pandas has them, or in seconds if one is before 1677 or after 2262."""
    pandas = import_optional("pandas", "tables")
    seconds = np.round(days) * 86_400 if column.dtype == "date" else np.round(days * 86_400)
    steps = np.where(np.isnan(seconds), 0, np.clip(np.nan_to_num(seconds), -_FURTHEST, _FURTHEST))
    dates = np.datetime64(column.start, "s") + steps.astype(np.int64).astype("timedelta64[s]")
    dates[np.isnan(seconds)] = np.datetime64("NaT")
    found = pandas.Series(dates)
    with suppress(pandas.errors.OutOfBoundsDatetime):
        found = found.astype("datetime64[ns]")
    return found.dt.tz_localize("UTC").dt.tz_convert(column.zone) if column.zone else found


def _of_dtype(dtype: str, numbers: NDArray[np.float64]) -> Any:
    """Return numbers as a Series; integers with a gap as pandas' own, which have one."""
    pandas = import_optional("pandas", "tables")
    if dtype in ("int64", "Int64"):
        missing = np.isnan(numbers).any()
        rounded = pandas.Series(np.round(numbers))
        return rounded.astype("Int64" if missing or dtype == "Int64" else "int64")
    return pandas.Series(numbers)
