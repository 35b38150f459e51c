"""Conditions on the values of tensors, also where a graph is being captured that has no values yet."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import pyro
import torch
from torch import Tensor
from torch.distributions import Distribution

__all__ = ["capturing", "holds", "noting", "validated", "without_validation"]

_noted: ContextVar[list[Tensor] | None] = ContextVar("noted", default=None)


def capturing() -> bool:
    """Whether a graph is being captured: by ``torch.export``, ``torch.compile``, ``torch.jit.trace`` or here."""
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined]
    return torch.compiler.is_compiling() or _noted.get() is not None or tracing


def holds(condition: Tensor) -> bool:
    """Whether a condition holds; True where that is not known yet, as while a graph is captured.

    Args:
        condition: a bool tensor, ``()``.

    Example:
        >>> holds(torch.tensor([1.0, -1.0]).min() > 0)
        False
    """
    if torch.compiler.is_compiling():
        return True
    noted = _noted.get()
    if noted is None:
        return bool(condition)
    noted.append(condition)
    return True


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
    mine = Distribution._validate_args
    try:
        with pyro.validation_enabled(False):
            yield
    finally:
        Distribution.set_default_validate_args(mine)


def validated() -> contextlib.AbstractContextManager[None]:
    """For a block that makes distributions: their arguments are validated as ever, but in no graph that is captured.

    Validation reads values, and raises where they are wrong; an exported graph can do neither.
    """
    return without_validation() if torch.compiler.is_compiling() else contextlib.nullcontext()
