"""The capture of a Python program on tensors as one graph of tensor operations."""

from __future__ import annotations

import contextlib
import functools
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyro
import torch
from torch import Tensor
from torch._dynamo.source import ConstantSource
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, is_fake
from torch.fx.experimental.proxy_tensor import get_proxy_mode, get_proxy_slot, make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from pyro_vae.svi.float_functions import call_with_floats, has_floats
from pyro_vae.svi.generators import Generators
from pyro_vae.svi.graph import Graph, lift, same, written_by_schema
from pyro_vae.svi.pyro_patches import pyro_without_values, replacement, sizes_as_numbers
from pyro_vae.svi.refusals import CannotCaptureError, at_line, at_user_line
from pyro_vae.svi.symbolic_floats import FloatOperations, math_refusing_floats
from pyro_vae.value_checks import without_validation

__all__ = ["Gradients", "capture"]

_GRADIENT: Any = Tensor.grad
_GRADIENTS = (_GRADIENT.__get__, _GRADIENT.__set__)
_READERS = (
    *(Tensor.item, Tensor.__float__, Tensor.__int__, Tensor.__index__, Tensor.__bool__, Tensor.__repr__),
    *(Tensor.__format__, Tensor.__contains__, Tensor.equal, Tensor.allclose, Tensor.is_nonzero),
    *(torch.equal, torch.allclose, torch.is_nonzero),
)
_CHANGES = (
    "it does something else when it runs again: a number, a branch or the number of its sites comes from something in "
    "Python that changes from run to run"
)
_UNFOLLOWED = (
    "a float argument is used in a way that a graph cannot follow: the result of it in Python would be a constant "
    "there; pass a tensor in its place"
)


class Gradients:
    """The gradients of a captured program: for each of some leaves, the sum over its ``backward`` calls, or None.

    Args:
        leaves: tensors that require gradients.
    """

    def __init__(self, leaves: Sequence[Tensor]) -> None:
        self.leaves = list(leaves)
        self.values: list[Tensor | None] = [None] * len(self.leaves)
        # By their memory: in a capture, another object may stand for a tensor in the store.
        self._known = {t.data_ptr() for t in (*leaves, *pyro.get_param_store()._params.values())}

    def add(self, loss: Tensor, retain_graph: bool | None) -> None:
        """Add the gradients of a loss.

        Raises:
            CannotCaptureError: if another tensor gets a gradient too; Pyro's step leaves that in its ``grad``.
        """
        others = (t for t in _reached_by_gradients(loss) if not is_fake(t))  # tensors of the run itself are fake
        stranger = next((t for t in others if t.data_ptr() not in self._known), None)
        if stranger is not None:
            raise CannotCaptureError(
                f"a gradient goes to a tensor of shape {tuple(stranger.shape)} that is no parameter of Pyro's; "
                "register it (pyro.module, pyro.param) or detach it"
            )
        if not self.leaves:
            return
        found = torch.autograd.grad(loss, self.leaves, retain_graph=retain_graph, allow_unused=True)
        self.values = [b if a is None else a if b is None else a + b for a, b in zip(self.values, found, strict=True)]


def _reached_by_gradients(loss: Tensor) -> Iterator[Tensor]:
    """Yield the tensors in which ``backward`` would leave a gradient."""
    ahead = [loss.grad_fn]
    seen = set()
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        ahead += [following for following, _ in node.next_functions]


def capture(
    program: Callable[..., Any],
    arguments: Sequence[Tensor | float],
    fixed: Sequence[Tensor] = (),
    gradients: Gradients | None = None,
) -> Graph:
    """Run a program on tensors without values, and record its operations.

    Other tensors that the program uses (parameters, buffers, optimiser state) are not copied: the graph reads and
    writes them in each run. Numbers become constants. The first dimension of each argument may change afterwards if it
    is above 1.

    Args:
        program: a function of the arguments; returns tensors.
        arguments: examples of the arguments; a float becomes a tensor of the graph, which the program sees as a
            :class:`SymbolicFloat`.
        fixed: examples of further arguments, whose dimensions do not change.
        gradients: collects the gradients of ``backward`` calls of the program; by default such calls are refused.

    Raises:
        CannotCaptureError: if the program reads values, or does something else when it runs again.
    """
    store = pyro.get_param_store()
    names = set(store.keys())
    generators = Generators()
    try:
        with _quiet():
            first, graph = _capture_for_any_size(program, arguments, fixed, gradients)
            if not generators.same_python():
                raise CannotCaptureError(
                    "it draws from Python's or NumPy's random numbers, and a graph would repeat the same number"
                )
            _compare_with_another(graph, functools.partial(_capture_once, program, arguments, fixed, gradients, first))
    except CannotCaptureError as error:
        raise CannotCaptureError(_first_part(error)) from error.__cause__
    except Exception as error:
        raise CannotCaptureError(_reason(error)) from error
    finally:
        generators.restore()
        strangers = set(store.keys()) - names
        for name in strangers:
            del store[name]
    if strangers:
        raise CannotCaptureError(f"the parameter {min(strangers)!r} appears in some runs only")
    return graph


