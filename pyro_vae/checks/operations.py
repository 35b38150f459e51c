"""Counts what a program computes from the shapes of its tensors: the count is the same on every machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

__all__ = ["OperationCounter"]

_PER_OPERATION = 20_000  # the cost of calling an operation, in floating-point operations of one core


class OperationCounter(TorchDispatchMode):
    """Counts the floating-point operations that run within it.

    Matrix products are counted as in torch.utils.flop_counter, without its hooks in modules; anything else counts the
    elements of its result.

    Attributes:
        products: operations in matrix products and convolutions.
        total: all operations and the calls themselves.
        names: of the operations.
    """

    def __init__(self) -> None:
        super().__init__()
        self.products = 0
        self.total = 0
        self.names: set[str] = set()

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Run an operation and count it."""
        out = func(*args, **(kwargs or {}))
        self.names.add(func.overloadpacket.__name__)
        count = flop_registry.get(func.overloadpacket)
        products = count(*args, **(kwargs or {}), out_val=out) if count is not None else 0
        self.products += products
        self.total += products + _PER_OPERATION + (out.numel() if isinstance(out, Tensor) else 0)
        return out
