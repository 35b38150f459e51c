"""What the codes carry: mutual information, the aggregate posterior, active units, the KL of each dimension."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_vae.argument_checks import at_least_one
from pyro_vae.data.arrays import Array
from pyro_vae.data.batches import DataSource
from pyro_vae.distributions import factors
from pyro_vae.evaluation.estimates import Named, check_density, running
from pyro_vae.model_guide import ModelGuide, Target

__all__ = ["LatentUse", "latent_use"]

_ACTIVE = 0.01  # a unit is active if the variance of its mean over the data is above this (Burda et al.)
_PAIRS = 500_000  # pairs of a draw and an example, for which log q is computed at a time


@dataclass(frozen=True)
class LatentUse:
    """What the codes of some data carry: means over the data, in nats.

    Standard errors come from the spread over the examples.

    Args:
        kl: E[KL(q(z|x) || p(z))], the rate: in closed form if there is one, else at the draws. It is the sum of
            ``mutual_information`` and ``marginal_kl``.
        mutual_information: I(x; z) under q over these examples, estimated at the draws; at most the log of the number
            of examples.
        marginal_kl: KL(q(z) || p(z)) of the aggregate posterior q(z), the mean of q(z|x) over these examples. If it is
            small, noise may take it below 0.
        variance_of_means: the variance over the data of the mean of q(z|x), ``(latent_dim,)``; None if q has no mean.
        kl_of_dimensions: E[KL(q(z_j|x) || p(z_j))], ``(latent_dim,)``, which sums to ``kl``; None if q or p is no
            product over dimensions.
        kl_standard_error: of ``kl``; NaN for one example, like the next two.
        mutual_information_standard_error: of ``mutual_information``.
        marginal_kl_standard_error: of ``marginal_kl``.
    """

    kl: float
    mutual_information: float
    marginal_kl: float
    variance_of_means: Tensor | None
    kl_of_dimensions: Tensor | None
    kl_standard_error: float
    mutual_information_standard_error: float
    marginal_kl_standard_error: float

    def __repr__(self) -> str:
        """Return the rate, its two parts with standard errors, and the active units in one line."""

        def number(name: str) -> str:
            return f"{getattr(self, name):.3f} ± {getattr(self, f'{name}_standard_error'):.2g}"

        parts = f"I(x; z) {number('mutual_information')} + KL(q(z) || p(z)) {number('marginal_kl')}"
        units = "" if self.size is None else f"; {self.active_units} of {self.size} units are active"
        return f"LatentUse(kl {number('kl')} = {parts} nats{units})"

    @property
    def size(self) -> int | None:
        """The number of dimensions of z; None if q has no mean."""
        return None if self.variance_of_means is None else len(self.variance_of_means)

    @property
    def active_units(self) -> int | None:
        """The number of dimensions of z whose mean has a variance above 0.01 over the data; None if q has no mean.

        See Burda, Grosse and Salakhutdinov 2015, arXiv 1509.00519, section 5.
        """
        return None if self.variance_of_means is None else int((self.variance_of_means > _ACTIVE).sum())


def latent_use(
    vae: Target, x: DataSource | None = None, *context: Array, num_particles: int = 1, seed: int = 0, **named: Named
) -> LatentUse:
    """Measure what the codes of x carry: the rate, split into mutual information and KL of the aggregate posterior.

    E[KL(q(z|x) || p(z))] = I(x; z) + KL(q(z) || p(z)) (Hoffman and Johnson 2016, "ELBO surgery"). If the first term is
    0, the codes carry nothing about x. If the second term is large, draws from the prior differ from the codes that the
    decoder was trained on. Both are computed over the given examples: each draw is compared with q of every example.

    Args:
        vae: see :func:`pyro_vae.evaluation.importance_sampling`.
        x: data ``(batch, *event_shape)``; a few thousand examples are enough.
        context: tensors ``(batch, ...)``; the prior must not depend on them.
        num_particles: draws of z per example.
        seed: of the draws.
        named: see :func:`pyro_vae.evaluation.importance_sampling`.

    Raises:
        ValueError: if q is a point, which has no density, or if ``num_particles`` is out of range.

    Example:
        >>> import torch
        >>> from pyro_vae import build
        >>> found = latent_use(build((1, 8, 8), 2), torch.ones(10, 1, 8, 8))
        >>> found.active_units  # all ten images are the same
        0
    """
    at_least_one(num_particles=num_particles)
    with running(vae, x, context, named, seed) as pair:
        posterior, prior = check_density(pair.posterior(), "latent_use"), pair.prior()
        z, log_q = pair.draw_from(posterior, num_particles)
        of_dimensions = _kl_of_dimensions(posterior, prior, z)
        kl = _kl(posterior, prior, log_q, pair, z) if of_dimensions is None else of_dimensions.sum(-1)
        information = (log_q.double() - _log_aggregate(pair, posterior, z)).mean(0)
        rate, bits, rest = (_mean_and_error(term) for term in (kl, information, kl - information))
        return LatentUse(
            kl=rate[0],
            mutual_information=bits[0],
            marginal_kl=rest[0],
            variance_of_means=_variance_of_means(posterior),
            kl_of_dimensions=None if of_dimensions is None else of_dimensions.mean(0).to(log_q.dtype),
            kl_standard_error=rate[1],
            mutual_information_standard_error=bits[1],
            marginal_kl_standard_error=rest[1],
        )


def _mean_and_error(term: Tensor) -> tuple[float, float]:
    """Return the mean of ``(batch,)`` and its standard error."""
    n = len(term)
    return term.mean().item(), term.std(correction=1).item() / math.sqrt(n) if n > 1 else math.nan


def _kl(posterior: TorchDistribution, prior: TorchDistribution, log_q: Tensor, pair: ModelGuide, z: Tensor) -> Tensor:
    """Return KL(q || p) of each example, in closed form if there is one, else at the draws, ``(batch,)``."""
    try:
        return kl_divergence(posterior, prior).double().expand(z.shape[1])
    except NotImplementedError:
        log_p = pair.log_density(prior, z, pair.latent, "model")
        return (log_q.double() - log_p.double()).mean(0)


def _log_aggregate(pair: ModelGuide, posterior: TorchDistribution, z: Tensor) -> Tensor:
    """Return the log of the mean over the examples of q(z | x), at draws ``(num_particles, batch, *event)``."""
    examples = z.shape[1]
    rows = z.flatten(0, 1).split(max(1, _PAIRS // examples))
    found = [pair.log_posterior(part.unsqueeze(1), posterior).double().logsumexp(1) for part in rows]
    return torch.cat(found).unflatten(0, z.shape[:2]) - math.log(examples)


def _variance_of_means(posterior: TorchDistribution) -> Tensor | None:
    try:
        mean = posterior.mean
    except NotImplementedError:
        return None
    return mean.reshape(len(mean), -1).var(0, correction=0)


def _kl_of_dimensions(posterior: TorchDistribution, prior: TorchDistribution, z: Tensor) -> Tensor | None:
    """Return the KL of each example and dimension, in closed form if there is one, else at the draws."""
    q, p = factors(posterior), factors(prior)
    if q is None or p is None:
        return None
    try:
        kl = kl_divergence(q, p)
    except NotImplementedError:
        kl = (q.log_prob(z) - p.log_prob(z)).mean(0)
    batch = z.shape[1]
    return kl.double().expand(batch, *z.shape[2:]).reshape(batch, -1)
