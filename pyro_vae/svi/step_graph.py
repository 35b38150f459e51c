"""A step, or a loss, of one structure of arguments, captured."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from pyro import poutine
from torch import Tensor

from pyro_vae.svi.audit import Audits, Did, Difference, difference
from pyro_vae.svi.execution import Compiled, batch_sizes, give_back_freed_memory, run
from pyro_vae.svi.generators import Generators
from pyro_vae.svi.graph import Graph, first_results, keep_unless
from pyro_vae.svi.optimizer import SharedOptim
from pyro_vae.svi.refusals import CannotCaptureError
from pyro_vae.svi.side_effects import Copies, Store, Written, put_back
from pyro_vae.svi.structure import Structure, structure
from pyro_vae.svi.surroundings import guards_of
from pyro_vae.svi.symbolic_floats import FloatArgument
from pyro_vae.svi.tracing import Gradients, capture
from pyro_vae.svi.updates import Updates, updates_of
from pyro_vae.value_checks import noting

if TYPE_CHECKING:
    from pyro_vae.svi.compiled_svi import CompiledSVI

__all__ = ["Captured", "CapturedLoss", "CapturedStep", "PyroRan"]


class PyroRan(NamedTuple):
    """A run by Pyro, without the update.

    Args:
        loss: as Pyro returns it.
        parameters: those that the programs registered.
        differs: in what the graph differs from it, or None.
        undo: puts back the tensors and the generators that the run changed.
    """

    loss: Any
    parameters: set[Tensor]
    differs: Difference | None
    undo: Callable[[], None]


class Captured:
    """What a captured loss and a captured step share: a graph, what it leaves in Python, and the audit.

    Args:
        svi: whose programs.
        found: the arguments.
        parameters: by their names.
        loss_of: the loss that is captured.
    """

    def __init__(self, svi: CompiledSVI, found: Structure, parameters: Mapping[str, Tensor], loss_of: Any) -> None:
        self.svi = svi
        self.parameters = parameters
        self._found = found
        self._loss_of = loss_of
        self._is_tuple = False
        self._losses = 1
        self._written: list[Written] = []
        self._known: dict[tuple[int, ...], bool] = {}

    def _take_up(self, graph: Graph) -> None:
        """Gets the captured graph ready to run."""
        for place in self._written:
            place.refuse_if_read(graph)
        self.graph = graph
        keep_unless(graph, self._losses)
        self._guards = guards_of(graph.tensors)
        self.audits = Audits(self.number, self.svi.audit)

    @property
    def number(self) -> int:
        """The number of the last run, as audits count them."""
        raise NotImplementedError

    def takes(self, tensors: Sequence[Tensor]) -> bool:
        """Whether the graph is right for arguments of these batch sizes and floats, and for the tensors around it."""
        if self._guards is not None and not self._guards.check(*self.graph.tensors):
            return False  # as after vae.double() or vae.to("cuda")
        sizes = batch_sizes(tensors)
        if sizes not in self._known:
            self._known[sizes] = self.graph.takes(tensors)
        return self._known[sizes] and self.graph.decides_alike(tensors)

    def __call__(self, tensors: Sequence[Tensor], args: Any, kwargs: Any) -> Any:
        """Runs the graph; the arguments once more for the words of an error.

        Returns:
            The loss, ``()``, or the losses in a tuple.
        """
        raise NotImplementedError

    def several(self, calls: Sequence[tuple[Tensor, ...]]) -> Iterator[Any]:
        """Runs the graph on arguments like those of the run before, and gives the losses one by one.

        Args:
            calls: the arguments of each.
        """
        return (self(args, args, {}) for args in calls)

    # Runs.

    def _evaluated(self, tensors: Sequence[Tensor]) -> list[Tensor | None]:
        """What a graph returns: the losses, whether the data are valid, what is noted, and the tensors to put back."""
        args, kwargs = self._found.together(tensors)
        with noting() as conditions, put_back(self.svi) as changes:
            loss = self._loss_of(self.svi.model, self.svi.guide, *args, **kwargs)
            noted = None if self.svi.also is None else self.svi.also()
        self._found.refuse_if_changed(args, kwargs, tensors)
        self._written = [Written(change) for change in changes]
        ok = torch.stack([c.reshape(()) for c in conditions]).all() if conditions else None
        self._is_tuple = isinstance(loss, tuple)
        losses = [_number(part) for part in (loss if self._is_tuple else [loss])]
        self._losses = len(losses)
        return [*losses, ok, noted, *(tensor for place in self._written for tensor in place.tensors)]

    @property
    def _before_gradients(self) -> int:
        """How many results of the graph come before the gradients; see ``_evaluated``."""
        return self._losses + 2 + sum(len(place.tensors) for place in self._written)

    def _called(
        self, graph: Callable[[Sequence[Tensor]], Any], tensors: Sequence[Tensor], args: Any, kwargs: Any
    ) -> Any:
        """Runs the graph, and raises Pyro's own error where the data are not valid.

        Returns:
            The loss, or the losses in a tuple; and the gradients.
        """
        before = torch.get_rng_state()
        try:
            results = graph(tensors)
        except (RuntimeError, IndexError) as error:
            self._explain(before, args, kwargs)
            raise CannotCaptureError(f"its graph fails where Pyro does not: {error}") from error
        ok, self.svi.noted, *others = results[self._losses :]
        if ok is not None and not ok:
            self._explain(before, args, kwargs)
            raise CannotCaptureError("its graph refuses values that Pyro takes")
        rest = iter(others)
        for place in self._written:
            place.put(rest)
        loss = tuple(results[: self._losses]) if self._is_tuple else results[0]
        return loss, list(rest)

    def _explain(self, before: Tensor, args: Any, kwargs: Any) -> None:
        """Has Pyro raise its own error, with the name of the site, on the random numbers that the graph has drawn."""
        torch.set_rng_state(before)
        self.svi.explain(*args, **kwargs)
        torch.set_rng_state(before)  # it raised none, so Pyro takes the step

    # The audit.

    def by_pyro(self, args: Any, kwargs: Any) -> PyroRan:
        """A run by Pyro, compared with one of the graph; where they did the same, nothing is left of either.

        Args:
            args: by position.
            kwargs: by name.
        """
        tensors = structure(args, kwargs).tensors
        before, store = Generators(), Store()
        undo = functools.partial(self._undo, Copies(self._around(self.graph.tensors)), before, store)
        try:
            give_back_freed_memory()
            graph = self._of_graph(tensors)
            give_back_freed_memory()
            before.restore()
            loss, parameters = self._stock(args, kwargs)
        except BaseException:
            undo()
            raise
        differs = self._difference(loss, parameters, graph, before, store)
        if differs is None or differs.rounding:
            undo()
        if self.svi.also is not None:
            self.svi.noted = self.svi.also()
        return PyroRan(loss, parameters, differs, undo)

    def _undo(self, kept: Copies, generators: Generators, store: Store) -> None:
        kept.restore()
        for p in self.parameters.values():
            p.grad = None
        generators.restore()
        store.restore()

    def _difference(
        self, loss: Any, parameters: set[Tensor], graph: Did | None, before: Generators, store: Store
    ) -> Difference | None:
        known = set(self.parameters.values())
        unknown = [p for p in parameters if p not in known and _has_gradient(p) and store.now(p) is p]
        changes = self.svi.changes_of_run()
        if unknown:
            return Difference(f"Pyro has {len(unknown)} parameters that the graph does not know", False)
        if changes:
            return Difference(f"a run changes {changes[0]}", False)
        if not before.same_python():
            return Difference("a run draws from Python's or NumPy's random numbers", False)
        if graph is None:
            return Difference("the graph raises an error", False)
        names = {id(p): (name, p) for name, p in self.parameters.items()}.values()
        gradients = {name: _gradient(p) for name, p in names if name in graph.gradients or _has_gradient(p)}
        tensors = dict(zip(graph.tensors, map(store.now, self._around(self.graph.tensors)), strict=True))
        losses = [float(part) for part in (loss if isinstance(loss, tuple) else (loss,))]
        return difference(Did(losses, gradients, tensors, Generators().of_torch), graph)

    def _of_graph(self, tensors: Sequence[Tensor]) -> Did | None:
        """What the graph does, operation by operation and on copies; None where it fails."""
        held = list(self.graph.tensors)
        copies = Copies([held[i] for i in self.graph.written])
        for i in self.graph.written:
            held[i] = copies.of(held[i])
        try:
            with torch.no_grad():
                results = self.graph.module.forward(*held, *tensors, *self._numbers())
        except (RuntimeError, IndexError):
            return None
        losses = [float(loss) for loss in results[: self._losses]]
        gradients = results[self._before_gradients :]
        names = {id(p): name for name, p in self.parameters.items()}
        by_name = {names[id(p)]: g for p, g in zip(self._trained(), gradients, strict=True)}
        around = {f"tensor {i} of those around it": t for i, t in enumerate(self._around(held))}
        return Did(losses, by_name, around, Generators().of_torch)

    def _around(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Of the tensors around the graph, those that it changes and that no update does."""
        updated = self._updated()
        return [tensors[i] for i in self.graph.written if id(self.graph.tensors[i]) not in updated]

    def _stock(self, args: Any, kwargs: Any) -> tuple[Any, set[Tensor]]:
        raise NotImplementedError

    def _numbers(self) -> list[Tensor]:
        return []

    def _trained(self) -> list[Tensor]:
        return []

    def _updated(self) -> set[int]:
        return set()


