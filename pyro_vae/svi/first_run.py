"""What a run by Pyro shows of the programs, which the graphs after it rest on."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import pyro
from pyro import poutine
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from pyro_vae.svi.generators import seeds_set
from pyro_vae.svi.watch import looked_through

__all__ = ["Shown", "watched"]

_REQUIRES_GRAD, _GRADIENT = operator.attrgetter("requires_grad"), operator.attrgetter("grad")


@dataclass
class Shown:
    """What a run by Pyro has shown.

    Args:
        parameters: those that the programs registered, by name.
        in_store: the names of those that are in Pyro's parameter store.
        modules: those that were called.
        seed: the line that set a seed or the state of a generator, or None.
        iterator: where there is an iterator from which the run may have taken something, or None.
        doubtful: whether another run by Pyro has to show if the programs set that seed each time.
    """

    parameters: dict[str, Tensor]
    in_store: set[str]
    modules: list[nn.Module]
    seed: str | None
    iterator: str | None
    doubtful: bool = False

    def replaced(self) -> bool:
        """Whether another parameter has taken the name of one, as after ``pyro.clear_param_store()``."""
        store = pyro.get_param_store()._params
        return any(name in self.in_store and store.get(name) is not p for name, p in self.parameters.items())

    def unrepeatable(self) -> str | None:
        """Why no run repeats this one, or None."""
        if self.seed is not None:
            return f"it sets a seed or the state of a generator, {self.seed}"
        if self.iterator is not None:
            return f"it does not do the same again when run again: it may take from the iterator {self.iterator}"
        return None

    def gradient_elsewhere(self, arguments: Sequence[Tensor]) -> str | None:
        """Why a step has a gradient that a graph does not compute, or None; clears zeros that Pyro has left.

        Args:
            arguments: the tensors among those of the step.
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


def watched(run: Callable[[], Any], roots: Iterable[Any]) -> tuple[Any, Shown]:
    """Runs the programs by Pyro, and notes what they do.

    Args:
        run: runs them.
        roots: where the walk through what they reach starts.

    Returns:
        What ``run`` returns, and what it has shown.

    Raises:
        CannotCaptureError: where an object that they reach raises an error when it is looked at; nothing has run then.
    """
    iterators = looked_through(roots).iterators  # before the run, which may drop one once it is empty
    called: dict[int, nn.Module] = {}

    def note(module: nn.Module, _: Any) -> None:
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
    return result, Shown(parameters, in_store, [*called.values()], seeds.line, next(iter(iterators), None))
