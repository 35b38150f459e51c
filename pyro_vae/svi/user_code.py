"""Which code is the user's, and which names it can read; for the walk through what programs can reach."""

from __future__ import annotations

import collections
import operator
import sys
import types
from abc import ABC
from collections.abc import Callable, Collection
from typing import Any, Generic, Protocol

from pyro.nn import PyroModule
from torch import nn

__all__ = [
    "CALLED_BY_LIBRARIES",
    "LOOKS_NAMES_UP",
    "READ_BY_ANY_NAME",
    "has_other_readers",
    "is_entered",
    "is_users",
    "may_be_used",
    "names_in",
]

_ENTERED = {"torch", "pyro", "zuko", "pyro_vae", "sklearn"}  # libraries whose objects are inspected, but not their code
_LIBRARIES = _ENTERED | sys.stdlib_module_names - {"__main__"}
_LIBRARIES |= {"torchvision", "numpy", "scipy", "pandas", "matplotlib", "PIL", "rich", "tqdm", "pytest"}
# Bases that read no attribute of the user's own by its name; others, such as Trace_ELBO, do.
_SILENT_BASES = {object, nn.Module, PyroModule, ABC, Generic, Protocol, tuple, dict, list, set, collections.deque}
READ_BY_ANY_NAME = {"getattr", "vars", "__dict__", "eval", "exec", "globals", "locals", "__getattribute__"}
LOOKS_NAMES_UP = READ_BY_ANY_NAME | {"hasattr", "attrgetter", "import_module", "__import__", "__globals__", "sys"}
CALLED_BY_LIBRARIES = {"forward", "__call__"}
_WHEN_MADE = {"__init__", "__new__", "__post_init__"}
_BY_PYTHON = {f"__{name}__" for name in dir(operator) if name.islower() and not name.startswith("_")} | {
    *("__call__", "__enter__", "__exit__", "__getattr__", "__getattribute__", "__getitem__", "__iter__", "__next__"),
    *("__len__", "__bool__", "__float__", "__int__", "__index__", "__array__", "__get__", "__radd__", "__rmul__"),
    *("__rsub__", "__rtruediv__", "__hash__", "__torch_function__"),
}


def is_users(code: type | Callable[..., Any] | types.ModuleType) -> bool:
    """Return True if a class, a function or a module is the user's, and not from a library that programs use."""
    return _package(code) not in _LIBRARIES


def is_entered(cls: type) -> bool:
    """Return True if a class is from a library whose objects are inspected."""
    return _package(cls) in _ENTERED


def has_other_readers(cls: type) -> bool:
    """Return True if a class has a base from a library that may read any attribute of the user's by its name."""
    return bool(_libraries(cls) - _SILENT_BASES)


def may_be_used(cls: type, name: str, names: Collection[str], made: bool) -> bool:
    """Return True if reachable code, Python or a library may read a name of a user's class.

    Args:
        cls: the class.
        name: of one of its attributes.
        names: the names in the code that can run.
        made: True if code may make objects of the class.
    """
    if name in names or has_other_readers(cls):
        return name not in _WHEN_MADE or made
    if name.startswith("__") and name.endswith("__"):
        return name in _BY_PYTHON or (made and name in _WHEN_MADE)
    return any(name in vars(library) for library in _libraries(cls) - {object})


def names_in(code: types.CodeType, strings: bool) -> set[str]:
    """Return the names in code, and in the functions inside it.

    Args:
        code: of a function.
        strings: True to include the strings that could be names.
    """
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= names_in(constant, strings)
        elif strings and isinstance(constant, str) and constant.isidentifier():
            names.add(constant)
    return names


def _libraries(cls: type) -> set[type]:
    """Return the bases of a class that are not the user's."""
    return {base for base in cls.__mro__ if not is_users(base)}


def _package(code: type | Callable[..., Any] | types.ModuleType) -> str:
    module = code.__name__ if isinstance(code, types.ModuleType) else getattr(code, "__module__", None)
    return (module or "").partition(".")[0]
