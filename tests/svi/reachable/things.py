"""What the tests of the walk share: classes of a user's, and tables of what is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro.nn import PyroModule, PyroSample
from torch import nn

# Each returns a root, and a function that changes something.
Make = Callable[[], tuple[Any, Callable[[], object]]]

LEVEL = 1.0


def table(cases: dict[str, Make]) -> Callable[[Make], Make]:
    def register(make: Make) -> Make:
        assert make.__name__ not in cases, f"two cases are called {make.__name__}"
        return cases.setdefault(make.__name__, make)

    return register


class Plain:
    shared = 1.0
    unread = 1.0

    def __init__(self, level=1.0):
        self.level, self.unread_too, self.losses = level, 1.0, []

    def model(self):
        return self.level * self.shared

    def __call__(self):
        return self.level

    def fit(self):
        self.losses.append(self.unread_too)

    @classmethod
    def of_class(cls):
        return cls.shared

    @staticmethod
    def of_nothing():
        return LEVEL

    @property
    def doubled(self):
        return 2 * self.level


class Net(PyroModule):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
        self.scale, self.epoch = 1.0, 0
        self.register_buffer("level", torch.zeros(()))
        self.prior = PyroSample(dist.Normal(0.0, 1.0))

    def forward(self, x):
        return self.scale * self.layers(x) * self.prior * self.level
