"""The arguments of a step: what changes from step to step, and what makes another graph."""

from __future__ import annotations

import enum
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree  # the module is there wherever Pyro is, which imports it too

from pyro_vae.svi.refusals import CannotCaptureError

__all__ = ["Structure", "alike", "structure"]


# Arguments of which no part can change.
_CONSTANT = (bool, int, complex, str, bytes, type(None), torch.dtype, torch.device, enum.Enum, np.generic)


class Structure(NamedTuple):
    """Arguments taken apart.

    Args:
        key: what two calls have in common that can share a graph, except for the batch size.
        tensors: the tensors among them, and each float as a tensor, float64, ``()``.
        leaves: all of them in order.
        spec: how to put them together again; None where they are tensors without keywords.
    """

    key: Hashable
    tensors: list[Tensor]
    leaves: Sequence[Any]
    spec: Any

    def examples(self) -> list[Tensor | float]:
        """The tensors, and the floats themselves."""
        if self.spec is None:
            return list(self.tensors)
        changing = [leaf for leaf in self.leaves if isinstance(leaf, (Tensor, float))]
        return [a if isinstance(a, float) else t for a, t in zip(changing, self.tensors, strict=True)]

    def callables(self) -> list[Any]:
        """The functions, modules and other callables among them."""
        return [leaf for leaf in self.leaves if callable(leaf) and not isinstance(leaf, Tensor)]

    def together(self, tensors: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with others in the places of tensors and floats."""
        if self.spec is None:
            return tuple(tensors), {}
        supply = iter(tensors)
        leaves = [next(supply) if isinstance(leaf, (Tensor, float)) else leaf for leaf in self.leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return args, kwargs

    def refuse_if_changed(self, args: tuple[Any, ...], kwargs: dict[str, Any], tensors: Sequence[Any]) -> None:
        """Raises where a run has changed the lists and dictionaries among its arguments.

        Args:
            args: by position, after the run.
            kwargs: by name, after the run.
            tensors: those that :meth:`together` was given.
        """
        if self.spec is None:
            return
        leaves, spec = pytree.tree_flatten((args, kwargs))
        before, _ = pytree.tree_flatten(self.together(tensors))
        if spec != self.spec or any(a is not b for a, b in zip(leaves, before, strict=True)):
            raise CannotCaptureError("it changes a list or a dictionary among its arguments")


def structure(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Structure:
    """Takes the arguments of a step apart.

    Args:
        args: by position.
        kwargs: by name.

    Raises:
        CannotCaptureError: where an argument holds numbers that a graph would not see change.
    """
    if not kwargs and all(type(a) is Tensor for a in args):
        return Structure((*map(_kind, args), *_repeats(args)), [a.contiguous() for a in args], args, None)
    leaves, spec = pytree.tree_flatten((args, kwargs))
    tensors: list[Tensor] = []
    kinds: list[Hashable] = []
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            kinds.append(_kind(leaf))
            tensors.append(leaf.contiguous())  # a graph knows one layout in memory
        elif isinstance(leaf, float):
            tensors.append(torch.tensor(leaf, dtype=torch.float64, device="cpu"))
            kinds.append(float)
        elif isinstance(leaf, np.ndarray):
            raise CannotCaptureError("an argument is a NumPy array, whose values a graph would not see change")
        elif (isinstance(leaf, _CONSTANT) or callable(leaf)) and isinstance(leaf, Hashable):
            kinds.append((type(leaf), leaf))
        else:
            raise CannotCaptureError(
                f"an argument is a {type(leaf).__name__}, whose contents a graph would not see change; hand over the "
                "tensors in it"
            )
    return Structure((spec, tuple(kinds), *_repeats(tensors)), tensors, leaves, spec)


def alike(args: tuple[Any, ...], before: tuple[Any, ...]) -> bool:
    """Whether arguments are tensors that any graph which took those before takes as they are.

    Args:
        args: by position.
        before: of another step.
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
    """For each tensor the place of the first that is the same one, where there is more than one tensor."""
    if len(tensors) < 2:
        return ()
    ids = list(map(id, tensors))
    return tuple(map(ids.index, ids))


def _kind(tensor: Tensor) -> Hashable:
    # Sizes 0 and 1 broadcast and vanish as others do not.
    small = tensor.shape[0] if tensor.dim() and tensor.shape[0] < 2 else None
    if tensor.layout is not torch.strided or tensor.is_nested:
        raise CannotCaptureError(f"an argument is a tensor of layout {str(tensor.layout).removeprefix('torch.')}")
    return small, tensor.shape[1:], tensor.dim(), tensor.dtype, tensor.device
