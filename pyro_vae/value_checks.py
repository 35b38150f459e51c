"""What looks at the values of tensors, also where a graph is being captured that has no values yet."""

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

__all__ = ["capturing", "exportable", "holds", "noting", "without_validation"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_noted: ContextVar[list[Tensor] | None] = ContextVar("noted", default=None)


def capturing() -> bool:
    """Whether a graph is being captured: by ``torch.export``, ``torch.compile``, ``torch.jit.trace`` or here."""
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined]
    return torch.compiler.is_compiling() or _noted.get() is not None or tracing


def _exporting() -> bool:
    """Whether ``torch.export`` runs; its own ``is_exporting`` says so of ``torch.compile`` too on torch 2.10."""
    flag = getattr(torch.compiler, "_is_exporting_flag", None)  # it may go; the programs of a stock Pyro ask too
    return torch.compiler.is_exporting() if flag is None else flag


def holds(condition: Tensor) -> bool:
    """Whether a condition holds; True where that is not known yet, as while a graph is captured.

    A graph that ``torch.export`` makes checks the condition in each run, and raises a RuntimeError where it does not
    hold.

    Args:
        condition: a bool tensor, ``()``.

    Example:
        >>> holds(torch.tensor([1.0, -1.0]).min() > 0)
        False
    """
    if _exporting():
        # On the CPU, as torch's own checks are: a GPU would stop the process with it.
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


@contextlib.contextmanager
def noting() -> Iterator[list[Tensor]]:
    """Takes every condition in the block to hold, and notes it, so that the graph can look at it in each run."""
    noted: list[Tensor] = []
    token = _noted.set(noted)
    try:
        yield noted
    finally:
        _noted.reset(token)


@contextlib.contextmanager
def without_validation() -> Iterator[None]:
    """Validation off in Pyro and in torch, and each back as it was (Pyro's own way turns torch's on)."""
    mine = getattr(Distribution, "_validate_args", None)  # where torch has it no more, Pyro's own way
    try:
        with pyro.validation_enabled(False):
            yield
    finally:
        if mine is not None:
            Distribution.set_default_validate_args(mine)


def exportable(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Makes a function over distributions work under ``torch.export`` with validation on.

    Torch validates a distribution by the values of its tensors. An export has no values, and before torch 2.15 it fails
    there. So the distributions that the function makes or returns are not validated in an exported graph. The graph
    still checks every condition that went through :func:`holds`.

    Args:
        function: what it returns may be a distribution.
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
    """Turns validation off in a distribution and in those that it is made of."""
    if isinstance(value, (list, tuple)):
        for part in value:
            _do_not_validate(part)
    if isinstance(value, Distribution):
        value._validate_args = False
        for part in vars(value).values():
            _do_not_validate(part)
