"""Log p(x, z) at many draws of z, in chunks and, for many draws, as a compiled graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyro_vae.evaluation.estimates import log_joint
from pyro_vae.model_guide import ModelGuide
from pyro_vae.svi import CannotCaptureError, private
from pyro_vae.value_checks import noting

if TYPE_CHECKING:
    # It imports private names of torch, so the functions below import it, after `private` has checked that they exist.
    from pyro_vae.svi.execution import CompiledGraph

__all__ = ["JointDensity"]

_ROWS_ON_CPU, _ROWS = 1024, 20_000  # 1024 rows fit into the caches of a CPU
_WORTH_COMPILING = 1_000_000  # with so many rows, compiling saves more time than it takes


class JointDensity:
    """Computes log p(x, z) = log p(x | z) + log p(z) at draws of z.

    Args:
        pair: model and guide on all examples.
        num_particles: draws of z per example.
        chunk_size: the number of rows (draws × examples) decoded at a time; by default 1,024 on a CPU, else 20,000.
        compiled: if True, compile the work on a chunk; by default from a million rows on. A model that cannot be
            captured as a graph runs uncompiled, and so does one that draws missing values. So does every model if torch
            or Pyro lack a private name that captures need.
    """

    def __init__(self, pair: ModelGuide, num_particles: int, chunk_size: int | None, compiled: bool | None) -> None:
        on_cpu = pair.x.device.type == "cpu"
        self.chunk_size = chunk_size or (_ROWS_ON_CPU if on_cpu else _ROWS)
        wanted = num_particles * pair.batch >= _WORTH_COMPILING if compiled is None else compiled
        self.compiled = wanted and not private.missing() and not pair.draws_missing
        self._graph: CompiledGraph | None = None
        self._checked: ModelGuide | None = None
        self._shapes: list[torch.Size] = []

    def __call__(self, pair: ModelGuide, z: Tensor) -> Tensor:
        """Return log p(x, z), ``(draws, batch)``.

        Args:
            pair: model and guide on some of the examples.
            z: codes ``(draws, batch, *event)``.
        """
        chunks = list(z.split(max(1, self.chunk_size // pair.batch)))
        if not self.compiled or len(chunks) == 1:
            return self._uncompiled(pair, z)
        if pair is self._checked:
            return torch.cat(self._run(pair, chunks))
        # The first chunk runs uncompiled, which checks the data.
        self._checked = pair
        return torch.cat([self._uncompiled(pair, chunks[0]), *self._run(pair, chunks[1:])])

    def _uncompiled(self, pair: ModelGuide, z: Tensor) -> Tensor:
        likelihood, prior = log_joint(pair, z, self.chunk_size)
        return likelihood + prior

    def _run(self, pair: ModelGuide, chunks: list[Tensor]) -> list[Tensor]:
        others = [pair.x, *pair.context, *pair.named.values()]
        shapes = [chunks[0].shape, *(t.shape for t in others)]
        if self._graph is None and self.compiled:
            try:
                self._graph, self._shapes = _compiled(pair, [chunks[0], *others]), shapes
            except CannotCaptureError:
                self.compiled = False
        found = []
        for chunk in chunks:
            if self._graph is not None and [chunk.shape, *shapes[1:]] == self._shapes:
                found.append(self._graph([chunk, *others]))
            else:
                found.append(self._uncompiled(pair, chunk))
        return found


def _compiled(pair: ModelGuide, examples: list[Tensor]) -> CompiledGraph:
    from pyro_vae.svi.capture import capture
    from pyro_vae.svi.execution import CompiledGraph

    names, contexts = list(pair.named), len(pair.context)

    def program(z: Tensor, x: Tensor, *others: Tensor) -> Tensor:
        named: Any = dict(zip(names, others[contexts:], strict=True))
        again = pair.replace(x=x, context=others[:contexts], **named)
        with torch.no_grad(), noting():
            likelihood, prior = again.log_joint(z)
            return likelihood + prior

    return CompiledGraph(capture(program, [], examples))
