"""One torch optimiser for all parameters, where Pyro has one per parameter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from pyro.optim import PyroOptim
from torch import Tensor

__all__ = ["SharedOptim", "as_pyro_optim", "steps_of"]


class SharedOptim(PyroOptim):
    """A :class:`pyro.optim.PyroOptim` that steps one torch optimiser over all parameters at once.

    ``pyro.optim.Adam`` makes one optimiser object per parameter, and takes as many steps.

    Args:
        optimizer: any torch optimiser over the parameters that SVI trains.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(type(optimizer), {})
        self.optimizer = optimizer

    def __call__(self, params: Iterable[Tensor], *args: Any, **kwargs: Any) -> None:
        """Take one step with the gradients of SVI."""
        self.optimizer.step(*args, **kwargs)


def as_pyro_optim(optim: PyroOptim | torch.optim.Optimizer | type[torch.optim.Optimizer]) -> PyroOptim:
    """Return an optimiser of Pyro's.

    Args:
        optim: one of Pyro's, one of torch's, or a class of torch's, which then has its default options.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(optim, PyroOptim):
        return optim
    if isinstance(optim, torch.optim.Optimizer):
        return SharedOptim(optim)
    if isinstance(optim, type) and issubclass(optim, torch.optim.Optimizer):
        return PyroOptim(optim, {})
    raise TypeError(
        "optim must be an optimiser of Pyro's, such as pyro.optim.Adam({'lr': 1e-3}), a torch optimiser over the "
        f"parameters, or a class of torch's; got {type(optim).__name__}: {optim!r}"
    )


def steps_of(optim: PyroOptim, parameters: Iterable[Tensor]) -> int:
    """Return how many steps an optimiser has taken; 0 if it does not count them.

    Args:
        optim: an optimiser of Pyro's.
        parameters: those that it steps.
    """
    steps = [0]
    for p in parameters:
        found = optim.optimizer if isinstance(optim, SharedOptim) else getattr(optim, "optim_objs", {}).get(p)
        state = getattr(getattr(found, "optimizer", found), "state", {}).get(p, {})
        steps.append(int(state.get("step", 0)))
    return max(steps)
