"""Weights that change from step to step."""

from __future__ import annotations

import math

import pytest
import torch

from pyro_vae import objectives as o


def at(schedule, *steps):
    return [schedule(torch.tensor(float(step))).item() for step in steps]


def test_linear():
    assert at(o.Linear(start=0.2, end=1.0, steps=8), 0, 2, 8, 9, 1000) == pytest.approx([0.2, 0.4, 1.0, 1.0, 1.0])


def test_cyclical():
    schedule = o.Cyclical(end=2.0, period=10, rise=0.4, cycles=2)
    assert at(schedule, 0, 2, 4, 9, 10, 12, 19, 20, 25) == pytest.approx([0, 1, 2, 2, 0, 1, 2, 2, 2], abs=1e-6)


def test_sigmoid():
    schedule = o.Sigmoid(end=3.0, middle=50, width=5)
    assert at(schedule, 50, 55) == pytest.approx([1.5, 3 / (1 + math.exp(-1))])
    assert at(schedule, 0)[0] < 1e-3
    assert at(schedule, 1000)[0] == pytest.approx(3.0)
