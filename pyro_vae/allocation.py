"""A limit on the tensors that a block makes, kept before they take memory."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

__all__ = ["at_most"]


@contextlib.contextmanager
def at_most(numbers: int, tensors: int, why: str) -> Iterator[None]:
    """Refuses a block that would make larger tensors, before they are made.

    It adds up what operations without tensor arguments make (``torch.zeros``, ``torch.randn``), and compares the size
    of each other result by itself. It does not see what Python and NumPy hold.

    Args:
        numbers: how many numbers all new tensors may have together, and the result of each operation by itself.
        tensors: how many new tensors there may be: each costs time, however small it is.
        why: what errors say of the block.

    Raises:
        ValueError: at the first operation that would exceed the limit.
    """
    with _Limit(numbers, tensors, why):
        yield


class _Limit(TorchDispatchMode):
    def __init__(self, most: int, tensors: int, why: str) -> None:
        super().__init__()
        self.most = self.left = most
        self.tensors = tensors
        self.why = why

    def __torch_dispatch__(self, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if all(result.alias_info is not None for result in func._schema.returns):
            return func(*args, **kwargs)  # a view, or a change in place
        size = _size(func, args, kwargs)
        if not any(isinstance(value, Tensor) for value in tree_flatten((args, kwargs))[0]):
            self.left -= size
            self.tensors -= 1
        if self.tensors < 0:
            raise ValueError(f"refused: {self.why}. It is made of too many tensors")
        if size > self.most or self.left < 0:
            raise ValueError(
                f"refused: {self.why}. An operation ({func.__name__}) was to make a tensor of {size:,} numbers, of "
                f"{self.most:,} that are allowed for all"
            )
        return func(*args, **kwargs)


def _size(func: Any, args: Any, kwargs: dict[str, Any]) -> int:
    """How many numbers an operation would give, found on tensors without values."""
    args, kwargs = tree_map(lambda value: value.to("meta") if isinstance(value, Tensor) else value, (args, kwargs))
    if "device" in kwargs or any(argument.name == "device" for argument in func._schema.arguments):
        kwargs = {**kwargs, "device": torch.device("meta")}
    try:
        results = tree_flatten(func(*args, **kwargs))[0]
    except (RuntimeError, TypeError, ValueError):
        return 0  # what depends on values (unique, item) gives no more numbers than it got; what is wrong, none
    return sum(math.prod(result.shape) for result in results if isinstance(result, Tensor))
