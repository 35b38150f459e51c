"""The code of a worker: it warms a contender up, then runs a block of steps each time it is woken."""

from __future__ import annotations

import pkgutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from svi.sizes import CONTENDERS, SIZES
from svi.workers import Pause

__all__ = ["Contender", "serve"]

_WARM_STEPS = 300
_SETTLE = 0.03  # seconds of steps before timing: caches fill, threads wake


@dataclass
class Contender:
    """A running training.

    Args:
        run: takes steps on the first n batches and returns when they are done; returns an iterable of the losses in
            nats, which ``float`` can convert, or nothing.
        per: the number of examples that a loss sums over.
        note: a remark for the table.
    """

    run: Callable[[int], Any]
    per: int = 1
    note: Callable[[], str] = lambda: ""


def serve(pause: Pause, name: str, size_name: str, seconds: float) -> None:
    """Make the contender when first woken, and answer each later wake-up with the ms per step."""
    size = SIZES[size_name]
    make = pkgutil.resolve_name(CONTENDERS[name])
    pause("imported")
    contender = make(size)
    start = time.perf_counter()
    contender.run(2)
    first = time.perf_counter() - start
    for _ in range(_WARM_STEPS // size.steps):
        start = time.perf_counter()
        losses = contender.run(size.steps)
        taken = time.perf_counter() - start
    losses = [float(value) / contender.per for value in losses]
    loss = sum(losses) / len(losses) if losses else None
    passes = max(1, round(seconds / taken))
    answer: Any = {"loss": loss, "first": first, "note": contender.note()}
    while True:
        pause(answer)
        settled = time.perf_counter() + _SETTLE
        while time.perf_counter() < settled:
            contender.run(2)
        start = time.perf_counter()
        for _ in range(passes):
            contender.run(size.steps)
        answer = 1e3 * (time.perf_counter() - start) / (passes * size.steps)
