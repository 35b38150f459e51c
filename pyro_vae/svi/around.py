"""What is around a step or a graph, looked at in each step."""

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
    """Looks at shapes, strides, dtypes and devices, and whether gradients are wanted, at the speed of C++."""
    if not tensors:
        return None
    sizes: Any = [list(t.shape) for t in tensors]
    strides: Any = [list(t.stride()) for t in tensors]
    return TensorGuards(*tensors, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides)


def something_around() -> bool:
    """Whether a step runs within handlers of Pyro's or modes of PyTorch's, which see what it does."""
    modes = _get_current_function_mode_stack()
    return bool(
        runtime._PYRO_STACK
        or (modes and not all(isinstance(mode, DeviceContext) for mode in modes))
        or _len_torch_dispatch_stack()
        or torch.is_inference_mode_enabled()
        or torch.is_anomaly_enabled()
    )
