"""The schema of a table: what each column holds, and how a VAE sees it."""

from __future__ import annotations

import datetime
import difflib
import math
import os
import zoneinfo
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

import yaml

from pyro_vae.argument_checks import is_finite_number, is_integer
from pyro_vae.files import CheckpointError, NotAMappingError, read_yaml
from pyro_vae.registry import Spec

__all__ = ["CODED", "DTYPES", "Column", "Encoding", "Kind", "Role", "Schema", "SchemaError", "text_of"]

Kind = Literal[
    "number",
    "real",
    "positive",
    "count",
    "binary",
    "category",
    "ordered",
    "date",
    "proportion",
    "constant",
    "identifier",
]
"""What a column holds. ``"number"`` is any of real, positive, count, ordered and proportion: the data will say."""

Role = Literal["data", "context", "label", "out"]
"""What a column is for: a part of x, a part of the context, the label, or nothing."""

Encoding = Literal["standardize", "log", "log1p", "one_hot", "embedding"]
"""How the encoder sees a column. Numbers are standardised; with ``log`` and ``log1p``, after the logarithm."""

CODED = ("binary", "category", "ordered")
"""The kinds whose values become codes 0, 1, 2, ..."""

DTYPES = ("float64", "int64", "Int64", "bool", "boolean", "str", "category", "date", "timestamp")
"""The types of columns that a schema tells apart."""

Value = str | bool | int | float

_MOST_DECIMALS = 15


