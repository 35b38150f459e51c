"""The schema of a table: what each column holds, and how a VAE sees it."""

from __future__ import annotations

import datetime
import difflib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from pyro_vae.argument_checks import is_finite_number
from pyro_vae.files import CheckpointError, read_yaml
from pyro_vae.registry import Spec

__all__ = ["CODED", "Column", "Encoding", "Kind", "Role", "Schema", "SchemaError"]

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
"""How the encoder sees a column; numbers are standardised, those of ``log`` and ``log1p`` after the logarithm."""

CODED = ("binary", "category", "ordered")
"""The kinds whose values become codes 0, 1, 2, ..."""

Value = str | bool | int | float


class SchemaError(ValueError):
    """A schema that says what cannot be, or a table that does not have it."""


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
        origin: what is subtracted from the numbers before they become float32; of dates, the day from which days count.
        other: take a value that is none of ``values`` as the last of them, which is then ``"other"``.
        likelihood: of the column; by default the one that the data suggest.
        encoding: how the encoder sees it; by default as its kind says.
        loc: the mean of the numbers that the encoder and the likelihood standardise, or of their logarithms.
        scale: their standard deviation.

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
    origin: float | str = 0.0
    other: bool = False
    likelihood: Spec | None = None
    encoding: Encoding | None = None
    loc: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        for name, words in (("kind", Kind), ("role", Role), ("encoding", Encoding)):
            value, known = getattr(self, name), get_args(words)
            if value not in known and not (name == "encoding" and value is None):
                raise SchemaError(f"column {self.name!r}: {name} must be one of {', '.join(known)}; got {value!r}")
        for name in ("loc", "scale"):
            if not is_finite_number(getattr(self, name)):
                raise SchemaError(f"column {self.name!r}: {name} must be a number; got {getattr(self, name)!r}")
        if not self.scale > 0:
            raise SchemaError(f"column {self.name!r}: scale must be above 0; got {self.scale:g}")
        if len(set(self.values)) < len(self.values):
            raise SchemaError(f"column {self.name!r}: values must differ; got {list(self.values)}")
        if self.is_coded and len(self.values) < 2:
            raise SchemaError(f"column {self.name!r}: a {self.kind} column needs at least two values")
        if self.kind == "binary" and len(self.values) > 2:
            raise SchemaError(f"column {self.name!r}: a binary column has two values; got {list(self.values)}")
        if self.kind in ("constant", "identifier") and self.role != "out":
            raise SchemaError(f"column {self.name!r}: a column of the kind {self.kind} tells nothing: role must be out")
        if self.kind == "date":
            self.start  # noqa: B018  # raises an error if it is no date

    @property
    def is_coded(self) -> bool:
        """True if x holds codes of its values."""
        return self.kind in CODED

    @property
    def start(self) -> datetime.datetime:
        """The time from which the days of a date count."""
        try:
            return datetime.datetime.fromisoformat(str(self.origin))
        except ValueError as error:
            raise SchemaError(
                f"column {self.name!r}: origin must be a date, such as 2020-01-31; got {self.origin!r}"
            ) from error

    @property
    def usual_encoding(self) -> Encoding:
        """How the encoder sees the column: as the schema says, else as its kind says."""
        if self.encoding is not None:
            return self.encoding
        if self.kind == "category":
            return "one_hot" if len(self.values) <= 20 else "embedding"
        return {"positive": "log", "count": "log1p"}.get(self.kind, "standardize")  # type: ignore[return-value]

    def to_plain(self) -> dict[str, Any]:
        """Return what differs from the defaults, as plain text and numbers."""
        found = {field.name: getattr(self, field.name) for field in fields(self)[1:]}
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
            if isinstance(given, (str, int, float)):
                given = (given,)
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
    def names(self) -> tuple[str, ...]:
        """The names of the columns that are parts of x."""
        return tuple(column.name for column in self.data)

    def select(self, names: Sequence[str]) -> Schema:
        """Return the schema of a table with these columns as its data, in this order; others are left out."""
        rest = [replace(c, role="out") if c.role == "data" else c for c in self.columns if c.name not in names]
        return Schema((*(self[name] for name in names), *rest))

    def with_columns(self, changed: Iterable[Column]) -> Schema:
        """Return the schema with other columns in the place of those of the same names."""
        by_name = {column.name: column for column in changed}
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
            return cls.from_plain(read_yaml(Path(path)))
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


def _flow(value: object) -> str:
    """Return a value in YAML, on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf, allow_unicode=True)
    return text.removesuffix("...\n").strip()