class CapturedLoss(Captured):
    """A loss without gradient.

    Args:
        svi: whose programs.
        found: the arguments.
        parameters: by their names.
    """

    def __init__(self, svi: CompiledSVI, found: Structure, parameters: Mapping[str, Tensor]) -> None:
        super().__init__(svi, found, parameters, svi.loss)

        def program(*tensors: Tensor) -> Any:
            with torch.no_grad():
                return self._evaluated(tensors)

        self._runs = 0
        self._take_up(capture(program, found.examples()))

    @property
    def number(self) -> int:
        """How many times it was run."""
        return self._runs

    def __call__(self, tensors: Sequence[Tensor], args: Any, kwargs: Any) -> Any:
        """The loss; the arguments once more for the words of an error."""
        self._runs += 1
        loss, _ = self._called(functools.partial(run, self.graph), tensors, args, kwargs)
        return loss

    def _stock(self, args: Any, kwargs: Any) -> tuple[Any, set[Tensor]]:
        with torch.no_grad():
            return self.svi.loss(self.svi.model, self.svi.guide, *args, **kwargs), set()


class CapturedStep(Captured):
    """A step: loss and gradient, and in mode ``"fast"`` the update where it is one of :mod:`pyro_vae.svi.updates`.

    Args:
        svi: whose programs.
        found: the arguments.
        parameters: by their names.
        trained: those that have had a gradient in any step; where this loss gives them none, it is zero, as with Pyro.
    """

    def __init__(
        self, svi: CompiledSVI, found: Structure, parameters: Mapping[str, Tensor], trained: list[Tensor]
    ) -> None:
        super().__init__(svi, found, parameters, svi.loss_and_grads)
        self.leaves = list({id(p): p for p in parameters.values()}.values())  # one may have two names
        _refuse_strangers(svi.optim, self.leaves)
        if any(p._post_accumulate_grad_hooks for p in self.leaves):
            raise CannotCaptureError("a parameter has a hook that runs once its gradient is there")
        gradients = Gradients(trained)
        self.updates = updates_of(svi.optim, trained, svi.steps_taken) if svi.mode == "fast" else None
        self.trained = trained

        def program(*tensors: Tensor) -> Any:
            results = self._evaluated(tensors if self.updates is None else tensors[:-1])
            pairs = zip(trained, gradients.values, strict=True)
            found_gradients = [torch.zeros_like(p) if g is None else g for p, g in pairs]
            if any(g.layout is not torch.strided for g in found_gradients):
                raise CannotCaptureError("the gradient of a parameter is sparse")
            if self.updates is not None:
                with torch.no_grad():
                    self.updates.apply(found_gradients, tensors[-1])
            return [*results, *found_gradients]

        self._take_up(capture(program, found.examples(), self._numbers(), gradients))
        if self.updates is None:
            self._run: Any = functools.partial(run, self.graph)
        else:
            self._run = Compiled(first_results(self.graph, self._before_gradients))
        for p in trained:
            p.grad = None  # what the first step left there would take memory

    @property
    def number(self) -> int:
        """Of the last step, as the optimiser counts them."""
        return self.svi.number

    def takes(self, tensors: Sequence[Tensor]) -> bool:
        """Whether the graph is right for arguments of these batch sizes and the optimiser's options."""
        if self.updates is None:
            return super().takes(tensors)
        return self.updates.fit(self.graph.tensors) and super().takes(tensors)

    def __call__(self, tensors: Sequence[Tensor], args: Any, kwargs: Any) -> Any:
        """Takes the step and returns the loss before it; the arguments once more for the words of an error."""
        if self.updates is not None:
            (loss,) = self._several(self.updates, [(tensors, args, kwargs)])
            return loss
        loss, gradients = self._called(self._run, tensors, args, kwargs)
        for p, gradient in zip(self.trained, gradients, strict=True):
            p.grad = _laid_out_as(p, gradient)
        self.svi.optim(set(self.leaves))
        self.svi.number += 1
        for p in self.trained:
            p.grad = None
        return loss

    def several(self, calls: Sequence[tuple[Tensor, ...]]) -> Iterator[Any]:
        """Takes several steps; see :meth:`Captured.several`."""
        if self.updates is None:
            return super().several(calls)
        return self._several(self.updates, [(args, args, {}) for args in calls])

    def _several(self, updates: Updates, calls: Sequence[tuple[Sequence[Tensor], Any, Any]]) -> Iterator[Any]:
        taken = 0
        try:
            for (tensors, args, kwargs), numbers in zip(calls, updates.numbers(len(calls)), strict=True):
                loss, _ = self._called(self._run, [*tensors, numbers], args, kwargs)
                taken += 1
                yield loss
        finally:
            updates.count(taken)  # those before an error too
            self.svi.number += taken

    def _stock(self, args: Any, kwargs: Any) -> tuple[Any, set[Tensor]]:
        with poutine.trace(param_only=True) as seen:
            loss = self.svi.loss_and_grads(self.svi.model, self.svi.guide, *args, **kwargs)
        return loss, {site["value"].unconstrained() for site in seen.trace.nodes.values()}

    def _numbers(self) -> list[Tensor]:
        return [] if self.updates is None else [self.updates.numbers()[0]]

    def _trained(self) -> list[Tensor]:
        return self.trained

    def _updated(self) -> set[int]:
        return set() if self.updates is None else {id(t) for t in self.updates.tensors()}


def _number(loss: Any) -> Tensor:
    return loss.tensor if isinstance(loss, FloatArgument) else torch.as_tensor(loss).detach()


def _has_gradient(p: Tensor) -> bool:
    return p.grad is not None and bool(p.grad.any())


def _gradient(p: Tensor) -> Tensor:
    return torch.zeros_like(p) if p.grad is None else p.grad


def _laid_out_as(p: Tensor, gradient: Tensor) -> Tensor:
    """The gradient in the memory layout that backward gives it, since an optimiser may round otherwise for another."""
    return gradient if gradient.stride() == p.stride() else torch.empty_like(p).copy_(gradient)


def _refuse_strangers(optim: Any, leaves: Sequence[Tensor]) -> None:
    """Raises where an optimiser steps a tensor that Pyro does not know: the graph would not compute its gradient."""
    if not isinstance(optim, SharedOptim):
        return
    known = {id(p) for p in leaves}
    parameters = [p for group in optim.optimizer.param_groups for p in group["params"]]
    if any(p.grad is not None and p.grad.any() and id(p) not in known for p in parameters):
        raise CannotCaptureError("the optimiser has a parameter that model and guide do not register with Pyro")
