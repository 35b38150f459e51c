"""Tables of mixed columns as numbers: what the measures of synthetic rows work on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pyro_vae.argument_checks import near_miss
from pyro_vae.data.frames import EXACT, is_data_frame
from pyro_vae.data.reading import import_optional
from pyro_vae.data.splits import may_be_classes

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FEWEST_ROWS", "Column", "Kind", "Table", "keys_of_rows", "read"]

Kind = Literal["number", "date", "boolean", "category"]

FEWEST_ROWS = 10  # two for each of the five parts of a cross-validation
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("integer", "floating", "mixed-integer-float", "decimal"), "number"),
    **dict.fromkeys(("date", "datetime", "datetime64"), "date"),
    "boolean": "boolean",
    "string": "category",
}  # of what pandas infers from objects


@dataclass(frozen=True)
class Column:
    """A column of all tables alike.

    Args:
        name: of the column.
        kind: number, date, boolean or category.
        labels: of a boolean or category, the most frequent of the training rows first.
    """

    name: str
    kind: Kind
    labels: tuple[Any, ...] = ()

    @property
    def has_labels(self) -> bool:
        """True for booleans and categories, False for numbers and dates."""
        return self.kind in ("boolean", "category")


@dataclass(frozen=True)
class Table:
    """The columns of a table as numbers, in the order of their names; its rows are ordered by their values.

    So neither the order of the rows nor that of the columns has a part in anything that is drawn or fitted later.

    Args:
        columns: what each column is.
        values: numbers, days since 1970, or places in ``labels``; NaN where a value is missing. ``(n, columns)``.
    """

    columns: tuple[Column, ...]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]

    def known(self, index: int) -> NDArray[np.float64]:
        """Return the values of a column that are not missing."""
        column = self.values[:, index]
        return column[~np.isnan(column)]

    def is_constant(self, index: int) -> bool:
        """Return True if all known values of a column are the same."""
        known = self.known(index)
        return bool((known == known[0]).all()) if len(known) else True

    def take(self, rows: NDArray[Any]) -> Table:
        """Return some of the rows."""
        return replace(self, values=self.values[rows])

    def some(self, most: int, seed: int) -> Table:
        """Return ``most`` rows, drawn without replacement; the table itself if it has no more."""
        if len(self) <= most:
            return self
        return self.take(np.random.default_rng(seed).choice(len(self), most, replace=False))


def read(frames: Mapping[str, pd.DataFrame]) -> tuple[dict[str, Table], list[str]]:
    """Return frames of the same columns as tables, and notes about columns that are left out.

    Args:
        frames: by the name of the argument, for errors; the training rows come first.

    Raises:
        TypeError: if one is no DataFrame of pandas'.
        ValueError: if one has few rows, other columns or columns of another kind than the first, or a column that
            nothing can be said about: without values, with values of several kinds, or infinite ones.
    """
    named = {name: _with_names(name, frame) for name, frame in frames.items()}
    first, train = next(iter(named.items()))
    for name, frame in named.items():
        _check_columns(first, train, name, frame)
    names = sorted(train.columns)
    kinds = {column: _one_kind(column, named) for column in names}
    left_out = [column for column in names if kinds[column] == "category" and _is_identifier(train[column])]
    if len(left_out) == len(names):
        raise ValueError(f"{first} has identifiers alone ({_listed(names)}), and nothing else to compare")
    notes = [
        f"{column!r} is left out: {train[column].nunique():,} of its {train[column].count():,} values in {first} "
        "are different, as in an identifier. Make it a category to compare it"
        for column in left_out
    ]
    columns = tuple(
        Column(name, kinds[name], _labels(named, name, kinds[name])) for name in names if name not in left_out
    )
    return {name: _table(name, frame, columns) for name, frame in named.items()}, notes


def keys_of_rows(*tables: Table) -> list[list[bytes]]:
    """Return a key for each row of each table: equal for rows that are equal in all columns.

    Reals are equal if they are equal in single precision, which a network computes in.
    """
    keys = []
    first = tables[0]
    whole = [column.kind != "number" or _is_whole(first.known(j)) for j, column in enumerate(first.columns)]
    for table in tables:
        with np.errstate(over="ignore"):
            rounded = table.values.astype(np.float32).astype(np.float64)
        values = np.where(whole, table.values, rounded) + 0.0  # −0 becomes 0
        values[np.isnan(values)] = np.nan  # which has many bit patterns
        keys.append([row.tobytes() for row in values])
    return keys


def _is_whole(values: NDArray[np.float64]) -> bool:
    return bool((values == np.round(values)).all())


def _with_names(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose columns have text for names."""
    if not is_data_frame(frame):
        hint = ". Give its to_pandas()" if hasattr(frame, "to_pandas") else ""
        raise TypeError(f"{name} must be a pandas DataFrame; got {type(frame).__name__}{hint}")
    frame = frame.set_axis([str(column) for column in frame.columns], axis=1)
    twice = sorted(set(frame.columns[frame.columns.duplicated()]))
    if twice:
        raise ValueError(f"{name} has two columns named {twice[0]!r}. Rename one, or leave it out")
    if len(frame) < FEWEST_ROWS:
        raise ValueError(f"{name} must have at least {FEWEST_ROWS} rows; got {len(frame)}")
    return frame


