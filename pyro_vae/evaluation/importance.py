"""Log p(x) by importance sampling from the guide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_vae.argument_checks import at_least_one
from pyro_vae.evaluation.estimates import EXAMPLES, Estimate, blocks, check_density, running
from pyro_vae.evaluation.joint_density import Joint
from pyro_vae.evaluation.weights import TOO_HEAVY, log_mean, pareto_k, warn_of_heavy_tails
from pyro_vae.model_guide import ModelGuide
from pyro_vae.seeds import derive, seeded

__all__ = ["ImportanceEstimate", "importance_sampling", "weighed"]

# Draws from one seed. Fixed, as the number of examples from one seed is: see rows.EXAMPLES.
_DRAWS = 256


@dataclass(frozen=True)
class ImportanceEstimate(Estimate):
    """Log p(x) of each example by importance sampling, in nats.

    Args:
        effective_sample_size: (sum w)² / sum w² of the weights, from 1 to the number of draws, ``(batch,)``.
        bounds: for each k asked for, an unbiased estimate of the bound of k draws, E[log mean of k weights]
            (the ELBO for k = 1), ``(batch,)``.
        pareto_k: k̂, how heavy the tail of the weights is, ``(batch,)`` (Vehtari, Simpson, Gelman, Yao and Gabry 2015,
            arXiv 1507.02646). Below 0.5 the weights have a variance. Above 0.7 ``log_prob`` is too low by more than
            ``standard_error`` says. NaN where it cannot be told: for fewer than 21 draws, and for codes of few values.
    """

    effective_sample_size: Tensor
    bounds: dict[int, Tensor]
    pareto_k: Tensor

    @property
    def bias(self) -> Tensor:
        """About how far the expectation of ``log_prob`` is from log p(x): −standard_error² / 2, ``(batch,)``.

        From the second order of the logarithm. Where ``pareto_k`` is from 0.5 to 0.7 the bias may be twice that, above
        0.7 many times.
        """
        return -self.standard_error.square() / 2

    @property
    def mean_bias(self) -> float:
        """The mean of :attr:`bias`, which does not become smaller with more examples, as standard errors do."""
        return self.bias.double().mean().item()

    @property
    def heavy_tailed(self) -> float:
        """The share of the examples whose ``pareto_k`` is above 0.7."""
        return (self.pareto_k > TOO_HEAVY).double().mean().item()


def importance_sampling(
    vae: Any,
    x: Tensor | None = None,
    *context: Tensor,
    num_particles: int = 5000,
    bounds: Sequence[int] = (),
    chunk_size: int | None = None,
    compiled: bool | None = None,
    progress: bool = False,
    seed: int = 0,
    **named: Any,
) -> ImportanceEstimate:
    """Log p(x), estimated as log of the mean of p(x, z) / q(z | x) over draws of z from q.

    Its expectation is a lower bound, which rises to log p(x) with the draws (Burda, Grosse and Salakhutdinov 2015,
    arXiv 1509.00519), and lies below it by about half the squared standard error. Where a few draws have most of the
    weight it is further below, and Pareto k̂ is above 0.7: a warning says for how many examples. Neither shows a part of
    p(z | x) that no draw from q has come near. Each example is encoded once.

    Two errors are told apart. ``standard_error`` and ``mean_standard_error`` are of the draws: what other draws for
    these examples would change. ``data_standard_error`` is what other examples would change in the mean.

    Args:
        vae: a :class:`pyro_vae.VAE`, or what else has a model and a guide, a pair of them, or
            :class:`pyro_vae.model_guide.ModelGuide`, which bring x and context with them.
        x: data ``(batch, *event_shape)``.
        context: tensors ``(batch, ...)``.
        num_particles: of z, an example.
        bounds: numbers of draws k, at most ``draws``, of whose bounds estimates are wanted too.
        chunk_size: rows (draws × examples) that are decoded at a time, by default as many as a CPU's caches hold
            (1,024), and 20,000 on other devices; of no account for the result, up to rounding.
        compiled: whether what is done with a chunk is compiled, several times faster after a few seconds; by default
            where there are a million rows or more.
        progress: show a progress bar.
        seed: of the draws.
        named: tensors that the programs take by name, such as ``mask``, and ``latent`` and ``observed``, the names of
            the sites.

    Raises:
        ValueError: where a number is out of range.

    Example:
        >>> import torch
        >>> from pyro_vae import build
        >>> found = importance_sampling(build((1, 8, 8), 2), torch.ones(3, 1, 8, 8), num_particles=100, bounds=(1, 10))
        >>> found.log_prob.shape, sorted(found.bounds)
        (torch.Size([3]), [1, 10])
    """
    at_least_one(num_particles=num_particles, chunk_size=1 if chunk_size is None else chunk_size)
    for k in bounds:
        at_least_one(bounds=k)
        if k > num_particles:
            raise ValueError(f"bounds must be at most num_particles = {num_particles}; got {k}")
    found = weighed(
        vae,
        x,
        *context,
        num_particles=num_particles,
        bounds=bounds,
        chunk_size=chunk_size,
        compiled=compiled,
        progress=progress,
        seed=seed,
        **named,
    )
    warn_of_heavy_tails(found.pareto_k, "importance_sampling")
    return found


def weighed(
    vae: Any,
    x: Tensor | None = None,
    *context: Tensor,
    num_particles: int,
    bounds: Sequence[int] = (),
    chunk_size: int | None = None,
    compiled: bool | None = None,
    progress: bool = False,
    seed: int,
    **named: Any,
) -> ImportanceEstimate:
    """:func:`importance_sampling` for those that look at Pareto k̂ themselves: it does not warn."""
    found = []
    with running(vae, x, context, named, seed) as pair:
        joint = Joint(pair, num_particles, chunk_size, compiled)
        parts = blocks(pair)
        if progress:
            parts = _shown(parts, f"log p(x) from {num_particles:,} particles", -(-pair.batch // EXAMPLES))
        for number, part in parts:
            weights = _log_weights(part, num_particles, joint, derive(seed, number))
            found.append((*log_mean(weights), pareto_k(weights), *(_bound(weights, k) for k in bounds)))
    log_prob, error, size, shape, *rest = (torch.cat(parts) for parts in zip(*found, strict=True))
    return ImportanceEstimate(log_prob, error, size, dict(zip(bounds, rest, strict=True)), shape)


def _shown(parts: Iterator[tuple[int, ModelGuide]], words: str, count: int) -> Iterator[tuple[int, ModelGuide]]:
    """The same parts, with a progress bar on stderr."""
    from rich.console import Console
    from rich.progress import track

    return iter(track(parts, words, count, console=Console(stderr=True)))


def _log_weights(pair: ModelGuide, num_particles: int, joint: Joint, seed: int) -> Tensor:
    posterior, weights = check_density(pair.posterior(), "importance_sampling"), []
    for block, start in enumerate(range(0, num_particles, _DRAWS)):
        with seeded(derive(seed, block)):
            z = posterior((min(_DRAWS, num_particles - start),))
        # At once: a flow may remember where the draw came from, and need not be inverted.
        log_q = pair.log_posterior(z, posterior)
        weights.append(joint(pair, z) - log_q)
    return torch.cat(weights)


def _bound(log_weights: Tensor, k: int) -> Tensor:
    groups = log_weights[: len(log_weights) // k * k].unflatten(0, (-1, k))
    return (torch.logsumexp(groups, 1) - math.log(k)).mean(0)
