"""Checks of the values of tensors, also while a graph is captured and there are no values yet."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

import pyro
import torch
from torch import Tensor
from torch.distributions import Distribution

__all__ = ["capturing", "check_all_finite", "check_tensor", "exportable", "holds", "noting", "without_validation"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_noted: ContextVar[list[Tensor] | None] = ContextVar("noted", default=None)


def capturing() -> bool:
    """Return True while a graph is captured: by ``torch.export``, ``torch.compile``, ``torch.jit.trace`` or here."""
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined]
    return torch.compiler.is_compiling() or _noted.get() is not None or tracing


def _exporting() -> bool:
    """Return True while ``torch.export`` runs. On torch 2.10, its ``is_exporting`` is True in ``torch.compile`` too."""
    flag = getattr(torch.compiler, "_is_exporting_flag", None)  # a later torch may lack it
    return torch.compiler.is_exporting() if flag is None else flag


def holds(condition: Tensor) -> bool:
    """Return True if a condition holds, or if that is not known yet because a graph is captured.

    A graph of ``torch.export`` checks the condition in each run, and raises a RuntimeError if it does not hold.

    Args:
        condition: a bool tensor, ``()``.

    Example:
        >>> holds(torch.tensor([1.0, -1.0]).min() > 0)
        False
    """
    if _exporting():
        # On the CPU, because on a GPU a failed check ends the process.
        torch._assert_async(condition.cpu(), _REFUSED)
        return True
    if torch.compiler.is_compiling():
        return True
    noted = _noted.get()
    if noted is None:
        return bool(condition)
    noted.append(condition)
    return True


_REFUSED = "this graph does not take these values; the program that it was exported from says which, and why"


def check_all_finite(name: str, values: Tensor, remedy: str = "") -> None:
    """Raise a ValueError if a tensor has NaN or infinite values.

    Args:
        name: of the argument.
        values: of any shape.
        remedy: the last sentence of the error, if there is more to say.
    """
    finite = torch.isfinite(values)
    if not holds(finite.all()):
        end = f". {remedy}" if remedy else ""
        raise ValueError(f"{name} must be finite; got {int((~finite).sum())} values that are not{end}")


@contextlib.contextmanager
def noting() -> Iterator[list[Tensor]]:
    """Note every condition in the block and take it to hold; the graph checks it in each run."""
    noted: list[Tensor] = []
    token = _noted.set(noted)
    try:
        yield noted
    finally:
        _noted.reset(token)


@contextlib.contextmanager
def without_validation() -> Iterator[None]:
    """Turn validation off in Pyro and torch, then restore both; Pyro's own context manager turns torch's on."""
    mine = getattr(Distribution, "_validate_args", None)  # a later torch may lack it
    try:
        with pyro.validation_enabled(False):
            yield
    finally:
        if mine is not None:
            Distribution.set_default_validate_args(mine)


def exportable(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Make a function of distributions work under ``torch.export`` with validation on.

    Torch validates a distribution by the values of its tensors. An export has no values, and before torch 2.15 it fails
    there. So the distributions that the function makes or returns are not validated in an exported graph. The graph
    still checks every condition that went through :func:`holds`.

    Args:
        function: makes distributions and may return one.
    """

    @functools.wraps(function)
    def exported(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if not _exporting():
            return function(*args, **kwargs)
        with without_validation():
            result = function(*args, **kwargs)
        _do_not_validate(result)
        return result

    return exported


def _do_not_validate(value: object) -> None:
    """Turn validation off in a distribution and in those it is made of."""
    if isinstance(value, (list, tuple)):
        for part in value:
            _do_not_validate(part)
    if isinstance(value, Distribution):
        value._validate_args = False
        for part in vars(value).values():
            _do_not_validate(part)


def check_tensor(name: str, value: object, what: str) -> None:
    """Raise a TypeError if an argument is no tensor.

    Args:
        name: of the argument.
        value: of the argument.
        what: its shape and contents, in words.

    Example:
        >>> check_tensor("codes", [1.0], "(n, d)")
        Traceback (most recent call last):
        TypeError: codes must be a tensor (n, d); got list
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor {what}; got {type(value).__name__}")
