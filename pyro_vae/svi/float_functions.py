"""Functions of torch that take float arguments while a graph is captured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_vae.svi.refusals import CannotCaptureError, at_user_line
from pyro_vae.svi.symbolic_floats import FloatArgument

__all__ = ["has_numbers", "meet"]

_Call = Callable[[Any, tuple[Any, ...]], Any]


def has_numbers(arguments: Any) -> bool:
    """Whether a FloatArgument is among arguments, or in lists, tuples and dictionaries of them.

    Args:
        arguments: of a function of torch.
    """
    if isinstance(arguments, dict):
        arguments = arguments.values()
    elif not isinstance(arguments, (list, tuple)):
        return isinstance(arguments, FloatArgument)
    return any(map(has_numbers, arguments))


def meet(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], call: _Call) -> Any:
    """The result of a function of torch with tensors in the floats' places, equal to the bit.

    Args:
        func: the function, as a ``TorchFunctionMode`` has it.
        args: its arguments, FloatArguments among them.
        kwargs: those by name.
        call: calls a function with arguments without FloatArguments.

    Raises:
        CannotCaptureError: where a tensor in a float's place might give other bits.
    """
    way = _WAYS.get(func)
    result = NotImplemented if way is None else way(func, call, *args, **kwargs)
    if result is NotImplemented:
        name = getattr(func, "__qualname__", repr(func))
        raise CannotCaptureError(
            at_user_line(f"a float argument goes into {name}, which a graph cannot follow; hand over a tensor there")
        )
    return result


def _rounded(number: Any, *others: Any) -> Any:
    """A FloatArgument as a tensor that rounds, and decides on a dtype, as the float would; others as they are.

    Args:
        number: maybe a FloatArgument.
        others: what it meets.
    """
    if not isinstance(number, FloatArgument):
        return number
    tensors = [other for other in others if isinstance(other, Tensor)]
    if any(t.dim() and t.is_floating_point() for t in tensors):
        return number.tensor  # which torch rounds where it is used, as it does with floats
    dtypes = {torch.result_type(t, 0.5) for t in tensors} or {torch.get_default_dtype()}
    if not dtypes <= {torch.float32, torch.float64}:  # half precision is computed with the float before it is rounded
        raise CannotCaptureError(
            at_user_line(f"a float argument meets a tensor () of {dtypes.pop()}; hand over a tensor in its place")
        )
    return number.tensor.to(dtypes.pop())


def _with_one(func: Any, call: _Call, *args: Any, **kwargs: Any) -> Any:
    """Arithmetic and comparisons of a tensor with a number."""
    if len(args) + ("other" in kwargs) != 2 or kwargs.keys() - {"other"}:
        return NotImplemented
    first, second = (*args, *kwargs.values())
    if not isinstance(first, Tensor) and not isinstance(second, Tensor):
        return NotImplemented
    return call(func, (_rounded(first, second), _rounded(second, first)))


def _where(func: Any, call: _Call, *args: Any, **kwargs: Any) -> Any:
    if kwargs or len(args) != 3:
        return NotImplemented
    condition, yes, no = args if func is torch.where else (args[1], args[0], args[2])
    return call(torch.where, (condition, _rounded(yes, no), _rounded(no, yes)))


def _new(func: Any, call: _Call, data: Any, dtype: Any = None, device: Any = None, **options: Any) -> Any:
    """``torch.tensor`` of a number, or of a list of numbers."""
    if options:
        return NotImplemented
    if isinstance(data, (list, tuple)):
        if not all(type(part) in (float, int, FloatArgument) for part in data):
            return NotImplemented
        return torch.stack([_new(func, call, part, dtype, device) for part in data])
    if isinstance(data, FloatArgument):
        own = torch.float64 if isinstance(data.value, np.float64) else torch.get_default_dtype()
        return data.tensor.to(device or torch.get_default_device(), dtype or own, copy=True)
    return torch.tensor(float(data), dtype=dtype, device=device)


def _new_like(func: Any, call: _Call, x: Tensor, data: Any, **options: Any) -> Any:
    return _new(func, call, data, **{"dtype": x.dtype, "device": x.device} | options)


def _full(func: Any, call: _Call, size: Any, fill_value: Any, **options: Any) -> Any:
    if has_numbers(size):
        return NotImplemented
    return torch.empty(size, **{"dtype": torch.get_default_dtype()} | options).fill_(fill_value.tensor)


def _full_like(func: Any, call: _Call, x: Tensor, fill_value: Any, **options: Any) -> Any:
    return torch.empty_like(x, **options).fill_(fill_value.tensor)


def _new_full(func: Any, call: _Call, x: Tensor, size: Any, fill_value: Any, **options: Any) -> Any:
    if has_numbers(size):
        return NotImplemented
    return x.new_empty(size, **options).fill_(fill_value.tensor)


def _put(func: Any, call: _Call, x: Tensor, *args: Any) -> Any:
    """A number as the last argument that is put into some elements of a tensor."""
    *where, value = args
    if has_numbers(where) or not x.is_floating_point():
        return NotImplemented
    return call(func, (x, *where, value.tensor.to(x.dtype)))


def _named(names: str) -> list[Any]:
    """The methods of tensors of these names, and the functions of torch."""
    methods = [getattr(Tensor, name) for name in names.split() if hasattr(Tensor, name)]
    return methods + [getattr(torch, n) for n in names.split() if hasattr(torch, n) and not n.startswith("__")]


_ARITHMETIC = (
    "add sub subtract rsub mul multiply div divide true_divide add_ sub_ mul_ div_ __add__ __radd__ __iadd__ __sub__ "
    "__rsub__ __isub__ __mul__ __rmul__ __imul__ __truediv__ __rtruediv__ __rdiv__ __itruediv__ __idiv__"
)
_COMPARISONS = "eq ne lt le gt ge __eq__ __ne__ __lt__ __le__ __gt__ __ge__"
_WAYS: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys(_named(f"{_ARITHMETIC} {_COMPARISONS}"), _with_one),
    **dict.fromkeys(_named("where"), _where),
    **dict.fromkeys([torch.tensor, torch.as_tensor], _new),
    **dict.fromkeys(_named("fill_ masked_fill masked_fill_ __setitem__"), _put),
    Tensor.new_tensor: _new_like,
    torch.full: _full,
    torch.full_like: _full_like,
    Tensor.new_full: _new_full,
}
