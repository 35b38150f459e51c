"""Data from a function of the user's: ``package.module:function`` or ``file.py:function``."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import os
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from pyro_vae.argument_checks import near_miss
from pyro_vae.data.conversion import as_data_set
from pyro_vae.data.elsewhere import PREFIXES
from pyro_vae.data.reading import BadDataError, Reading
from pyro_vae.data.splits import DataSet
from pyro_vae.registry import NotAllowedError, allowed, is_allowed, searching
from pyro_vae.seeds import seeded

__all__ = ["check_allowed", "home_of", "load_function"]

_ON_WINDOWS = os.name == "nt"  # where a letter before a colon is a drive
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def home_of(source: str) -> str | None:
    r"""Return the module or file of a function that is named as data; None for any other name.

    Args:
        source: such as ``"my_package.data:make"`` or ``"loaders/mine.py:make"``.

    Example:
        >>> home_of("my_package.data:make"), home_of("loaders/mine.py:make"), home_of("wine.csv")
        ('my_package.data', 'loaders/mine.py', None)
        >>> home_of(r"C:\loaders\mine.py:make"), home_of(r"C:\wine.csv")
        ('C:\\loaders\\mine.py', None)
    """
    home, _, function = source.rpartition(":")
    if not function.isidentifier() or home in PREFIXES or (_ON_WINDOWS and len(home) == 1):
        return None
    return home if home.lower().endswith(".py") or _MODULE.fullmatch(home) else None


def check_allowed(source: str) -> None:
    """Raise a NotAllowedError if data are a function that may not be imported; see :func:`load_function`."""
    home = home_of(source)
    if home is None or Path(source).exists() or is_allowed(home):
        return
    named = f" (named: {', '.join(allowed() or ())})" if allowed() else ""
    raise NotAllowedError(
        f"data {source!r} is a function, and {home} is imported only if this call names it{named}", home
    )


def load_function(source: str, how: Reading) -> DataSet[Any]:
    """Return what a function of the user's returns, as a data set.

    The function runs with the random numbers of torch, NumPy and Python at seed 0, so it returns the same each time.

    Args:
        source: such as ``"my_package.data:make"`` or ``"loaders/mine.py:make"``.
        how: options, for what the function returns.

    Raises:
        NotAllowedError: if the name comes from a file, and the call does not name the module.
        FileNotFoundError: if there is no such file.
        BadDataError: if there is no such module or function, if it needs arguments or raises an error, and if it
            returns what is no data.
    """
    check_allowed(source)
    home, _, name = source.rpartition(":")
    file = Path(home).expanduser() if home.lower().endswith(".py") else None
    if file is not None and not file.is_file():
        raise _no_such_file(source, file)
    with searching(None if file is None else file.resolve().parent), seeded(0):
        module = _import_module(source, home) if file is None else _import_file(source, file)
        function = _find(source, module, name)
        with _saying_where(source, module.__file__):
            return as_data_set(source, function(), how)


def _import_file(source: str, file: Path) -> ModuleType:
    """Return the module of a file, which is run anew each time."""
    path = file.resolve()
    name = "pyro_vae_data_" + hashlib.blake2b(str(path).encode(), digest_size=8).hexdigest()
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "the name ends in .py"
    assert spec.loader is not None, "likewise"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up
    with _saying_where(source, str(path)):
        spec.loader.exec_module(module)
    return module


def _import_module(source: str, home: str) -> ModuleType:
    with _saying_where(source, None):
        try:
            return importlib.import_module(home)
        except ModuleNotFoundError as error:
            missing = str(error.name)
            if home != missing and not home.startswith(f"{missing}."):
                raise  # a module that the user's imports
            hint = near_miss(missing, _modules_beside(missing))
            raise BadDataError(f"{source}: there is no module {missing}{hint}") from error


def _modules_beside(name: str) -> list[str]:
    parent = name.rpartition(".")[0]
    paths = getattr(sys.modules.get(parent), "__path__", []) if parent else None
    return [f"{parent}.{m.name}" if parent else m.name for m in pkgutil.iter_modules(paths)]


def _find(source: str, module: ModuleType, name: str) -> Callable[[], Any]:
    """Return a function of a module that can be called without arguments."""
    where = module.__file__ or module.__name__
    own = [n for n, found in vars(module).items() if _is_own(found, module) and not n.startswith("_")]
    if not hasattr(module, name):
        there = f"it has {', '.join(own)}" if own else "it has none"
        raise BadDataError(f"{source}: {where} has no function {name}; {there}{near_miss(name, own)}")
    function = getattr(module, name)
    if not callable(function):
        raise BadDataError(f"{source} must be a function that returns the data; got {type(function).__name__}")
    if not _is_own(function, module):
        raise BadDataError(f"{source} was defined in {getattr(function, '__module__', None)}. Name it there")
    try:
        needed = [p.name for p in inspect.signature(function).parameters.values() if _is_needed(p)]
    except (TypeError, ValueError):  # written in C
        needed = []
    if needed:
        raise BadDataError(
            f"{source} is called without arguments, and needs {', '.join(needed)}. Give them defaults, or name a "
            "function without arguments that calls it"
        )
    return function


def _is_own(found: object, module: ModuleType) -> bool:
    """Return True for a function or class that the module, or the package that it is, defines."""
    origin = str(getattr(found, "__module__", None))
    return callable(found) and (origin == module.__name__ or origin.startswith(f"{module.__name__}."))


def _is_needed(parameter: inspect.Parameter) -> bool:
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter.default is inspect.Parameter.empty and parameter.kind not in optional


@contextlib.contextmanager
def _saying_where(source: str, file: str | None) -> Iterator[None]:
    """Run code of the user's; its errors then say in which file and line they were raised."""
    try:
        yield
    except (BadDataError, NotAllowedError):
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if file in (None, frame.filename)]
        if not own and not isinstance(error, SyntaxError):
            raise  # not by code of the user's, such as for an option that does not apply
        frame = (own or frames)[-1]
        place, line = frame.filename, frame.lineno
        if isinstance(error, SyntaxError):
            place, line = error.filename or place, error.lineno
        said = f"{type(error).__name__}: {getattr(error, 'msg', error) if isinstance(error, SyntaxError) else error}"
        raise BadDataError(f"{source} raised {said.rstrip(': ')} ({place}, line {line})") from error


def _no_such_file(source: str, file: Path) -> FileNotFoundError:
    there = [path.name for path in file.parent.glob("*.py")] if file.parent.is_dir() else []
    return FileNotFoundError(f"{source}: there is no file {file}{near_miss(file.name, there)}")
