"""A captured graph: which arguments it fits, and how it is changed after the capture."""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import sympy  # type: ignore[import-untyped]  # it has no types
import torch
from torch import Tensor, fx
from torch._C._dynamo.guards import TensorGuards
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from pyro_vae.svi.refusals import CannotCaptureError
from pyro_vae.svi.symbolic_floats import FloatOperations

__all__ = ["Graph", "first_results", "guard_on", "keep_unless", "lift", "same", "written_by_schema"]


class Graph(NamedTuple):
    """A captured program.

    Args:
        module: the graph, a function of ``tensors`` and then of the program's own arguments.
        tensors: the tensors outside its arguments that the program reads or writes, such as parameters: the tensors
            themselves.
        written: the indices in ``tensors`` of those that it writes to.
        sizes: the first dimensions of the arguments, as expressions or numbers; None for a tensor of shape ().
        shapes: what is known of those expressions.
        numbers: what the program computed from its float arguments in Python, and its decisions by them.
        floats: the indices of the floats among the arguments.
    """

    module: fx.GraphModule
    tensors: list[Tensor]
    written: list[int]
    sizes: list[sympy.Expr | int | None]
    shapes: ShapeEnv
    numbers: FloatOperations
    floats: list[int]

    def takes(self, arguments: Sequence[Tensor]) -> bool:
        """Return True if the graph fits arguments of these first dimensions."""
        symbols: dict[sympy.Expr | int, int] = {}
        for size, argument in zip(self.sizes, arguments, strict=True):
            if isinstance(size, int) and size != len(argument):
                return False
            if size is not None and symbols.setdefault(size, len(argument)) != len(argument):
                return False
        fixed = {symbol: known for symbol, known in self.shapes.replacements.items() if symbol in symbols}
        if any(known.subs(symbols) != symbols[symbol] for symbol, known in fixed.items()):
            return False
        return all(guard.expr.subs(symbols) == True for guard in self.shapes.guards)  # noqa: E712  sympy's own true

    def decides_alike(self, arguments: Sequence[Tensor]) -> bool:
        """Return True if the program would take the same branches with these float arguments."""
        if not self.numbers.decided:
            return True
        pairs = zip(self.sizes, arguments, strict=True)
        sizes = {size: a.shape[0] for size, a in pairs if size is not None and not isinstance(size, int)}
        return self.numbers.hold([arguments[i].item() for i in self.floats], sizes)


def guard_on(tensors: Sequence[Tensor]) -> TensorGuards | None:
    """Return a guard on shapes, strides, dtypes, devices and ``requires_grad``, checked at the speed of C++.

    Args:
        tensors: those around a graph.

    Returns:
        torch's guard: ``check(*tensors)`` is True while all are as now; None if there are no tensors.
    """
    if not tensors:
        return None
    sizes: list[Any] = [list(t.shape) for t in tensors]
    strides: list[Any] = [list(t.stride()) for t in tensors]
    return TensorGuards(*tensors, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides)


def lift(traced: fx.GraphModule) -> list[Tensor]:
    """Turn the tensors that a graph holds into arguments, before its own, and return them.

    Args:
        traced: the graph; it is changed.

    Raises:
        CannotCaptureError: if it holds anything but tensors.
    """
    graph = traced.graph
    first = next(iter(graph.nodes))
    tensors: list[Tensor] = []
    placeholders: dict[int, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op != "get_attr":
            continue
        tensor = getattr(traced, str(node.target))
        if not isinstance(tensor, Tensor):
            raise CannotCaptureError(f"it uses a {type(tensor).__name__} of its own")
        if id(tensor) not in placeholders:
            with graph.inserting_before(first):
                placeholders[id(tensor)] = graph.placeholder(f"held{len(tensors)}")
            tensors.append(tensor)
        node.replace_all_uses_with(placeholders[id(tensor)])
        graph.erase_node(node)
    graph.eliminate_dead_code()
    traced.recompile()
    return tensors


def keep_unless(graph: Graph, result: int) -> None:
    """Make a graph leave the tensors around it unchanged in a run with one false result.

    Args:
        graph: the graph; it is changed.
        result: the index of a bool ``()`` among its results; if that is None, nothing changes.
    """
    nodes = list(graph.module.graph.nodes)
    condition = nodes[-1].args[0][result]
    if condition is None:
        return
    new = graph.module.graph
    around = [node for node in nodes if node.op == "placeholder"]
    for held in [around[i] for i in graph.written]:
        with new.inserting_before(next(node for node in nodes if node.op != "placeholder")):
            before = new.call_function(torch.ops.aten.clone.default, (held,))
        with new.inserting_before(nodes[-1]):
            kept = new.call_function(torch.ops.aten.where.self, (condition, held, before))
            new.call_function(torch.ops.aten.copy_.default, (held, kept))
    graph.module.recompile()


def first_results(graph: Graph, results: int) -> Graph:
    """Return a graph that does the same, and returns only the first results.

    Args:
        graph: the graph; it stays as it is.
        results: how many.
    """
    new = copy.deepcopy(graph.module.graph)
    (output,) = new.find_nodes(op="output")
    output.args = (output.args[0][:results],)
    return Graph(fx.GraphModule(graph.module, new), *graph[1:])


def written_by_schema(nodes: Iterable[fx.Node]) -> set[int]:
    """Return the indices of the arguments to which operations write by their schemas; some count no versions.

    Args:
        nodes: of a graph.
    """
    places: dict[Any, set[int]] = {}  # for each node, the arguments of which it may be a view
    written: set[int] = set()
    for node in nodes:
        if node.op == "placeholder":
            places[node] = {len(places)}
        if node.target is operator.getitem:
            places[node] = places.get(node.args[0], set())
        if not isinstance(node.target, torch._ops.OpOverload):
            continue
        by_position = dict(enumerate(node.args))
        for i, argument in enumerate(node.target._schema.arguments):
            if argument.alias_info is None:
                continue
            given: Any = by_position.get(i, node.kwargs.get(argument.name))  # ``out`` goes by its name
            others = given if isinstance(given, (list, tuple)) else [given]
            there = set().union(*(places.get(other, set()) for other in others))
            places[node] = places.get(node, set()) | there
            written |= there if argument.alias_info.is_write else set()
    return written


def same(graph: Graph, other: Graph) -> bool:
    """Return True if two captures have the same operations and numbers, on the same tensors.

    Args:
        graph: of the first capture.
        other: of the second.
    """
    if graph.module.code != other.module.code or len(graph.tensors) != len(other.tensors):
        return False
    if graph.numbers.notes != other.numbers.notes:
        return False
    pairs = zip(graph.tensors, other.tensors, strict=True)
    return all(a is b or (a.shape == b.shape and torch.equal(a, b)) for a, b in pairs)
