"""The learning rate over a training."""

from __future__ import annotations

import math

import pytest
import torch

from pyro_vae import build, fit
from pyro_vae.training.optimizer import learning_rate


def test_cosine_falls_from_the_highest_to_zero():
    rates = [learning_rate(2.0, "cosine", 1000, 10, done / 10) for done in range(11)]
    assert rates == pytest.approx([1 + math.cos(math.pi * d / 10) for d in range(11)])
    assert rates == sorted(rates, reverse=True)
    assert (rates[0], rates[-1]) == pytest.approx((2.0, 0.0))


def test_constant_stays():
    assert [learning_rate(2.0, "constant", 1000, 10, d) for d in (0.0, 0.5, 1.0)] == [2.0] * 3


def test_the_first_steps_rise_in_a_line():
    rates = [learning_rate(1.0, "constant", step, 4, 0.0) for step in range(7)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0])


def test_the_staircase_has_the_eight_stairs_of_the_iwae_paper():
    passes = sum(3**i for i in range(8))
    assert passes == 3280
    rates = [learning_rate(1e-3, "staircase", 10 * epoch, 10, epoch / passes) for epoch in range(passes)]
    by_hand = [1e-3 * 10 ** (-i / 7) for i in range(8) for _ in range(3**i)]
    assert rates == pytest.approx(by_hand, rel=1e-12)


def test_fit_sets_the_rates_that_the_documentation_gives(monkeypatch):
    rates = []
    step = torch.optim.AdamW.step

    def recorded(optimizer, closure=None):
        rates.append(optimizer.param_groups[0]["lr"])
        return step(optimizer, closure)

    monkeypatch.setattr(torch.optim.AdamW, "step", recorded)
    fit(build(4, 2, hidden=()), torch.ones(60, 4), epochs=3, batch_size=10, lr=0.5, engine="pyro", progress=False)
    n, total = 6, 18
    by_hand = [0.5 * min(1, (s + 1) / (n + 1)) * (1 + math.cos(math.pi * s / total)) / 2 for s in range(total)]
    assert rates[-total:] == pytest.approx(by_hand, rel=1e-12)
