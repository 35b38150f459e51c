"""Data for a model and guide, as tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from pyro_vae.data.arrays import Array, as_tensor, check_array, hint, module_dtype_and_device
from pyro_vae.data.batches import DataSource
from pyro_vae.data.frames import is_frame, is_sparse
from pyro_vae.data.gathering import gathered, is_supply

__all__ = ["ConvertsData", "as_batch"]


@runtime_checkable
class ConvertsData(Protocol):
    """A module that converts and checks its own data, as a VAE does."""

    def tensors(self, x: DataSource | None, *context: Array) -> tuple[Any, tuple[Tensor, ...]]:
        """Return x and the context in the dtype and on the device of the parameters."""

    def check_event_shape(self, x: Tensor, *context: Tensor, mask: Tensor | None = None) -> None:
        """Raise a ValueError if x has another event shape than the likelihood."""


def as_batch(
    vae: ConvertsData | None, modules: Callable[[], Sequence[nn.Module]], x: Any, *context: Array
) -> tuple[Tensor, ...]:
    """Return x and context as tensors; NumPy arrays, and all data of a VAE, in the dtype of the parameters.

    Args:
        vae: the module among the programs that converts its own data, if there is one.
        modules: returns those that the programs use.
        x: data with a first dimension, of any kind.
        context: arrays.

    Raises:
        TypeError: if x is no data with a first dimension.
    """
    _check_batch(x)
    if vae is not None:
        x, context = vae.tensors(x, *context)
        return x, *context
    arrays = (*x, *context) if isinstance(x, tuple) else (x, *context)
    names = ["x", *(f"context {i}" for i in range(len(arrays) - 1))]
    if all(isinstance(array, Tensor) for array in arrays):  # other programs convert dtypes themselves
        return tuple(map(as_tensor, names, arrays))
    dtype, device = module_dtype_and_device(nn.ModuleList(modules()))
    dtype = dtype or torch.get_default_dtype()
    if is_supply(x):
        return gathered(x, *context, dtype=dtype, device=device)
    return tuple(
        as_tensor(name, a, None if isinstance(a, Tensor) else dtype, device)
        for name, a in zip(names, arrays, strict=True)
    )


def _check_batch(x: object) -> None:
    """Raise a TypeError if x is no data with a first dimension; say how to make one of it."""
    if isinstance(x, Tensor) and x.is_nested:  # it has no shape to look at
        check_array("x", x)
    if is_supply(x) or is_frame(x) or is_sparse(x) or (isinstance(x, (Tensor, np.ndarray)) and len(x.shape)):
        return
    if isinstance(x, tuple) and x and all(len(getattr(part, "shape", ())) for part in x):
        return
    what = (
        f"one of shape {tuple(x.shape)}"
        if isinstance(x, (Tensor, np.ndarray))
        else f"{'an' if type(x).__name__[0] in 'AEIOU' else 'a'} {type(x).__name__}"
    )
    remedy = hint(x).replace("Give ", "Pass ", 1)
    raise TypeError(f"x must be a tensor of shape (batch, *event_shape); got {what}{remedy}")
