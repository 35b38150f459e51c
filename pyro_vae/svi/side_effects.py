"""What a run changes in Python: undone after a capture, and repeated in each run of a graph if it concerns tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import pyro
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import _pytree as pytree

from pyro_vae.svi.graph import Graph
from pyro_vae.svi.places import Change
from pyro_vae.svi.refusals import CannotCaptureError
from pyro_vae.svi.watch import Watch, reachable_places

__all__ = ["StoreCopy", "TensorCopies", "WrittenPlace", "side_effects_undone"]


class WrittenPlace:
    """A place into which each run puts a tensor, or a container of tensors.

    Args:
        change: what the captured run put there.
    """

    def __init__(self, change: Change) -> None:
        self._where, self._put = change.where, change.put
        self._had = [t for t in pytree.tree_leaves(change.then) if isinstance(t, Tensor)]
        self._leaves, self._spec = pytree.tree_flatten(change.now)
        self.tensors = [leaf for leaf in self._leaves if isinstance(leaf, FakeTensor)]

    def refuse_if_read(self, graph: Graph) -> None:
        """Raise if a run reads what the previous run has put there: the graph holds that one tensor.

        Args:
            graph: the graph.

        Raises:
            CannotCaptureError: if it reads it.
        """
        if any(had is t for had in self._had for t in graph.tensors):
            raise CannotCaptureError(
                f"it reads the tensor {self._where} and puts another in its place; make it a buffer and change that "
                "in place (copy_)"
            )

    def put(self, tensors: Iterator[Tensor]) -> None:
        """Put there what a run of the graph gave.

        Args:
            tensors: the results of the graph; takes as many as belong here.
        """
        leaves = [next(tensors) if isinstance(leaf, FakeTensor) else leaf for leaf in self._leaves]
        if self._put is not None:
            self._put(pytree.tree_unflatten(leaves, self._spec))


class TensorCopies:
    """Copies of tensors; the copies of two tensors that share memory share memory too.

    Args:
        tensors: of any layout in memory.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._storages = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in tensors}
        self._copies = {where: storage.clone() for where, storage in self._storages.items()}

    def of(self, tensor: Tensor) -> Tensor:
        """Return the copy of a tensor.

        Args:
            tensor: one of those, or another in the same memory.
        """
        copy = self._copies[tensor.untyped_storage().data_ptr()]
        empty = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        return empty.set_(copy, tensor.storage_offset(), tensor.shape, tensor.stride())

    def restore(self) -> None:
        """Give the tensors back the numbers that they had."""
        for where, storage in self._storages.items():
            storage.copy_(self._copies[where])


class StoreCopy:
    """The contents of Pyro's parameter store now, to restore: some losses put other tensors there."""

    def __init__(self) -> None:
        store = pyro.get_param_store()
        self._places = [store._params, store._param_to_name, store._constraints]
        self._had = [dict(place) for place in self._places]

    def now(self, tensor: Tensor) -> Tensor:
        """Return the tensor that the store now holds under the name that a tensor had in it.

        Args:
            tensor: maybe one from the store, or another in the same memory.

        Returns:
            The tensor itself if it had no name, or still has it.
        """
        names = {p.data_ptr(): name for name, p in self._had[0].items()}
        name = names.get(tensor.data_ptr())
        return tensor if name is None or self._places[0].get(name) is self._had[0][name] else self._places[0][name]

    def restore(self) -> None:
        """Restore the contents."""
        for place, had in zip(self._places, self._had, strict=True):
            place.clear()
            place.update(had)


@contextlib.contextmanager
def side_effects_undone(watch: Watch) -> Iterator[list[Change]]:
    """Undo whatever a block changes in Python, as a capture has to.

    Args:
        watch: of the programs that run in the block.

    Yields:
        A list. After the block it has the changes that a graph has to make in each run: places that got tensors.

    Raises:
        CannotCaptureError: if it changes anything else of the user's.
    """
    places = reachable_places(watch.roots())
    followed: list[Change] = []
    try:
        yield followed
        changes = places.changes()
    finally:
        places.restore()
    for change in changes:
        # Only the library itself reads what it keeps under a private name.
        if change.of_tensors and _is_fake(change.now) and (change.by_user or not change.key[1].startswith("_")):
            followed.append(change)
        elif change.by_user:
            raise CannotCaptureError(
                f"it does something else when it runs again: it changes {change}. A number that changes from step "
                "to step can be an argument, or a buffer that is changed in place"
            )
    watch.without([change.key for change in changes])


def _is_fake(thing: object) -> bool:
    tensors = [leaf for leaf in pytree.tree_leaves(thing) if isinstance(leaf, Tensor)]
    return bool(tensors) and all(isinstance(t, FakeTensor) for t in tensors)
