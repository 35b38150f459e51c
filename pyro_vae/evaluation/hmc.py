"""Hamiltonian Monte Carlo chains along the densities between a start and p(x, z)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_vae.argument_checks import at_least_one, one_of
from pyro_vae.evaluation.estimates import blocks, check_density
from pyro_vae.evaluation.unconstrained import UnconstrainedCodes
from pyro_vae.model_guide import ModelGuide
from pyro_vae.seeds import seeded

__all__ = ["PILOT_CHAINS", "AnnealedChains", "Annealing", "Weights"]

Weights = tuple[Tensor, Tensor]
"""Log weights ``(num_particles, batch)`` and acceptance ``(batch,)``."""

PILOT_CHAINS = 4
_WANTED = 0.65  # the share of accepted proposals, near the best for Hamiltonian Monte Carlo (Beskos et al. 2013)


@dataclass(frozen=True)
class Annealing:
    """How chains move from the start to the posterior.

    Args:
        temperatures: steps of β from 0 to 1, with one transition between each two.
        leapfrog_steps: leapfrog steps per transition.
        start: the density at β = 0: ``"prior"``, or ``"posterior"`` for q(z | x), which needs fewer temperatures if q
            is good and wide enough.

    Raises:
        ValueError: if a number is below 1 or ``start`` is another word.

    Example:
        >>> Annealing(temperatures=1000).leapfrog_steps
        10
    """

    temperatures: int = 500
    leapfrog_steps: int = 10
    start: Literal["prior", "posterior"] = "prior"

    def __post_init__(self) -> None:
        at_least_one(temperatures=self.temperatures, leapfrog_steps=self.leapfrog_steps)
        one_of("start", self.start, "prior", "posterior")


class AnnealedChains:
    """The densities from the start to p(x, z) for a block of examples, and chains that move along them.

    Args:
        pair: model and guide on the block.
        annealing: how the chains move.
        chunk_size: the number of rows decoded at a time.
        method: the calling function, for error messages.
    """

    def __init__(self, pair: ModelGuide, annealing: Annealing, chunk_size: int, method: str) -> None:
        self.leapfrog_steps = annealing.leapfrog_steps
        self.chunk_size = chunk_size
        self.codes = UnconstrainedCodes(pair, method)
        self.event_shape = self.codes.prior.event_shape
        self.betas = _schedule(annealing.temperatures)
        # Chunks of examples, each with its posterior if the chains start there. Chains are cut into chunks later.
        self.columns = min(pair.batch, chunk_size)
        self.parts = [
            (UnconstrainedCodes(part, method), part.posterior() if annealing.start == "posterior" else None)
            for _, part in blocks(pair, self.columns)
        ]
        self.source = self.codes.prior if annealing.start == "prior" else check_density(pair.posterior(), method)

    def draw(self, num_particles: int) -> Tensor:
        """Draw u from the start, ``(num_particles, batch, dim)``."""
        return self.codes.unconstrain(self.source((num_particles,)))

    def gradient(self, u: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return log p(x, z) minus the start's log-density, the log-density at β, and the gradient of the latter."""
        found = []
        for (codes, posterior), columns in zip(self.parts, u.split(self.columns, 1), strict=True):
            chunks = columns.split(self.chunk_size // self.columns)
            each = [self._gradient(codes, posterior, chunk, beta) for chunk in chunks]
            found.append([torch.cat([e[i] for e in each]) for i in range(3)])
        difference, density, slope = (torch.cat([f[i] for f in found], 1) for i in range(3))
        return difference, density, slope

    def _gradient(
        self, codes: UnconstrainedCodes, posterior: TorchDistribution | None, u: Tensor, beta: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            z = codes.constrain(u)
            likelihood, prior = codes.pair.log_joint(z)
            volume = codes.log_volume(u, z)
            first = (prior if posterior is None else codes.pair.log_posterior(z, posterior)) + volume
            difference = likelihood + prior + volume - first
            # β = 0 drops the joint density, even if its log is minus infinity.
            density = first + beta * difference if beta > 0 else first
            # A flat density, such as a uniform prior's, has no graph.
            slope = torch.autograd.grad(density.sum(), u, allow_unused=True)[0] if density.requires_grad else None
        return difference.detach(), density.detach(), torch.zeros_like(u) if slope is None else slope

    def transition(self, u: Tensor, beta: float, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take one step of Hamiltonian Monte Carlo at β, with step sizes ``(batch,)``.

        Returns:
            The new u, log p(x, z) minus the start's log-density there, and the probability of acceptance.
        """
        # Trajectories of fixed length can close on themselves, so lengths vary. They depend on noise of their own
        # alone, which keeps the transition reversible.
        jitter = 0.8 + 0.4 * torch.rand(u.shape[:-1], dtype=u.dtype, device=u.device)
        step = (size * jitter).unsqueeze(-1)
        momentum = torch.randn_like(u)
        chance = torch.rand(u.shape[:-1], dtype=u.dtype, device=u.device)
        difference, density, slope = self.gradient(u, beta)
        energy = density - momentum.square().sum(-1) / 2
        moved, lost = u, ~(density.isfinite() & slope.isfinite().all(-1))
        new_difference, new_density = difference, density
        for _ in range(self.leapfrog_steps):
            half = momentum + step / 2 * slope
            # A trajectory that diverged goes back to its start, where the densities are defined. It will be rejected.
            moved = torch.where(lost.unsqueeze(-1), u, moved + step * half)
            new_difference, new_density, slope = self.gradient(moved, beta)
            momentum = half + step / 2 * slope
            error = new_density - momentum.square().sum(-1) / 2 - energy
            lost = lost | ~(error > -1000) | ~slope.isfinite().all(-1)
        error = new_density - momentum.square().sum(-1) / 2 - energy
        probability = torch.where(lost, 0.0, error.clamp(max=0).exp())
        accepted = chance < probability
        return (
            torch.where(accepted.unsqueeze(-1), moved, u),
            torch.where(accepted, new_difference, difference),
            probability,
        )

    def pilot(self, num_particles: int, seed: int) -> list[Tensor]:
        """Return a step size ``(batch,)`` for each transition, from chains that adapt them to their acceptance."""
        sizes: list[Tensor] = []
        with seeded(seed):
            u = self.draw(num_particles)
            log_size = u.new_full((u.shape[1],), math.log(0.5 * u.shape[-1] ** -0.25))
            inner = self.betas[1:-1]
            # With fewer temperatures there is less time to adapt.
            rate = min(1.0, max(0.2, 50 / len(self.betas)))
            for _ in range(10 if inner else 0):
                u, _, probability = self.transition(u, inner[0], log_size.exp())
                log_size = log_size + (probability.mean(0) - _WANTED)
            for beta in inner:
                u, _, probability = self.transition(u, beta, log_size.exp())
                log_size = log_size + rate * (probability.mean(0) - _WANTED)
                sizes.append(log_size.exp())
        return sizes

    def forward(self, num_particles: int, sizes: list[Tensor]) -> Weights:
        """Run chains from the start to p(x, z) and return their log weights."""
        steps = [(self.betas[t + 1] - self.betas[t], self.betas[t], t - 1) for t in range(len(self.betas) - 1)]
        return self._walk(self.draw(num_particles), iter(steps), sizes)

    def reverse(self, z: Tensor, sizes: list[Tensor]) -> Weights:
        """Run chains from z ``(num_particles, batch, *event)`` to the start; their log weights estimate log p(x)."""
        last = len(self.betas) - 1
        steps = [(self.betas[t + 1] - self.betas[t], self.betas[t + 1], t) for t in range(last - 1, -1, -1)]
        return self._walk(self.codes.unconstrain(z), iter(steps), sizes)

    def _walk(self, u: Tensor, steps: Iterator[tuple[float, float, int]], sizes: list[Tensor]) -> Weights:
        """Add up the differences, with a transition at the given β before each but the first."""
        width, beta, _ = next(steps)
        difference = self.gradient(u, beta)[0]
        weights = width * difference
        accepted, count = torch.zeros_like(weights), 0
        for width, beta, at in steps:
            u, difference, probability = self.transition(u, beta, sizes[at])
            weights = weights + width * difference
            accepted, count = accepted + probability, count + 1
        return weights, (accepted / max(count, 1)).mean(0)


def _schedule(temperatures: int) -> list[float]:
    """Return β from 0 to 1 along a sigmoid from −4 to 4, which is slow at both ends (Wu et al. 2017)."""

    def sigmoid(t: float) -> float:
        return 1 / (1 + math.exp(-t))

    low, high = sigmoid(-4), sigmoid(4)
    inner = [(sigmoid(8 * t / temperatures - 4) - low) / (high - low) for t in range(1, temperatures)]
    return [0.0, *inner, 1.0]
