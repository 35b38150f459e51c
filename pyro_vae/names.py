"""Classes by name: those of a room, in any case, and any other by dotted path."""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType, ModuleType, SimpleNamespace
from typing import Any

__all__ = ["find_part"]

_NONE: Mapping[str, str] = MappingProxyType({})


def find_part(kind: str, room: ModuleType | SimpleNamespace, name: str, short: Mapping[str, str] = _NONE) -> Any:
    """The class of this name in a room, whatever the case and the underscores, or what is at this dotted path.

    Args:
        kind: what errors call it: prior, likelihood, ...
        room: a module whose ``__all__`` names its classes.
        name: the name or dotted path.
        short: names of the room's classes by other names, lower-case and without underscores.

    Raises:
        ValueError: where there is none; names what there is.
    """
    names = [n for n in room.__all__ if isinstance(getattr(room, n), type)]
    plain = {**{n.lower(): n for n in names}, **short}
    if (found := str(name).lower().replace("_", "").replace("-", "")) in plain:
        return getattr(room, plain[found])
    if "." not in str(name):
        close = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"unknown {kind} {name!r}; there are {', '.join(names)}, and your own by dotted path, such as "
            f"my_module.MyClass.{hint}"
        )
    try:
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{kind} {name!r} cannot be imported: {error}") from error
