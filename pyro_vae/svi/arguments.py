"""The arguments of a step: which may change from step to step, and which make another graph."""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree  # Pyro imports it too
from torch.utils.data import Dataset, IterableDataset

from pyro_vae.data import DataSet, Split
from pyro_vae.data.frames import is_frame, is_sparse
from pyro_vae.svi.refusals import CannotCaptureError

__all__ = ["Arguments", "alike", "args_of", "known_ahead", "take_apart"]


# Types of arguments that nothing can change in place.
_CONSTANT = (bool, int, complex, str, bytes, type(None), torch.dtype, torch.device, enum.Enum, np.generic)


class Arguments(NamedTuple):
    """The arguments of a call, taken apart.

    Args:
        key: equal for two calls that can share a graph, except for the batch size.
        tensors: the tensors among them, and each float as a tensor, float64, ``()``.
        leaves: all of them in order.
        spec: how to put them together again; None if they are tensors without keywords.
    """

    key: Hashable
    tensors: list[Tensor]
    leaves: Sequence[Any]
    spec: Any

    def examples(self) -> list[Tensor | float]:
        """Return the tensors, and the floats themselves."""
        if self.spec is None:
            return list(self.tensors)
        changing = [leaf for leaf in self.leaves if isinstance(leaf, (Tensor, float))]
        return [a if isinstance(a, float) else t for a, t in zip(changing, self.tensors, strict=True)]

    def callables(self) -> list[Callable[..., Any]]:
        """Return the functions, modules and other callables among them."""
        return [leaf for leaf in self.leaves if callable(leaf) and not isinstance(leaf, Tensor)]

    def together(self, tensors: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with these in the places of tensors and floats."""
        if self.spec is None:
            return tuple(tensors), {}
        supply = iter(tensors)
        leaves = [next(supply) if isinstance(leaf, (Tensor, float)) else leaf for leaf in self.leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return args, kwargs

    def refuse_if_changed(self, args: tuple[Any, ...], kwargs: dict[str, Any], tensors: Sequence[Any]) -> None:
        """Raise if a run has changed the lists and dictionaries among its arguments.

        Args:
            args: by position, after the run.
            kwargs: by name, after the run.
            tensors: those that :meth:`together` got.
        """
        if self.spec is None:
            return
        leaves, spec = pytree.tree_flatten((args, kwargs))
        before, _ = pytree.tree_flatten(self.together(tensors))
        if spec != self.spec or any(a is not b for a, b in zip(leaves, before, strict=True)):
            raise CannotCaptureError("it changes a list or a dictionary among its arguments")


def take_apart(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """Take the arguments of a step apart.

    Args:
        args: by position.
        kwargs: by name.

    Raises:
        CannotCaptureError: if an argument holds numbers whose changes a graph would not see.
    """
    if not kwargs and all(type(a) is Tensor for a in args):
        return Arguments((*map(_kind, args), *_repeats(args)), [a.contiguous() for a in args], args, None)
    leaves, spec = pytree.tree_flatten((args, kwargs))
    tensors: list[Tensor] = []
    kinds: list[Hashable] = []
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            kinds.append(_kind(leaf))
            tensors.append(leaf.contiguous())  # a graph fits one memory layout
        elif isinstance(leaf, float):
            tensors.append(torch.tensor(leaf, dtype=torch.float64, device="cpu"))
            kinds.append(float)
        elif isinstance(leaf, np.ndarray):
            raise CannotCaptureError("an argument is a NumPy array, whose changes a graph would not see; pass a tensor")
        elif (isinstance(leaf, _CONSTANT) or callable(leaf)) and isinstance(leaf, Hashable):
            kinds.append((type(leaf), leaf))
        else:
            raise CannotCaptureError(
                f"an argument is a {type(leaf).__name__}, whose contents a graph would not see change; pass "
                "the tensors in it"
            )
    return Arguments((spec, tuple(kinds), *_repeats(tensors)), tensors, leaves, spec)


def args_of(batch: object) -> tuple[Any, ...]:
    """Return the arguments of a step: the elements of a tuple or a list, or the batch itself."""
    return tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)


def known_ahead(batches: object) -> bool:
    """Return True for a list or a tensor of batches, and False for an iterator.

    Raises:
        TypeError: if these are data, which are no batches yet.
    """
    is_data = isinstance(batches, (Split, DataSet, Dataset)) and not isinstance(batches, IterableDataset)
    if is_data or is_frame(batches) or is_sparse(batches):
        raise TypeError(
            f"batches must be batches; got {type(batches).__name__}, the data themselves. Give data.batches(x, 128, "
            "shuffle=True)"
        )
    return isinstance(batches, (list, tuple, Tensor))


def alike(args: tuple[Any, ...], before: tuple[Any, ...]) -> bool:
    """Return True if the arguments are tensors that fit any graph that the previous arguments fit.

    Args:
        args: by position.
        before: of the previous step.
    """
    return (
        len(args) == len(before)
        and _repeats(args) == _repeats(before)
        and all(
            type(a) is type(b) is Tensor
            and a.shape == b.shape
            and a.dtype == b.dtype
            and a.device == b.device
            and a.is_contiguous()
            for a, b in zip(args, before, strict=True)
        )
    )


def _repeats(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    """Return for each tensor the index of the first that is the same object; () for fewer than two tensors."""
    if len(tensors) < 2:
        return ()
    ids = list(map(id, tensors))
    return tuple(map(ids.index, ids))


def _kind(tensor: Tensor) -> Hashable:
    # Only sizes 0 and 1 broadcast or vanish.
    small = tensor.shape[0] if tensor.dim() and tensor.shape[0] < 2 else None
    if tensor.layout is not torch.strided or tensor.is_nested:
        raise CannotCaptureError(f"an argument is a tensor of layout {str(tensor.layout).removeprefix('torch.')}")
    return small, tensor.shape[1:], tensor.dim(), tensor.dtype, tensor.device
