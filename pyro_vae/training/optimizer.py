"""The optimiser of fit and its learning rate."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

__all__ = ["Schedule", "adamw", "learning_rate", "states_after_a_step"]

Schedule = Literal["cosine", "constant", "staircase"]

_STAIRS = 8


def adamw(parameters: Sequence[Tensor], lr: float) -> torch.optim.Optimizer:
    """Return AdamW (Loshchilov and Hutter 2017, arXiv 1711.05101), fused into one pass over memory if torch can."""
    return torch.optim.AdamW(parameters, lr=lr, fused=parameters[0].device.type in ("cpu", "cuda"))


def states_after_a_step(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Any]]:
    """Return the state that an optimiser has for each parameter after a step, by the parameter's index.

    A copy takes a step, so this works for any optimiser. Names, shapes and dtypes are right; the numbers mean nothing.
    """
    twin = copy.deepcopy(optimizer)
    for group in twin.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    twin.step()
    return twin.state_dict()["state"]


def learning_rate(lr: float, schedule: Schedule, step: int, warmup: int, done: float) -> float:
    """Return the learning rate of a step: that of the schedule, times a linear rise over the warm-up.

    Args:
        lr: the highest learning rate.
        schedule: ``"cosine"``, half a period down to zero (Loshchilov and Hutter 2016, arXiv 1608.03983, without
            restarts); ``"constant"``; or ``"staircase"``, lr · 10^(−i/7) for 3^i of 3,280 parts of the training, i = 0
            to 7 (Burda, Grosse and Salakhutdinov 2015, arXiv 1509.00519). The staircase has no linear rise, which
            would outlast its first stairs in a short training.
        step: the number of the step, from 0.
        warmup: steps of the linear rise.
        done: the share of the training that is done, from 0 to 1.
    """
    rise = 1.0 if schedule == "staircase" else min(1.0, (step + 1) / (warmup + 1))
    return lr * rise * _fall(schedule, min(1.0, done))


def _fall(schedule: Schedule, done: float) -> float:
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "staircase":
        parts = sum(3**i for i in range(_STAIRS))
        ends = [sum(3**i for i in range(stair + 1)) / parts for stair in range(_STAIRS - 1)]
        return 10 ** (-sum(done >= end for end in ends) / (_STAIRS - 1))
    return 1.0
