"""When a captured graph is compared with Pyro, and whether they did the same."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Audits", "Did", "difference"]

_LEAST_GAP = 1000  # steps from one audit to the next, once the time that they take counts
_SHARE = 0.005  # of the time


class Audits:
    """Which steps of a graph are audited.

    After a capture these are the 1st, 2nd, 4th and 8th step and so on, with doubling gaps, up to the first gap of at
    least 1,000 steps of whose time an audit takes less than 0.5 %. That gap then stays. Losses and weights do not
    depend on it, since the step is the graph's where both agree.

    Args:
        number: of the last step before the graph's first, as the optimiser counts them.
        on: whether there are audits.
    """

    def __init__(self, number: int, on: bool = True) -> None:
        self.agreed = number
        self._start = number
        self._gap: int | None = None  # the one that stays
        self._due = number + 1 if on else math.inf
        self._since = time.perf_counter()

    def due(self, number: int) -> bool:
        """Whether the step of that number is to be audited."""
        return number >= self._due

    def left(self, number: int) -> float:
        """How many steps after the one of that number can be taken before the next audit."""
        return max(self._due - 1 - number, 0)

    def passed(self, number: int, seconds: float) -> None:
        """Takes note that both did the same.

        Args:
            number: of the step.
            seconds: what the audit took.
        """
        now = time.perf_counter()
        gap = self._gap or max(number - self._start, 1)
        each = max(now - self._since - seconds, 0.0) / max(number - self.agreed, 1)
        if gap >= _LEAST_GAP and seconds <= _SHARE * gap * each:
            self._gap = gap
        self.agreed, self._due, self._since = number, number + gap, now


class Did(NamedTuple):
    """What a run did.

    Args:
        losses: it returned.
        gradients: of the parameters, by their names.
        tensors: that it may have written to, by words for them.
        generators: the states of PyTorch's.
    """

    losses: Sequence[float]
    gradients: Mapping[str, Tensor]
    tensors: Mapping[str, Tensor]
    generators: Sequence[Tensor]


def difference(pyro: Did, graph: Did) -> str | None:
    """In what a run by Pyro and one of a graph differ, to the bit; None where they do not.

    Args:
        pyro: what Pyro did.
        graph: what the graph did.
    """
    if not _equal(*(torch.tensor(did.losses, dtype=torch.float64) for did in (pyro, graph))):
        return f"the loss is {_listed(pyro.losses)} by Pyro and {_listed(graph.losses)} by the graph"
    for what, ours, theirs in (
        ("the gradient of", graph.gradients, pyro.gradients),
        ("after the step,", graph.tensors, pyro.tensors),
    ):
        for name in theirs.keys() | ours.keys():
            if name not in theirs or name not in ours or not _equal(theirs[name], ours[name]):
                return f"{what} {name} is another by Pyro than by the graph"
    if not all(map(torch.equal, pyro.generators, graph.generators)):
        return "Pyro draws other random numbers than the graph"
    return None


def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal to the bit; NaN is equal to NaN."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(a, b) or torch.equal(a.nan_to_num(), b.nan_to_num()) and torch.equal(a.isnan(), b.isnan())


def _listed(losses: Sequence[float]) -> str:
    return ", ".join(f"{loss:.9g}" for loss in losses)
