"""A limit on the tensors that a block may make, checked before they take memory."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

__all__ = ["limiting_allocation"]


@contextlib.contextmanager
def limiting_allocation(numbers: int, tensors: int, why: str) -> Iterator[None]:
    """Run a block that may make only so many numbers; refuse an operation beyond that before it runs.

    New tensors, of operations without tensor arguments (``torch.zeros``, ``torch.randn``), are added up. The result of
    any other operation is compared with the limit by itself. Memory of Python and NumPy is not seen.

    Args:
        numbers: the most numbers that all new tensors may have together, and any other result by itself.
        tensors: the most new tensors: each costs time, however small it is.
        why: the reason for the limit, in errors.

    Raises:
        ValueError: at the first operation that would exceed the limit.
    """
    with _Limit(numbers, tensors, why):
        yield


class _Dispatch:
    """What :class:`_Limit` does. A mode with this method of its own would import torch._dynamo, for a second."""

    most: int
    left: int
    tensors: int
    why: str

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if all(result.alias_info is not None for result in func._schema.returns):
            return func(*args, **kwargs)  # a view, or a change in place
        size = _size(func, args, kwargs)
        if not any(isinstance(value, Tensor) for value in tree_flatten((args, kwargs))[0]):
            self.left -= size
            self.tensors -= 1
        if self.tensors < 0:
            raise ValueError(f"refused: {self.why}. It makes too many tensors")
        if size > self.most or self.left < 0:
            raise ValueError(
                f"refused: {self.why}. An operation ({func.__name__}) would make a tensor of {size:,} numbers; at most "
                f"{self.most:,} are allowed in all"
            )
        return func(*args, **kwargs)


class _Limit(_Dispatch, TorchDispatchMode):
    def __init__(self, most: int, tensors: int, why: str) -> None:
        super().__init__()
        self.most = self.left = most
        self.tensors = tensors
        self.why = why


def _size(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Return how many numbers an operation would make, found with tensors that have no values."""
    args, kwargs = tree_map(lambda value: value.to("meta") if isinstance(value, Tensor) else value, (args, kwargs))
    if "device" in kwargs or any(argument.name == "device" for argument in func._schema.arguments):
        kwargs = {**kwargs, "device": torch.device("meta")}
    try:
        results = tree_flatten(func(*args, **kwargs))[0]
    except (RuntimeError, TypeError, ValueError):
        return 0  # it depends on values (unique, item) and makes no more numbers than it gets, or it is wrong
    return sum(math.prod(result.shape) for result in results if isinstance(result, Tensor))
