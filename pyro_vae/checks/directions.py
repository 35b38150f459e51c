"""The directions along which gradients are compared: a random one per parameter tensor, and one per row of it.

A row holds the weights of one output of a layer: a mistake in a single output is not lost among the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pyro_vae.seeds import derive, seeded

__all__ = ["Directions"]

_ROWS = 1024  # of one tensor; of more, so many chosen at random


@dataclass(frozen=True)
class Directions:
    """Random directions of length 1, drawn once.

    Args:
        parameters: tensors.
        names: of the tensors.
        whole: one direction per tensor, of its shape.
        rows: the rows that have directions of their own, per tensor; None if the tensor has only one row.
    """

    parameters: list[Tensor]
    names: list[str]
    whole: list[Tensor]
    rows: list[Tensor | None]

    @classmethod
    def of(cls, named: Sequence[tuple[str, Tensor]], seed: int) -> Directions:
        """Draw directions for these tensors.

        Args:
            named: names and tensors.
            seed: of the directions.
        """
        parameters = [p for _, p in named]
        with seeded(derive(seed, 40)):
            raw = [torch.randn_like(p) for p in parameters]
            rows = [torch.randperm(len(p))[:_ROWS].to(p.device) if p.dim() and len(p) > 1 else None for p in parameters]
        return cls(parameters, [name for name, _ in named], [v / v.norm() for v in raw], rows)

    @property
    def columns(self) -> list[str]:
        """The name of each slope's tensor."""
        per_tensor = [1 if rows is None else 1 + len(rows) for rows in self.rows]
        return [name for name, n in zip(self.names, per_tensor, strict=True) for _ in range(n)]

    @cached_property
    def lengths(self) -> list[Tensor | None]:
        """The length of the direction in each of the rows, per tensor; None if the tensor has only one row."""
        return [
            None if rows is None else (v.flatten(1).norm(dim=1) if v.dim() > 1 else v.abs())[rows]
            for v, rows in zip(self.whole, self.rows, strict=True)
        ]

    def slopes(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """Return the gradient along each direction, ``(columns,)``.

        Args:
            gradients: one per tensor; None if it has none.
        """
        found = []
        for g, v, rows, lengths in zip(gradients, self.whole, self.rows, self.lengths, strict=True):
            along = torch.zeros_like(v) if g is None else g * v
            found.append(along.sum().reshape(1))
            if rows is not None and lengths is not None:
                # Rescaled: each row's direction has length 1 too.
                found.append((along.flatten(1).sum(1) if v.dim() > 1 else along)[rows] / lengths)
        return torch.cat([t.double() for t in found]) if found else torch.zeros(0, dtype=torch.float64)

    def slopes_of(self, value: Tensor) -> Tensor:
        """Differentiate a value and return its slopes; zeros if it depends on no parameter."""
        if not value.requires_grad or not self.parameters:
            return self.slopes([None] * len(self.parameters))
        return self.slopes(torch.autograd.grad(value, self.parameters, allow_unused=True, retain_graph=True))
