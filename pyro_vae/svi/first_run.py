"""The first run, by Pyro: it shows what the graphs after it rest on."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TypeVar

import pyro
from pyro import poutine
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from pyro_vae.svi.generators import seeds_set
from pyro_vae.svi.watch import reachable_places

__all__ = ["FirstRun", "run_first"]

T = TypeVar("T")
_REQUIRES_GRAD, _GRADIENT = operator.attrgetter("requires_grad"), operator.attrgetter("grad")


@dataclass
class FirstRun:
    """What a run by Pyro has shown of the programs.

    Args:
        parameters: those that the programs registered, by name.
        in_store: the names of those that are in Pyro's parameter store.
        modules: the modules that were called.
        seed: the line that set a seed or the state of a generator, or None.
        iterator: the words for an iterator that the run may have advanced, or None.
        doubtful: True if another run by Pyro has to show whether the programs set that seed each time.
    """

    parameters: dict[str, Tensor]
    in_store: set[str]
    modules: list[nn.Module]
    seed: str | None
    iterator: str | None
    doubtful: bool = False

    def replaced(self) -> bool:
        """Return True if a name has another parameter now, as after ``pyro.clear_param_store()``."""
        store = pyro.get_param_store()._params
        return any(name in self.in_store and store.get(name) is not p for name, p in self.parameters.items())

    def unrepeatable(self) -> str | None:
        """Say why no run repeats this one, or return None."""
        if self.seed is not None:
            return f"it sets a seed or the state of a generator, {self.seed}"
        if self.iterator is not None:
            return f"it does something else when it runs again: it may advance the iterator {self.iterator}"
        return None

    def gradient_elsewhere(self, arguments: Sequence[Tensor]) -> str | None:
        """Say why a step has a gradient that a graph does not compute, or return None; clear zeros that Pyro has left.

        Args:
            arguments: the tensors among the arguments of the step.
        """
        if any(map(_REQUIRES_GRAD, arguments)):
            return "An argument requires a gradient"
        parameters = self.parameters.values()
        if not any(map(operator.is_not, map(_GRADIENT, parameters), repeat(None))):  # in each step, so it is quick
            return None
        if any(p.grad is not None and p.grad.any() for p in parameters):
            return "A parameter has a gradient from before the step"
        for p in parameters:
            p.grad = None
        return None


def run_first(run: Callable[[], T], roots: Iterable[object]) -> tuple[T, FirstRun]:
    """Run the programs with Pyro, and record what they do.

    Args:
        run: runs them.
        roots: where the walk through what they can reach starts.

    Returns:
        The result of ``run``, and the record.

    Raises:
        CannotCaptureError: if an object that they can reach raises an error when it is inspected; nothing has run then.
    """
    iterators = reachable_places(roots).iterators  # before the run, which may drop one once it is empty
    called: dict[int, nn.Module] = {}

    def note(module: nn.Module, _: tuple[object, ...]) -> None:
        called[id(module)] = module

    hook = register_module_forward_pre_hook(note)
    try:
        with seeds_set() as seeds, poutine.trace(param_only=True) as seen:
            result = run()
    finally:
        hook.remove()
    parameters = {name: site["value"].unconstrained() for name, site in seen.trace.nodes.items()}
    store = pyro.get_param_store()._params
    in_store = {name for name, p in parameters.items() if store.get(name) is p}
    return result, FirstRun(parameters, in_store, [*called.values()], seeds.line, next(iter(iterators), None))
