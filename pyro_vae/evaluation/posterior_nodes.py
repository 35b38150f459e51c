"""p(z | x) as nodes with weights, from which z can be drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pyro_vae.evaluation.quadrature_cells import Cells
from pyro_vae.evaluation.quadrature_rules import Rule
from pyro_vae.evaluation.unconstrained import UnconstrainedCodes

__all__ = ["PosteriorNodes"]

_LOST = 1e-12  # nodes with less of the mass are not kept


@dataclass(frozen=True)
class PosteriorNodes:
    """p(z | x) of a block of examples as nodes with weights.

    Args:
        codes: maps u to z.
        low: the lower corners of the boxes around the nodes, ``(nodes, dim)``, as real vectors u.
        width: the sides of the boxes, ``(nodes, dim)``.
        weight: p(z | x) of each box, ``(nodes,)``; the weights of an example sum to 1.
        example: the index of a node's example in the block, ``(nodes,)``, ascending.
        dtype: the dtype of z.
    """

    codes: UnconstrainedCodes
    low: Tensor
    width: Tensor
    weight: Tensor
    example: Tensor
    dtype: torch.dtype

    def __repr__(self) -> str:
        """Return the numbers of nodes and examples in one line."""
        return f"PosteriorNodes({len(self.weight):,} nodes for {self.codes.pair.batch:,} examples)"

    @classmethod
    def of(cls, cells: Cells, n: int, codes: UnconstrainedCodes, dtype: torch.dtype) -> PosteriorNodes:
        """Return the nodes of the Gauss-Legendre rule with n nodes per dimension, with boxes around them."""
        dim = codes.dim
        cells = cells.select(cells.example.argsort(stable=True))
        total = cells.log_prob()[cells.example].unsqueeze(-1)
        weights = Rule.gauss_legendre(n, dim, cells.corner.device).weights
        weight = (cells.volume.unsqueeze(-1) * weights * (cells.densities - total).exp()).flatten()
        # The weights of a Gauss rule cut an interval into pieces with one node in each (Chebyshev, Markov, Stieltjes).
        sides = torch.tensor(np.polynomial.legendre.leggauss(n)[1] / 2, device=weight.device)
        lows = sides.cumsum(0) - sides
        low = torch.stack(torch.meshgrid(*[lows] * dim, indexing="ij"), -1).reshape(-1, dim)
        side = torch.stack(torch.meshgrid(*[sides] * dim, indexing="ij"), -1).reshape(-1, dim)
        kept = weight > _LOST
        return cls(
            codes,
            (cells.corner.unsqueeze(1) + low * cells.width.unsqueeze(1)).flatten(0, 1)[kept],
            (side * cells.width.unsqueeze(1)).flatten(0, 1)[kept],
            weight[kept],
            cells.example.repeat_interleave(len(low))[kept],
            dtype,
        )

    def draw(self, n: int) -> Tensor:
        """Draw z from p(z | x), ``(n, batch, *event)``: choose a box by its weight, then a uniform point in it."""
        batch = self.codes.pair.batch
        ends = self.weight.cumsum(0)
        last = torch.bincount(self.example, minlength=batch).cumsum(0) - 1
        total = ends[last]
        before = torch.cat([total.new_zeros(1), total[:-1]])
        place = before + (total - before) * torch.rand(n, batch, dtype=ends.dtype, device=ends.device)
        chosen = torch.searchsorted(ends, place.flatten()).reshape(n, batch).minimum(last)
        u = self.low[chosen] + self.width[chosen] * torch.rand_like(self.low[chosen])
        return self.codes.constrain(u.to(self.dtype))
