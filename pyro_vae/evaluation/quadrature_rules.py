"""Gauss-Legendre rules, and log p(x, z) at the nodes that they put into boxes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_vae.evaluation.quadrature_cells import Boxes
from pyro_vae.evaluation.unconstrained import UnconstrainedCodes

__all__ = ["Integrand", "Rule"]


class Rule(NamedTuple):
    """Nodes and weights on the unit cube; the weights sum to 1.

    Args:
        nodes: ``(nodes, dim)``, in float64.
        weights: ``(nodes,)``, in float64.
    """

    nodes: Tensor
    weights: Tensor

    @classmethod
    def gauss_legendre(cls, n: int, dim: int, device: torch.device) -> Rule:
        """Return the product rule with n nodes per dimension."""
        x, w = (torch.tensor(a, dtype=torch.float64, device=device) for a in np.polynomial.legendre.leggauss(n))
        axes = torch.meshgrid(*[(x + 1) / 2] * dim, indexing="ij")
        weights = torch.meshgrid(*[w / 2] * dim, indexing="ij")
        return cls(torch.stack([a.flatten() for a in axes], -1), torch.stack(weights).prod(0).flatten())

    def integral(self, boxes: Boxes, log_densities: Tensor, log_scale: Tensor) -> Tensor:
        """Integrate over boxes, ``(boxes,)``.

        Args:
            boxes: the domains.
            log_densities: at the nodes of each box, ``(boxes, nodes)``.
            log_scale: the log of what each integral is divided by, ``(boxes,)``.
        """
        return boxes.volume * ((log_densities - log_scale.unsqueeze(1)).exp() @ self.weights)


class Integrand:
    """Log p(x, z) |dz/du| over real vectors u, in float64 whatever the dtype of the model.

    Args:
        codes: the codes of a block of examples.
        dtype: the dtype of z.
        chunk_size: the number of rows that are decoded at a time.
    """

    def __init__(self, codes: UnconstrainedCodes, dtype: torch.dtype, chunk_size: int) -> None:
        self.codes = codes
        self.dtype = dtype
        self.chunk_size = chunk_size

    def at_nodes(self, nodes: Tensor, boxes: Boxes) -> Tensor:
        """Return the log-densities at the nodes of each box, ``(boxes, nodes)``."""
        if len(boxes) == 0:
            return boxes.corner.new_empty(0, len(nodes))
        u = boxes.corner.unsqueeze(1) + nodes * boxes.width.unsqueeze(1)
        rows = boxes.example.repeat_interleave(len(nodes))
        found = [
            self._log_density(chunk, index)
            for chunk, index in zip(u.flatten(0, 1).split(self.chunk_size), rows.split(self.chunk_size), strict=True)
        ]
        return torch.cat(found).reshape(-1, len(nodes))

    def _log_density(self, u: Tensor, index: Tensor) -> Tensor:
        """Return the log-density at u ``(rows, dim)`` for the examples with these indices, ``(rows,)``."""
        pair = self.codes.pair.at(index)
        # The limits of a support may differ between examples, so only real vectors do without the prior of these rows.
        codes = self.codes if self.codes.transform is None else UnconstrainedCodes(pair, "quadrature")
        u = u.to(self.dtype).unsqueeze(0)
        z = codes.constrain(u)
        likelihood, prior = pair.log_joint(z)
        density = (likelihood + prior + codes.log_volume(u, z)).squeeze(0).double()
        if density.isnan().any():
            raise ValueError("quadrature found a log p(x, z) that is NaN: the model has bad weights, or x has NaN")
        return density
