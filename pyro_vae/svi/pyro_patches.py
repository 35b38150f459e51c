"""Replacements, during a capture, for the lines of Pyro and torch.distributions that read the values of tensors.

Each replaces one line, which it names, and does the same for all values. Code that reads values anywhere else, above
all in a user's model, has no replacement and is refused.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple
from unittest.mock import patch

import pyro
import torch
from pyro.infer import traceenum_elbo
from pyro.ops.provenance import ProvenanceTensor
from pyro.params.param_store import ParamStoreDict
from pyro.poutine.indep_messenger import CondIndepStackFrame
from torch import Tensor
from torch._subclasses.fake_tensor import is_fake
from torch.utils._python_dispatch import _disable_current_modes

from pyro_vae.svi.symbolic_floats import SymbolicFloat

__all__ = ["pyro_without_values", "replacement", "sizes_as_numbers"]

_PYRO = Path(pyro.__file__).parent
_LOSSES = str(_PYRO / "infer")
_SPLINE = str(_PYRO / "distributions" / "transforms" / "spline.py")
_PLATE = str(_PYRO / "poutine" / "indep_messenger.py")
_VALIDATION = str(torch.distributions.distribution.__file__)
_TRIANGLES = str(torch.distributions.utils.__file__)
_TORCH_WRAPPERS = tuple(str(Path(torch.__file__).parent / name) for name in ("_tensor.py", "functional.py"))


# Draws and gradients of draws that have the shape of their first argument; some versions of torch lack this rule for
# some of them. It stays for the whole process.
_SHAPES = torch.library.Library("aten", "IMPL", "Meta")
for _name in ("_standard_gamma", "_standard_gamma_grad", "_sample_dirichlet", "_dirichlet_grad"):
    if not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{_name}", "Meta"):
        _SHAPES.impl(_name, lambda first, *others, **options: torch.empty_like(first))


class _Chosen(NamedTuple):
    """``x[mask]``, whose shape depends on values, until it is written back to the same elements."""

    x: Tensor
    mask: Tensor


def replacement(func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Return the result of a function of torch that reads values, or ``NotImplemented``.

    Args:
        func: the function, as a ``TorchFunctionMode`` gets it; only the mode itself may call this.
        args: its arguments.
    """
    replaced = _REPLACEMENTS.get(func)
    return NotImplemented if replaced is None else replaced(_caller(), *args)


def _caller() -> FrameType:
    frame = sys._getframe(3)
    while frame.f_back is not None and frame.f_code.co_filename in _TORCH_WRAPPERS:
        frame = frame.f_back
    return frame


def _item(caller: FrameType, x: Tensor) -> Any:
    # pyro.infer reads the value of a loss, in double precision like a float.
    if not caller.f_code.co_filename.startswith(_LOSSES):
        return NotImplemented
    return x.double() if x.is_floating_point() else x


def _bool(caller: FrameType, x: Tensor) -> Any:
    file = caller.f_code.co_filename
    if file == _VALIDATION:
        return True  # of a distribution that was made earlier, with validation
    # pyro.infer.util asks if all probabilities are above zero; if not, masked_select, below, takes those that are.
    return False if file.startswith(_LOSSES) else NotImplemented


def _masked_select(caller: FrameType, x: Tensor, mask: Tensor) -> Any:
    # pyro.infer.util sums products of the selected elements, in an order that depends on the layout of x.
    return x.clone().masked_fill_(~mask, 0) if caller.f_code.co_filename.startswith(_LOSSES) else NotImplemented


def _nonzero(caller: FrameType, x: Tensor, *_: bool) -> Any:
    if _is_held_mask(x):
        with _disable_current_modes():
            return x.nonzero(*_)
    # pyro.infer.energy_distance asks for the pairs of particles.
    if not caller.f_code.co_filename.startswith(_LOSSES):
        return NotImplemented
    return torch.tril_indices(x.shape[0], x.shape[0], -1, device=x.device).T


def _invert(caller: FrameType, x: Tensor) -> Any:
    if not _is_held_mask(x):
        return NotImplemented
    with _disable_current_modes():
        return ~x


def _is_held_mask(x: Tensor) -> bool:
    # A module of Zuko's holds it as a constant: the elements that a coupling leaves unchanged.
    return x.dtype == torch.bool and not is_fake(x)


def _unbind(caller: FrameType, x: Tensor, *_: int) -> Any:
    # A sequential plate reads the numbers of its steps.
    plate = caller.f_locals.get("self") if caller.f_code.co_filename == _PLATE else None
    return list(range(plate.size)) if plate is not None and plate.subsample_size == plate.size else NotImplemented