def _capture_for_any_size(
    program: Callable[..., Any],
    arguments: Sequence[Tensor | float],
    fixed: Sequence[Tensor],
    gradients: Gradients | None,
) -> tuple[DimDynamic, Graph]:
    """Return a graph for any batch size, or only for that of the arguments if Pyro needs a number."""
    try:
        return DimDynamic.DUCK, _capture_once(program, arguments, fixed, gradients, DimDynamic.DUCK)
    except Exception:  # whatever it is: an error for another reason comes again
        return DimDynamic.STATIC, _capture_once(program, arguments, fixed, gradients, DimDynamic.STATIC)


def _capture_once(
    program: Callable[..., Any],
    arguments: Sequence[Tensor | float],
    fixed: Sequence[Tensor],
    gradients: Gradients | None,
    first: DimDynamic,
    hidden: bool = False,
) -> Graph:
    shapes = ShapeEnv(allow_scalar_outputs=False, allow_dynamic_output_shape_ops=False)
    fake = _NoValues(shape_env=shapes, allow_non_fake_inputs=True)
    if gradients is not None:
        gradients.values = [None] * len(gradients.leaves)

    numbers = FloatOperations(hidden)
    floats = [i for i, argument in enumerate(arguments) if isinstance(argument, float)]

    def without_values(*tensors: Tensor) -> list[Tensor | None] | Tensor:
        with (
            _TensorFunctions(gradients, numbers),
            without_validation(),
            pyro_without_values(),
            math_refusing_floats(),
            sizes_as_numbers(),
        ):
            return program(*numbers.arguments(arguments, tensors))

    def without_arguments(_: Tensor) -> list[Tensor | None] | Tensor:
        return without_values()

    examples = [_example(fake, _as_tensor(argument), f"argument{i}", first) for i, argument in enumerate(arguments)]
    sizes = [_first_size(example) for example in examples]  # before the run, which may fix some of them
    others = [_example(fake, argument, f"fixed{i}", DimDynamic.STATIC) for i, argument in enumerate(fixed)]
    trace = functools.partial(make_fx, tracing_mode="symbolic", _allow_non_fake_inputs=True)
    if examples or others:
        traced = trace(without_values)(*examples, *others)
    else:  # without any argument, make_fx would run the program on values
        traced = trace(without_arguments)(_example(fake, torch.zeros(()), "none", DimDynamic.STATIC))
    tensors = lift(traced)
    if not (examples or others):
        traced.graph.erase_node(traced.graph.find_nodes(op="placeholder")[-1])
        traced.recompile()
    by_schema = written_by_schema(traced.graph.nodes)
    versions = [fake.fake_tensor_converter.from_real_tensor(fake, t)._version for t in tensors]
    written = [i for i, version in enumerate(versions) if version or i in by_schema]
    if any(i >= len(tensors) for i in by_schema):
        raise CannotCaptureError("it writes to a tensor among its arguments; make a new tensor instead")
    return Graph(traced, tensors, written, sizes, shapes, numbers, floats)


def _compare_with_another(graph: Graph, recapture: Callable[..., Graph]) -> None:
    """Raise if a second capture gives another graph; if there are float arguments, it hides their values."""
    if not graph.floats and not graph.numbers.of_runs:
        if not same(recapture(), graph):
            raise CannotCaptureError(_CHANGES)
        return
    try:
        if same(recapture(hidden=True), graph):
            return
        reason = _UNFOLLOWED
    except Exception as error:  # whatever the program does with another number
        reason = _reason(error) if isinstance(error, CannotCaptureError) else f"{_UNFOLLOWED} ({_reason(error)})"
    raise CannotCaptureError(reason if same(recapture(), graph) else _CHANGES)


def _as_tensor(argument: Tensor | float) -> Tensor:
    return torch.tensor(argument, dtype=torch.float64, device="cpu") if isinstance(argument, float) else argument


def _example(fake: FakeTensorMode, argument: Tensor, name: str, first: DimDynamic) -> Tensor:
    """Return a tensor without values; equal first dimensions are taken to stay equal."""
    dims = [DimDynamic.STATIC] * argument.dim()
    if dims and argument.shape[0] > 1:
        dims[0] = first
    context: Any = StatelessSymbolicContext(dynamic_sizes=dims)
    return fake.from_tensor(argument, symbolic_context=context, source=ConstantSource(name))


