"""The cells of an adaptive quadrature: a table with one row per cell, and sums over the cells of each example."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

__all__ = ["Boxes", "Cells", "largest"]


@dataclass(frozen=True)
class Boxes:
    """A table of boxes, each of which belongs to one example of a block.

    Args:
        corner: the lower corner, ``(boxes, dim)``, in float64.
        width: the length of each side, ``(boxes, dim)``, in float64.
        example: the index of the example, ``(boxes,)``.
        shell: 0 in the middle, k in the k-th shell around it, ``(boxes,)``.
    """

    corner: Tensor
    width: Tensor
    example: Tensor
    shell: Tensor

    def __len__(self) -> int:
        return len(self.example)

    @property
    def volume(self) -> Tensor:
        """The volume of each box, ``(boxes,)``."""
        return self.width.prod(-1)

    def halved(self) -> Boxes:
        """Cut each box in two along each dimension."""
        dim = self.corner.shape[1]
        halves = self.corner.new_tensor(list(itertools.product((0.0, 1.0), repeat=dim)))
        width, each = self.width / 2, len(halves)
        return Boxes(
            (self.corner.unsqueeze(1) + halves * width.unsqueeze(1)).flatten(0, 1),
            width.repeat_interleave(each, 0),
            self.example.repeat_interleave(each),
            self.shell.repeat_interleave(each),
        )

    def select(self, chosen: Tensor) -> Self:
        """Return the chosen rows, by a mask or by indices."""
        return replace(self, **{name: column[chosen] for name, column in self._columns().items()})

    def append(self, others: Self) -> Self:
        """Return these rows with the others after them."""
        more = others._columns()
        return replace(self, **{name: torch.cat([column, more[name]]) for name, column in self._columns().items()})

    def _columns(self) -> dict[str, Tensor]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}


@dataclass(frozen=True)
class Cells(Boxes):
    """Disjoint boxes with the integral over each of them.

    Args:
        peak: the largest log-density at a node, ``(cells,)``.
        value: the integral by the rule with more nodes, divided by the density at the peak, ``(cells,)``.
        error: the absolute difference of the two rules, divided likewise, ``(cells,)``.
        densities: the log-densities at the nodes of the rule with more nodes, ``(cells, nodes)``.
        fresh: True until the cell was compared with the known points, ``(cells,)``.
        batch: the number of examples in the block.
    """

    peak: Tensor
    value: Tensor
    error: Tensor
    densities: Tensor
    fresh: Tensor
    batch: int

    @classmethod
    def none(cls, batch: int, dim: int, nodes: int, device: torch.device) -> Cells:
        """Return a table without rows."""

        def empty(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
            return torch.empty(0, *shape, dtype=dtype, device=device)

        return cls(
            corner=empty(dim),
            width=empty(dim),
            example=empty(dtype=torch.int64),
            shell=empty(dtype=torch.int64),
            peak=empty(),
            value=empty(),
            error=empty(),
            densities=empty(nodes),
            fresh=empty(dtype=torch.bool),
            batch=batch,
        )

    # Over the cells of each example, ``(batch,)``.

    def highest(self) -> Tensor:
        """Return the largest log-density at a node."""
        return largest(self.peak, self.example, self.batch)

    def log_prob(self) -> Tensor:
        """Return the log of the integral."""
        return self.highest() + self.sums()[0].log()

    def sums(self) -> tuple[Tensor, Tensor]:
        """Return the integral and its error, divided by the highest density."""
        value, error = self.relative()
        empty = value.new_zeros(self.batch)
        return empty.index_add(0, self.example, value), empty.index_add(0, self.example, error)

    def shares(self, chosen: Tensor) -> Tensor:
        """Return the integral over the chosen cells plus its error, divided by the integral over all cells."""
        value, error = self.relative()
        part = value.new_zeros(self.batch)
        return part.index_add(0, self.example[chosen], (value + error)[chosen]) / self.sums()[0]

    # Per cell.

    def relative(self) -> tuple[Tensor, Tensor]:
        """Return each cell's integral and its error, divided by the highest density of the cell's example."""
        top = self.highest()[self.example]
        scale = torch.where(self.peak.isfinite(), self.peak - top, -torch.inf).exp()
        return self.value * scale, self.error * scale

    def ranked(self, score: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Sort the cells by example and then by ascending score.

        Returns:
            The order, and for each cell in that order the sum of ``values`` over its example's cells up to it.
        """
        order = score.argsort(stable=True)
        order = order[self.example[order].argsort(stable=True)]
        sums = values[order].cumsum(0)
        counts = torch.bincount(self.example, minlength=self.batch)
        start = torch.cat([sums.new_zeros(1), sums])[counts.cumsum(0) - counts]
        return order, sums - start[self.example[order]]


def largest(values: Tensor, example: Tensor, batch: int) -> Tensor:
    """Return the largest value of each example, minus infinity for an example without values, ``(batch,)``."""
    return values.new_full((batch,), -torch.inf).scatter_reduce(0, example, values, "amax")
