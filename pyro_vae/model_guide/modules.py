"""The modules that a program is, belongs to, or finds around it."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from types import CellType, CodeType, FunctionType, ModuleType

from torch import Tensor, nn

__all__ = ["modules_around"]

_MOST_LINKS, _MOST_ELEMENTS = 8, 1000
_LIBRARIES = {"torch", "pyro", "numpy", "scipy", "pandas", "matplotlib", *sys.stdlib_module_names} - {"__main__"}


def modules_around(**programs: Callable[..., object]) -> dict[str, nn.Module]:
    """Find the modules that programs can use, and the name that each goes by.

    A module, or a method of one, uses that module; its name is that of the program, or ``""`` if there is no other
    module. A function uses the modules in its closure, in the globals that it names, and in its arguments if it is a
    ``functools.partial``. A method of another object uses those in the object's attributes. Containers, the user's own
    objects and functions found on the way are searched too. A module inside another one that was found is left out.

    Args:
        programs: a model, a guide, or both, by name.

    Returns:
        The modules by the names of the variables or attributes that hold them, such as ``"decoder"``.

    Example:
        >>> from torch import nn
        >>> decoder = nn.Linear(2, 3)
        >>> list(modules_around(model=lambda z: decoder(z)))
        ['decoder']
    """
    found: dict[int, tuple[str, nn.Module]] = {}
    seen: dict[int, object] = {}  # holds them, so that no other object gets the same id

    def look(thing: object, name: str, links: int) -> None:
        if id(thing) in seen or links > _MOST_LINKS:
            return
        seen[id(thing)] = thing
        if isinstance(thing, nn.Module):
            found[id(thing)] = name, thing
            return
        for key, inner in _inside(thing):
            look(inner, key or name, links + 1)

    for name, program in programs.items():
        look(program, name, 0)
    inside = {id(m) for _, module in found.values() for m in module.modules() if m is not module}
    roots = [pair for key, pair in found.items() if key not in inside]
    if len(roots) == 1 and roots[0][0] in programs:
        return {"": roots[0][1]}
    return _named(roots)


def _named(found: list[tuple[str, nn.Module]]) -> dict[str, nn.Module]:
    """The modules by name; from the second of a name on, they are numbered."""
    named: dict[str, nn.Module] = {}
    for name, module in found:
        numbered = (f"{name}_{i}" if i else name for i in range(len(found)))
        named[next(n for n in numbered if n not in named)] = module
    return named


def _inside(thing: object) -> Iterator[tuple[str, object]]:
    """Yield what a thing leads to, with the name of the variable or attribute, or "" for none of its own."""
    if inspect.ismethod(thing):
        yield "", thing.__self__
        if not isinstance(thing.__self__, nn.Module):
            yield "", thing.__func__
    elif inspect.isfunction(thing):
        if not _of_library(thing.__module__):
            yield from _of_function(thing)
    elif isinstance(thing, functools.partial):
        yield from (("", inner) for inner in (thing.func, *thing.args))
        yield from thing.keywords.items()
    elif isinstance(thing, dict):
        yield from ((str(key), inner) for key, inner in list(thing.items())[:_MOST_ELEMENTS])
    elif isinstance(thing, (list, tuple)):
        yield from (("", inner) for inner in thing[:_MOST_ELEMENTS])
    elif not isinstance(thing, (type, ModuleType, Tensor)) and not _of_library(type(thing).__module__):
        with contextlib.suppress(TypeError):  # it has no attributes of its own
            yield from vars(thing).items()
        if callable(thing):
            yield "", type(thing).__call__


def _of_function(function: FunctionType) -> Iterator[tuple[str, object]]:
    code = function.__code__
    # A variable of a closure may have no value yet, on which inspect.getclosurevars would fail.
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    yield from ((name, cell.cell_contents) for name, cell in cells if cell != CellType())
    yield from ((name, function.__globals__[name]) for name in _names(code) if name in function.__globals__)
    defaults = function.__defaults__ or ()
    yield from zip(code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount], defaults, strict=True)
    yield from (function.__kwdefaults__ or {}).items()


def _names(code: CodeType) -> Iterator[str]:
    """The names in a function's code and in that of functions defined inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _of_library(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _LIBRARIES
