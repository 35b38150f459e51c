"""Whether a program changes the data that it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["changed_in_place"]


def changed_in_place(program: Callable[..., Any], who: str, x: Tensor, *context: Tensor, **named: Tensor) -> str:
    """Runs a program on a copy of the data and says what of it the program changes; empty where nothing.

    Values are compared, which NumPy's views change too, and torch's counts of what is done in place: a clamp that
    happens to change nothing now will do so with other data.

    Args:
        program: a model, a guide or an objective, called as ``program(x, *context, **named)``.
        who: what to call it, such as ``"the guide"``.
        x: data.
        context: what the program takes after x.
        named: what it takes by name.
    """
    names = ["x", *(f"context {i}" for i in range(len(context))), *named]
    given = [x, *context, *named.values()]
    copies = [value.clone() for value in given]
    versions = [copy._version for copy in copies]  # private, but no public name of torch's counts what is done in place
    positional = 1 + len(context)
    program(*copies[:positional], **dict(zip(named, copies[positional:], strict=True)))
    for name, value, copy, version in zip(names, given, copies, versions, strict=True):
        if copy._version != version or not _same(value, copy):
            return (
                f"{who} changes {name} in place, so that whatever runs after it sees other data. Look for methods that "
                f"end in an underscore, -=, /= and assignments to elements, and work on {name}.clone()"
            )
    return ""


def _same(first: Tensor, second: Tensor) -> bool:
    """Whether all values are equal, where NaN, which stands for a missing value, equals NaN."""
    if first.shape != second.shape:  # by squeeze_, say
        return False
    return bool(((first == second) | (torch.isnan(first) & torch.isnan(second))).all())