def _first_size(example: Tensor) -> Any:
    if not example.dim():
        return None
    size = example.shape[0]
    return size.node.expr if isinstance(size, torch.SymInt) else size


class _NoValues(FakeTensorMode):
    """Runs no operation on values, not even if all arguments have values, as in ``buffer.add_(1)``."""

    def dispatch(
        self, func: OpOverload, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Remove the values from the arguments, except for constants that ``torch.tensor`` makes."""
        kwargs = kwargs or {}
        if func not in (torch.ops.aten.lift_fresh.default, torch.ops.aten.lift_fresh_copy.default) and (
            _has_values(args) or _has_values(kwargs)
        ):  # a capture comes here thousands of times, and almost never with values
            args, kwargs = tree_map_only(Tensor, self._without_values, (args, kwargs))
        return super().dispatch(func, types, args, kwargs)

    def _without_values(self, tensor: Tensor) -> Tensor:
        if isinstance(tensor, FakeTensor):
            return tensor
        return self.fake_tensor_converter.from_real_tensor(self, tensor)


def _has_values(arguments: object) -> bool:
    """Return True if a tensor with values is among the arguments of an operation, or in lists and dictionaries."""
    if isinstance(arguments, dict):
        arguments = arguments.values()
    elif not isinstance(arguments, (list, tuple)):
        return isinstance(arguments, Tensor) and not isinstance(arguments, FakeTensor)
    return any(map(_has_values, arguments))


class _TensorFunctions(TorchFunctionMode):
    """Replaces functions of torch that need values: ``backward``, and those with which Pyro reads tensors."""

    def __init__(self, gradients: Gradients | None, numbers: FloatOperations) -> None:
        super().__init__()
        self.gradients = gradients
        self.numbers = numbers

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if has_floats(args) or has_floats(kwargs):
            return call_with_floats(func, args, kwargs, lambda func, args: self.__torch_function__(func, types, args))
        if func is Tensor.backward:
            if self.gradients is None or kwargs.get("inputs") is not None:
                raise CannotCaptureError("it calls backward" + " with inputs" * (self.gradients is not None))
            return self.gradients.add(args[0], kwargs.get("retain_graph", args[2] if len(args) > 2 else None))
        result = replacement(func, args)
        if result is not NotImplemented:
            number = func is Tensor.item and result.dtype == torch.float64
            return self.numbers.of_run(result) if number else result
        if func is Tensor.data.__set__:  # type: ignore[attr-defined]
            with torch.no_grad():
                return args[0].copy_(args[1])
        if func in _GRADIENTS and args[0].is_leaf:
            raise CannotCaptureError(at_user_line("it reads .grad, which a graph does not have"))
        if func in _READERS and not isinstance(args[0], FakeTensor):  # for tensors without values, torch raises
            raise CannotCaptureError(at_user_line("the value of a tensor is read, and a graph would not see it change"))
        if isinstance(kwargs.get("generator"), torch.Generator):
            raise CannotCaptureError(at_user_line("it uses a Generator of its own"))
        if func in (Tensor.numpy, Tensor.tolist, Tensor.__array__):
            raise CannotCaptureError(at_user_line(f"Tensor.{func.__name__} reads values"))
        result = func(*args, **kwargs)
        if any(isinstance(t, Tensor) and not is_fake(t) for t in tree_leaves((args, kwargs))):
            _forget_value(result)
        return result


def _forget_value(result: object) -> None:
    """Keep torch from computing results of constants and of other tensors with values during the capture."""
    mode = get_proxy_mode()
    for tensor in tree_leaves(result):
        known = get_proxy_slot(tensor, mode.tracer, None) if mode and isinstance(tensor, FakeTensor) else None
        if known is not None:
            known.constant = None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings: the previous step, by Pyro, has shown them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _reason(error: Exception) -> str:
    """Return what failed in a capture, and the line of the user's program."""
    frames = traceback.extract_tb(error.__traceback__)
    return at_line(frames, _what(error))


def _first_part(error: Exception) -> str:
    """Return the message of an error without the table of shapes that Pyro adds."""
    return str(error).partition("Trace Shapes:")[0].rstrip()


def _what(error: BaseException) -> str:
    name = type(error).__name__
    if "DataDependent" in name or "GuardOnDataDependent" in name:
        return "a branch or a number depends on the value of a tensor"
    if name == "DynamicOutputShapeException":
        return "the shape of a tensor depends on the values of another"
    return f"{name}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
