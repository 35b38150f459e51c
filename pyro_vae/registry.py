"""Classes by name: those on lists, and the user's own if the call names their module.

A stranger may have written the file that a name comes from. So a name on a list stands for the object on that list; it
is not looked up in the attributes of modules. Any other name is a dotted path to a class or function of the user's. Its
module is imported only if the call allows it, and nothing is imported to find that out.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from torch import nn

__all__ = [
    "TORCH_NN",
    "TORCH_NN_PATHS",
    "ClassOrFunction",
    "Kind",
    "NotAllowedError",
    "Spec",
    "allowed",
    "allowing",
    "find",
    "is_allowed",
    "prefix_errors",
    "searching",
]

Spec = str | Mapping[str, Any]
"""A class by name or dotted path, or a mapping with its name under ``class`` and its arguments beside it."""

ClassOrFunction = Callable[..., Any]
"""A class or a function."""

TORCH_NN: Mapping[str, ClassOrFunction] = MappingProxyType(
    {
        name: found
        for name in nn.modules.__all__
        if isinstance(found := getattr(nn, name), type) and issubclass(found, nn.Module)
    }
)
"""The modules of :mod:`torch.nn` by their names."""

TORCH_NN_PATHS: Mapping[str, ClassOrFunction] = MappingProxyType(
    {f"torch.nn.{name}": found for name, found in TORCH_NN.items()}
)

# The user's modules that may be imported; None if the names come from the caller's own Python.
_allowed: ContextVar[tuple[str, ...] | None] = ContextVar("allowed", default=None)


class NotAllowedError(ValueError):
    """A name that is on no list and belongs to a module that the call does not allow.

    Args:
        found: the name, and why it is refused.
        module: the module to allow.
    """

    def __init__(self, found: str, module: str) -> None:
        super().__init__(found, module)
        self.found, self.module = found, module

    def __str__(self) -> str:
        """Return the message, with the arguments that allow the class."""
        return (
            f'{self.found}. If you trust it: load(run, allow=["{self.module}"]), or load(run, vae=vae) with a VAE '
            "built as it was"
        )


def allowed() -> tuple[str, ...] | None:
    """Return the modules that may be imported by name, or None if names come from the caller's own Python."""
    return _allowed.get()


@contextlib.contextmanager
def allowing(modules: str | Sequence[str]) -> Iterator[None]:
    """Run a block in which names may come from a file: besides the classes on lists, only these modules are imported.

    A block inside another one may import the modules of both.

    Args:
        modules: modules and packages of the user's, such as ``["my_module"]``. A package includes all modules in it.
            A file ``my_data.py`` is allowed by its path.

    Raises:
        ValueError: if one is not the name of a module.
    """
    given = (modules,) if isinstance(modules, str) else tuple(modules)
    for module in given:
        if not isinstance(module, str) or not (_is_dotted(module) or _is_file(module)):
            raise ValueError(
                f"allow must name modules, such as my_module, my_package.parts or my_data.py; got {module!r}"
            )
    token = _allowed.set(tuple(dict.fromkeys((*(_allowed.get() or ()), *given))))
    try:
        yield
    finally:
        _allowed.reset(token)


def is_allowed(home: str) -> bool:
    """Return True if a module, or a file by its path, may be imported."""
    modules = _allowed.get()
    if modules is None:
        return True
    if _is_file(home):
        return any(_is_file(module) and Path(module).resolve() == Path(home).resolve() for module in modules)
    return any(_within(home, module) for module in modules)


@contextlib.contextmanager
def searching(folder: Path | None) -> Iterator[None]:
    """Run a block in which modules are looked for in a folder too, after all packages: none of it can hide a package.

    Args:
        folder: the folder; None for no other than usual.
    """
    if folder is None:
        yield
        return
    place = str(folder.resolve())
    sys.path.append(place)
    try:
        yield
    finally:
        if place in sys.path:  # an imported module may have changed the path itself
            del sys.path[len(sys.path) - 1 - sys.path[::-1].index(place)]


@contextlib.contextmanager
def prefix_errors(place: str) -> Iterator[None]:
    """Run a block whose ValueErrors then begin with ``place``, such as ``"column 'age'"``."""
    try:
        yield
    except NotAllowedError as error:
        raise NotAllowedError(f"{place}: {error.found}", error.module) from error
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _is_part(found: ClassOrFunction) -> bool:
    """True for a class of modules and for a function."""
    return (isinstance(found, type) and issubclass(found, nn.Module)) or inspect.isfunction(found)


@dataclass(frozen=True)
class Kind:
    """A kind of thing that is given by name, such as a prior.

    Args:
        name: of the kind, in errors.
        classes: those of this library by their names, which may be written in any case and with underscores.
        short: other names for these, in lower case and without underscores.
        usual: words that others use for one of these, written likewise; an error then hints at its name.
        listed: other classes and functions, by their exact names.
        fits: returns True if a class or function of the user's may stand in this place.
        what: a class or function that fits, in errors.
        also: a sentence that the error for an unknown name ends with.
    """

    name: str
    classes: Mapping[str, type] = field(default_factory=dict)
    short: Mapping[str, str] = field(default_factory=dict)
    usual: Mapping[str, str] = field(default_factory=dict)
    listed: Mapping[str, ClassOrFunction] = field(default_factory=dict)
    fits: Callable[[ClassOrFunction], bool] = _is_part
    what: str = "a subclass of torch.nn.Module, or a function"
    also: str = ""


