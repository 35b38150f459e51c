"""What surrounds a step or a graph, looked at in each step: handlers, modes, and the tensors that the graph reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pyro.poutine import runtime
from torch import Tensor
from torch._C import _len_torch_dispatch_stack
from torch._C._dynamo.guards import TensorGuards
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

__all__ = ["guards_of", "something_around"]


def guards_of(tensors: Sequence[Tensor]) -> Any:
    """A guard on shapes, strides, dtypes, devices and ``requires_grad``, checked at the speed of C++.

    Args:
        tensors: those around a graph.

    Returns:
        torch's guard, whose ``check(*tensors)`` is true while all are as now; None where there are no tensors.
    """
    if not tensors:
        return None
    sizes: Any = [list(t.shape) for t in tensors]
    strides: Any = [list(t.stride()) for t in tensors]
    return TensorGuards(*tensors, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides)


def something_around() -> bool:
    """Whether a step runs within handlers of Pyro or modes of PyTorch that see its operations one by one."""
    modes = _get_current_function_mode_stack()
    return bool(
        runtime._PYRO_STACK
        or (modes and not all(isinstance(mode, DeviceContext) for mode in modes))
        or _len_torch_dispatch_stack()
        or torch.is_inference_mode_enabled()
        or torch.is_anomaly_enabled()
    )
