"""Log p(x) of models with one or two latent dimensions, by adaptive quadrature with an error estimate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_vae.argument_checks import at_least_one, finite_number
from pyro_vae.data.arrays import Array
from pyro_vae.data.batches import DataSource
from pyro_vae.evaluation.estimates import Estimate, Named, blocks, running
from pyro_vae.evaluation.posterior_nodes import PosteriorNodes
from pyro_vae.evaluation.quadrature_refinement import Refinement
from pyro_vae.evaluation.unconstrained import UnconstrainedCodes
from pyro_vae.model_guide import Target
from pyro_vae.seeds import derive, seeded

__all__ = ["Quadrature", "quadrature"]


@dataclass(frozen=True)
class Quadrature(Estimate):
    """Log p(x) of each example by quadrature, in nats; ``standard_error`` is 0.

    Args:
        error: an estimate of the error in nats, usually too large, ``(batch,)``. It is no bound: it does not include a
            peak that neither a node nor an ascent has found (see :func:`quadrature`).
        converged: True if the error is below the tolerance, or as small as rounding in the model's dtype allows,
            ``(batch,)``.
        evaluations: the number of evaluations of p(x, z), ``(batch,)``.
        nodes: p(z | x), block by block; empty unless asked for.
    """

    error: Tensor
    converged: Tensor
    evaluations: Tensor
    nodes: tuple[PosteriorNodes, ...]

    def __repr__(self) -> str:
        """Return the mean, its errors, the largest error and the number of examples that did not converge."""
        left = int((~self.converged).sum())
        missed = f"; not converged: {left:,} of {len(self.converged):,}" if left else ""
        return f"Quadrature({self.summary()}; error at most {self.error.max().item():.1g}{missed})"

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """Draw z from p(z | x), ``(n, batch, *event)``; exact up to the resolution of the nodes.

        A draw is uniform in a box around a node of the quadrature, where codes are real vectors u. The standard
        deviation of a posterior spans several boxes; smaller tolerances give smaller boxes.

        Args:
            n: draws per example.
            seed: of the draws.

        Raises:
            ValueError: if the nodes were not kept.
        """
        at_least_one(n=n)
        if not self.nodes:
            raise ValueError("sample needs the nodes of the quadrature: call quadrature with nodes=True")
        found = []
        for number, block in enumerate(self.nodes):
            with seeded(derive(seed, number)):
                found.append(block.draw(n))
        return torch.cat(found, 1)


def quadrature(
    vae: Target,
    x: DataSource | None = None,
    *context: Array,
    tolerance: float = 1e-6,
    max_evaluations: int = 1_000_000,
    nodes: bool = False,
    chunk_size: int = 4_000,
    seed: int = 0,
    **named: Named,
) -> Quadrature:
    """Integrate p(x | z) p(z) over z of one or two dimensions by adaptive Gauss-Legendre quadrature.

    Constrained codes are mapped to real vectors u (``biject_to``), with the Jacobian. Cells are halved in each
    dimension until two rules, with 6 and 8 nodes per dimension, agree (van Dooren and de Ridder 1976; Genz and Malik
    1980). At the start 1024 cells (one dimension) or 16 × 16 cells (two dimensions) fill a box 3 or 1.6 times as wide
    as 256 draws from the prior. Boxes three times as wide are added around it while they hold mass. At the end, the
    heaviest cells and some others are halved once more: the change is part of the error, and if it is large, more cells
    are halved.

    The error is an estimate. Under a standard normal prior, a starting cell is about 0.016 wide in one dimension and
    0.55 in two, and nodes are at most a fifth of that apart. The nodes see peaks of p(z | x) with a standard deviation
    above about a fiftieth of a cell (0.0003 and 0.01). Narrower peaks are seen only if a draw from q finds them, or an
    ascent from draws of q or the prior (48 in one dimension, 8 in two): the cell around such a point is halved until
    its nodes see the peak. So log p(x) can be too low by more than the stated error if p(z | x) has many peaks
    narrower than that. Apart from this, q does not affect the value.

    Args:
        vae: see :func:`pyro_vae.evaluation.importance_sampling`.
        x: data ``(batch, *event_shape)``.
        context: tensors ``(batch, ...)``.
        tolerance: the error to reach for each log p(x), in nats, above 0 and below 1. In float32, rounding allows
            about 1e-5: for more, give ``vae.double()`` and x in float64.
        max_evaluations: evaluations of p(x, z) per example, after which refinement stops. The 8192 (one dimension) or
            16384 (two) evaluations of the starting cells are always made.
        nodes: if True, keep p(z | x) as nodes with weights, for :meth:`Quadrature.sample`.
        chunk_size: the number of rows decoded at a time. It changes the result by rounding only.
        seed: of the draws from the prior and q, which only place the cells.
        named: see :func:`pyro_vae.evaluation.importance_sampling`.

    Raises:
        ValueError: if codes are discrete, on a circle, have more than two dimensions, or have a support that real
            vectors cannot be mapped to; or if a number is out of range.

    Example:
        >>> import torch
        >>> from pyro_vae import build
        >>> found = quadrature(build(4, 2, hidden=()), torch.ones(3, 4))
        >>> found.log_prob.shape, found.converged
        (torch.Size([3]), tensor([True, True, True]))
    """
    finite_number("tolerance", tolerance, above=0, below=1, why="in nats")
    at_least_one(max_evaluations=max_evaluations, chunk_size=chunk_size)
    found, kept = [], []
    with running(vae, x, context, named, seed) as pair:
        for number, part in blocks(pair):
            codes = UnconstrainedCodes(part, "quadrature")
            if codes.dim > 2:
                raise ValueError(
                    f"quadrature needs codes of 1 or 2 dimensions; got {codes.dim}. Use importance_sampling or "
                    "annealed_importance_sampling"
                )
            with seeded(derive(seed, number)):
                refinement = Refinement(codes, tolerance, max_evaluations, chunk_size)
            refinement.run()
            found.append(refinement.result())
            kept += [refinement.posterior()] if nodes else []
    log_prob, error, converged, evaluations = (torch.cat([f[i] for f in found]) for i in range(4))
    return Quadrature(log_prob, torch.zeros_like(log_prob), error, converged, evaluations, tuple(kept))
