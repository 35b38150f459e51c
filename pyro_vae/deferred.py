"""Conditions on the values of tensors, also where a graph is being captured that has no values yet."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch
from torch import Tensor

__all__ = ["holds", "noting"]

_noted: ContextVar[list[Tensor] | None] = ContextVar("noted", default=None)


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