def _check_columns(first: str, train: pd.DataFrame, name: str, frame: pd.DataFrame) -> None:
    lacking, more = (sorted(set(a.columns) - set(b.columns)) for a, b in ((train, frame), (frame, train)))
    if lacking or more:
        said = [f"lacks {_listed(lacking)}"] * bool(lacking) + [f"has {_listed(more)} besides"] * bool(more)
        hint = near_miss(lacking[0], more) if lacking else ""
        if not more:
            hint = f". To compare the others, take {first}[{name}.columns], and likewise of each table"
        raise ValueError(f"{name} must have the columns of {first}; it {' and '.join(said)}{hint}")
    if not len(frame.columns):
        raise ValueError(f"{name} has no columns")
    empty = [column for column in frame.columns if not frame[column].notna().any()]
    if empty:
        raise ValueError(
            f"{name} has no value in {_listed(empty)}, so nothing can be compared. Leave it out of all tables"
        )


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def _one_kind(column: str, frames: Mapping[str, pd.DataFrame]) -> Kind:
    """Return the kind of a column, which must be the same in all frames."""
    kinds = {name: _kind(name, frame[column]) for name, frame in frames.items()}
    (first, kind), *others = kinds.items()
    for name, other in others:
        if other != kind:
            raise ValueError(
                f"{column!r} must be of one kind; it is a {kind} in {first} and a {other} in {name} "
                f"(dtypes {frames[first][column].dtype} and {frames[name][column].dtype}). Convert one with astype"
            )
    zones = {name: _has_zone(frame[column]) for name, frame in frames.items() if kind == "date"}
    if len(set(zones.values())) > 1:
        raise ValueError(f"{column!r} has a time zone in {', '.join(n for n, z in zones.items() if z)} alone")
    return kind


def _kind(name: str, series: pd.Series) -> Kind:
    types = import_optional("pandas", "tables").api.types
    if _is_categorical(series):
        return "category"
    if types.is_bool_dtype(series.dtype):
        return "boolean"
    if types.is_datetime64_any_dtype(series.dtype):
        return "date"
    if types.is_numeric_dtype(series.dtype) and not types.is_complex_dtype(series.dtype):
        return "number"
    found = types.infer_dtype(series.dropna().astype(object))
    if found not in _KINDS:
        value = series.dropna().iloc[0]
        raise ValueError(
            f"{series.name!r} of {name} must hold numbers, booleans, text, categories or dates; got dtype "
            f"{series.dtype} ({found}), such as {value!r}. Convert it with astype, or leave it out of all tables"
        )
    return _KINDS[found]


def _has_zone(series: pd.Series) -> bool:
    known = series.dropna()
    return getattr(known.iloc[0], "tzinfo", None) is not None


def _is_categorical(series: pd.Series) -> bool:
    return isinstance(series.dtype, import_optional("pandas", "tables").CategoricalDtype)


def _is_identifier(series: pd.Series) -> bool:
    """Return True for text that is different in more than half of the rows, such as names."""
    return not _is_categorical(series) and not may_be_classes(series.nunique(), series.count())


def _labels(frames: Mapping[str, pd.DataFrame], column: str, kind: Kind) -> tuple[Any, ...]:
    """Return the values of a column of labels, the most frequent of the first frame first."""
    if kind not in ("boolean", "category"):
        return ()
    counts = Counter(next(iter(frames.values()))[column].dropna().astype(object))
    there = {label for frame in frames.values() for label in frame[column].dropna().astype(object)}
    return tuple(sorted(there, key=lambda label: (-counts[label], type(label).__name__, str(label))))


def _table(name: str, frame: pd.DataFrame, columns: tuple[Column, ...]) -> Table:
    values = np.stack([_values(name, frame[column.name], column) for column in columns], 1)
    return Table(columns, values[np.lexsort(values.T[::-1])])


def _values(name: str, series: pd.Series, column: Column) -> NDArray[np.float64]:
    pandas = import_optional("pandas", "tables")
    if column.has_labels:
        places, known = {label: place for place, label in enumerate(column.labels)}, series.notna().to_numpy()
        codes = np.full(len(series), np.nan)
        codes[known] = [places[label] for label in series[known].astype(object)]
        return codes
    if column.kind == "date":
        if _has_zone(series):
            series = pandas.to_datetime(series, utc=True).dt.tz_localize(None)
        dates = series.astype("datetime64[us]").to_numpy()
        days = dates.astype(np.int64) / (24 * 3600 * 1e6)
        return np.where(np.isnat(dates), np.nan, days)
    values = np.asarray(pandas.to_numeric(series).to_numpy(dtype=np.float64, na_value=np.nan))
    if np.isinf(values).any():
        raise ValueError(f"{column.name!r} of {name} has infinite values. Make them missing, or leave out these rows")
    if pandas.api.types.is_integer_dtype(series.dtype) and (np.abs(values) > EXACT).any():
        raise ValueError(
            f"{column.name!r} of {name} has integers above {EXACT}, which floating-point numbers do not tell apart. "
            "Make it text, or leave it out of all tables"
        )
    return values
