"""Weights that change from step to step.

A schedule is any function that takes the number of steps so far, a tensor ``()``, and returns the weight. If it uses
operations on tensors, it becomes a part of the graph of :class:`pyro_vae.CompiledSVI`.

Example:
    >>> import torch
    >>> [float(Linear(steps=4)(torch.tensor(float(step)))) for step in range(6)]
    [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from pyro_vae.argument_checks import finite_number

__all__ = ["Cyclical", "Linear", "Sigmoid", "Weight"]

Weight = float | Tensor | Callable[[Tensor], "Tensor | float"]
"""A number, a tensor ``()`` that you may change in place between steps, or a schedule."""


@dataclass(frozen=True)
class _Schedule:
    """From one weight to another."""

    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("steps", "period", "width"):
                finite_number(field.name, value, above=0)
            finite_number(field.name, value, least=0)

    def _between(self, share: Tensor) -> Tensor:
        return self.start + (self.end - self.start) * share


@dataclass(frozen=True)
class Linear(_Schedule):
    """A line from start to end, then constant: KL warm-up (Sønderby et al. 2016, arXiv 1602.02282).

    Args:
        start: the weight at the first step.
        end: the weight from step ``steps`` on.
        steps: the length of the line, in steps.
    """

    steps: float = 10_000

    def __call__(self, step: Tensor) -> Tensor:
        """Return the weight after ``step`` steps."""
        return self._between((torch.as_tensor(step) / self.steps).clamp(max=1))


@dataclass(frozen=True)
class Cyclical(_Schedule):
    """Cycles of a rising line and a plateau (Fu et al. 2019, arXiv 1903.10145).

    Args:
        start: the weight at the first step of a cycle.
        end: the weight on the plateau.
        period: the length of a cycle, in steps.
        rise: the share of the line in a cycle.
        cycles: the number of cycles; afterwards, the weight stays at ``end``.
    """

    period: float = 10_000
    rise: float = 0.5
    cycles: float = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        finite_number("rise", self.rise, above=0, most=1, why="a share of the period")

    def __call__(self, step: Tensor) -> Tensor:
        """Return the weight after ``step`` steps."""
        step = torch.as_tensor(step)
        phase = torch.remainder(step, self.period) / self.period
        return self._between(torch.where(step < self.cycles * self.period, (phase / self.rise).clamp(max=1), 1.0))


@dataclass(frozen=True)
class Sigmoid(_Schedule):
    """A logistic curve (Bowman et al. 2016, arXiv 1511.06349).

    Args:
        start: the weight long before ``middle``.
        end: the weight long after ``middle``.
        middle: the step with the mean of both weights.
        width: the number of steps in which the logit grows by one.
    """

    middle: float = 5_000
    width: float = 1_000

    def __call__(self, step: Tensor) -> Tensor:
        """Return the weight after ``step`` steps."""
        return self._between(torch.sigmoid((torch.as_tensor(step) - self.middle) / self.width))
