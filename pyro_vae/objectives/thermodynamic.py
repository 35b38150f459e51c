"""The bound from an integral along the way from q(z | x) to p(z | x)."""

from __future__ import annotations

from itertools import pairwise
from typing import Unpack

import torch
from torch import Tensor

from pyro_vae.argument_checks import at_least, finite_number
from pyro_vae.objectives.objective import Objective, Options
from pyro_vae.terms import Terms

__all__ = ["TVO"]


class TVO(Objective):
    """The thermodynamic variational objective (Masrani et al. 2019, arXiv 1907.00031).

    Log p(x) is the integral over β from 0 to 1 of the mean of log w, w = p(x, z) / q(z | x), under q(z | x) w^β
    (normalised). The mean rises with β, so the sum of its values at the left ends of intervals is a lower bound. The
    means are weighted means over the draws. At each set of draws the bound lies between the ELBO, which it is with one
    interval, and IWAE's, to which it tends with many.

    Args:
        intervals: how many; their right ends are spaced evenly in log β from ``first`` to 1.
        first: where the first interval ends, in (0, 1).
        num_particles: draws of z per example.
        **options: see :class:`Objective`.

    Raises:
        ValueError: if ``intervals`` is below 1 or ``first`` is not in (0, 1).

    Example:
        >>> TVO(intervals=2, first=0.1).betas.tolist()
        [0.0, 0.1, 1.0]
    """

    weighs_draws = True
    bounds_log_prob = True

    def __init__(
        self, intervals: int = 10, first: float = 0.025, num_particles: int = 10, **options: Unpack[Options]
    ) -> None:
        super().__init__(num_particles, **options)
        self.intervals = at_least("intervals", intervals, 1)
        self.first = finite_number("first", first, above=0, below=1)
        ends = [self.first ** (1 - i / (self.intervals - 1)) for i in range(self.intervals - 1)]
        self.betas = torch.tensor([0.0, *ends, 1.0], dtype=torch.float64)

    def objective(self, terms: Terms) -> Tensor:
        """Return the sum over the intervals of their lengths times the means at their left ends, over the examples."""
        bound = torch.zeros_like(terms.weight[0].sum())
        for left, right in pairwise(self.betas.tolist()):
            share = (left * terms.weight).softmax(terms.dim)
            bound = bound + (right - left) * (share * terms.weight).sum()
        self.note(terms, bound=bound)
        return bound
