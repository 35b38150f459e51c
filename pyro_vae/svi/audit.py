"""When a captured graph is compared with Pyro, and how they differ."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["AuditSchedule", "Difference", "RunResult", "difference"]

_LEAST_GAP = 1000  # steps between two audits, at the end
_SHARE = 0.005  # of the time, at most, for audits
# How much two kernels for the same operation may differ, relative to the largest element. A loss is float64 but was
# computed in the dtype of the parameters, so float64 has the tolerance of float32.
_ROUNDING = defaultdict(lambda: 1e-2, {torch.float64: 1e-5, torch.float32: 1e-5})


class AuditSchedule:
    """Which steps of a graph are audited.

    After a capture, the 1st, 2nd, 4th, 8th, ... step is audited. The gap doubles until it is at least 1,000 steps and
    an audit takes less than 0.5 % of their time; then it stays. Losses and weights do not depend on the gap: if Pyro
    and the graph agree, the step is the graph's.

    Args:
        number: of the last step before the graph's first, as the optimiser counts them.
        on: False for no audits.
    """

    def __init__(self, number: int, on: bool = True) -> None:
        self.agreed = number
        self._start = number
        self._gap: int | None = None  # the final one
        self._due = number + 1 if on else math.inf
        self._since = time.perf_counter() if on else 0.0

    def due(self, number: int) -> bool:
        """Return True if the step of that number is to be audited."""
        return number >= self._due

    def left(self, number: int) -> float:
        """Return how many steps after the one of that number may run before the next audit."""
        return max(self._due - 1 - number, 0)

    def passed(self, number: int, seconds: float) -> None:
        """Record that Pyro and the graph agreed, and schedule the next audit.

        Args:
            number: of the step.
            seconds: the duration of the audit.
        """
        now = time.perf_counter()
        gap = self._gap or max(number - self._start, 1)
        each = max(now - self._since - seconds, 0.0) / max(number - self.agreed, 1)
        if gap >= _LEAST_GAP and seconds <= _SHARE * gap * each:
            self._gap = gap
        self.agreed, self._due, self._since = number, number + gap, now


class RunResult(NamedTuple):
    """What a run did.

    Args:
        losses: the losses that it returned.
        gradients: of the parameters, by name.
        tensors: those that it may have written to, by a description.
        generators: the states of PyTorch's generators after it.
    """

    losses: Sequence[float]
    gradients: Mapping[str, Tensor]
    tensors: Mapping[str, Tensor]
    generators: Sequence[Tensor]


class Difference(NamedTuple):
    """How Pyro and a graph differ.

    Args:
        words: what differs, and by how much.
        rounding: True if rounding explains all differences.
    """

    words: str
    rounding: bool


def difference(pyro: RunResult, graph: RunResult) -> Difference | None:
    """Compare a run by Pyro with one of a graph.

    Args:
        pyro: what Pyro did.
        graph: what the graph did.

    Returns:
        The first difference that rounding does not explain, else the first of all; None if both agree to the bit.
    """
    if not all(map(torch.equal, pyro.generators, graph.generators)):
        return Difference("Pyro and the graph draw different random numbers", False)
    if len(pyro.losses) != len(graph.losses):
        return Difference(f"Pyro gives {len(pyro.losses)} losses and the graph {len(graph.losses)}", False)
    differ = [pair for pair in _pairs(pyro, graph) if not _equal(pair.by_pyro, pair.by_graph)]
    if not differ:
        return None
    far = [pair for pair in differ if not _close(pair)]
    return Difference(str((far or differ)[0]), not far)


class _Pair(NamedTuple):
    """A result of Pyro and that of the graph."""

    what: str
    by_pyro: Tensor
    by_graph: Tensor
    scale: float = 0.0  # of numbers that are computed together with these

    def __str__(self) -> str:
        if self.by_pyro.shape != self.by_graph.shape or self.by_pyro.dtype != self.by_graph.dtype:
            return f"{self.what} has different shapes or dtypes in Pyro and in the graph"
        if self.by_pyro.numel() == 1:
            return f"{self.what} is {self.by_pyro.item():.9g} in Pyro and {self.by_graph.item():.9g} in the graph"
        most = (self.by_pyro.double() - self.by_graph.double()).abs().max()
        return f"{self.what} differs by up to {most:.2g} between Pyro and the graph"


def _pairs(pyro: RunResult, graph: RunResult) -> Iterator[_Pair]:
    nothing = torch.empty(0)
    for i, pair in enumerate(zip(pyro.losses, graph.losses, strict=True)):
        what = "the loss" if len(pyro.losses) == 1 else f"loss {i + 1}"
        by_pyro, by_graph = (torch.tensor(loss, dtype=torch.float64) for loss in pair)
        yield _Pair(what, by_pyro, by_graph)
    scale = max(
        (float(g.abs().max()) for g in pyro.gradients.values() if g.is_floating_point() and g.numel()), default=0.0
    )
    for name in sorted(pyro.gradients.keys() | graph.gradients.keys()):
        both = pyro.gradients.get(name, nothing), graph.gradients.get(name, nothing)
        yield _Pair(f"the gradient of {name}", *both, scale)
    for name, tensor in pyro.tensors.items():
        yield _Pair(f"after the step, {name}", tensor, graph.tensors[name])


def _equal(a: Tensor, b: Tensor) -> bool:
    """Return True if two tensors have the same numbers; NaN equals NaN."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(a, b) or (torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num()))


def _close(pair: _Pair) -> bool:
    """Return True if rounding explains the difference, relative to the largest number."""
    a, b = pair.by_pyro, pair.by_graph
    if a.shape != b.shape or a.dtype != b.dtype or not a.is_floating_point():
        return False
    if not (a.isfinite().all() and b.isfinite().all()):
        return False
    if not a.numel():
        return True
    return bool((a - b).abs().max() <= _ROUNDING[a.dtype] * max(float(a.abs().max()), pair.scale))
