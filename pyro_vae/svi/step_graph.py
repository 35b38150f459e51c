"""The graph of a step, or of a loss, for one structure of arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import torch
from pyro import poutine
from pyro.optim import PyroOptim
from torch import Tensor

from pyro_vae.svi.arguments import Arguments
from pyro_vae.svi.audit import AuditSchedule
from pyro_vae.svi.capture import Gradients, capture
from pyro_vae.svi.execution import CompiledGraph, batch_sizes, run
from pyro_vae.svi.graph import Graph, first_results, guard_on, keep_unless
from pyro_vae.svi.losses import Loss
from pyro_vae.svi.optimizer import SharedOptim
from pyro_vae.svi.refusals import CannotCaptureError
from pyro_vae.svi.side_effects import WrittenPlace, side_effects_undone
from pyro_vae.svi.symbolic_floats import SymbolicFloat
from pyro_vae.svi.updates import Updates, updates_of
from pyro_vae.svi.watch import Watch
from pyro_vae.value_checks import noting

__all__ = ["LossGraph", "Owner", "RunGraph", "StepGraph"]


class Owner(Protocol):
    """What a graph uses of the CompiledSVI that it belongs to, whose attributes these are."""

    model: Callable[..., object]
    guide: Callable[..., object]
    loss: Callable[..., Loss]
    loss_and_grads: Callable[..., Loss]
    optim: PyroOptim
    mode: Literal["fast", "exact"]
    audit: bool
    also: Callable[[], Tensor] | None
    noted: Tensor | None
    number: int
    steps_taken: dict[int, int]
    watch: Watch

    def explain(self, *args: Any, **kwargs: Any) -> None:
        """Let Pyro evaluate the loss, for its error message."""


class RunGraph:
    """What the graphs of a loss and of a step share: the captured graph, and what it changes in Python.

    Args:
        owner: the CompiledSVI.
        arguments: of the captured run.
        parameters: by name.
        loss: the loss to capture.
    """

    trained: Sequence[Tensor] = ()  # the parameters whose gradients the graph returns
    updates: Updates | None = None

    def __init__(
        self, owner: Owner, arguments: Arguments, parameters: Mapping[str, Tensor], loss: Callable[..., Loss]
    ) -> None:
        self.owner = owner
        self.parameters = parameters
        self.losses = 1
        self._arguments = arguments
        self._loss = loss
        self._is_tuple = False
        self._written: list[WrittenPlace] = []
        self._known: dict[tuple[int, ...], bool] = {}

    def _prepare(self, graph: Graph) -> None:
        """Make the captured graph ready to run."""
        for place in self._written:
            place.refuse_if_read(graph)
        self.graph = graph
        keep_unless(graph, self.losses)
        self._guard = guard_on(graph.tensors)
        self.audits = AuditSchedule(self.number, self.owner.audit)

    @property
    def number(self) -> int:
        """The number of the last run, as audits count them."""
        raise NotImplementedError

    def takes(self, tensors: Sequence[Tensor]) -> bool:
        """Return True if the graph fits these batch sizes and floats, and the tensors around it as they are now."""
        if self._guard is not None and not self._guard.check(*self.graph.tensors):
            return False  # as after vae.double() or vae.to("cuda")
        sizes = batch_sizes(tensors)
        if sizes not in self._known:
            self._known[sizes] = self.graph.takes(tensors)
        return self._known[sizes] and self.graph.decides_alike(tensors)

    def __call__(self, tensors: Sequence[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Loss:
        """Run the graph.

        Args:
            tensors: the tensors among the arguments.
            args: all arguments by position, for an error message by Pyro.
            kwargs: those by name.

        Returns:
            The loss, ``()``, or a tuple of losses.
        """
        raise NotImplementedError

    def several(self, calls: Sequence[tuple[Tensor, ...]]) -> Iterator[Loss]:
        """Run the graph on arguments like those of the previous run, and yield the losses one by one.

        Args:
            calls: the arguments of each run.
        """
        return (self(args, args, {}) for args in calls)

    def run_pyro(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Loss, set[Tensor]]:
        """Run Pyro without an update; return the loss, and the parameters that the programs registered."""
        raise NotImplementedError

    def update_numbers(self) -> list[Tensor]:
        """Return the numbers that the update of the next step needs, as the last argument of the graph."""
        return [] if self.updates is None else [self.updates.numbers()[0]]

    def _evaluated(self, tensors: Sequence[Tensor]) -> list[Tensor | None]:
        """Return the results of the graph: losses, whether the data are valid, what is noted, tensors for places."""
        args, kwargs = self._arguments.together(tensors)
        owner = self.owner
        with noting() as conditions, side_effects_undone(owner.watch) as changes:
            loss = self._loss(owner.model, owner.guide, *args, **kwargs)
            noted = None if owner.also is None else owner.also()
        self._arguments.refuse_if_changed(args, kwargs, tensors)
        self._written = [WrittenPlace(change) for change in changes]
        ok = torch.stack([c.reshape(()) for c in conditions]).all() if conditions else None
        self._is_tuple = isinstance(loss, tuple)
        losses = [_number(part) for part in (loss if isinstance(loss, tuple) else [loss])]
        self.losses = len(losses)
        return [*losses, ok, noted, *(tensor for place in self._written for tensor in place.tensors)]

    @property
    def before_gradients(self) -> int:
        """The number of results of the graph that come before the gradients; see ``_evaluated``."""
        return self.losses + 2 + sum(len(place.tensors) for place in self._written)

    def _called(
        self,
        graph: Callable[[Sequence[Tensor]], Any],
        tensors: Sequence[Tensor],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[Loss, list[Tensor]]:
        """Run the graph; raise Pyro's own error if the data are not valid.

        Returns:
            The loss, or the losses in a tuple; and the gradients.
        """
        before = torch.get_rng_state()
        try:
            results = graph(tensors)
        except (RuntimeError, IndexError) as error:
            self._explain(before, args, kwargs)
            raise CannotCaptureError(f"its graph fails but Pyro does not: {error}") from error
        ok, self.owner.noted, *others = results[self.losses :]
        if ok is not None and not ok:
            self._explain(before, args, kwargs)
            raise CannotCaptureError("its graph refuses values that Pyro accepts")
        rest = iter(others)
        for place in self._written:
            place.put(rest)
        loss = tuple(results[: self.losses]) if self._is_tuple else results[0]
        return loss, list(rest)

    def _explain(self, before: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Let Pyro raise its own error, with the name of the site, for the random numbers that the graph has drawn."""
        torch.set_rng_state(before)
        self.owner.explain(*args, **kwargs)
        torch.set_rng_state(before)  # it raised none, so Pyro takes the step


