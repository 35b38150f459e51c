"""The one place where arrays become tensors, or are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.masked import MaskedTensor

from pyro_vae.data.frames import Frame, SparseMatrix, is_frame, is_sparse, numbers_of
from pyro_vae.value_checks import holds

__all__ = ["Array", "as_tensor", "check_array", "hint", "module_dtype_and_device", "repeat_rows"]

Array = Tensor | NDArray[Any] | Frame | SparseMatrix
"""Numbers: a tensor, a NumPy array, a DataFrame or Series of pandas or polars, or a sparse matrix of SciPy's."""

_WIDE = (torch.uint16, torch.uint32, torch.uint64)  # for which torch can do little but convert them


def as_tensor(
    name: str,
    value: Array,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    *,
    integers: bool = False,
) -> Tensor:
    """Return an array or table of real numbers as a tensor, itself if dtype and device are right already.

    Values may be rounded to a narrower dtype, as in any training in float32. A number that would become infinity or
    another integer is refused.

    Args:
        name: of the argument, for errors.
        value: a tensor; a NumPy array of any strides and byte order, which is not changed; a DataFrame or Series of
            numbers, in which a missing value becomes NaN; or a sparse matrix of SciPy's, which becomes dense.
        dtype: of the result if ``value`` has floating-point numbers; by default its own.
        device: of the result; by default that of ``value``.
        integers: convert integers and bools to ``dtype`` too.

    Raises:
        TypeError: if ``value`` is none of these, or its numbers are not real.
        ValueError: if it has no first dimension, a number that ``dtype`` cannot hold, or a column that is no number.

    Example:
        >>> import numpy as np
        >>> as_tensor("x", np.array([1.5, 2.5])[::-1], torch.float32)
        tensor([2.5000, 1.5000])
        >>> as_tensor("x", torch.tensor([1, 2]), torch.float32, integers=True)
        tensor([1., 2.])
    """
    array: Any = value if isinstance(value, (Tensor, np.ndarray)) else _opened(name, value)
    check_array(name, array)
    tensor: Tensor = array if isinstance(array, Tensor) else torch.from_numpy(_plain(name, array))
    if tensor.dim() == 0:
        raise ValueError(f"{name} must have a first dimension that counts the examples; got a single number")
    if tensor.dtype in _WIDE:
        tensor = _widened(name, tensor)
    if dtype is not None and dtype != tensor.dtype and (integers or tensor.is_floating_point()):
        tensor = _converted(name, tensor, dtype)
    return tensor if device is None else tensor.to(device)


def _opened(name: str, value: Array) -> Array:
    """Return the array in a table or a sparse matrix, and anything else as it is."""
    if is_frame(value):
        return numbers_of(name, value)
    return value.toarray() if is_sparse(value) else value


def check_array(name: str, value: object) -> None:
    """Raise a TypeError that says what to give, if ``value`` is no dense tensor or NumPy array of real numbers."""
    if isinstance(value, Tensor):
        remedy = _remedy(value)
    elif isinstance(value, np.ndarray):
        remedy = _remedy_of_numpy(value)
    else:
        shown = repr(value)
        what = f"{type(value).__name__}" + (f": {shown}" if len(shown) < 40 and "\n" not in shown else "")
        raise TypeError(f"{name} must be a tensor, a NumPy array or a table of numbers; got {what}{hint(value)}")
    if remedy:
        raise TypeError(f"{name} must be a dense array of real numbers; got {remedy}")


def _remedy(tensor: Tensor) -> str:
    """Return what is wrong with a tensor, and what to give; empty if nothing is wrong."""
    if isinstance(tensor, MaskedTensor):
        return (
            "a masked tensor, whose missing values would count as numbers. Give x.to_tensor(torch.nan) to a VAE that "
            "is built with missing=True"
        )
    if tensor.is_nested:
        return "a nested tensor. Give x.to_padded_tensor(padding), or one batch for each length"
    if tensor.layout != torch.strided:
        return f"a sparse tensor ({str(tensor.layout).removeprefix('torch.')}). Give x.to_dense(), a batch at a time"
    if tensor.is_complex():
        return f"{tensor.dtype}. Give torch.view_as_real(x), the real and the imaginary parts"
    if tensor.is_quantized:
        return f"{tensor.dtype}. Give x.dequantize()"
    return ""


