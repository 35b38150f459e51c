"""The capture of a Python program over tensors as one graph of tensor operations."""

from __future__ import annotations

import contextlib
import functools
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyro
import torch
from torch import Tensor
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, is_fake
from torch.fx.experimental.proxy_tensor import get_proxy_mode, get_proxy_slot, make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from pyro_vae.svi.float_functions import has_numbers, meet
from pyro_vae.svi.generators import Generators
from pyro_vae.svi.graph import Graph, lift, same, written_by_schema
from pyro_vae.svi.pyro_patches import pyro_without_values, sizes_in_words, stand_in
from pyro_vae.svi.refusals import CannotCaptureError, at_line, at_user_line
from pyro_vae.svi.symbolic_floats import Numbers, math_that_asks
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
    "it does not do the same again when run again: a number, a branch or the number of its sites comes from something "
    "in Python that changes from run to run"
)
_UNFOLLOWED = (
    "a float argument is used in a way that a graph cannot follow: what comes of it in Python would be a constant "
    "there; hand over a tensor in its place"
)


class Gradients:
    """What ``backward`` calls of a program being captured add up to, for each of some leaves; None where nothing.

    Args:
        leaves: tensors that require gradients.
    """

    def __init__(self, leaves: Sequence[Tensor]) -> None:
        self.leaves = list(leaves)
        self.values: list[Tensor | None] = [None] * len(self.leaves)
        # By their memory: what is in the store may go by another object in a capture.
        self._known = {t.data_ptr() for t in (*leaves, *pyro.get_param_store()._params.values())}

    def add(self, loss: Tensor, retain_graph: bool | None) -> None:
        """Adds the gradients of a loss.

        Raises:
            CannotCaptureError: where a gradient goes to another tensor too, which Pyro's step leaves in its ``grad``.
        """
        others = (t for t in _reached_by_gradients(loss) if not is_fake(t))  # of what a run makes itself it is lost
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
    """The tensors in which ``backward`` would leave a gradient."""
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
    """Runs a program once over tensors without values, and writes down what it does to them.

    Tensors that the program finds around it (parameters, buffers, optimiser state) stay the ones they are: the graph
    reads and writes them at each run. Numbers become constants. The first dimension of the arguments, where it is
    above 1, may change afterwards.

    Args:
        program: a function of the arguments; returns tensors.
        arguments: examples of the arguments; a float becomes a tensor of the graph, which the program sees as a
            :class:`FloatArgument`.
        fixed: examples of further arguments, of which no dimension changes.
        gradients: where ``backward`` calls of the program go; by default they are refused.

    Raises:
        CannotCaptureError: where the program reads values, or does not do the same again when run again.
    """
    store = pyro.get_param_store()
    names = set(store.keys())
    generators = Generators()
    try:
        with _quiet():
            first, graph = _trace_for_any_size(program, arguments, fixed, gradients)
            if not generators.same_python():
                raise CannotCaptureError(
                    "it draws from Python's or NumPy's random numbers, of which a graph would repeat one"
                )
            _compare_with_another(graph, functools.partial(_trace, program, arguments, fixed, gradients, first))
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


def _trace_for_any_size(
    program: Callable[..., Any],
    arguments: Sequence[Tensor | float],
    fixed: Sequence[Tensor],
    gradients: Gradients | None,
) -> tuple[DimDynamic, Graph]:
    """A graph for any batch size, or for that of the arguments alone where Pyro wants a number."""
    try:
        return DimDynamic.DUCK, _trace(program, arguments, fixed, gradients, DimDynamic.DUCK)
    except Exception:  # whatever it is: where it comes from anything else, it comes again
        return DimDynamic.STATIC, _trace(program, arguments, fixed, gradients, DimDynamic.STATIC)


