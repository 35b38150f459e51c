"""Losses, in the types in which they are returned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pyro.infer.util import torch_item
from torch import Tensor

__all__ = ["Loss", "as_pyro", "stacked"]

Loss = float | Tensor | tuple[float | Tensor, ...]  # of one step, in nats


def as_pyro(loss: Loss) -> Any:
    """Return a loss as ``pyro.infer.SVI`` does: a float, or a tuple of floats.

    Args:
        loss: of one step.
    """
    if isinstance(loss, Tensor):
        return loss.item()
    return type(loss)(map(torch_item, loss)) if isinstance(loss, tuple) else loss


def stacked(losses: Sequence[Loss]) -> Tensor:
    """Return the losses of some steps: float64, ``(steps,)``, or ``(steps, losses)`` if a step has several.

    Args:
        losses: of each step.
    """
    if not losses:
        return torch.empty(0, dtype=torch.float64)
    rows = list(map(_row, losses))
    device = next((row.device for row in rows if not row.is_cpu), None)  # Pyro's are floats, those of a graph are not
    return torch.stack([row.to(device) for row in rows])


def _row(loss: Loss) -> Tensor:
    if isinstance(loss, tuple):
        return torch.stack(list(map(_row, loss)))
    return torch.as_tensor(loss, dtype=torch.float64)  # a float would become float32
