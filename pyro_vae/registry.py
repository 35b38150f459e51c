"""Classes by name: those on lists, and a user's own where the call names their module.

A stranger may have written the file that a name comes from. So a name on a list stands for the object on that list, and
is not looked up through the attributes of modules. Any other name is a dotted path to a class or function of the user's
own. Its module is imported only where the call allows it, and nothing is imported to find that out.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType, ModuleType, SimpleNamespace
from typing import Any

from torch import nn

__all__ = ["TORCH_NN", "TORCH_NN_PATHS", "NotAllowedError", "allowed", "allowing", "find_part", "is_part"]

TORCH_NN: Mapping[str, Any] = MappingProxyType(
    {
        name: found
        for name in nn.modules.__all__
        if isinstance(found := getattr(nn, name), type) and issubclass(found, nn.Module)
    }
)
"""The modules of :mod:`torch.nn` by their names."""

_NONE: Mapping[str, Any] = MappingProxyType({})
TORCH_NN_PATHS: Mapping[str, Any] = MappingProxyType({f"torch.nn.{name}": found for name, found in TORCH_NN.items()})

# The modules of the user's that may be imported. None: names are words of the caller's own Python.
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
        """Return what was found and how to allow it."""
        return (
            f'{self.found}. If you trust it: load(run, allow=["{self.module}"]), or load(run, vae=vae) with a VAE '
            "built as it was"
        )


def allowed() -> tuple[str, ...] | None:
    """The modules that may be imported by name; None where names are words of the caller's own Python."""
    return _allowed.get()


@contextlib.contextmanager
def allowing(modules: str | Sequence[str]) -> Iterator[None]:
    """Runs a block in which names may come from a file: beside what is on lists, only these modules are imported.

    A block inside such a block may import what either of the two allows.

    Args:
        modules: modules and packages of the user's own, such as ``["my_module"]``. A package stands for all that is in
            it.

    Raises:
        ValueError: where one is not the name of a module.
    """
    given = (modules,) if isinstance(modules, str) else tuple(modules)
    for module in given:
        if not isinstance(module, str) or not _is_dotted(module):
            raise ValueError(f"allow must name modules, such as my_module or my_package.parts; got {module!r}")
    token = _allowed.set(tuple(dict.fromkeys((*(_allowed.get() or ()), *given))))
    try:
        yield
    finally:
        _allowed.reset(token)


def is_part(found: Any) -> bool:
    """Whether this can stand in a VAE: a class of modules, or a function."""
    return (isinstance(found, type) and issubclass(found, nn.Module)) or inspect.isfunction(found)


def find_part(
    kind: str,
    room: ModuleType | SimpleNamespace,
    name: Any,
    short: Mapping[str, str] = _NONE,
    *,
    listed: Mapping[str, Any] = _NONE,
    legal: Callable[[Any], bool] = is_part,
) -> Any:
    """The class of this name in a room, whatever the case and the underscores, or on a list, or at this dotted path.

    Args:
        kind: what errors call it: prior, likelihood, ...
        room: a module whose ``__all__`` names its classes.
        name: the name or dotted path; in Python also the class or function itself.
        short: names of the room's classes by other names, lower-case and without underscores.
        listed: what else there is, by the exact name.
        legal: whether what is at a dotted path can stand in this place.

    Raises:
        NotAllowedError: for a dotted path into a module that the call does not name.
        ValueError: where there is no such name; says which there are.
    """
    if isinstance(name, type) or inspect.isfunction(name):
        return _checked(kind, name.__qualname__, name, legal)
    if not isinstance(name, str):
        raise ValueError(f"{kind} must be the name of a class; got {name!r}")
    names = [n for n in room.__all__ if isinstance(getattr(room, n), type)]
    plain = {**{n.lower(): n for n in names}, **short}
    if (found := name.lower().replace("_", "").replace("-", "")) in plain:
        return getattr(room, plain[found])
    if name in listed:
        return listed[name]
    if "." not in name:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"unknown {kind} {name!r}; there are {', '.join(names)}, and your own by dotted path, such as "
            f"my_module.MyClass.{hint}"
        )
    return _of_the_users(kind, name, legal)


def _of_the_users(kind: str, path: str, legal: Callable[[Any], bool]) -> Any:
    """What is at a dotted path, where the call names its module."""
    if not _is_dotted(path):
        raise ValueError(f"{kind} {path!r} is no dotted path to a class, such as my_module.MyClass")
    home, modules = path.rpartition(".")[0], _allowed.get()
    if modules is None:
        modules = (home,)
    root = next((module for module in modules if _within(home, module)), None)
    if root is None:
        named = f" (named: {', '.join(modules)})" if modules else ""
        raise NotAllowedError(
            f"{kind} {path!r} is none of this library's, and {home} is imported only if you name it in this very "
            f"call{named}",
            home,
        )
    module, rest = _import(kind, path)
    found: Any = module
    for name in rest:
        try:
            found = getattr(found, name)
        except AttributeError as error:
            raise ValueError(f"{kind} {path!r} cannot be imported: {error}") from error
        # What a module has imported from others is not its own: my_module.subprocess.Popen.
        origin = str(getattr(found, "__module__", None))
        if not (isinstance(found, type) or inspect.isfunction(found)):
            raise ValueError(f"{kind} {path!r} is no class and no function of {module.__name__}; got {found!r}")
        if not (_within(origin, root) or _within(origin, module.__name__)):
            raise ValueError(
                f"{kind} {path!r} was defined in {origin}, not in {root}. Name it where it was defined: "
                f"{origin}.{found.__qualname__}"
            )
    return _checked(kind, path, found, legal)


def _import(kind: str, path: str) -> tuple[ModuleType, list[str]]:
    """The module that a dotted path begins with, and the names after it."""
    parts = path.split(".")
    for size in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:size])
        try:
            return importlib.import_module(module), parts[size:]
        except ModuleNotFoundError as error:
            # A class within a class has no module of its own; a module that lacks another is an error.
            if size == 1 or not _within(module, str(error.name)):
                raise ValueError(f"{kind} {path!r} cannot be imported: {error}") from error
        except (ImportError, AttributeError, ValueError, SyntaxError) as error:
            raise ValueError(f"{kind} {path!r} cannot be imported: {error}") from error
    raise AssertionError("a dotted path has two parts at least")


def _checked(kind: str, name: str, found: Any, legal: Callable[[Any], bool]) -> Any:
    if not legal(found):
        what = "a subclass of torch.nn.Module, or a function"
        if legal is not is_part:
            what = (
                "a subclass of pyro.infer.ELBO" if kind == "objective" else "a function of the step, or a class of such"
            )
        raise ValueError(f"{kind} {name!r} must be {what}; got {found!r}")
    return found


def _is_dotted(path: str) -> bool:
    return all(part.isidentifier() for part in path.split("."))


def _within(module: str, package: str) -> bool:
    """Whether a module is another one, or in it."""
    return module == package or module.startswith(f"{package}.")
