"""How a captured graph is run: as it is, or compiled."""

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

__all__ = ["Compiled", "batch_sizes", "give_back_freed_memory", "run"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
# PyTorch's own random numbers are faster on a CPU than those in the compiled code, and follow the same stream as
# without compilation. Shapes and strides are looked at before a graph is run (Captured.takes, structure).
_OPTIONS: dict[str, Any] = {"fallback_random": True, "size_asserts": False, "alignment_asserts": False}
_RARE = 100  # runs with another batch size than the first before a graph for any size is compiled


def run(graph: Graph, arguments: Sequence[Tensor]) -> Any:
    """Runs a graph operation by operation.

    Args:
        graph: the graph.
        arguments: the program's own.
    """
    with torch.no_grad():
        return graph.module.forward(*graph.tensors, *arguments)  # hooks on all modules are not meant for this one


def batch_sizes(arguments: Sequence[Tensor]) -> tuple[int, ...]:
    """The first dimensions, 0 where there is none."""
    return tuple([a.shape[0] if a.dim() else 0 for a in arguments])


class Compiled:
    """Runs a graph compiled by TorchInductor.

    It is compiled for the batch size of its first run, which is faster than for any size; a few runs of another size,
    such as the last batch of an epoch, go operation by operation, and many make one more compilation, for any size.

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
        """What the graph returns."""
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
        except TorchDynamoException as error:  # the graph for any size is compiled when it is first run
            self._for_any = None
            _warn_of_no_compiler(error)
            return run(self.graph, arguments)

    def _compiled(self, arguments: Sequence[Tensor]) -> Callable[..., Any] | None:
        """The graph compiled for these arguments; None where that does not work here."""
        module = fx.GraphModule({}, copy.deepcopy(self.graph.module.graph))  # the compiler changes it
        for node in module.graph.nodes:
            node.meta = {}  # of a capture for any batch size
        fake = FakeTensorMode(shape_env=ShapeEnv())
        # Of these sizes alone; from the tensors themselves it would make a graph of open sizes.
        examples: list[Any] = [fake.from_tensor(t, static_shapes=True) for t in (*self.graph.tensors, *arguments)]
        try:
            with torch.no_grad(), _without_cuda_note(), tracing(TracingContext(fake)):
                return torch._inductor.compile(module, examples, _OPTIONS)
        except Exception as error:  # whatever it is: the graph runs without
            _warn_of_no_compiler(error)
            return None


def _for_any_size(graph: Graph) -> Callable[..., Any]:
    """The graph, to be compiled for any size when it is first run."""
    validate = Distribution._validate_args
    try:
        return torch.compile(graph.module.forward, fullgraph=True, dynamic=True, options=_OPTIONS)
    finally:
        Distribution.set_default_validate_args(validate)  # which the first torch.compile of a process turns off


@functools.cache
def _keep_freed_memory() -> None:
    """Has glibc keep what a step frees for the next one, which would have to be mapped anew, page by page.

    It holds for the whole process, up to 512 MB, unless the environment says how it shall be.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 512 << 20)


def give_back_freed_memory() -> None:
    """Gives what steps have freed back to the system, before something else takes as much in other pieces."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


@contextlib.contextmanager
def _without_cuda_note() -> Iterator[None]:
    """Without what PyTorch for CUDA tells on a machine without CUDA when it compiles for the first time."""
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
