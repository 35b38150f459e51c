"""Log p(x) between bounds: annealed importance sampling, forwards and in reverse, by Hamiltonian Monte Carlo."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_vae.argument_checks import at_least_one
from pyro_vae.evaluation.estimates import EXAMPLES, Estimate, blocks, running
from pyro_vae.evaluation.hmc import PILOT_CHAINS, Path, Start, Weights
from pyro_vae.evaluation.weights import log_mean
from pyro_vae.model_guide import ModelGuide
from pyro_vae.seeds import derive, seeded

__all__ = [
    "AnnealedEstimate",
    "Sandwich",
    "annealed_importance_sampling",
    "reverse_annealed_importance_sampling",
    "sandwich",
]

_PILOT, _FORWARD, _REVERSE, _SIMULATE = range(4)  # streams of random numbers


@dataclass(frozen=True)
class AnnealedEstimate(Estimate):
    """Log p(x) of each example from annealed chains, in nats.

    Args:
        log_weights: of the chains, ``(num_particles, batch)``; those of reverse chains estimate log p(x) from above.
        acceptance: the share of proposals accepted, ``(batch,)``; about 0.65 where the step sizes are right.
    """

    log_weights: Tensor
    acceptance: Tensor


@dataclass(frozen=True)
class Sandwich:
    """Log p(x) of simulated data between two bounds, in nats.

    Args:
        lower: from forward chains; its expectation is at most log p(x).
        upper: from reverse chains; its expectation is at least log p(x). The chains of an example start from one z, so
            that their standard error leaves out what another z would change.
        z: the codes that were simulated, ``(examples, *event)``: exact draws from p(z | x).
        x: the data that were simulated, ``(examples, *event_shape)``.
    """

    lower: AnnealedEstimate
    upper: AnnealedEstimate
    z: Tensor
    x: Tensor

    @property
    def gap(self) -> Tensor:
        """Upper less lower of each example, ``(examples,)``: at least 0 in expectation."""
        return self.upper.log_prob - self.lower.log_prob

    @property
    def mean_gap(self) -> float:
        """The mean gap: on average over data, neither bound is further than this from log p(x)."""
        return self.gap.double().mean().item()

    @property
    def mean_gap_standard_error(self) -> float:
        """The standard error of :attr:`mean_gap`, from the spread over examples; NaN for one example."""
        return self.gap.double().std(correction=1).item() / math.sqrt(len(self.gap)) if len(self.gap) > 1 else math.nan


def annealed_importance_sampling(
    vae: Any,
    x: Tensor | None = None,
    *context: Tensor,
    num_particles: int = 16,
    temperatures: int = 500,
    leapfrog_steps: int = 10,
    start: Start = "prior",
    chunk_size: int = 20_000,
    seed: int = 0,
    **named: Any,
) -> AnnealedEstimate:
    """Log p(x) by annealed importance sampling: a lower bound in expectation, and tight with many temperatures.

    Chains go from the start to the posterior through densities between the two, s(z)^(1−β) p(x, z)^β, by Hamiltonian
    Monte Carlo, which needs no good q (Neal 2001, arXiv physics/9803008; for decoders Wu, Burda, Salakhutdinov and
    Grosse 2017, arXiv 1611.04273). β rises along a sigmoid. Step sizes, one for each example and temperature, come
    from a short pilot run, whose noise is its own, and stay as they are in the run that counts: the mean of the
    weights is then an unbiased estimate of p(x). Constrained codes run as real vectors (``biject_to``).

    Args:
        vae: see :func:`pyro_vae.evaluation.importance_sampling`.
        x: data ``(batch, *event_shape)``.
        context: tensors ``(batch, ...)``.
        num_particles: of an example, side by side.
        temperatures: steps of β from 0 to 1; one transition between each two.
        leapfrog_steps: of a transition.
        start: ``"prior"``, or ``"posterior"`` for q(z | x), which saves temperatures where q is good and wide enough.
        chunk_size: rows (chains × examples) that are decoded at a time; of no account for the result, up to rounding.
        seed: of the chains.
        named: see :func:`pyro_vae.evaluation.importance_sampling`.

    Raises:
        ValueError: where codes are discrete or have a support that cannot be mapped from real vectors, and where a
            number is out of range.

    Example:
        >>> import torch
        >>> from pyro_vae import build
        >>> vae = build(4, 2, hidden=())
        >>> annealed_importance_sampling(vae, torch.ones(3, 4), num_particles=4, temperatures=5).log_prob.shape
        torch.Size([3])
    """
    _check(num_particles, temperatures, leapfrog_steps, start, chunk_size)
    found = []
    with running(vae, x, context, named, seed) as pair:
        for number, part in blocks(pair):
            path = Path(part, start, temperatures, leapfrog_steps, chunk_size, "annealed_importance_sampling")
            sizes = path.pilot(min(num_particles, PILOT_CHAINS), derive(seed, _PILOT, number))
            with seeded(derive(seed, _FORWARD, number)):
                found.append(path.forward(num_particles, sizes))
    return _forward_estimate(found)


def reverse_annealed_importance_sampling(
    vae: Any,
    x: Tensor | None = None,
    *context: Tensor,
    z: Tensor,
    temperatures: int = 500,
    leapfrog_steps: int = 10,
    start: Start = "prior",
    chunk_size: int = 20_000,
    seed: int = 0,
    **named: Any,
) -> AnnealedEstimate:
    """Log p(x) by annealing from exact draws of p(z | x) back to the start: an upper bound in expectation.

    The chains of :func:`annealed_importance_sampling` run backwards, so the weights' inverses are unbiased estimates of
    1 / p(x) (Grosse, Ghahramani and Adams 2015, arXiv 1511.02543). Only exact draws give a bound: those of
    :func:`sandwich`, or nearly those of :meth:`pyro_vae.evaluation.Quadrature.sample`.

    Args:
        vae: see :func:`pyro_vae.evaluation.importance_sampling`.
        x: data ``(batch, *event_shape)``.
        context: tensors ``(batch, ...)``.
        z: exact draws from p(z | x), ``(num_particles, batch, *event)``.
        temperatures: see :func:`annealed_importance_sampling`, as the rest.
        leapfrog_steps: of a transition.
        start: where the chains end.
        chunk_size: rows (chains × examples) that are decoded at a time.
        seed: of the chains.
        named: see :func:`pyro_vae.evaluation.importance_sampling`.

    Raises:
        ValueError: as :func:`annealed_importance_sampling`, and where z has another shape.

    Example:
        >>> import torch
        >>> from pyro_vae import build
        >>> from pyro_vae.evaluation import quadrature
        >>> vae, x = build(4, 2, hidden=()), torch.ones(3, 4)
        >>> z = quadrature(vae, x, tolerance=1e-3, nodes=True).sample(5)
        >>> reverse_annealed_importance_sampling(vae, x, z=z, temperatures=5, leapfrog_steps=3).log_prob.shape
        torch.Size([3])
    """
    _check(1, temperatures, leapfrog_steps, start, chunk_size)
    found = []
    with running(vae, x, context, named, seed) as pair:
        for number, part in blocks(pair):
            path = Path(part, start, temperatures, leapfrog_steps, chunk_size, "reverse_annealed_importance_sampling")
            _check_draws(z, pair, path.event_shape)
            sizes = path.pilot(min(len(z), PILOT_CHAINS), derive(seed, _PILOT, number))
            with seeded(derive(seed, _REVERSE, number)):
                found.append(path.reverse(z[:, number * EXAMPLES :][:, : part.batch], sizes))
    return _reverse_estimate(found)


def sandwich(
    vae: Any,
    x_like: Tensor | None = None,
    *context: Tensor,
    examples: int | None = None,
    num_particles: int = 16,
    temperatures: int = 500,
    leapfrog_steps: int = 10,
    start: Start = "prior",
    chunk_size: int = 20_000,
    seed: int = 0,
    **named: Any,
) -> Sandwich:
    """Log p(x) of data simulated from the model, from below and from above: bidirectional Monte Carlo.

    The z that an x was simulated from is an exact draw from p(z | x), so that chains can start there in reverse
    (Grosse, Ghahramani and Adams 2015, arXiv 1511.02543). The gap says how far annealing with these settings is from
    log p(x), for data like the model's own.

    Args:
        vae: see :func:`pyro_vae.evaluation.importance_sampling`.
        x_like: data ``(batch, *event_shape)`` whose shape the simulated data have; its values are of no account.
        context: tensors ``(batch, ...)``, from which x is simulated row by row.
        examples: how many to simulate, the rows of context over and over; by default one a row.
        num_particles: of an example, in each direction.
        temperatures: see :func:`annealed_importance_sampling`, as the rest.
        leapfrog_steps: of a transition.
        start: where forward chains start and reverse ones end.
        chunk_size: rows (chains × examples) that are decoded at a time.
        seed: of the simulation and the chains.
        named: see :func:`pyro_vae.evaluation.importance_sampling`.

    Raises:
        ValueError: as :func:`annealed_importance_sampling`.

    Example:
        >>> import torch
        >>> from pyro_vae import build
        >>> found = sandwich(build(4, 2, hidden=()), torch.ones(1, 4), examples=8, temperatures=5, leapfrog_steps=3)
        >>> found.x.shape, found.gap.shape
        (torch.Size([8, 4]), torch.Size([8]))
    """
    _check(num_particles, temperatures, leapfrog_steps, start, chunk_size)
    if examples is not None:
        at_least_one(examples=examples)
    lower, upper, codes, data = [], [], [], []
    with running(vae, x_like, context, named, seed) as pair:
        count = pair.batch if examples is None else examples
        for number, part in blocks(pair.at(torch.arange(count, device=pair.x.device) % pair.batch)):
            with seeded(derive(seed, _SIMULATE, number)):
                z, x = part.simulate()
            path = Path(part.of(x), start, temperatures, leapfrog_steps, chunk_size, "sandwich")
            sizes = path.pilot(min(num_particles, PILOT_CHAINS), derive(seed, _PILOT, number))
            with seeded(derive(seed, _FORWARD, number)):
                lower.append(path.forward(num_particles, sizes))
            with seeded(derive(seed, _REVERSE, number)):
                upper.append(path.reverse(z.expand(num_particles, *z.shape), sizes))
            codes.append(z)
            data.append(x)
    return Sandwich(_forward_estimate(lower), _reverse_estimate(upper), torch.cat(codes), torch.cat(data))


def _forward_estimate(found: list[Weights]) -> AnnealedEstimate:
    weights, acceptance = (torch.cat([f[i] for f in found], -1) for i in range(2))
    log_prob, error, _ = log_mean(weights)
    return AnnealedEstimate(log_prob, error, weights, acceptance)


def _reverse_estimate(found: list[Weights]) -> AnnealedEstimate:
    weights, acceptance = (torch.cat([f[i] for f in found], -1) for i in range(2))
    log_inverse, error, _ = log_mean(-weights)
    return AnnealedEstimate(-log_inverse, error, weights, acceptance)


def _check(num_particles: int, temperatures: int, leapfrog_steps: int, start: str, chunk_size: int) -> None:
    at_least_one(
        num_particles=num_particles, temperatures=temperatures, leapfrog_steps=leapfrog_steps, chunk_size=chunk_size
    )
    if start not in ("prior", "posterior"):
        raise ValueError(f'start must be "prior" or "posterior"; got {start!r}')


def _check_draws(z: Tensor, pair: ModelGuide, event_shape: torch.Size) -> None:
    if z.dim() != 2 + len(event_shape) or z.shape[1:] != (pair.batch, *event_shape) or len(z) == 0:
        wanted = ", ".join(str(n) for n in ("chains", pair.batch, *event_shape))
        raise ValueError(f"z must be draws from p(z | x) of shape ({wanted}); got shape {tuple(z.shape)}")