def _get(caller: FrameType, x: Tensor, index: object) -> Any:
    if caller.f_code.co_filename == _TRIANGLES:
        return x[_triangle(caller)]
    if not isinstance(index, Tensor):
        return NotImplemented
    if index.dtype == torch.bool:
        return _Chosen(x, index) if caller.f_code.co_filename == _SPLINE else NotImplemented
    if index.dim() == 0 and not index.is_floating_point():
        return x.index_select(0, index.reshape(1)).squeeze(0)  # torch would read the index as a number
    return NotImplemented


def _set(caller: FrameType, x: Tensor, index: object, value: Any) -> Any:
    if caller.f_code.co_filename == _TRIANGLES:
        x[_triangle(caller)] = value
        return None
    if isinstance(value, _Chosen) and value.mask is index:
        x.copy_(torch.where(index, value.x, x))
        return None
    if isinstance(index, Tensor) and index.dtype == torch.bool and isinstance(value, (int, float)):
        x.masked_fill_(index.reshape(index.shape + (1,) * (x.dim() - index.dim())), value)
        return None
    return NotImplemented


def _triangle(caller: FrameType) -> Any:
    # tril_matrix_to_vec and vec_to_tril_matrix take the lower triangle by a mask.
    n, diagonal = caller.f_locals["n"], caller.f_locals["diag"]
    rows, columns = torch.tril_indices(n, n, diagonal)
    return ..., rows, columns


_REPLACEMENTS: dict[Callable[..., Any], Callable[..., Any]] = {
    Tensor.item: _item,
    Tensor.__bool__: _bool,
    Tensor.masked_select: _masked_select,
    Tensor.nonzero: _nonzero,
    Tensor.__invert__: _invert,
    Tensor.unbind: _unbind,
    Tensor.__getitem__: _get,
    Tensor.__setitem__: _set,
}


@contextlib.contextmanager
def pyro_without_values() -> Iterator[None]:
    """Keep Pyro from reading values in ways other than functions of torch."""
    with contextlib.ExitStack() as patches:
        for owner, name, function in (
            (CondIndepStackFrame, "__hash__", _hash_of_plate),
            (traceenum_elbo, "_get_common_scale", _common_scale),
            (pyro.util, "torch_isnan", lambda x: False),
            (ProvenanceTensor, "__new__", _marked),
        ):
            patches.enter_context(patch.object(owner, name, function))
        patches.enter_context(_store_written_in_place())
        yield


def _hash_of_plate(frame: CondIndepStackFrame) -> int:
    return hash((frame.name, frame.dim, frame.counter))  # without the size, which may be open


_GET_COMMON_SCALE = traceenum_elbo._get_common_scale


def _common_scale(scales: list[Any]) -> Any:
    # Pyro compares the scales of enumerated sites by float(scale).
    if any(isinstance(s, SymbolicFloat) for s in scales) and all(s == scales[0] for s in scales[1:]):
        return scales[0]
    return _GET_COMMON_SCALE(scales)


def _marked(cls: type[ProvenanceTensor], data: Tensor, provenance: frozenset[Any] = frozenset(), **_: object) -> Tensor:
    # Pyro makes a marked tensor of another class from the same memory, which tensors without values refuse. Nothing
    # reads the memory of the mark: each operation on it is done on the tensor that it marks.
    if not provenance:
        return data
    with _disable_current_modes():
        marked = torch.empty(0).as_subclass(cls)
    marked._t, marked._provenance = data, provenance
    return marked


@contextlib.contextmanager
def _store_written_in_place() -> Iterator[None]:
    """Write new values of parameters into the tensors that Pyro's store holds, at the end of the block."""
    set_item = ParamStoreDict.__setitem__
    replaced: dict[str, Tensor] = {}

    def replace(store: ParamStoreDict, name: str, value: Tensor) -> None:
        # The decaying averages of TraceGraph_ELBO; a graph writes into the tensor that is there.
        if name in store:
            replaced.setdefault(name, store._params[name])
        set_item(store, name, value)

    store = pyro.get_param_store()
    with patch.object(ParamStoreDict, "__setitem__", replace):
        try:
            yield
            with torch.no_grad():
                for name, held in replaced.items():
                    held.copy_(store._params[name])
        finally:
            for name, held in replaced.items():
                store._params[name] = held
                store._param_to_name[held] = name


@contextlib.contextmanager
def sizes_as_numbers() -> Iterator[None]:
    """Turn a size that may change into a number if a program formats it, as in the name of a site.

    The graph then fits this size alone. In text that torch itself writes, the size stays a symbol.
    """
    torch_itself = str(Path(torch.__file__).parent)
    symbol = torch.SymInt.__str__

    def text(size: torch.SymInt, *spec: str) -> str:
        frame = sys._getframe(1)
        if frame.f_code.co_filename.startswith(torch_itself):
            return format(symbol(size), *spec)
        return format(int(size), *spec)

    with contextlib.ExitStack() as patches:
        for name in ("__str__", "__repr__", "__format__"):
            patches.enter_context(patch.object(torch.SymInt, name, text))
        yield
