"""What runs in a worker: a contender, warmed up, then a block of steps each time it is woken."""

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
_SETTLE = 0.03  # seconds of steps that are not counted: caches fill, threads wake


@dataclass
class Contender:
    """A training under way.

    Args:
        run: takes steps on the first n batches, and gives their losses in nats, as anything that iterates over what
            float takes, or nothing; returns when the steps are done.
        per: the examples that a loss is a sum over.
        note: what the table shall say of it.
    """

    run: Callable[[int], Any]
    per: int = 1
    note: Callable[[], str] = lambda: ""


def serve(pause: Pause, name: str, size_name: str, seconds: float) -> None:
    """Makes the contender when woken for the first time, and answers each further waking with ms a step."""
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
