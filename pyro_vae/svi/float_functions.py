"""Functions of torch that get symbolic floats while a graph is captured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_vae.svi.refusals import CannotCaptureError, at_user_line
from pyro_vae.svi.symbolic_floats import SymbolicFloat

__all__ = ["call_with_floats", "has_floats"]

_Function = Callable[..., Any]
_Call = Callable[[_Function, tuple[Any, ...]], Any]
_Device = torch.device | str | int | None
_Number = Tensor | float  # SymbolicFloats among them


def has_floats(arguments: object) -> bool:
    """Return True if a SymbolicFloat is among the arguments, or in lists, tuples and dictionaries of them.

    Args:
        arguments: of a function of torch.
    """
    if isinstance(arguments, dict):
        arguments = arguments.values()
    elif not isinstance(arguments, (list, tuple)):
        return isinstance(arguments, SymbolicFloat)
    return any(map(has_floats, arguments))


def call_with_floats(func: _Function, args: tuple[Any, ...], kwargs: dict[str, Any], call: _Call) -> Any:
    """Call a function of torch with tensors in place of the floats; the result is equal to the bit.

    Args:
        func: the function, as a ``TorchFunctionMode`` gets it.
        args: its arguments, SymbolicFloats among them.
        kwargs: those by name.
        call: calls a function with arguments without SymbolicFloats.

    Raises:
        CannotCaptureError: if a tensor in place of a float might give other bits.
    """
    rule = _RULES.get(func)
    result = NotImplemented if rule is None else rule(func, call, *args, **kwargs)
    if result is NotImplemented:
        name = getattr(func, "__qualname__", repr(func))
        raise CannotCaptureError(
            at_user_line(f"a float argument goes into {name}, which a graph cannot follow; pass a tensor there")
        )
    return result


def _rounded(number: _Number, other: _Number) -> _Number:
    """Return a tensor for a SymbolicFloat that rounds, and promotes dtypes, as the float would; others as they are.

    Args:
        number: maybe a SymbolicFloat.
        other: the other operand.
    """
    if not isinstance(number, SymbolicFloat):
        return number
    tensor = other if isinstance(other, Tensor) else None
    if tensor is not None and tensor.dim() and tensor.is_floating_point():
        return number.tensor  # torch rounds it in use, as it does with floats
    dtype = torch.get_default_dtype() if tensor is None else torch.result_type(tensor, 0.5)
    if dtype not in (torch.float32, torch.float64):  # in half precision, torch computes with the unrounded float
        raise CannotCaptureError(
            at_user_line(f"a float argument meets a tensor () of {dtype}; pass a tensor in its place")
        )
    return number.tensor.to(dtype)


def _with_one(func: _Function, call: _Call, *args: _Number, **kwargs: _Number) -> Any:
    """Do arithmetic with, or compare, a tensor and a number."""
    if len(args) + ("other" in kwargs) != 2 or kwargs.keys() - {"other"}:
        return NotImplemented
    first, second = (*args, *kwargs.values())
    if not isinstance(first, Tensor) and not isinstance(second, Tensor):
        return NotImplemented
    return call(func, (_rounded(first, second), _rounded(second, first)))


def _where(func: _Function, call: _Call, *args: _Number, **kwargs: _Number) -> Any:
    if kwargs or len(args) != 3:
        return NotImplemented
    condition, yes, no = args if func is torch.where else (args[1], args[0], args[2])
    return call(torch.where, (condition, _rounded(yes, no), _rounded(no, yes)))


def _new(
    func: _Function,
    call: _Call,
    data: _Number | list[float] | tuple[float, ...],
    dtype: torch.dtype | None = None,
    device: _Device = None,
    **options: Any,
) -> Any:
    """Do ``torch.tensor`` of a number, or of a list of numbers."""
    if options:
        return NotImplemented
    if isinstance(data, (list, tuple)):
        if not all(type(part) in (float, int, SymbolicFloat) for part in data):
            return NotImplemented
        return torch.stack([_new(func, call, part, dtype, device) for part in data])
    if isinstance(data, SymbolicFloat):
        own = torch.float64 if isinstance(data.value, np.float64) else torch.get_default_dtype()
        return data.tensor.to(device or torch.get_default_device(), dtype or own, copy=True)
    return torch.tensor(float(data), dtype=dtype, device=device)


def _new_like(
    func: _Function, call: _Call, x: Tensor, data: _Number | list[float] | tuple[float, ...], **options: Any
) -> Any:
    like: dict[str, Any] = {"dtype": x.dtype, "device": x.device}
    return _new(func, call, data, **like | options)


def _full(func: _Function, call: _Call, size: Sequence[int], fill_value: SymbolicFloat, **options: Any) -> Any:
    if has_floats(size):
        return NotImplemented
    return torch.empty(size, **{"dtype": torch.get_default_dtype()} | options).fill_(fill_value.tensor)


def _full_like(func: _Function, call: _Call, x: Tensor, fill_value: SymbolicFloat, **options: Any) -> Any:
    return torch.empty_like(x, **options).fill_(fill_value.tensor)


def _new_full(
    func: _Function, call: _Call, x: Tensor, size: Sequence[int], fill_value: SymbolicFloat, **options: Any
) -> Any:
    if has_floats(size):
        return NotImplemented
    return x.new_empty(size, **options).fill_(fill_value.tensor)


def _put(func: _Function, call: _Call, x: Tensor, *args: _Number) -> Any:
    """Put a number, the last argument, into some elements of a tensor."""
    *where, value = args
    if has_floats(where) or not isinstance(value, SymbolicFloat) or not x.is_floating_point():
        return NotImplemented
    return call(func, (x, *where, value.tensor.to(x.dtype)))


def _named(names: str) -> list[Any]:
    """Return the methods of tensors, and the functions of torch, with these names."""
    methods = [getattr(Tensor, name) for name in names.split() if hasattr(Tensor, name)]
    return methods + [getattr(torch, n) for n in names.split() if hasattr(torch, n) and not n.startswith("__")]


_ARITHMETIC = (
    "add sub subtract rsub mul multiply div divide true_divide add_ sub_ mul_ div_ __add__ __radd__ __iadd__ __sub__ "
    "__rsub__ __isub__ __mul__ __rmul__ __imul__ __truediv__ __rtruediv__ __rdiv__ __itruediv__ __idiv__"
)
_COMPARISONS = "eq ne lt le gt ge __eq__ __ne__ __lt__ __le__ __gt__ __ge__"
_RULES: dict[_Function, _Function] = {
    **dict.fromkeys(_named(f"{_ARITHMETIC} {_COMPARISONS}"), _with_one),
    **dict.fromkeys(_named("where"), _where),
    **dict.fromkeys([torch.tensor, torch.as_tensor], _new),
    **dict.fromkeys(_named("fill_ masked_fill masked_fill_ __setitem__"), _put),
    Tensor.new_tensor: _new_like,
    torch.full: _full,
    torch.full_like: _full_like,
    Tensor.new_full: _new_full,
}
