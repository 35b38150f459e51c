"""Log p(x) of models with one or two latent dimensions, by adaptive quadrature, to a stated error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_vae.argument_checks import at_least_one, finite_number
from pyro_vae.evaluation.estimates import Estimate, blocks, running
from pyro_vae.evaluation.posterior_nodes import PosteriorNodes
from pyro_vae.evaluation.quadrature_refinement import Refinement
from pyro_vae.evaluation.unconstrained import RealCodes
from pyro_vae.seeds import derive, seeded

__all__ = ["Quadrature", "quadrature"]


@dataclass(frozen=True)
class Quadrature(Estimate):
    """Log p(x) of each example by quadrature, in nats; ``standard_error`` is 0.

    Args:
        error: an estimate of the error in nats, as a rule too large, and no bound: a peak that no node and no ascent
            has seen is not in it (see :func:`quadrature`), ``(batch,)``.
        converged: whether the error came below the tolerance, or as far below as rounding in the model's dtype allows,
            ``(batch,)``.
        evaluations: of p(x, z) at nodes, ``(batch,)``.
        nodes: p(z | x), block by block; empty unless asked for.
    """

    error: Tensor
    converged: Tensor
    evaluations: Tensor
    nodes: tuple[PosteriorNodes, ...]

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """Draws from p(z | x), ``(n, batch, *event)``; exact but for a resolution.

        A draw is uniform in a box around a node of the quadrature (in u, the codes as real vectors). A posterior's
        standard deviation is several boxes wide, the more the smaller the tolerance.

        Args:
            n: how many an example.
            seed: of the draws.

        Raises:
            ValueError: where the nodes were not kept.
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
    vae: Any,
    x: Tensor | None = None,
    *context: Tensor,
    tolerance: float = 1e-6,
    max_evaluations: int = 1_000_000,
    nodes: bool = False,
    chunk_size: int = 4_000,
    seed: int = 0,
    **named: Any,
) -> Quadrature:
    """Log of the integral of p(x | z) p(z) over z of one or two dimensions, by adaptive Gauss-Legendre quadrature.

    Constrained codes are mapped to real vectors u (``biject_to``), with the Jacobian. Cells are halved in each
    dimension until two rules, of 6 and 8 nodes a dimension, agree on them (van Dooren and de Ridder 1976; Genz and
    Malik 1980). They start as 1024 cells (one dimension) or 16 × 16 cells (two), of 8 nodes a dimension, that fill a
    box 3 or 1.6 times as wide as 256 draws of the prior reach; boxes three times as wide are added around it as long as
    they hold mass. At the end the heaviest cells and some others are halved once more: the change is in the error,
    and where it is large more cells are halved.

    The error is an estimate. Under a standard normal prior a starting cell is about 0.016 wide in one dimension and
    0.55 in two, and nodes are at most a fifth of that apart. The nodes see peaks of p(z | x) whose standard deviation
    is above about a fiftieth of a cell (0.0003 and 0.01). Narrower ones are seen only where a draw from q or an ascent
    from draws of q or of the prior (48 in one dimension, 8 in two) finds them: the cell around such a point is halved
    until its nodes see it. So log p(x) can be too low, by more than the stated error, where p(z | x) has many peaks
    narrower than that. q is of no other account for the value.

    Args:
        vae: see :func:`pyro_vae.evaluation.importance_sampling`.
        x: data ``(batch, *event_shape)``.
        context: tensors ``(batch, ...)``.
        tolerance: the error wanted of each log p(x), in nats, above 0 and below 1. In float32 rounding allows about
            1e-5: give ``vae.double()`` and x in float64 for more.
        max_evaluations: of p(x, z), an example, after which it is left as it is; the 8192 (one dimension) or 16384
            (two) of the starting cells are always made.
        nodes: whether to keep p(z | x) as nodes with weights, for :meth:`Quadrature.sample`.
        chunk_size: rows that are decoded at a time; of no account for the result, up to rounding.
        seed: of the draws from prior and q, which matter only for where the cells are.
        named: see :func:`pyro_vae.evaluation.importance_sampling`.

    Raises:
        ValueError: where codes are discrete, on a circle, have more than two dimensions, or a support that cannot be
            mapped from real vectors; and where a number is out of range.

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
            codes = RealCodes(part, "quadrature")
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
