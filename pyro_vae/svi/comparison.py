"""A run of a graph, compared with the same run by Pyro, for an audit."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_vae.svi.arguments import take_apart
from pyro_vae.svi.audit import Difference, RunResult, difference
from pyro_vae.svi.execution import give_back_freed_memory
from pyro_vae.svi.generators import Generators
from pyro_vae.svi.losses import Loss
from pyro_vae.svi.side_effects import StoreCopy, TensorCopies
from pyro_vae.svi.step_graph import RunGraph

__all__ = ["PyroRun", "run_both"]


class PyroRun(NamedTuple):
    """A run by Pyro, without the update.

    Args:
        loss: as Pyro returns it.
        parameters: those that the programs registered.
        differs: how the graph differs from it, or None.
        undo: restores the tensors and the generators that the run changed.
    """

    loss: Loss
    parameters: set[Tensor]
    differs: Difference | None
    undo: Callable[[], None]


def run_both(graph: RunGraph, args: tuple[Any, ...], kwargs: dict[str, Any]) -> PyroRun:
    """Run Pyro and a graph from the same state and random numbers; if they agree, undo both runs.

    Args:
        graph: the graph of a step or of a loss.
        args: the arguments by position.
        kwargs: the arguments by name.
    """
    tensors = take_apart(args, kwargs).tensors
    before, store = Generators(), StoreCopy()
    undo = functools.partial(_undo, graph, TensorCopies(_changed(graph, graph.graph.tensors)), before, store)
    try:
        give_back_freed_memory()
        of_graph = _run_graph(graph, tensors)
        give_back_freed_memory()
        before.restore()
        loss, parameters = graph.run_pyro(args, kwargs)
    except BaseException:
        undo()
        raise
    differs = _difference(graph, PyroRun(loss, parameters, None, undo), of_graph, before, store)
    if differs is None or differs.rounding:
        undo()
    if graph.owner.also is not None:
        graph.owner.noted = graph.owner.also()
    return PyroRun(loss, parameters, differs, undo)


def _undo(graph: RunGraph, kept: TensorCopies, generators: Generators, store: StoreCopy) -> None:
    kept.restore()
    for p in graph.parameters.values():
        p.grad = None
    generators.restore()
    store.restore()


def _difference(
    graph: RunGraph, run: PyroRun, of_graph: RunResult | None, before: Generators, store: StoreCopy
) -> Difference | None:
    known = set(graph.parameters.values())
    unknown = [p for p in run.parameters if p not in known and _has_gradient(p) and store.now(p) is p]
    changes = graph.owner.watch.changes_by_user()
    if unknown:
        return Difference(f"Pyro has {len(unknown)} parameters that the graph does not know", False)
    if changes:
        return Difference(f"a run changes {changes[0]}", False)
    if not before.same_python():
        return Difference("a run draws random numbers from Python or NumPy", False)
    if of_graph is None:
        return Difference("the graph raises an error", False)
    names = {id(p): (name, p) for name, p in graph.parameters.items()}.values()
    gradients = {name: _gradient(p) for name, p in names if name in of_graph.gradients or _has_gradient(p)}
    tensors = dict(zip(of_graph.tensors, map(store.now, _changed(graph, graph.graph.tensors)), strict=True))
    losses = [float(part) for part in (run.loss if isinstance(run.loss, tuple) else (run.loss,))]
    return difference(RunResult(losses, gradients, tensors, Generators().of_torch), of_graph)


def _run_graph(graph: RunGraph, tensors: Sequence[Tensor]) -> RunResult | None:
    """Run the graph operation by operation, on copies; return None if it fails."""
    held = list(graph.graph.tensors)
    copies = TensorCopies([held[i] for i in graph.graph.written])
    for i in graph.graph.written:
        held[i] = copies.of(held[i])
    try:
        with torch.no_grad():
            results = graph.graph.module.forward(*held, *tensors, *graph.update_numbers())
    except (RuntimeError, IndexError):
        return None
    losses = [float(loss) for loss in results[: graph.losses]]
    gradients = results[graph.before_gradients :]
    names = {id(p): name for name, p in graph.parameters.items()}
    by_name = {names[id(p)]: g for p, g in zip(graph.trained, gradients, strict=True)}
    changed = {f"tensor {i} of those that the graph changes": t for i, t in enumerate(_changed(graph, held))}
    return RunResult(losses, by_name, changed, Generators().of_torch)


def _changed(graph: RunGraph, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return those of the tensors around the graph that it changes, except for those of the update."""
    updated = {id(t) for t in graph.updates.tensors()} if graph.updates is not None else set()
    return [tensors[i] for i in graph.graph.written if id(graph.graph.tensors[i]) not in updated]


def _has_gradient(p: Tensor) -> bool:
    return p.grad is not None and bool(p.grad.any())


def _gradient(p: Tensor) -> Tensor:
    return torch.zeros_like(p) if p.grad is None else p.grad