def _remedy_of_numpy(array: np.ndarray) -> str:
    if isinstance(array, np.ma.MaskedArray):
        return (
            "a masked array, whose missing values would count as numbers. Give x.filled(numpy.nan) to a VAE that is "
            "built with missing=True"
        )
    if array.dtype.names:
        return f"a structured array of {', '.join(array.dtype.names)}. Give a plain array, one column for each field"
    kind = array.dtype.kind
    if kind == "c":
        return f"{array.dtype}. Give numpy.stack([x.real, x.imag], axis=-1)"
    if kind == "O":
        return "an array of objects. Convert it with x.astype(numpy.float32), and code classes as numbers first"
    if kind in "UST":
        return f"{array.dtype}. Code its values as numbers first: numpy.unique(x, return_inverse=True)[1] for labels"
    return "" if kind in "biuf" else f"{array.dtype}. Code its values as numbers first"


def hint(value: object) -> str:
    """Return the end of an error that says what to give instead of such a value; empty if that is not known."""
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(part, (Tensor, np.ndarray)) for part in value):
            stack = "torch.stack(x)" if isinstance(value[0], Tensor) else "numpy.stack(x)"
            return (
                f". Put its examples into one array with {stack}; or, if it is x and its context, give a tuple (x, c)"
            )
        if value and all(isinstance(part, str) for part in value):
            return ". Code classes as integers: numpy.unique(x, return_inverse=True)[1]"
        return ". Give torch.tensor(x)"
    if isinstance(value, Mapping):
        return ". Give x itself, or a tuple (x, *context)"
    for attribute, what in (("to_pandas", "its to_pandas()"), ("obs_names", "its X"), ("getbands", "numpy.asarray(x)")):
        if hasattr(value, attribute):  # tables of Arrow, AnnData, images of PIL
            return f". Give {what}"
    return ""


def _plain(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return the same numbers in an array that torch can share: writeable, with positive strides and native bytes."""
    dtype = array.dtype.newbyteorder("=")
    if dtype.kind == "f" and dtype.itemsize > 8:
        dtype = np.dtype(np.float64)  # torch has none wider
    with np.errstate(over="ignore"):  # the error below names the argument
        plain = np.require(array, dtype, ["C", "W"])
    if plain.dtype.itemsize < array.dtype.itemsize and (np.isinf(plain) & ~np.isinf(array)).any():
        raise ValueError(f"{name} has numbers that {plain.dtype} cannot hold. Scale the data")
    return plain


def _widened(name: str, tensor: Tensor) -> Tensor:
    wide = tensor.to(torch.int64)
    if not holds((wide >= 0).all()):
        raise ValueError(f"{name} has integers above {torch.iinfo(torch.int64).max}. Give x as floating-point numbers")
    return wide


def _converted(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the tensor in another dtype; raise a ValueError if a number would become a very different one."""
    new = tensor.to(dtype)
    if tensor.is_floating_point():
        if torch.finfo(tensor.dtype).max > torch.finfo(dtype).max and not holds(
            (torch.isfinite(new) | ~torch.isfinite(tensor)).all()
        ):
            largest = tensor[torch.isfinite(tensor)].abs().max().item()
            raise ValueError(
                f"{name} has values as large as {largest:.3g}, which {_word(dtype)} turns into infinity. Scale the "
                "data, or convert the VAE with vae.double()"
            )
    elif _may_be_rounded(tensor.dtype, dtype) and not holds((new.to(torch.int64) == tensor).all()):
        changed = new.to(torch.int64) != tensor
        raise ValueError(
            f"{name} has integers that {_word(dtype)} rounds to others, such as {tensor[changed][0].item()} to "
            f"{new[changed][0].item():.0f}. Scale the data, or convert the VAE with vae.double()"
        )
    return new


def _may_be_rounded(integer: torch.dtype, dtype: torch.dtype) -> bool:
    """Return True if an integer dtype has numbers that a floating-point dtype lacks."""
    return integer != torch.bool and torch.iinfo(integer).max > 2 / torch.finfo(dtype).eps


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def module_dtype_and_device(module: nn.Module) -> tuple[torch.dtype | None, torch.device | None]:
    """Return the dtype and device of a module's parameters, else of its buffers, else None twice."""
    for tensor in module.parameters():
        if tensor.is_floating_point():
            return tensor.dtype, tensor.device
    tensors = (tensor for tensor in module.buffers() if tensor.is_floating_point())
    return next(((tensor.dtype, tensor.device) for tensor in tensors), (None, None))


def repeat_rows(tensor: Tensor, times: int) -> Tensor:
    """Return the rows of a tensor, all of them repeated ``times`` times."""
    return tensor if times == 1 else tensor.repeat(times, *(1 for _ in tensor.shape[1:]))