def find(kind: Kind, name: str | ClassOrFunction) -> ClassOrFunction:
    """Return the class or function of a name.

    Args:
        kind: the kind of thing that the name is for.
        name: a name of this kind, or a dotted path to the user's own; in Python also the class or function itself.

    Raises:
        NotAllowedError: for a dotted path into a module that the call does not name.
        ValueError: if there is no such name; lists those there are.
    """
    if isinstance(name, type) or inspect.isfunction(name):
        return _checked(kind, name.__qualname__, name)
    if not isinstance(name, str):
        raise ValueError(f"{kind.name} must be the name of a class; got {name!r}")
    plain = {**{n.lower(): n for n in kind.classes}, **kind.short}
    if (found := name.lower().replace("_", "").replace("-", "")) in plain:
        return kind.classes[plain[found]]
    if name in kind.listed:
        return kind.listed[name]
    if "." not in name:
        raise ValueError(
            f"unknown {kind.name} {name!r}; there are {_names(kind)}, and your own by dotted path, such as "
            f"my_module.MyClass.{_hint(found, plain, kind)}{kind.also}"
        )
    return _of_the_users(kind, name)


def _names(kind: Kind) -> str:
    """Return the names of a kind, each with its short names in brackets."""
    short: dict[str, list[str]] = {}
    for other, name in kind.short.items():
        short.setdefault(name, []).append(other)
    return ", ".join(f"{name} ({', '.join(short[name])})" if name in short else name for name in kind.classes)


def _hint(word: str, plain: Mapping[str, str], kind: Kind) -> str:
    """Return a sentence with the name that a word may stand for, or nothing."""
    others = {name.lower().replace("_", ""): name for name in kind.listed if "." not in name}
    there = {**others, **plain}
    close = difflib.get_close_matches(word, there, n=1, cutoff=0.8 if len(word) > 5 else 0.7)
    meant = kind.usual.get(word) or (there[close[0]] if close else None)
    return f" Did you mean {meant!r}?" if meant else ""


def _of_the_users(kind: Kind, path: str) -> ClassOrFunction:
    """Return the class or function at a dotted path, if the call names its module."""
    what = f"{kind.name} {path!r}"
    if not _is_dotted(path):
        raise ValueError(f"{what} is not a dotted path to a class, such as my_module.MyClass")
    home, modules = path.rpartition(".")[0], _allowed.get()
    if modules is None:
        modules = (home,)
    root = next((module for module in modules if not _is_file(module) and _within(home, module)), None)
    if root is None:
        named = f" (named: {', '.join(modules)})" if modules else ""
        raise NotAllowedError(
            f"{what} is not one of this library's, and {home} is imported only if this call names it{named}",
            home,
        )
    module, rest = _import(what, path)
    found: Any = module
    for name in rest:
        try:
            found = getattr(found, name)
        except AttributeError as error:
            raise ValueError(f"{what} cannot be imported: {error}") from error
        # What a module imports from others is not its own: my_module.subprocess.Popen.
        origin = str(getattr(found, "__module__", None))
        if not (isinstance(found, type) or inspect.isfunction(found)):
            raise ValueError(f"{what} is not a class or function of {module.__name__}; got {found!r}")
        if not (_within(origin, root) or _within(origin, module.__name__)):
            raise ValueError(
                f"{what} was defined in {origin}, not in {root}. Name it where it was defined: "
                f"{origin}.{found.__qualname__}"
            )
    return _checked(kind, path, found)


def _import(what: str, path: str) -> tuple[ModuleType, list[str]]:
    """Return the module that a dotted path begins with, and the names after it."""
    parts = path.split(".")
    for size in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:size])
        try:
            return importlib.import_module(module), parts[size:]
        except ModuleNotFoundError as error:
            # A class within a class is in no module of its own. Another missing module is an error.
            if size == 1 or not _within(module, str(error.name)):
                where = f"Run in the folder of {error.name}.py, or name that folder in PYTHONPATH"
                raise ValueError(f"{what} cannot be imported: {error}. {where}") from error
        except (ImportError, AttributeError, ValueError, SyntaxError) as error:
            raise ValueError(f"{what} cannot be imported: {error}") from error
    raise AssertionError("a dotted path has at least two parts")


def _checked(kind: Kind, name: str, found: ClassOrFunction) -> ClassOrFunction:
    if not kind.fits(found):
        raise ValueError(f"{kind.name} {name!r} must be {kind.what}; got {found!r}")
    return found


def _is_dotted(path: str) -> bool:
    return all(part.isidentifier() for part in path.split("."))


def _is_file(path: str) -> bool:
    return path.lower().endswith(".py")


def _within(module: str, package: str) -> bool:
    """True if a module is the package, or in it."""
    return module == package or module.startswith(f"{package}.")
