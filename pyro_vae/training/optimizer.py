"""The optimiser of fit and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Schedule", "adamw", "learning_rate"]

Schedule = Literal["cosine", "constant"]


def adamw(parameters: Sequence[Tensor], lr: float) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2017, arXiv 1711.05101), fused into one pass over memory where torch has that."""
    return torch.optim.AdamW(parameters, lr=lr, fused=parameters[0].device.type in ("cpu", "cuda"))


def learning_rate(lr: float, schedule: Schedule, step: int, warmup: int, done: float) -> float:
    """The learning rate of a step: a linear rise over the warm-up, then constant or half a cosine down to zero.

    Args:
        lr: the highest.
        schedule: ``"cosine"`` (Loshchilov and Hutter 2016, arXiv 1608.03983, without restarts) or ``"constant"``.
        step: the number of the step, from 0.
        warmup: steps of the linear rise.
        done: how much of the training is done, from 0 to 1.
    """
    rise = min(1.0, (step + 1) / (warmup + 1))
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, done))) if schedule == "cosine" else 1.0
    return lr * rise * fall
