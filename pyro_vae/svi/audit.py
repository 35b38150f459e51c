"""When a captured graph is compared with Pyro, and whether they did the same."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Audits", "Did", "Difference", "difference"]

_LEAST_GAP = 1000  # steps from one audit to the next, once the time that they take counts
_SHARE = 0.005  # of the time
# By how much another kernel for the same operation may differ, relative to the largest element. A loss is float64, but
# was computed in the dtype of the parameters; so float64 allows no less than float32.
_ROUNDING = defaultdict(lambda: 1e-2, {torch.float64: 1e-5, torch.float32: 1e-5})


class Audits:
    """Which steps of a graph are audited.

    After a capture these are the 1st, 2nd, 4th and 8th step and so on, with doubling gaps, up to the first gap of at
    least 1,000 steps of whose time an audit takes less than 0.5 %. That gap then stays. Losses and weights do not
    depend on the gap, since the step is the graph's where both agree.

    Args:
        number: of the last step before the graph's first, as the optimiser counts them.
        on: whether there are audits.
    """

    def __init__(self, number: int, on: bool = True) -> None:
        self.agreed = number
        self._start = number
        self._gap: int | None = None  # the one that stays
        self._due = number + 1 if on else math.inf
        self._since = time.perf_counter() if on else 0.0

    def due(self, number: int) -> bool:
        """Whether the step of that number is to be audited."""
        return number >= self._due

    def left(self, number: int) -> float:
        """How many steps after the one of that number can be taken before the next audit."""
        return max(self._due - 1 - number, 0)

    def passed(self, number: int, seconds: float) -> None:
        """Notes that both did the same, and sets the next audit.

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
        losses: those that it returned.
        gradients: of the parameters, by their names.
        tensors: those that it may have written to, by words for them.
        generators: the states of PyTorch's generators after it.
    """

    losses: Sequence[float]
    gradients: Mapping[str, Tensor]
    tensors: Mapping[str, Tensor]
    generators: Sequence[Tensor]


class Difference(NamedTuple):
    """In what Pyro and a graph differ.

    Args:
        words: what differs, and by how much.
        rounding: whether all that differs does so by no more than rounding.
    """

    words: str
    rounding: bool


def difference(pyro: Did, graph: Did) -> Difference | None:
    """In what a run by Pyro and one of a graph differ.

    Args:
        pyro: what Pyro did.
        graph: what the graph did.

    Returns:
        The first difference that is more than rounding, else the first of all; None where both agree to the bit.
    """
    if not all(map(torch.equal, pyro.generators, graph.generators)):
        return Difference("Pyro draws other random numbers than the graph", False)
    if len(pyro.losses) != len(graph.losses):
        return Difference(f"Pyro gives {len(pyro.losses)} losses and the graph {len(graph.losses)}", False)
    differ = [pair for pair in _pairs(pyro, graph) if not _equal(pair.by_pyro, pair.by_graph)]
    if not differ:
        return None
    far = [pair for pair in differ if not _close(pair)]
    return Difference(str((far or differ)[0]), not far)


class _Pair(NamedTuple):
    """What both gave."""

    what: str
    by_pyro: Tensor
    by_graph: Tensor
    scale: float = 0.0  # of numbers that are computed together with these

    def __str__(self) -> str:
        if self.by_pyro.shape != self.by_graph.shape or self.by_pyro.dtype != self.by_graph.dtype:
            return f"{self.what} has another shape or dtype by Pyro than by the graph"
        if self.by_pyro.numel() == 1:
            return f"{self.what} is {self.by_pyro.item():.9g} by Pyro and {self.by_graph.item():.9g} by the graph"
        most = (self.by_pyro.double() - self.by_graph.double()).abs().max()
        return f"{self.what} is another by up to {most:.2g} by Pyro than by the graph"


def _pairs(pyro: Did, graph: Did) -> Iterator[_Pair]:
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
    """Whether two tensors have the same numbers; NaN is the same as NaN."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(a, b) or (torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num()))


def _close(pair: _Pair) -> bool:
    """Whether both are apart by no more than rounding, measured by the largest number."""
    a, b = pair.by_pyro, pair.by_graph
    if a.shape != b.shape or a.dtype != b.dtype or not a.is_floating_point():
        return False
    if not (a.isfinite().all() and b.isfinite().all()):
        return False
    if not a.numel():
        return True
    return bool((a - b).abs().max() <= _ROUNDING[a.dtype] * max(float(a.abs().max()), pair.scale))
