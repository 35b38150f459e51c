"""How a file, a folder or a function is read: the options of load() that depend on what it is."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from pyro_vae.data.schema import Schema
from pyro_vae.data.splitting import as_shares

__all__ = ["OPTIONS", "BadDataError", "Reading", "import_optional"]

_FOR = {
    "size": "images",
    "channels": "images",
    "split": "data without splits of their own",
    "group": "tables",
    "label": "tables",
    "columns": "tables",
    "schema": "tables",
    "delimiter": "text files",
    "skip_bad": "folders of files",
}


class BadDataError(ValueError):
    """Data that cannot be read or used as they are."""


@dataclass(frozen=True)
class Reading:
    """How a source is read; the arguments are those of :func:`pyro_vae.data.load`."""

    size: str | int | Sequence[int] | None = None
    channels: int | None = None
    split: str | Sequence[float] | None = None
    group: str | None = None
    label: str | None = None
    delimiter: str | None = None
    skip_bad: bool = False
    columns: str | Sequence[str] | None = None
    schema: Schema | None = None
    shares: tuple[float, float, float] = field(init=False)

    def __post_init__(self) -> None:
        if self.channels not in (None, 1, 3):
            raise ValueError(f"channels must be 1 (grey) or 3 (colour); got {self.channels!r}")
        for option in ("label", "group"):
            if (name := getattr(self, option)) is not None:
                object.__setattr__(self, option, _as_name(option, name))
        if self.columns is not None and not isinstance(self.columns, str):
            object.__setattr__(self, "columns", _as_names(self.columns))
        shares = (0.8, 0.1, 0.1) if self.split is None else as_shares(self.split)
        object.__setattr__(self, "shares", shares)

    def recorded(self) -> dict[str, Any]:
        """Return the options that were given, as the command line takes them."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.init and f.name != "schema"}
        return {name: _as_option(name, value) for name, value in given.items() if value not in (None, False)}

    @property
    def columns_named(self) -> list[str] | None:
        """The names in ``columns``; None if it is not given."""
        if isinstance(self.columns, str):
            return [name.strip() for name in self.columns.split(",")]
        return None if self.columns is None else list(self.columns)

    def check_used(self, source: str, *used: str) -> None:
        """Raise a ValueError if an option was given that this source does not use.

        Args:
            source: the source and what it is, for the error.
            used: the options that it uses.
        """
        for option in fields(self):
            if option.init and option.name not in used and getattr(self, option.name) != option.default:
                raise ValueError(f"{option.name} is for {_FOR[option.name]}; {source}")


OPTIONS = tuple(field.name for field in fields(Reading) if field.init)
"""The names of the options that depend on what is read."""


def _as_name(option: str, name: object) -> str:
    """Return the name of a column; columns of a DataFrame may have whole numbers as names."""
    if isinstance(name, str):
        return name
    if isinstance(name, (int, np.integer)) and not isinstance(name, bool):
        return str(name)
    raise ValueError(f"{option} must be the name of a column; got {name!r}")


def _as_names(columns: Any) -> tuple[str, ...]:
    try:
        return tuple(_as_name("columns", name) for name in columns)
    except (TypeError, ValueError) as error:
        raise ValueError(f"columns must be names of columns, such as a,b; got {columns!r}") from error


def _as_option(name: str, value: Any) -> Any:
    """Return the value of an option as one word of the command line; names of columns with a comma as a list."""
    if name in ("channels", "skip_bad"):
        return value
    if isinstance(value, (str, int)):
        return str(value)
    words = [str(word) for word in value]
    if name == "columns" and any("," in word for word in words):
        return words
    return ("x" if name == "size" else ",").join(words)


def import_optional(module: str, extra: str) -> Any:
    """Return a module of a package that is not installed with pyro_vae itself.

    Args:
        module: such as ``pyarrow.csv``.
        extra: of pyro_vae, with which the package is installed.

    Raises:
        ImportError: if the package is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f"{package} is needed to read this: pip install 'pyro-vae[{extra}]' ({error})") from error
