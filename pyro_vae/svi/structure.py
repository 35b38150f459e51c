"""The arguments of a step: what changes from step to step, and what makes another graph."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from pyro_vae.svi.capture import CannotCaptureError

__all__ = ["Structure", "alike", "structure"]


class Structure(NamedTuple):
    """Arguments taken apart.

    Args:
        key: what two calls have in common that can share a graph, except for the batch size.
        tensors: the tensors among them, and each float as a tensor, ``()``.
        leaves: all of them in order.
        spec: how to put them together again; None where they are tensors without keywords.
    """

    key: Hashable
    tensors: list[Tensor]
    leaves: Sequence[Any]
    spec: Any

    def together(self, tensors: Sequence[Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with other tensors in their places."""
        if self.spec is None:
            return tuple(tensors), {}
        supply = iter(tensors)
        leaves = [next(supply) if isinstance(leaf, (Tensor, float)) else leaf for leaf in self.leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return args, kwargs


def structure(args: tuple[Any, ...], kwargs: dict[str, Any], dtype: torch.dtype) -> Structure:
    """Takes the arguments of a step apart.

    Args:
        args: by position.
        kwargs: by name.
        dtype: of the tensors that floats become.

    Raises:
        CannotCaptureError: where an argument holds numbers that a graph would not see change.
    """
    if not kwargs and all(type(a) is Tensor for a in args):
        return Structure(tuple(map(_kind, args)), [a.contiguous() for a in args], args, None)
    leaves, spec = pytree.tree_flatten((args, kwargs))
    tensors: list[Tensor] = []
    kinds: list[Hashable] = []
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            tensors.append(leaf.contiguous())  # a graph knows one layout in memory
            kinds.append(_kind(leaf))
        elif isinstance(leaf, float):
            tensors.append(torch.tensor(leaf, dtype=dtype))
            kinds.append(float)
        elif isinstance(leaf, np.ndarray):
            raise CannotCaptureError("an argument is a NumPy array, whose values a graph would not see change")
        else:
            kinds.append((type(leaf), leaf if isinstance(leaf, Hashable) else _Same(leaf)))
    return Structure((spec, tuple(kinds)), tensors, leaves, spec)


def alike(args: tuple[Any, ...], before: tuple[Any, ...]) -> bool:
    """Whether arguments are tensors that any graph which took those before takes as they are.

    Args:
        args: by position.
        before: of another step.
    """
    return len(args) == len(before) and all(
        type(a) is type(b) is Tensor
        and a.shape == b.shape
        and a.dtype == b.dtype
        and a.device == b.device
        and a.is_contiguous()
        for a, b in zip(args, before, strict=True)
    )


class _Same:
    """An object that is equal to itself alone; it is kept, so that no other takes its place in memory."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.thing is self.thing

    def __hash__(self) -> int:
        return id(self.thing)


def _kind(tensor: Tensor) -> Hashable:
    # Sizes 0 and 1 broadcast and vanish as others do not.
    small = tensor.shape[0] if tensor.dim() and tensor.shape[0] < 2 else None
    return small, tensor.shape[1:], tensor.dim(), tensor.dtype, tensor.device