class SchemaError(ValueError):
    """A schema that contradicts itself, or does not fit its table."""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        name: of the column.
        kind: what it holds.
        role: what it is for.
        values: of a binary, category or ordered column, in the order of their codes; of a constant, its value.
        missing: what stands for a missing value, besides an empty cell and NaN.
        dtype: of the column in a DataFrame, such as ``"int64"``; of dates ``"date"`` or ``"timestamp"``.
        whole: True if its numbers are whole, whatever the dtype.
        decimals: how many its numbers have: a VAE's are rounded to as many. None if they have more than 6.
        origin: what is subtracted from the numbers before they become float32; of dates, the day from which days count.
        zone: the time zone of dates, such as ``"Europe/Berlin"``; their days count in UTC. Empty if they have none.
        other: take a value that is none of ``values`` as the last of them, which is then ``"other"``.
        likelihood: of the column; by default the one that the data suggest.
        encoding: how the encoder sees it; by default as its kind says.
        loc: the mean of the numbers that the encoder and the likelihood standardise, or of their logarithms.
        scale: their standard deviation.
        low: the least number that the VAE writes into a DataFrame, in the place of lower ones; None for no bound.
            Densities take no notice of it.
        high: the greatest number, likewise.

    Raises:
        SchemaError: if these do not go together.
    """

    name: str
    kind: Kind
    role: Role = "data"
    values: tuple[Value, ...] = ()
    missing: tuple[Value, ...] = ()
    dtype: str = "float64"
    whole: bool = False
    decimals: int | None = None
    origin: float | str = 0.0
    zone: str = ""
    other: bool = False
    likelihood: Spec | None = None
    encoding: Encoding | None = None
    loc: float = 0.0
    scale: float = 1.0
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        self._check_entries()
        self._check_values()
        if self.kind in ("constant", "identifier") and self.role != "out":
            self._refuse(f"a column of the kind {self.kind} tells nothing: role must be out")
        if self.zone and (self.kind != "date" or not _is_zone(self.zone)):
            self._refuse(f"zone must be the time zone of dates, such as Europe/Berlin; got {self.zone!r}")
        if (self.low, self.high) != (None, None) and (self.is_coded or self.kind == "date"):
            self._refuse(f"low and high are for numbers, not for the kind {self.kind}")
        if self.kind == "date":
            self.start  # noqa: B018  # raises an error if it is no date
        elif not is_finite_number(self.origin):
            self._refuse(f"origin must be a number; got {self.origin!r}")
        if self.encoding in ("one_hot", "embedding") and not self.is_coded:
            self._refuse(f"encoding {self.encoding} is for columns with values, of the kinds {', '.join(CODED)}")
        if self.encoding == "embedding" and self.role == "context":
            self._refuse("encoding embedding is for data; context is one_hot")
        if self.encoding in ("log", "log1p") and self.is_coded:
            self._refuse(f"encoding {self.encoding} is for numbers; a {self.kind} column has codes")

    def _check_entries(self) -> None:
        """Raise a SchemaError if an entry is of another type, or no word that is known."""
        for name, words in (("kind", Kind), ("role", Role), ("encoding", Encoding)):
            value, known = getattr(self, name), get_args(words)
            if value not in known and not (name == "encoding" and value is None):
                self._refuse(f"{name} must be one of {', '.join(known)}; got {value!r}")
        if self.dtype not in DTYPES:
            self._refuse(f"dtype must be one of {', '.join(DTYPES)}; got {self.dtype!r}")
        for name in ("whole", "other"):
            if not isinstance(getattr(self, name), bool):
                self._refuse(f"{name} must be true or false; got {getattr(self, name)!r}")
        if self.decimals is not None and not (is_integer(self.decimals, 0) and self.decimals <= _MOST_DECIMALS):
            self._refuse(f"decimals must be a whole number from 0 to {_MOST_DECIMALS}; got {self.decimals!r}")
        for name in ("loc", "scale"):
            if not is_finite_number(getattr(self, name)):
                self._refuse(f"{name} must be a number; got {getattr(self, name)!r}")
        for name in ("low", "high"):
            if (bound := getattr(self, name)) is not None and not is_finite_number(bound):
                self._refuse(f"{name} must be a number; got {bound!r}")
        if self.low is not None and self.high is not None and not self.low < self.high:
            self._refuse(f"low must be below high; got {self.low:g} and {self.high:g}")
        if not self.scale > 0:
            self._refuse(f"scale must be above 0; got {self.scale:g}")
        spec = self.likelihood.get("class") if isinstance(self.likelihood, Mapping) else self.likelihood
        if spec == "Mixed" or (self.likelihood is not None and not (isinstance(spec, str) or callable(spec))):
            self._refuse(
                "likelihood must be the name of one, such as Normal, or a mapping with the name under 'class'; got "
                f"{str(self.likelihood)[:80]}"
            )

    def _check_values(self) -> None:
        """Raise a SchemaError if the values of a column cannot be told apart, or are too few or too many."""
        if len(set(map(text_of, self.values))) < len(self.values):
            self._refuse(f"values must differ, also as text; got {list(self.values)}")
        if self.is_coded and len(self.values) < 2:
            what = f"a{'n' * (self.kind == 'ordered')} {self.kind} column"
            self._refuse(f"{what} needs at least two values, such as values: [low, high]")
        if self.kind == "binary" and len(self.values) > 2:
            self._refuse(f"a binary column has two values; got {list(self.values)}")
        if self.other and (not self.is_coded or str(self.values[-1]).lower() != "other"):
            self._refuse(
                "with other: true, the last of its values stands for all others and must be 'other'; got "
                f"{list(self.values)}"
            )

    def _refuse(self, why: str) -> NoReturn:
        raise SchemaError(f"column {self.name!r}: {why}")

    @property
    def is_coded(self) -> bool:
        """True if x holds codes of its values."""
        return self.kind in CODED

    @property
    def start(self) -> datetime.datetime:
        """The time from which the days of a date count."""
        try:
            found = datetime.datetime.fromisoformat(str(self.origin))
        except ValueError:
            self._refuse(f"origin must be a date, such as 2020-01-31; got {self.origin!r}")
        if found.tzinfo is not None:
            self._refuse(f"origin must be a date without a time zone (in UTC); got {self.origin!r}")
        return found

    @property
    def usual_encoding(self) -> Encoding:
        """How the encoder sees the column: as the schema says, else as its kind says."""
        if self.encoding is not None:
            return self.encoding
        if self.kind == "category":
            return "one_hot" if len(self.values) <= 20 else "embedding"
        of_skewed: Mapping[str, Encoding] = {"positive": "log", "count": "log1p"}
        return of_skewed.get(self.kind, "standardize")

    def to_plain(self) -> dict[str, Any]:
        """Return what differs from the defaults, as plain text and numbers."""
        found = {field.name: getattr(self, field.name) for field in fields(self)[1:]}
        found["likelihood"] = _by_name(self.likelihood)
        usual = {field.name: field.default for field in fields(self)[2:]}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in found.items()
            if name not in usual or value != usual[name]
        }

    @classmethod
    def from_plain(cls, name: str, found: object) -> Column:
        """Return the column that :meth:`to_plain` gave, or that a user wrote.

        Raises:
            SchemaError: for an entry that no column has, and for values that do not go together.
        """
        if not isinstance(found, Mapping) or "kind" not in found:
            raise SchemaError(f"column {name!r} must have a kind, such as {{kind: real}}; got {str(found)[:80]!r}")
        known = [field.name for field in fields(cls)[1:]]
        for entry in found:
            if entry not in known:
                close = difflib.get_close_matches(str(entry), known, n=1)
                hint = f". Did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}"
                raise SchemaError(f"column {name!r} has no entry {entry!r}{hint}")
        values = {**found}
        for entry in ("values", "missing"):
            given = values.get(entry, ())
            if isinstance(given, (str, int, float, datetime.date)):
                given = (given,)
            if isinstance(given, Sequence):  # YAML reads dates as such
                given = [v.isoformat() if isinstance(v, datetime.date) else v for v in given]
            if not isinstance(given, Sequence) or not all(isinstance(v, (str, bool, int, float)) for v in given):
                raise SchemaError(f"column {name!r}: {entry} must be a list of values; got {str(given)[:80]!r}")
            values[entry] = tuple(given)
        if isinstance(values.get("origin"), (datetime.date, datetime.datetime)):  # as YAML reads dates
            values["origin"] = values["origin"].isoformat()
        return cls(name, **values)


@dataclass(frozen=True)
class Schema:
    """What each column of a table holds.

    Args:
        columns: in the order of the table.

    Raises:
        SchemaError: if two have one name, or none is a part of x.

    Example:
        >>> schema = Schema((Column("age", "real"), Column("sex", "binary", values=("f", "m"))))
        >>> print(schema.to_yaml())
        columns:
          age: {kind: real}
          sex: {kind: binary, values: [f, m]}
        <BLANKLINE>
    """

    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if len(set(names)) < len(names):
            raise SchemaError(f"columns must have different names; got {', '.join(names)}")
        if not self.data:
            raise SchemaError("at least one column must have the role data")
        if len([column for column in self.columns if column.role == "label"]) > 1:
            raise SchemaError("one column at most may have the role label")

    def __getitem__(self, name: str) -> Column:
        """Return the column of a name."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def of(self, role: Role) -> tuple[Column, ...]:
        """Return the columns of a role, in order."""
        return tuple(column for column in self.columns if column.role == role)

    @property
    def data(self) -> tuple[Column, ...]:
        """The columns that are parts of x, in the order of x."""
        return self.of("data")

    @property
    def context(self) -> tuple[Column, ...]:
        """The columns that are context, in the order of the table."""
        return self.of("context")

    @property
    def label(self) -> str | None:
        """The name of the column that holds the labels; None if there is none."""
        return next((column.name for column in self.of("label")), None)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns that are parts of x."""
        return tuple(column.name for column in self.data)

    def select(self, names: Sequence[str]) -> Schema:
        """Return the schema of a table with these columns as its data, in this order; others are left out."""
        rest = [replace(c, role="out") if c.role == "data" else c for c in self.columns if c.name not in names]
        return Schema((*(self[name] for name in names), *rest))

    def with_columns(self, changed: Iterable[Column]) -> Schema:
        """Return the schema with other columns in the place of those of the same names.

        Raises:
            SchemaError: if it has no column of such a name.
        """
        by_name, names = {column.name: column for column in changed}, [column.name for column in self.columns]
        for name in by_name:
            if name not in names:
                raise SchemaError(f"the schema has no column {name!r}; it has {', '.join(names[:20])}")
        return replace(self, columns=tuple(by_name.get(column.name, column) for column in self.columns))

    def to_yaml(self) -> str:
        """Return the schema as text, one line per column."""
        lines = [f"  {_flow(column.name)}: {_flow(column.to_plain())}\n" for column in self.columns]
        return "columns:\n" + "".join(lines)

    @classmethod
    def from_plain(cls, found: object) -> Schema:
        """Return the schema in what YAML or JSON reads.

        Raises:
            SchemaError: if it holds none.
        """
        columns = found.get("columns") if isinstance(found, Mapping) else None
        if not isinstance(columns, Mapping) or not columns:
            raise SchemaError("a schema must have columns: {age: {kind: real}, sex: {kind: binary, values: [f, m]}}")
        return cls(tuple(Column.from_plain(str(name), column) for name, column in columns.items()))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Schema:
        """Return the schema in a file.

        Raises:
            FileNotFoundError: if there is no such file.
            SchemaError: if it holds no schema.
        """
        try:
            return cls.from_plain(read_yaml(Path(path), "a schema"))
        except NotAMappingError as error:
            raise SchemaError(f"{error}. suggest_schema(data).to_yaml() writes one") from error
        except CheckpointError:
            raise
        except (SchemaError, TypeError) as error:
            raise SchemaError(f"{path}: {error}") from error

    def __repr__(self) -> str:
        """Return the columns by their kinds."""
        by_kind: dict[str, list[str]] = {}
        for column in self.columns:
            by_kind.setdefault(column.kind if column.role == "data" else f"{column.kind} ({column.role})", []).append(
                column.name
            )
        return f"Schema({'; '.join(f'{kind}: ' + ', '.join(names) for kind, names in by_kind.items())})"


def _is_zone(name: object) -> bool:
    if not isinstance(name, str):
        return False
    try:
        datetime.datetime.fromisoformat(f"2000-01-01T00:00{name}")  # an offset, such as +01:00
    except ValueError:
        with suppress(ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
            return bool(zoneinfo.ZoneInfo(name))
        return False
    return True


def text_of(value: object) -> str:
    """Return a value as text, so that 1, 1.0 and "1" are one, and so are True, "TRUE" and "true"."""
    if isinstance(value, str):
        return value.lower() if value in ("True", "False", "TRUE", "FALSE") else value
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _by_name(spec: Any) -> Any:
    """Return a spec with the names or dotted paths of classes in the place of the classes themselves."""
    if isinstance(spec, Mapping):
        return {name: _by_name(value) for name, value in spec.items()}
    if not callable(spec):
        return spec
    ours = spec.__module__.startswith("pyro_vae.")
    return spec.__name__ if ours else f"{spec.__module__}.{spec.__qualname__}"


def _flow(value: object) -> str:
    """Return a value in YAML, on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf, allow_unicode=True)
    return text.removesuffix("...\n").strip()
