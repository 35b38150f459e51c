"""How a captured graph runs: operation by operation, or compiled."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch._inductor
from torch import Tensor, fx
from torch._dynamo.exc import TorchDynamoException
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributions import Distribution
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from pyro_vae.svi.graph import Graph

__all__ = ["CompiledGraph", "batch_sizes", "give_back_freed_memory", "run"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
# PyTorch's own random numbers are faster on a CPU than those in the compiled code, and follow the same stream as
# without compilation. Shapes and strides are checked before a graph runs (RunGraph.takes, take_apart).
_OPTIONS: dict[str, Any] = {"fallback_random": True, "size_asserts": False, "alignment_asserts": False}
_RARE = 100  # runs with other batch sizes than the first, after which a graph for any size is compiled


def run(graph: Graph, arguments: Sequence[Tensor]) -> Any:
    """Run a graph operation by operation.

    Args:
        graph: the graph.
        arguments: the program's own.
    """
    with torch.no_grad():
        return graph.module.forward(*graph.tensors, *arguments)  # hooks on all modules are not for this one


def batch_sizes(arguments: Sequence[Tensor]) -> tuple[int, ...]:
    """Return the first dimensions; 0 for a tensor of shape ()."""
    return tuple([a.shape[0] if a.dim() else 0 for a in arguments])


class CompiledGraph:
    """A graph compiled by TorchInductor.

    It is compiled for the batch size of its first run, which is faster than for any size. A few runs of another size,
    such as the last batch of an epoch, go operation by operation; after many, it is compiled once more, for any size.

    Args:
        graph: the graph.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._sizes: tuple[int, ...] | None = None
        self._for_first: Callable[..., Any] | None = None
        self._for_any: Callable[..., Any] | None = None
        self._others = 0
        _keep_freed_memory()

    def __call__(self, arguments: Sequence[Tensor]) -> Any:
        """Run the graph, and return its results."""
        sizes = batch_sizes(arguments)
        if self._sizes is None:
            self._sizes = sizes
            self._for_first = self._compiled(arguments)
        if sizes == self._sizes:
            compiled = self._for_first
        else:
            self._others += 1
            if self._others == _RARE and self._for_first is not None:
                self._for_any = _for_any_size(self.graph)
            compiled = self._for_any
        if compiled is None:
            return run(self.graph, arguments)
        try:
            with torch.no_grad():
                return compiled(*self.graph.tensors, *arguments)
        except TorchDynamoException as error:  # the graph for any size is compiled in its first run
            self._for_any = None
            _warn_of_no_compiler(error)
            return run(self.graph, arguments)

    def _compiled(self, arguments: Sequence[Tensor]) -> Callable[..., Any] | None:
        """Compile the graph for these arguments; return None if that does not work here."""
        module = fx.GraphModule({}, copy.deepcopy(self.graph.module.graph))  # the compiler changes it
        for node in module.graph.nodes:
            node.meta = {}  # from a capture for any batch size
        fake = FakeTensorMode(shape_env=ShapeEnv())
        # For these sizes alone; from the tensors themselves the compiler would make a graph of open sizes.
        examples: list[Any] = [fake.from_tensor(t, static_shapes=True) for t in (*self.graph.tensors, *arguments)]
        try:
            with torch.no_grad(), _without_cuda_note(), tracing(TracingContext(fake)):
                return torch._inductor.compile(module, examples, _OPTIONS)
        except Exception as error:  # whatever it is: the graph runs uncompiled
            _warn_of_no_compiler(error)
            return None


def _for_any_size(graph: Graph) -> Callable[..., Any]:
    """Return the graph, to be compiled for any size in its first run."""
    validate = Distribution._validate_args
    try:
        return torch.compile(graph.module.forward, fullgraph=True, dynamic=True, options=_OPTIONS)
    finally:
        Distribution.set_default_validate_args(validate)  # the first torch.compile of a process turns it off


@functools.cache
def _keep_freed_memory() -> None:
    """Make glibc keep the memory that a step frees for the next step, instead of mapping it again page by page.

    This holds for the whole process, up to 512 MB, unless the environment sets it.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries lack it
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 512 << 20)


def give_back_freed_memory() -> None:
    """Return freed memory to the system, before something else allocates as much in pieces of other sizes."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


@contextlib.contextmanager
def _without_cuda_note() -> Iterator[None]:
    """Silence the message of PyTorch for CUDA, on a machine without CUDA, when it first compiles."""
    logger = logging.getLogger("torch.utils.cpp_extension")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


_warned = False


def _warn_of_no_compiler(error: Exception) -> None:
    global _warned
    if not _warned:
        _warned = True
        first = str(error).strip().splitlines()[0]
        warnings.warn(
            f"torch.compile does not work here ({first}); captured graphs run uncompiled, which is slower. On Linux it "
            "needs g++",
            stacklevel=4,
        )
