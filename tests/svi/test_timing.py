"""The side-by-side timing of steps."""

from __future__ import annotations

import pytest
import torch

from pyro_vae import build
from pyro_vae.svi import timing
from pyro_vae.svi.timing import Timing, time_steps


def test_ratios_are_taken_within_a_round():
    """A machine that is three times slower for one round changes no ratio."""
    stock, ours = Timing("stock", 1.0, [4.0, 12.0, 4.4]), Timing("ours", 1.0, [2.0, 6.0, 2.2])
    assert ours.faster_than(stock) == pytest.approx(2)
    assert stock.faster_than(ours) == pytest.approx(0.5)
    assert stock.faster_than(stock) == 1


@pytest.mark.usefixtures("uncompiled")
def test_each_way_takes_the_steps_of_its_rounds(monkeypatch):
    """By a clock that moves by a second a reading: of a turn, and twenty steps in it, it sees one second."""
    seconds = iter(range(10_000))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(seconds)))
    state = torch.get_rng_state()
    timings = time_steps(lambda: build(6, 2, hidden=(8,)), torch.ones(4, 6), rounds=3, seconds=0)
    assert [t.name for t in timings] == ["pyro.infer.SVI", "CompiledSVI, exact", "CompiledSVI", "CompiledSVI.steps"]
    assert all(t.ms == [50.0] * 3 for t in timings)
    assert [t.first for t in timings] == [1.0] * 4
    assert torch.equal(torch.get_rng_state(), state)
