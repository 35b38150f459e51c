"""What Pyro and torch.distributions do with the values of tensors, done without them while a graph is captured.

Each stands in for one line of theirs, which is named, and does the same for all values. What reads values anywhere
else, in a user's model above all, has no stand-in and is refused.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
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

from pyro_vae.svi.symbolic_floats import FloatArgument

__all__ = ["pyro_without_values", "sizes_in_words", "stand_in"]

_PYRO = Path(pyro.__file__).parent
_LOSSES = str(_PYRO / "infer")
_SPLINE = str(_PYRO / "distributions" / "transforms" / "spline.py")
_PLATE = str(_PYRO / "poutine" / "indep_messenger.py")
_VALIDATION = str(torch.distributions.distribution.__file__)
_TRIANGLES = str(torch.distributions.utils.__file__)
_TORCH_WRAPPERS = tuple(str(Path(torch.__file__).parent / name) for name in ("_tensor.py", "functional.py"))


# Draws and gradients of draws, of which torch (which ones depends on its version) does not say the shape: that of their
# first argument. Kept as long as the process lasts.
_SHAPES = torch.library.Library("aten", "IMPL", "Meta")
for _name in ("_standard_gamma", "_standard_gamma_grad", "_sample_dirichlet", "_dirichlet_grad"):
    if not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{_name}", "Meta"):
        _SHAPES.impl(_name, lambda first, *others, **options: torch.empty_like(first))


class _Chosen(NamedTuple):
    """``x[mask]``, whose shape depends on values, until it is put back in the same places."""

    x: Tensor
    mask: Tensor


def stand_in(func: Any, args: Any) -> Any:
    """The result of a function of torch that reads values, or ``NotImplemented``.

    Args:
        func: the function, as a ``TorchFunctionMode`` has it; this is to be called by that mode itself.
        args: its arguments.
    """
    finder = _STAND_INS.get(func)
    return NotImplemented if finder is None else finder(_caller(), *args)


def _caller() -> FrameType:
    frame = sys._getframe(3)
    while frame.f_back is not None and frame.f_code.co_filename in _TORCH_WRAPPERS:
        frame = frame.f_back
    return frame


def _item(caller: FrameType, x: Tensor) -> Any:
    # pyro.infer: a loss is read for its value, in double precision as a float has it.
    if not caller.f_code.co_filename.startswith(_LOSSES):
        return NotImplemented
    return x.double() if x.is_floating_point() else x


def _bool(caller: FrameType, x: Tensor) -> Any:
    file = caller.f_code.co_filename
    if file == _VALIDATION:
        return True  # a distribution that was made before, with validation on
    # pyro.infer.util: whether all probabilities are above zero; if not, masked_select, below, takes those that are.
    return False if file.startswith(_LOSSES) else NotImplemented


def _masked_select(caller: FrameType, x: Tensor, mask: Tensor) -> Any:
    # pyro.infer.util: of products of what is selected the sum is taken, in an order that depends on the layout of x.
    return x.clone().masked_fill_(~mask, 0) if caller.f_code.co_filename.startswith(_LOSSES) else NotImplemented


def _nonzero(caller: FrameType, x: Tensor, *_: Any) -> Any:
    if _is_held_mask(x):
        with _disable_current_modes():
            return x.nonzero(*_)
    # pyro.infer.energy_distance: the pairs of particles.
    if not caller.f_code.co_filename.startswith(_LOSSES):
        return NotImplemented
    return torch.tril_indices(x.shape[0], x.shape[0], -1, device=x.device).T


def _invert(caller: FrameType, x: Tensor) -> Any:
    if not _is_held_mask(x):
        return NotImplemented
    with _disable_current_modes():
        return ~x


def _is_held_mask(x: Tensor) -> bool:
    # Which elements a coupling of Zuko's leaves as they are: a constant that a module holds.
    return x.dtype == torch.bool and not is_fake(x)


def _unbind(caller: FrameType, x: Tensor, *_: Any) -> Any:
    # The numbers of the steps of a sequential plate.
    plate = caller.f_locals.get("self") if caller.f_code.co_filename == _PLATE else None
    return list(range(plate.size)) if plate is not None and plate.subsample_size == plate.size else NotImplemented


def _get(caller: FrameType, x: Tensor, index: Any) -> Any:
    if caller.f_code.co_filename == _TRIANGLES:
        return x[_triangle(caller)]
    if not isinstance(index, Tensor):
        return NotImplemented
    if index.dtype == torch.bool:
        return _Chosen(x, index) if caller.f_code.co_filename == _SPLINE else NotImplemented
    if index.dim() == 0 and not index.is_floating_point():
        return x.index_select(0, index.reshape(1)).squeeze(0)  # which torch would read as a number
    return NotImplemented


def _set(caller: FrameType, x: Tensor, index: Any, value: Any) -> Any:
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
    # tril_matrix_to_vec and vec_to_tril_matrix: the lower triangle, by a mask.
    n, diagonal = caller.f_locals["n"], caller.f_locals["diag"]
    rows, columns = torch.tril_indices(n, n, diagonal)
    return ..., rows, columns


_STAND_INS: dict[Any, Any] = {
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
    """Has Pyro do without values where it is not a function of torch that would ask for them."""

    def mark(cls: Any, data: Tensor, provenance: Any = frozenset(), **_: Any) -> Tensor:
        # Pyro makes a marked tensor of another class out of the same memory, which tensors without values refuse. The
        # mark's own memory is never read: all that is done to it is done to the tensor that it marks.
        if not provenance:
            return data
        with _disable_current_modes():
            marked = torch.empty(0).as_subclass(cls)
        marked._t, marked._provenance = data, provenance
        return marked

    common_scale = traceenum_elbo._get_common_scale

    def common_scale_of_floats(scales: list[Any]) -> Any:
        # Pyro looks whether enumerated sites have one scale in common by float(scale).
        if any(isinstance(s, FloatArgument) for s in scales) and all(s == scales[0] for s in scales[1:]):
            return scales[0]
        return common_scale(scales)

    set_item = ParamStoreDict.__setitem__
    replaced: dict[str, Tensor] = {}

    def replace(store: ParamStoreDict, name: str, value: Tensor) -> None:
        # The decaying averages of TraceGraph_ELBO; a graph writes into the tensor that is there.
        if name in store:
            replaced.setdefault(name, store._params[name])
        set_item(store, name, value)

    def hash_of_plate(frame: CondIndepStackFrame) -> int:
        return hash((frame.name, frame.dim, frame.counter))  # without the size, which may be open

    with contextlib.ExitStack() as patches:
        patches.enter_context(patch.object(CondIndepStackFrame, "__hash__", hash_of_plate))
        patches.enter_context(patch.object(traceenum_elbo, "_get_common_scale", common_scale_of_floats))
        patches.enter_context(patch.object(pyro.util, "torch_isnan", lambda x: False))
        patches.enter_context(patch.object(ProvenanceTensor, "__new__", mark))
        patches.enter_context(patch.object(ParamStoreDict, "__setitem__", replace))
        store = pyro.get_param_store()
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
def sizes_in_words() -> Iterator[None]:
    """Has a size that may change be a number where a program puts it into a name, such as that of a site.

    The graph then is right for this size alone. What torch writes for itself stays a symbol.
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
