"""Bounds on log p(x) by annealed importance sampling, forwards and in reverse, with Hamiltonian Monte Carlo."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_vae.argument_checks import at_least_one
from pyro_vae.data.arrays import Array
from pyro_vae.data.batches import DataSource
from pyro_vae.evaluation.estimates import EXAMPLES, Estimate, Named, blocks, running
from pyro_vae.evaluation.hmc import PILOT_CHAINS, AnnealedChains, Annealing, Weights
from pyro_vae.evaluation.weights import log_mean
from pyro_vae.model_guide import ModelGuide, Target
from pyro_vae.seeds import derive, seeded

__all__ = [
    "AnnealedEstimate",
    "Annealing",
    "Sandwich",
    "annealed_importance_sampling",
    "reverse_annealed_importance_sampling",
    "sandwich",
]

_PILOT, _FORWARD, _REVERSE, _SIMULATE = range(4)  # independent streams of random numbers


@dataclass(frozen=True)
class AnnealedEstimate(Estimate):
    """Log p(x) of each example from annealed chains, in nats.

    Args:
        log_weights: the log weight of each chain, ``(num_particles, batch)``. Those of reverse chains estimate log p(x)
            from above.
        acceptance: the share of accepted proposals, ``(batch,)``; about 0.65 if the step sizes are right.
    """

    log_weights: Tensor
    acceptance: Tensor

    def __repr__(self) -> str:
        """Return the mean, its errors and the mean acceptance in one line."""
        return f"AnnealedEstimate({self.summary()}; acceptance {self.acceptance.double().mean().item():.2f})"


@dataclass(frozen=True)
class Sandwich:
    """Lower and upper bounds on log p(x) of simulated data, in nats.

    Args:
        lower: from forward chains; its expectation is at most log p(x).
        upper: from reverse chains; its expectation is at least log p(x). All chains of an example start from the same
            z, so their standard error does not include the spread over z.
        z: the simulated codes, ``(examples, *event)``: exact draws from p(z | x).
        x: the simulated data, ``(examples, *event_shape)``.
    """

    lower: AnnealedEstimate
    upper: AnnealedEstimate
    z: Tensor
    x: Tensor

    def __repr__(self) -> str:
        """Return the mean bounds and the mean gap in one line."""
        gap = f"mean gap {self.mean_gap:.4f} nats, standard error {self.mean_gap_standard_error:.2g}"
        bounds = f"mean log p(x) between {self.lower.mean:.4f} and {self.upper.mean:.4f}"
        return f"Sandwich({gap}; {bounds}, over {len(self.gap):,} simulated examples)"

    @property
    def gap(self) -> Tensor:
        """The upper bound minus the lower bound, ``(examples,)``: at least 0 in expectation."""
        return self.upper.log_prob - self.lower.log_prob

    @property
    def mean_gap(self) -> float:
        """The mean gap: on average over the data, each bound is at most this far from log p(x)."""
        return self.gap.double().mean().item()

    @property
    def mean_gap_standard_error(self) -> float:
        """The standard error of :attr:`mean_gap`, from the spread over examples; NaN for one example."""
        return self.gap.double().std(correction=1).item() / math.sqrt(len(self.gap)) if len(self.gap) > 1 else math.nan


def annealed_importance_sampling(
    vae: Target,
    x: DataSource | None = None,
    *context: Array,
    num_particles: int = 16,
    annealing: Annealing = Annealing(),
    chunk_size: int = 20_000,
    seed: int = 0,
    **named: Named,
) -> AnnealedEstimate:
    """Estimate log p(x) by annealed importance sampling: a lower bound in expectation, tight with many temperatures.

    Hamiltonian Monte Carlo chains move from the start to the posterior through the densities s(z)^(1−β) p(x, z)^β
    between them. They do not need a good q (Neal 2001, arXiv physics/9803008; for decoders Wu, Burda, Salakhutdinov
    and Grosse 2017, arXiv 1611.04273). β rises along a sigmoid. A short pilot run with its own noise sets the step
    sizes, one per example and temperature. They stay fixed in the run that counts, so the mean of the weights is an
    unbiased estimate of p(x). Constrained codes are mapped to real vectors (``biject_to``).

    Args:
        vae: see :func:`pyro_vae.evaluation.importance_sampling`.
        x: data ``(batch, *event_shape)``.
        context: tensors ``(batch, ...)``.
        num_particles: parallel chains per example.
        annealing: how the chains move from the start to the posterior.
        chunk_size: the number of rows (chains × examples) decoded at a time. It changes the result by rounding only.
        seed: of the chains.
        named: see :func:`pyro_vae.evaluation.importance_sampling`.

    Raises:
        ValueError: if the codes are discrete or have a support that real vectors cannot be mapped to, or if a number
            is out of range.

    Example:
        >>> import torch
        >>> from pyro_vae import build
        >>> vae = build(4, 2, hidden=())
        >>> annealed_importance_sampling(vae, torch.ones(3, 4), num_particles=4, annealing=Annealing(5)).log_prob.shape
        torch.Size([3])
    """
    at_least_one(num_particles=num_particles, chunk_size=chunk_size)
    found = []
    with running(vae, x, context, named, seed) as pair:
        for number, part in blocks(pair):
            chains = AnnealedChains(part, annealing, chunk_size, "annealed_importance_sampling")
            sizes = chains.pilot(min(num_particles, PILOT_CHAINS), derive(seed, _PILOT, number))
            with seeded(derive(seed, _FORWARD, number)):
                found.append(chains.forward(num_particles, sizes))
    return _estimate(found, 1)


def reverse_annealed_importance_sampling(
    vae: Target,
    x: DataSource | None = None,
    *context: Array,
    z: Tensor,
    annealing: Annealing = Annealing(),
    chunk_size: int = 20_000,
    seed: int = 0,
    **named: Named,
) -> AnnealedEstimate:
    """Estimate log p(x) by annealing from exact draws of p(z | x) back to the start: an upper bound in expectation.

    The chains of :func:`annealed_importance_sampling` run backwards, so the inverse weights are unbiased estimates of
    1 / p(x) (Grosse, Ghahramani and Adams 2015, arXiv 1511.02543). Only exact draws give a bound: :func:`sandwich` has
    them; those of :meth:`pyro_vae.evaluation.Quadrature.sample` are nearly exact.

    Args:
        vae: see :func:`pyro_vae.evaluation.importance_sampling`.
        x: data ``(batch, *event_shape)``.
        context: tensors ``(batch, ...)``.
        z: exact draws from p(z | x), ``(num_particles, batch, *event)``.
        annealing: how the chains move, in reverse, to the start.
        chunk_size: the number of rows (chains × examples) decoded at a time.
        seed: of the chains.
        named: see :func:`pyro_vae.evaluation.importance_sampling`.

    Raises:
        ValueError: as :func:`annealed_importance_sampling` does, and if z has another shape.

    Example:
        >>> import torch
        >>> from pyro_vae import build
        >>> from pyro_vae.evaluation import quadrature
        >>> vae, x = build(4, 2, hidden=()), torch.ones(3, 4)
        >>> z = quadrature(vae, x, tolerance=1e-3, nodes=True).sample(5)
        >>> reverse_annealed_importance_sampling(vae, x, z=z, annealing=Annealing(5, leapfrog_steps=3)).log_prob.shape
        torch.Size([3])
    """
    at_least_one(chunk_size=chunk_size)
    found = []
    with running(vae, x, context, named, seed) as pair:
        for number, part in blocks(pair):
            chains = AnnealedChains(part, annealing, chunk_size, "reverse_annealed_importance_sampling")
            _check_draws(z, pair, chains.event_shape)
            sizes = chains.pilot(min(len(z), PILOT_CHAINS), derive(seed, _PILOT, number))
            with seeded(derive(seed, _REVERSE, number)):
                found.append(chains.reverse(z[:, number * EXAMPLES :][:, : part.batch], sizes))
    return _estimate(found, -1)


def sandwich(
    vae: Target,
    x_like: DataSource | None = None,
    *context: Array,
    examples: int | None = None,
    num_particles: int = 16,
    annealing: Annealing = Annealing(),
    chunk_size: int = 20_000,
    seed: int = 0,
    **named: Named,
) -> Sandwich:
    """Bound log p(x) from below and above, for data simulated from the model: bidirectional Monte Carlo.

    If x was simulated from z, then z is an exact draw from p(z | x), and reverse chains can start there (Grosse,
    Ghahramani and Adams 2015, arXiv 1511.02543). The gap between the bounds shows how far annealing with these
    settings is from log p(x), for data like the model's own.

    Args:
        vae: see :func:`pyro_vae.evaluation.importance_sampling`.
        x_like: data ``(batch, *event_shape)`` with the shape of the data to simulate; its values do not matter.
        context: tensors ``(batch, ...)``, from which x is simulated row by row.
        examples: the number of examples to simulate, with the rows of context repeated; by default one per row.
        num_particles: chains per example, in each direction.
        annealing: how the chains move, in both directions.
        chunk_size: the number of rows (chains × examples) decoded at a time.
        seed: of the simulation and the chains.
        named: see :func:`pyro_vae.evaluation.importance_sampling`.

    Raises:
        ValueError: as :func:`annealed_importance_sampling` does.

    Example:
        >>> import torch
        >>> from pyro_vae import build
        >>> found = sandwich(build(4, 2, hidden=()), torch.ones(1, 4), examples=8, annealing=Annealing(5))
        >>> found.x.shape, found.gap.shape
        (torch.Size([8, 4]), torch.Size([8]))
    """
    at_least_one(num_particles=num_particles, chunk_size=chunk_size)
    if examples is not None:
        at_least_one(examples=examples)
    lower, upper, codes, data = [], [], [], []
    with running(vae, x_like, context, named, seed, "x_like") as pair:
        count = pair.batch if examples is None else examples
        for number, part in blocks(pair.at(torch.arange(count, device=pair.x.device) % pair.batch)):
            with seeded(derive(seed, _SIMULATE, number)):
                z, x = part.simulate()
            chains = AnnealedChains(part.with_data(x), annealing, chunk_size, "sandwich")
            sizes = chains.pilot(min(num_particles, PILOT_CHAINS), derive(seed, _PILOT, number))
            with seeded(derive(seed, _FORWARD, number)):
                lower.append(chains.forward(num_particles, sizes))
            with seeded(derive(seed, _REVERSE, number)):
                upper.append(chains.reverse(z.expand(num_particles, *z.shape), sizes))
            codes.append(z)
            data.append(x)
    return Sandwich(_estimate(lower, 1), _estimate(upper, -1), torch.cat(codes), torch.cat(data))


def _estimate(found: list[Weights], sign: int) -> AnnealedEstimate:
    """Return the estimate from the weights of all blocks: sign is 1 for forward chains and −1 for reverse ones."""
    weights, acceptance = (torch.cat([f[i] for f in found], -1) for i in range(2))
    log_prob, error, _ = log_mean(sign * weights)
    return AnnealedEstimate(sign * log_prob, error, weights, acceptance)


def _check_draws(z: Tensor, pair: ModelGuide, event_shape: torch.Size) -> None:
    if z.dim() != 2 + len(event_shape) or z.shape[1:] != (pair.batch, *event_shape) or len(z) == 0:
        wanted = ", ".join(str(n) for n in ("num_particles", pair.batch, *event_shape))
        raise ValueError(f"z must be draws from p(z | x) of shape ({wanted}); got shape {tuple(z.shape)}")