class LossGraph(RunGraph):
    """The graph of a loss, without gradient.

    Args:
        owner: the CompiledSVI.
        arguments: of the captured run.
        parameters: by name.
    """

    def __init__(self, owner: Owner, arguments: Arguments, parameters: Mapping[str, Tensor]) -> None:
        super().__init__(owner, arguments, parameters, owner.loss)

        def program(*tensors: Tensor) -> list[Tensor | None]:
            with torch.no_grad():
                return self._evaluated(tensors)

        self._runs = 0
        self._prepare(capture(program, arguments.examples()))

    @property
    def number(self) -> int:
        """The number of runs so far."""
        return self._runs

    def __call__(self, tensors: Sequence[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Loss:
        """Evaluate the loss; see :meth:`RunGraph.__call__`."""
        self._runs += 1
        loss, _ = self._called(functools.partial(run, self.graph), tensors, args, kwargs)
        return loss

    def run_pyro(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Loss, set[Tensor]]:
        """Evaluate the loss with Pyro; see :meth:`RunGraph.run_pyro`."""
        with torch.no_grad():
            return self.owner.loss(self.owner.model, self.owner.guide, *args, **kwargs), set()


class StepGraph(RunGraph):
    """The graph of a step: loss, gradient, and in mode ``"fast"`` the update if :mod:`pyro_vae.svi.updates` has it.

    Args:
        owner: the CompiledSVI.
        arguments: of the captured run.
        parameters: by name.
        trained: the parameters that have had a gradient in any step; if this loss gives them none, their gradient is
            zero, as with Pyro.
    """

    def __init__(
        self, owner: Owner, arguments: Arguments, parameters: Mapping[str, Tensor], trained: list[Tensor]
    ) -> None:
        super().__init__(owner, arguments, parameters, owner.loss_and_grads)
        self.leaves = list({id(p): p for p in parameters.values()}.values())  # one may have two names
        _refuse_strangers(owner.optim, self.leaves)
        if any(p._post_accumulate_grad_hooks for p in self.leaves):
            raise CannotCaptureError("a parameter has a hook that runs after its gradient was accumulated")
        gradients = Gradients(trained)
        self.updates = updates_of(owner.optim, trained, owner.steps_taken) if owner.mode == "fast" else None
        self.trained = trained

        def program(*tensors: Tensor) -> list[Tensor | None]:
            results = self._evaluated(tensors if self.updates is None else tensors[:-1])
            pairs = zip(trained, gradients.values, strict=True)
            found_gradients = [torch.zeros_like(p) if g is None else g for p, g in pairs]
            if any(g.layout is not torch.strided for g in found_gradients):
                raise CannotCaptureError("the gradient of a parameter is sparse")
            if self.updates is not None:
                with torch.no_grad():
                    self.updates.apply(found_gradients, tensors[-1])
            return [*results, *found_gradients]

        self._prepare(capture(program, arguments.examples(), self.update_numbers(), gradients))
        self._run: Callable[[Sequence[Tensor]], Any]
        if self.updates is None:
            self._run = functools.partial(run, self.graph)
        else:
            self._run = CompiledGraph(first_results(self.graph, self.before_gradients))
        for p in trained:
            p.grad = None  # the gradients of the first step would take memory

    @property
    def number(self) -> int:
        """The number of the last step, as the optimiser counts them."""
        return self.owner.number

    def takes(self, tensors: Sequence[Tensor]) -> bool:
        """Return True if the graph fits these arguments and the present options of the optimiser."""
        if self.updates is None:
            return super().takes(tensors)
        return self.updates.fit(self.graph.tensors) and super().takes(tensors)

    def __call__(self, tensors: Sequence[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Loss:
        """Take the step and return the loss before it; see :meth:`RunGraph.__call__`."""
        if self.updates is not None:
            (loss,) = self._several(self.updates, [(tensors, args, kwargs)])
            return loss
        loss, gradients = self._called(self._run, tensors, args, kwargs)
        for p, gradient in zip(self.trained, gradients, strict=True):
            p.grad = _laid_out_as(p, gradient)
        self.owner.optim(set(self.leaves))
        self.owner.number += 1
        for p in self.trained:
            p.grad = None
        return loss

    def several(self, calls: Sequence[tuple[Tensor, ...]]) -> Iterator[Loss]:
        """Take several steps; see :meth:`RunGraph.several`."""
        if self.updates is None:
            return super().several(calls)
        return self._several(self.updates, [(args, args, {}) for args in calls])

    def _several(
        self, updates: Updates, calls: Sequence[tuple[Sequence[Tensor], tuple[Any, ...], dict[str, Any]]]
    ) -> Iterator[Loss]:
        taken = 0
        try:
            for (tensors, args, kwargs), numbers in zip(calls, updates.numbers(len(calls)), strict=True):
                loss, _ = self._called(self._run, [*tensors, numbers], args, kwargs)
                taken += 1
                yield loss
        finally:
            updates.count(taken)  # also those before an error
            self.owner.number += taken

    def run_pyro(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Loss, set[Tensor]]:
        """Compute the loss and its gradient with Pyro; see :meth:`RunGraph.run_pyro`."""
        with poutine.trace(param_only=True) as seen:
            loss = self.owner.loss_and_grads(self.owner.model, self.owner.guide, *args, **kwargs)
        return loss, {site["value"].unconstrained() for site in seen.trace.nodes.values()}


def _number(loss: SymbolicFloat | Tensor | float) -> Tensor:
    return loss.tensor if isinstance(loss, SymbolicFloat) else torch.as_tensor(loss).detach()


def _laid_out_as(p: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient in the memory layout that backward gives it: an optimiser may round otherwise in another."""
    return gradient if gradient.stride() == p.stride() else torch.empty_like(p).copy_(gradient)


def _refuse_strangers(optim: PyroOptim, leaves: Sequence[Tensor]) -> None:
    """Raise if an optimiser steps a tensor that Pyro does not know: the graph would not compute its gradient."""
    if not isinstance(optim, SharedOptim):
        return
    known = {id(p) for p in leaves}
    parameters = [p for group in optim.optimizer.param_groups for p in group["params"]]
    if any(p.grad is not None and p.grad.any() and id(p) not in known for p in parameters):
        raise CannotCaptureError("the optimiser has a parameter that model and guide do not register with Pyro")
