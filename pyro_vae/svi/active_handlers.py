"""Handlers of Pyro and modes of PyTorch that see the operations of a step one by one."""

from __future__ import annotations

import torch
from pyro.poutine import runtime
from torch._C import _len_torch_dispatch_stack
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

__all__ = ["is_any_active"]


def is_any_active() -> bool:
    """Return True if a step runs within such handlers or modes; then Pyro takes it."""
    modes = _get_current_function_mode_stack()
    return bool(
        runtime._PYRO_STACK
        or (modes and not all(isinstance(mode, DeviceContext) for mode in modes))
        or _len_torch_dispatch_stack()
        or torch.is_inference_mode_enabled()
        or torch.is_anomaly_enabled()
    )
