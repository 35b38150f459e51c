"""Log p(x) by importance sampling from the guide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_vae.argument_checks import at_least_one
from pyro_vae.data.arrays import Array
from pyro_vae.data.batches import DataSource
from pyro_vae.evaluation.estimates import EXAMPLES, Estimate, Named, blocks, check_density, running
from pyro_vae.evaluation.joint_density import JointDensity
from pyro_vae.evaluation.weights import TOO_HEAVY, log_mean, pareto_k, warn_of_heavy_tails
from pyro_vae.model_guide import ModelGuide, Target
from pyro_vae.seeds import derive, seeded

__all__ = ["ImportanceEstimate", "estimate_log_prob", "importance_sampling"]

# Draws from one seed. The number is fixed for the same reason as estimates.EXAMPLES.
_DRAWS = 256


@dataclass(frozen=True)
class ImportanceEstimate(Estimate):
    """Log p(x) of each example by importance sampling, in nats.

    Args:
        effective_sample_size: (sum w)² / sum w² of the weights, from 1 to the number of particles, ``(batch,)``.
        bounds: for each requested k, an unbiased estimate of the k-particle bound E[log mean of k weights], which is
            the ELBO for k = 1, ``(batch,)``.
        pareto_k: Pareto k̂, which measures how heavy the tail of the weights is, ``(batch,)`` (Vehtari, Simpson,
            Gelman, Yao and Gabry 2015, arXiv 1507.02646). Below 0.5 the weights have a finite variance. Above 0.7
            ``log_prob`` is too low by more than ``standard_error`` says. NaN if it is unknown: with fewer than 21
            particles, or if z has few values.
    """

    effective_sample_size: Tensor
    bounds: dict[int, Tensor]
    pareto_k: Tensor

    def __repr__(self) -> str:
        """Return the mean, its errors and the number of examples with a high Pareto k̂ in one line."""
        heavy = int((self.pareto_k > TOO_HEAVY).sum())
        warning = f"; too low for {heavy:,} of {len(self.pareto_k):,} (Pareto k̂ above {TOO_HEAVY})" if heavy else ""
        return f"ImportanceEstimate({self.summary()}{warning})"

    @property
    def bias(self) -> Tensor:
        """The approximate bias of ``log_prob``, −standard_error² / 2, ``(batch,)``.

        This is the second-order term of the logarithm. The bias may be twice that if ``pareto_k`` is between 0.5 and
        0.7, and many times that above 0.7.
        """
        return -self.standard_error.square() / 2

    @property
    def mean_bias(self) -> float:
        """The mean of :attr:`bias`. Unlike standard errors it does not shrink with more examples."""
        return self.bias.double().mean().item()

    @property
    def heavy_tailed(self) -> float:
        """The share of examples with ``pareto_k`` above 0.7."""
        return (self.pareto_k > TOO_HEAVY).double().mean().item()


def importance_sampling(
    vae: Target,
    x: DataSource | None = None,
    *context: Array,
    num_particles: int = 5000,
    bounds: Sequence[int] = (),
    chunk_size: int | None = None,
    compiled: bool | None = None,
    progress: bool = False,
    seed: int = 0,
    **named: Named,
) -> ImportanceEstimate:
    """Estimate log p(x) as the log of the mean of p(x, z) / q(z | x) over draws of z from q.

    Its expectation is a lower bound, which rises to log p(x) with the number of draws (Burda, Grosse and Salakhutdinov
    2015, arXiv 1509.00519). It is below log p(x) by about half the squared standard error. If a few draws have most of
    the weight, it is further below, and Pareto k̂ is above 0.7: a warning says for how many examples. Neither figure
    shows a part of p(z | x) that no draw from q comes near. Each example is encoded once.

    There are two kinds of error. ``standard_error`` and ``mean_standard_error`` measure how the estimates change with
    other draws for these examples; ``data_standard_error`` measures how the mean changes with other examples.

    Args:
        vae: a :class:`pyro_vae.VAE`, another object with a model and a guide, or a pair of them. A
            :class:`pyro_vae.model_guide.ModelGuide` brings its own x and context.
        x: data ``(batch, *event_shape)``: an array or table, or anything else that :func:`pyro_vae.data.batches` takes,
            in the order of its examples; a split brings its context, and so do a Dataset and a DataLoader if the VAE
            has ``context_features``.
        context: arrays ``(batch, ...)``.
        num_particles: draws of z per example.
        bounds: numbers of particles k, at most ``num_particles``, to estimate the k-particle bound for.
        chunk_size: the number of rows (draws × examples) decoded at a time, by default 1,024 on a CPU, which fit its
            caches, and 20,000 on other devices. It changes the result by rounding only, unless a model of the mask
            draws missing values: then it changes these draws.
        compiled: if True, compile the work on a chunk, which is several times faster after a few seconds; by default
            from a million rows on.
        progress: show a progress bar.
        seed: of the draws.
        named: tensors that model and guide take by name, such as ``mask``; and the names of the sites, ``latent`` and
            ``observed``.

    Raises:
        ValueError: if a number is out of range.

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
    found = estimate_log_prob(
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
    warn_of_heavy_tails(found.pareto_k, "importance_sampling", vae)
    return found


def estimate_log_prob(
    vae: Target,
    x: DataSource | None = None,
    *context: Array,
    num_particles: int,
    bounds: Sequence[int] = (),
    chunk_size: int | None = None,
    compiled: bool | None = None,
    progress: bool = False,
    seed: int,
    **named: Named,
) -> ImportanceEstimate:
    """Do the same as :func:`importance_sampling`, without its check of ``bounds`` and its warning of a high k̂."""
    found = []
    with running(vae, x, context, named, seed) as pair:
        joint = JointDensity(pair, num_particles, chunk_size, compiled)
        parts = blocks(pair)
        if progress:
            parts = _shown(parts, f"log p(x) from {num_particles:,} particles", -(-pair.batch // EXAMPLES))
        for number, part in parts:
            weights = _log_weights(part, num_particles, joint, derive(seed, number))
            found.append((*log_mean(weights), pareto_k(weights), *(_bound(weights, k) for k in bounds)))
    log_prob, error, size, shape, *rest = (torch.cat(parts) for parts in zip(*found, strict=True))
    return ImportanceEstimate(log_prob, error, size, dict(zip(bounds, rest, strict=True)), shape)


def _shown(parts: Iterator[tuple[int, ModelGuide]], words: str, count: int) -> Iterator[tuple[int, ModelGuide]]:
    """Return the same parts, with a progress bar on stderr."""
    from rich.console import Console
    from rich.progress import track

    return iter(track(parts, words, count, console=Console(stderr=True, force_jupyter=False)))


def _log_weights(pair: ModelGuide, num_particles: int, joint: JointDensity, seed: int) -> Tensor:
    posterior, weights = check_density(pair.posterior(), "importance_sampling"), []
    for block, start in enumerate(range(0, num_particles, _DRAWS)):
        with seeded(derive(seed, block)):
            z, log_q = pair.draw_from(posterior, min(_DRAWS, num_particles - start))
        weights.append(joint(pair, z) - log_q)
    return torch.cat(weights)


def _bound(log_weights: Tensor, k: int) -> Tensor:
    groups = log_weights[: len(log_weights) // k * k].unflatten(0, (-1, k))
    return (torch.logsumexp(groups, 1) - math.log(k)).mean(0)
