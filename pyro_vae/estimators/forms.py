"""X of scikit-learn as a DataFrame for a VAE, and a table of the VAE in the form in which X came."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data

from pyro_vae.data.frames import is_data_frame
from pyro_vae.data.reading import import_optional
from pyro_vae.data.schema import Schema

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Form", "Table", "as_array", "frame_of", "is_nan"]

Table: TypeAlias = "pd.DataFrame | ArrayLike"
"""X of scikit-learn: a DataFrame, or what becomes an array of numbers ``(n, columns)``."""


@dataclass(frozen=True)
class Form:
    """How X came to ``fit``.

    Args:
        labels: of the columns of a DataFrame; of an array, ``x0``, ``x1``, ...
        dtype: of an array; None for a DataFrame.
        with_gaps: the places of the columns that had missing values.
    """

    labels: tuple[Hashable, ...]
    dtype: str | None
    with_gaps: tuple[int, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns in the schema of the VAE."""
        return tuple(map(str, self.labels))

    def of_schema(self, schema: Schema) -> Schema:
        """Return a schema as it is for this form: an array of real numbers has no columns of whole ones."""
        if self.dtype is None or np.dtype(self.dtype).kind != "f":
            return schema
        return schema.with_columns(
            replace(column, whole=False, dtype="float64" if column.whole else column.dtype) for column in schema.columns
        )

    def back(self, frame: pd.DataFrame, index: pd.Index | None = None) -> pd.DataFrame | NDArray[Any]:
        """Return a table of the VAE in this form.

        Args:
            frame: a DataFrame. Columns that it lacks become NaN in an array, and are not there in a DataFrame.
            index: of the DataFrame that is returned.
        """
        if self.dtype is not None:
            return as_array(frame.reindex(columns=list(self.names)), self.dtype)
        there = {name: label for name, label in zip(self.names, self.labels, strict=True) if name in frame}
        found = frame[list(there)].set_axis(list(there.values()), axis=1)
        return found if index is None else found.set_axis(index, axis=0)


def as_array(frame: pd.DataFrame, dtype: str) -> NDArray[Any]:
    """Return a DataFrame of numbers as an array; in float64, if whole numbers of this type cannot hold them."""
    values = frame.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.dtype(dtype).kind == "f":
        return values.astype(dtype)
    found = np.nan_to_num(values).astype(dtype)
    return found if np.array_equal(found, values) else values


def frame_of(
    estimator: BaseEstimator, x: Table, form: Form | None, missing_values: object = np.nan
) -> tuple[pd.DataFrame, Form]:
    """Return X as a DataFrame with the names of the schema, and its form; NaN where a value is missing.

    Args:
        estimator: which gets ``n_features_in_`` and ``feature_names_in_``, or is asked whether X has them.
        x: X.
        form: that of the X to which the estimator was fitted; None while it is fitted.
        missing_values: what stands for a missing value in X, besides NaN.

    Raises:
        ValueError: if X has other columns than the X of ``fit``, no rows, or infinite numbers.
        TypeError: if X is sparse.
    """
    pandas = import_optional("pandas", "tables")
    fitting, least = form is None, 2 if form is None else 1
    if is_data_frame(x):
        validate_data(estimator, x, reset=fitting, skip_check_array=True)
        _check_size(estimator, x.shape, least)
        frame, own = x, Form(tuple(x.columns), None)
    else:
        finite = "allow-nan" if is_nan(missing_values) else True
        values = validate_data(estimator, x, reset=fitting, ensure_all_finite=finite, ensure_min_samples=least)
        if values.dtype in (np.float16, np.longdouble):  # which Arrow lacks
            values = values.astype(np.float64)
        own = Form(tuple(f"x{i}" for i in range(values.shape[1])), values.dtype.name)
        frame = pandas.DataFrame(values)
    frame = frame.set_axis(list((form or own).names), axis=1)
    frame = frame if is_nan(missing_values) else frame.mask(frame == missing_values)
    return frame, replace(own, with_gaps=tuple(np.flatnonzero(frame.isna().any().to_numpy()).tolist()))


def is_nan(missing_values: object) -> bool:
    """Return True if NaN, None or pandas' NA stands for a missing value."""
    return bool(import_optional("pandas", "tables").isna(missing_values))


def _check_size(estimator: BaseEstimator, shape: tuple[int, int], least: int) -> None:
    """Raise a ValueError, as scikit-learn words it, if a DataFrame has too few rows or no column."""
    stand_in = np.broadcast_to(0.0, shape)
    check_array(stand_in, ensure_all_finite=False, ensure_min_samples=least, estimator=estimator, input_name="X")
