"""Finds out whether a program changes its data in place."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["changed_in_place"]


def changed_in_place(program: Callable[..., object], who: str, x: Tensor, *context: Tensor, **named: Tensor) -> str:
    """Run a program on a copy of the data and say which tensor it changes; empty if it changes none.

    It compares values, because NumPy's views change them uncounted, and torch's counts of in-place operations: a clamp
    that changes nothing now may change other data.

    Args:
        program: a model, a guide or an objective, called as ``program(x, *context, **named)``.
        who: what the message calls the program, such as ``"the guide"``.
        x: the data.
        context: tensors that the program takes after x.
        named: tensors that it takes by name.
    """
    names = ["x", *(f"context {i}" for i in range(len(context))), *named]
    given = [x, *context, *named.values()]
    copies = [value.clone() for value in given]
    versions = [copy._version for copy in copies]  # private; torch has no public count of in-place operations
    positional = 1 + len(context)
    program(*copies[:positional], **dict(zip(named, copies[positional:], strict=True)))
    for name, value, copy, version in zip(names, given, copies, versions, strict=True):
        if copy._version != version or not _same(value, copy):
            return (
                f"{who} changes {name} in place, so everything after it sees other data. Look for methods that end in "
                f"an underscore, for -= and /=, and for assignments to elements, and work on {name}.clone()"
            )
    return ""


def _same(first: Tensor, second: Tensor) -> bool:
    """True if all values are equal; NaN, which marks a missing value, equals NaN."""
    if first.shape != second.shape:  # after squeeze_, for example
        return False
    return bool(((first == second) | (torch.isnan(first) & torch.isnan(second))).all())
