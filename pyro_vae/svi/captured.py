"""A step, or a loss, of one structure of arguments, captured."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyro_vae.deferred import noting
from pyro_vae.svi.capture import CannotCaptureError, Gradients, Graph, capture, keep_unless
from pyro_vae.svi.loss import Loss
from pyro_vae.svi.optimizer import SharedOptim
from pyro_vae.svi.running import Compiled, batch_sizes, run
from pyro_vae.svi.structure import Structure
from pyro_vae.svi.updates import Updates, updates_of

if TYPE_CHECKING:
    from pyro_vae.svi.compiled import CompiledSVI

__all__ = ["Captured", "CapturedLoss", "CapturedStep"]


class Captured:
    """What both share: a graph, and what to do where data turn out not to be what the model wants.

    Args:
        svi: whose programs.
        graph: the graph; it returns the loss, whether the data are as they must be (or None), and what ``svi.also``
            gives (or None). Where they are not, it shall leave every tensor as it is.
    """

    def __init__(self, svi: CompiledSVI, graph: Graph) -> None:
        self.svi = svi
        self.graph = graph
        keep_unless(graph, 1)
        _look_at_rebound(svi.rebound, graph)
        self._known: dict[tuple[int, ...], bool] = {}
        self._kinds = [_kind(t) for t in graph.tensors]
        self._places = _places(graph.tensors)

    def takes(self, tensors: Sequence[Tensor]) -> bool:
        """Whether the graph is right for these batch sizes and floats, and for the tensors around it as they are."""
        places = _places(self.graph.tensors)
        if places != self._places:
            if [_kind(t) for t in self.graph.tensors] != self._kinds:  # as after vae.double() or vae.to("cuda")
                return False
            self._places = places
        sizes = batch_sizes(tensors)
        if sizes not in self._known:
            self._known[sizes] = self.graph.takes(tensors)
        return self._known[sizes] and self.graph.decides_alike(tensors)

    def __call__(self, tensors: Sequence[Tensor], args: Any, kwargs: Any) -> Loss:
        """Runs the graph; the arguments once more for the words of an error."""
        raise NotImplementedError

    def _called(
        self, graph: Callable[[Sequence[Tensor]], Any], tensors: Sequence[Tensor], args: Any, kwargs: Any
    ) -> Any:
        try:
            return graph(tensors)
        except (RuntimeError, IndexError):
            self.svi.explain(*args, **kwargs)  # which raises Pyro's own error, with the name of the site
            raise

    def _look(self, ok: Tensor | None, noted: Tensor | None, args: Any, kwargs: Any) -> None:
        """Raises the error that the data deserve, or notes what was noted."""
        if ok is not None and not ok:
            self.svi.explain(*args, **kwargs)
        self.svi.noted = noted


class CapturedLoss(Captured):
    """A loss without gradient.

    Args:
        svi: whose programs.
        found: the arguments.
    """

    def __init__(self, svi: CompiledSVI, found: Structure) -> None:
        def program(*tensors: Tensor) -> Any:
            with torch.no_grad():
                return _evaluated(svi, svi.loss, found, tensors)

        super().__init__(svi, capture(program, found.examples()))

    def __call__(self, tensors: Sequence[Tensor], args: Any, kwargs: Any) -> Loss:
        """The loss; the arguments once more for the words of an error."""
        loss, ok, noted = self._called(functools.partial(run, self.graph), tensors, args, kwargs)
        self._look(ok, noted, args, kwargs)
        return loss.as_subclass(Loss)


class CapturedStep(Captured):
    """A step: loss and gradient, and in mode ``"fast"`` the update where it is one of :mod:`pyro_vae.svi.updates`.

    Args:
        svi: whose programs.
        leaves: the parameters.
        trained: those that a loss has had a gradient in; of other losses theirs is zero, as Pyro leaves it.
        found: the arguments.
    """

    def __init__(self, svi: CompiledSVI, leaves: list[Tensor], trained: list[Tensor], found: Structure) -> None:
        self.leaves = leaves
        _refuse_strangers(svi.optim, leaves)
        gradients = Gradients(trained)
        self.updates = updates_of(svi.optim, trained, svi.steps_taken) if svi.mode == "fast" else None
        self.trained = trained

        def program(*tensors: Tensor) -> Any:
            arguments = tensors if self.updates is None else tensors[:-1]
            loss, ok, noted = _evaluated(svi, svi.loss_and_grads, found, arguments)
            pairs = zip(trained, gradients.values, strict=True)
            found_gradients = [torch.zeros_like(p) if g is None else g for p, g in pairs]
            if self.updates is None:
                return loss, ok, noted, *found_gradients
            with torch.no_grad():
                self.updates.apply(found_gradients, tensors[-1])
            return loss, ok, noted

        numbers = [] if self.updates is None else [self.updates.numbers()[0]]
        super().__init__(svi, capture(program, found.examples(), numbers, gradients))
        self._run = Compiled(self.graph) if svi.mode == "fast" else functools.partial(run, self.graph)
        for p in trained:
            p.grad = None  # what the first step left there would take memory

    def takes(self, tensors: Sequence[Tensor]) -> bool:
        """Whether the graph is right for arguments of these batch sizes and the optimiser's options."""
        if self.updates is None:
            return super().takes(tensors)
        return self.updates.fit() and self.updates.follow(self.graph.tensors) and super().takes(tensors)

    def __call__(self, tensors: Sequence[Tensor], args: Any, kwargs: Any) -> Loss:
        """Takes the step and returns the loss before it; the arguments once more for the words of an error."""
        if self.updates is None:
            loss, ok, noted, *gradients = self._called(self._run, tensors, args, kwargs)
            self._look(ok, noted, args, kwargs)
            for p, gradient in zip(self.trained, gradients, strict=True):
                p.grad = gradient
            self.svi.optim(set(self.leaves))
            for p in self.trained:
                p.grad = None
            return loss.as_subclass(Loss)
        (loss,) = self._several(self.updates, [(tensors, args, kwargs)])
        return loss.as_subclass(Loss)

    def several(self, calls: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
        """Takes steps on arguments like those of the step before, and returns the losses.

        Args:
            calls: the arguments of each.
        """
        if self.updates is None:
            return [self(args, args, {}) for args in calls]
        return self._several(self.updates, [(args, args, {}) for args in calls])

    def _several(self, updates: Updates, calls: Sequence[tuple[Sequence[Tensor], Any, Any]]) -> list[Tensor]:
        losses: list[Tensor] = []
        try:
            for (tensors, args, kwargs), numbers in zip(calls, updates.numbers(len(calls)), strict=True):
                loss, ok, noted = self._called(self._run, [*tensors, numbers], args, kwargs)
                self._look(ok, noted, args, kwargs)
                losses.append(loss)
        finally:
            updates.count(len(losses))
        return losses


@contextlib.contextmanager
def _unchanged(owners: list[Any]) -> Iterator[list[tuple[Any, str, Any]]]:
    """Puts back what a block puts into the attributes and buffers of objects.

    Args:
        owners: modules and others.

    Yields:
        A list to which the end of the block adds owner, name and former tensor of each that another tensor took the
        place of.
    """
    places = [
        (owner, place) for owner in owners for place in (vars(owner), vars(owner).get("_buffers")) if place is not None
    ]
    before = [dict(place) for _, place in places]
    rebound: list[tuple[Any, str, Any]] = []
    try:
        yield rebound
    finally:
        for (owner, place), had in zip(places, before, strict=True):
            for name in place.keys() | had.keys():
                now, then = place.get(name), had.get(name)
                if now is not then and (isinstance(now, Tensor) or isinstance(then, Tensor)):
                    rebound.append((owner, name, then))
            if any(place.get(name) is not thing for name, thing in had.items()) or len(place) != len(had):
                place.clear()
                place.update(had)


def _refuse_strangers(optim: Any, leaves: Sequence[Tensor]) -> None:
    """Where an optimiser steps tensors with a gradient that Pyro does not know, a graph would not see that gradient."""
    if not isinstance(optim, SharedOptim):
        return
    known = {id(p) for p in leaves}
    parameters = [p for group in optim.optimizer.param_groups for p in group["params"]]
    if any(p.grad is not None and p.grad.any() and id(p) not in known for p in parameters):
        raise CannotCaptureError("the optimiser has a parameter that model and guide do not register with Pyro")


def _look_at_rebound(rebound: list[tuple[Any, str, Any]], graph: Graph) -> None:
    """Tensors that a run takes from attributes and replaces would have to be carried on; others are lost."""
    for owner, name, had in rebound:
        what = f"the tensor {name!r} of {type(owner).__name__}"
        if any(had is t for t in graph.tensors):
            raise CannotCaptureError(
                f"it reads {what} and puts another in its place; make it a buffer and change that in place (copy_)"
            )
        warnings.warn(
            f"{what} is set in each run; with CompiledSVI it stays that of the last run by Pyro", stacklevel=7
        )


def _places(tensors: Sequence[Tensor]) -> tuple[list[int], list[torch.dtype]]:
    """What changes where a tensor gets other data; quick to look at."""
    return [t.data_ptr() for t in tensors], [t.dtype for t in tensors]


def _kind(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _evaluated(
    svi: CompiledSVI, loss_of: Any, found: Structure, tensors: Sequence[Tensor]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The loss, whether the data were as they must be, and what else is noted."""
    args, kwargs = found.together(tensors)
    with noting() as conditions, _unchanged(svi.owners()) as svi.rebound:
        loss = loss_of(svi.model, svi.guide, *args, **kwargs)
        noted = None if svi.also is None else svi.also()
    if isinstance(loss, tuple):
        raise CannotCaptureError(f"its loss is {len(loss)} losses")
    ok = torch.stack([c.reshape(()) for c in conditions]).all() if conditions else None
    return torch.as_tensor(loss).detach(), ok, noted
