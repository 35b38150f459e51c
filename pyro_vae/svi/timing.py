"""How long a step takes, by Pyro and as one graph."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import pyro
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor

from pyro_vae.seeds import seeded
from pyro_vae.svi.compiled_svi import CompiledSVI

__all__ = ["Timing", "time_steps"]

_WARM_STEPS = 20


class Programs(Protocol):
    """Has a model and a guide, as a VAE does."""

    @property
    def model(self) -> Callable[..., object]:
        """The model."""

    @property
    def guide(self) -> Callable[..., object]:
        """The guide."""


@dataclass
class Timing:
    """The measurements of one way to take steps.

    Args:
        name: of the way.
        first: seconds of the first two steps, in which a graph is captured and compiled.
        ms: milliseconds per step, in each round.
    """

    name: str
    first: float
    ms: list[float] = field(default_factory=list)

    def faster_than(self, other: Timing) -> float:
        """Return how many times faster a step is: the median of the ratios within a round.

        Args:
            other: measured in the same rounds.
        """
        return float(np.median(np.divide(other.ms, self.ms)))


def time_steps(make: Callable[[], Programs], x: Tensor, rounds: int = 9, seconds: float = 0.2) -> list[Timing]:
    """Time training steps with Trace_ELBO and Adam.

    The ways take turns, because other work on the machine then slows all of them alike.

    Args:
        make: returns a VAE with the same weights each time.
        x: data ``(batch, *event_shape)``.
        rounds: turns of each way.
        seconds: of a turn.

    Returns:
        First pyro.infer.SVI, then CompiledSVI in the modes exact and fast, and its ``steps``.

    Example:
        >>> from pyro_vae import build
        >>> stock, exact, *_ = time_steps(lambda: build(6, 2, hidden=(8,)), torch.ones(4, 6), rounds=1, seconds=0)
        >>> len(exact.ms)
        1
    """
    batches = [x] * _WARM_STEPS
    with seeded(0):
        stock, exact, fast = _svi(make(), "stock"), _svi(make(), "exact"), _svi(make(), "fast")
        ways: dict[str, Callable[[], object]] = {
            "pyro.infer.SVI": lambda: [stock.step(x) for x in batches],
            "CompiledSVI, exact": lambda: [exact.step(x) for x in batches],
            "CompiledSVI": lambda: [fast.step(x) for x in batches],
            "CompiledSVI.steps": lambda: fast.steps(batches),
        }
        first = {name: _first(svi, x) for name, svi in zip(ways, (stock, exact, fast), strict=False)}
        timings = [Timing(name, first.get(name, first["CompiledSVI"])) for name in ways]
        passes = [max(1, round(seconds / _taken(way, x))) for way in ways.values()]
        for _ in range(rounds):
            for timing, way, n in zip(timings, ways.values(), passes, strict=True):
                taken = sum(_taken(way, x) for _ in range(n))
                timing.ms.append(1e3 * taken / (n * len(batches)))
    return timings


def _svi(programs: Programs, mode: Literal["stock", "exact", "fast"]) -> SVI:
    optim = pyro.optim.Adam({"lr": 1e-3})
    if mode == "stock":
        return SVI(programs.model, programs.guide, optim, Trace_ELBO())
    # Audits take less than 0.5 % of the time, except among the first steps.
    return CompiledSVI(programs.model, programs.guide, optim, Trace_ELBO(), mode=mode, fallback="error", audit=False)


def _first(svi: SVI, x: Tensor) -> float:
    return _taken(lambda: [svi.step(x) for _ in range(2)], x)


def _taken(way: Callable[[], object], x: Tensor) -> float:
    """Return the seconds of some steps, until the device has finished them."""
    start = time.perf_counter()
    way()
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.perf_counter() - start
