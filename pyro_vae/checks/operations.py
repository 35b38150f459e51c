"""How much a program computes, counted from shapes: the same on every machine, known before anything is compared."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

__all__ = ["OperationCounter"]

_PER_OPERATION = 20_000  # what calling an operation takes, in floating-point operations of a core


class OperationCounter(TorchDispatchMode):
    """Counts the floating-point operations of what runs within it.

    Products are counted as torch.utils.flop_counter does, without its hooks in modules; anything else by the elements
    that it makes.

    Attributes:
        products: those in products of matrices and in convolutions.
        total: all, with the calls themselves.
    """

    def __init__(self) -> None:
        super().__init__()
        self.products = 0
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation and counts it."""
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        products = count(*args, **(kwargs or {}), out_val=out) if count is not None else 0
        self.products += products
        self.total += products + _PER_OPERATION + (out.numel() if isinstance(out, Tensor) else 0)
        return out
