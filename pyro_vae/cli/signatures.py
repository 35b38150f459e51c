"""The arguments of a function, read from its source: ``--help`` shows those of ``fit`` without importing torch."""

from __future__ import annotations

import ast
import functools
import operator
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal

import docstring_parser

import pyro_vae

__all__ = ["Argument", "read_arguments"]

_PLAIN: Mapping[str, Any] = {"bool": bool, "int": int, "float": float, "str": str}


@dataclass(frozen=True)
class Argument:
    """An argument of a function, as an option of the command line.

    Args:
        name: its name.
        type: the part of its type that YAML can write; None if there is no such part.
        default: its default as YAML gives it, a list for a tuple; None if it has none.
        help: its text in the docstring, without markup.
    """

    name: str
    type: Any
    default: Any
    help: str


@functools.cache
def read_arguments(module: str, function: str) -> Mapping[str, Argument]:
    """Return the arguments of a function of this package by their names, in order.

    Args:
        module: the module that defines or imports the function, such as ``"pyro_vae.training"``.
        function: the function's name.

    Raises:
        LookupError: if there is no such function.
    """
    home, found = _find(module, function)
    if not isinstance(found, ast.FunctionDef):
        raise LookupError(f"{module} has no function {function}")
    texts = {p.arg_name: p.description or "" for p in docstring_parser.parse(ast.get_docstring(found) or "").params}
    return {
        given.arg: Argument(
            given.arg, _type(home, given.annotation), _default(default), _without_markup(texts.get(given.arg, ""))
        )
        for given, default in _with_defaults(found.args)
    }


def _find(module: str, name: str) -> tuple[str, ast.AST]:
    """Return what a name stands for at the top of a module, and the module that says so."""
    for node in _read(module).body:
        match node:
            case ast.FunctionDef(name=found) if found == name:
                return module, node
            case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
                return module, value
            case ast.ImportFrom(module=str(home), names=names) if any(name == (n.asname or n.name) for n in names):
                original = next(n.name for n in names if name == (n.asname or n.name))
                if home.startswith(f"{pyro_vae.__name__}."):
                    return _find(home, original)
    raise LookupError(f"{module} has no {name} of this package")


def _read(module: str) -> ast.Module:
    path = Path(pyro_vae.__path__[0], *module.split(".")[1:])
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def _with_defaults(arguments: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    yield from zip(positional, [*[None] * required, *arguments.defaults], strict=True)
    yield from zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)


def _type(module: str, node: ast.AST | None) -> Any:
    """Return the part of a type that YAML can write; None if there is no such part."""
    match node:
        case ast.Constant(value=None):
            return NoneType
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            parts = [found for side in (left, right) if (found := _type(module, side)) is not None]
            return functools.reduce(operator.or_, parts) if parts else None
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            return Literal[ast.literal_eval(choices)]
        case ast.Subscript(value=ast.Name(id="Sequence"), slice=of):
            return list[_type(module, of)]  # type: ignore[misc]
        case ast.Subscript(value=ast.Name(id="Mapping")):
            return dict[str, Any]
        case ast.Name(id=name) if name in _PLAIN:
            return _PLAIN[name]
        case ast.Name(id=name):
            try:
                return _type(*_find(module, name))
            except LookupError:  # a type of another package
                return None
    return None


def _default(node: ast.expr | None) -> Any:
    value = None if node is None else ast.literal_eval(node)
    return list(value) if isinstance(value, tuple) else value


def _without_markup(text: str) -> str:
    """Return a text of a docstring as plain text, with the names that YAML has for None, True and False."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"\1", text).replace("``", "").replace('"', "")
    for name, plain in (("None", "null"), ("True", "true"), ("False", "false")):
        text = re.sub(rf"\b{name}\b", plain, text)
    return " ".join(text.split())