def _trace(
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

    numbers = Numbers(hidden)
    floats = [i for i, argument in enumerate(arguments) if isinstance(argument, float)]

    def watched(*tensors: Tensor) -> Any:
        with (
            _Watch(gradients, numbers),
            without_validation(),
            pyro_without_values(),
            math_that_asks(),
            sizes_in_words(),
        ):
            return program(*numbers.arguments(arguments, tensors))

    def watched_without_arguments(_: Tensor) -> Any:
        return watched()

    examples = [_example(fake, _as_tensor(argument), f"argument{i}", first) for i, argument in enumerate(arguments)]
    sizes = [_first_size(example) for example in examples]  # now; afterwards some are known to be numbers
    others = [_example(fake, argument, f"fixed{i}", DimDynamic.STATIC) for i, argument in enumerate(fixed)]
    trace = functools.partial(make_fx, tracing_mode="symbolic", _allow_non_fake_inputs=True)
    if examples or others:
        traced = trace(watched)(*examples, *others)
    else:  # without an argument that has no values, the program would run on those there are
        traced = trace(watched_without_arguments)(_example(fake, torch.zeros(()), "none", DimDynamic.STATIC))
    tensors = lift(traced)
    if not (examples or others):
        traced.graph.erase_node(traced.graph.find_nodes(op="placeholder")[-1])
        traced.recompile()
    by_schema = written_by_schema(traced.graph.nodes)
    versions = [fake.fake_tensor_converter.from_real_tensor(fake, t)._version for t in tensors]
    written = [i for i, version in enumerate(versions) if version or i in by_schema]
    if any(i >= len(tensors) for i in by_schema):
        raise CannotCaptureError("it writes to a tensor among its arguments; let it make a new one")
    return Graph(traced, tensors, written, sizes, shapes, numbers, floats)


def _compare_with_another(graph: Graph, trace: Callable[..., Graph]) -> None:
    """Raises where a second capture gives another graph; in that one, float arguments hide their values."""
    if not graph.floats and not graph.numbers.of_runs:
        if not same(trace(), graph):
            raise CannotCaptureError(_CHANGES)
        return
    try:
        if same(trace(hidden=True), graph):
            return
        reason = _UNFOLLOWED
    except Exception as error:  # whatever the program does with another number
        reason = _reason(error) if isinstance(error, CannotCaptureError) else f"{_UNFOLLOWED} ({_reason(error)})"
    raise CannotCaptureError(reason if same(trace(), graph) else _CHANGES)


def _as_tensor(argument: Tensor | float) -> Tensor:
    return torch.tensor(argument, dtype=torch.float64, device="cpu") if isinstance(argument, float) else argument


def _example(fake: FakeTensorMode, argument: Tensor, name: str, first: DimDynamic) -> Tensor:
    """A tensor without values; first dimensions of the same size are taken to stay the same."""
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
    """Runs nothing for real, not even what has but tensors with values as its arguments, such as ``buffer.add_(1)``."""

    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Takes the values away from the arguments; those of constants, as ``torch.tensor`` makes them, are kept."""
        if func not in (torch.ops.aten.lift_fresh.default, torch.ops.aten.lift_fresh_copy.default):
            args, kwargs = tree_map_only(Tensor, self._without_values, (args, kwargs or {}))
        return super().dispatch(func, types, args, kwargs)

    def _without_values(self, tensor: Tensor) -> Tensor:
        if isinstance(tensor, FakeTensor):
            return tensor
        return self.fake_tensor_converter.from_real_tensor(self, tensor)


class _Watch(TorchFunctionMode):
    """Takes the place of what needs values: ``backward`` is noted, and what Pyro reads of tensors stays one."""

    def __init__(self, gradients: Gradients | None, numbers: Numbers) -> None:
        super().__init__()
        self.gradients = gradients
        self.numbers = numbers

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if has_numbers(args) or has_numbers(kwargs):
            return meet(func, args, kwargs, lambda func, args: self.__torch_function__(func, types, args))
        if func is Tensor.backward:
            if self.gradients is None or kwargs.get("inputs") is not None:
                raise CannotCaptureError("it calls backward" + " with inputs" * (self.gradients is not None))
            return self.gradients.add(args[0], kwargs.get("retain_graph", args[2] if len(args) > 2 else None))
        result = stand_in(func, args)
        if result is not NotImplemented:
            number = func is Tensor.item and result.dtype == torch.float64
            return self.numbers.of_run(result) if number else result
        if func is Tensor.data.__set__:  # type: ignore[attr-defined]
            with torch.no_grad():
                return args[0].copy_(args[1])
        if func in _GRADIENTS and args[0].is_leaf:
            raise CannotCaptureError(at_user_line("it looks at .grad, which a graph does not have"))
        if func in _READERS and not isinstance(args[0], FakeTensor):  # of those without values, torch says so itself
            raise CannotCaptureError(at_user_line("the value of a tensor is read, which a graph would not see change"))
        if isinstance(kwargs.get("generator"), torch.Generator):
            raise CannotCaptureError(at_user_line("it uses a Generator of its own"))
        if func in (Tensor.numpy, Tensor.tolist, Tensor.__array__):
            raise CannotCaptureError(at_user_line(f"Tensor.{func.__name__} reads values"))
        result = func(*args, **kwargs)
        if any(isinstance(t, Tensor) and not is_fake(t) for t in tree_leaves((args, kwargs))):
            _forget_value(result)
        return result


def _forget_value(result: Any) -> None:
    """Has torch not compute by itself what comes of constants and of tensors that the program finds around it."""
    mode = get_proxy_mode()
    for tensor in tree_leaves(result):
        known = get_proxy_slot(tensor, mode.tracer, None) if mode and isinstance(tensor, FakeTensor) else None
        if known is not None:
            known.constant = None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences warnings: what a run warns of, the step by Pyro before it has warned of already."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _reason(error: Exception) -> str:
    """The line of the user's program at which a capture failed, and what failed."""
    frames = traceback.extract_tb(error.__traceback__)
    return at_line(frames, _what(error))


def _first_part(error: Exception) -> str:
    """The words of an error without the table of shapes that Pyro adds."""
    return str(error).partition("Trace Shapes:")[0].rstrip()


def _what(error: BaseException) -> str:
    name = type(error).__name__
    if "DataDependent" in name or "GuardOnDataDependent" in name:
        return "a branch or a number depends on the value of a tensor"
    if name == "DynamicOutputShapeException":
        return "the shape of a tensor depends on the values of another"
    return f"{name}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
