"""What the codes of data are used for: information, the aggregate posterior, active units, KL of each dimension."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_vae.argument_checks import at_least_one
from pyro_vae.distributions import factors
from pyro_vae.evaluation.estimates import check_density, running
from pyro_vae.model_guide import ModelGuide

__all__ = ["LatentUse", "latent_use"]

_ACTIVE = 0.01  # the variance over data of a code's mean above which Burda et al. call it active
_PAIRS = 500_000  # of a draw and an example, for which log q is worked out at a time


@dataclass(frozen=True)
class LatentUse:
    """How the codes of some data are used; means over the data, in nats.

    Standard errors come from the spread over the examples.

    Args:
        kl: E[KL(q(z|x) || p(z))], the rate: in closed form, and at the draws where none is known. It is the sum of the
            next two.
        mutual_information: I(x; z) under q, of the examples at hand, at most the log of their number; at the draws.
        marginal_kl: KL(q(z) || p(z)) of the aggregate posterior, the mean of q(z|x) over the examples at hand: what
            the information leaves of the rate. Where it is small, chance may take it below 0.
        variance_of_means: over the data, of the mean of q(z|x), ``(latent_dim,)``; None where q has no mean.
        kl_of_dimensions: E[KL(q(z_j|x) || p(z_j))], ``(latent_dim,)``, whose sum is ``kl``; None where q or p is no
            product over dimensions.
        kl_standard_error: of ``kl``; NaN for one example, as the next two.
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

    @property
    def size(self) -> int | None:
        """How many dimensions z has; None where q has no mean."""
        return None if self.variance_of_means is None else len(self.variance_of_means)

    @property
    def active_units(self) -> int | None:
        """How many dimensions of z follow x: whose mean has a variance above 0.01 over the data; None without means.

        (Burda, Grosse and Salakhutdinov 2015, arXiv 1509.00519, section 5.)
        """
        return None if self.variance_of_means is None else int((self.variance_of_means > _ACTIVE).sum())


def latent_use(
    vae: Any, x: Tensor | None = None, *context: Tensor, num_particles: int = 1, seed: int = 0, **named: Any
) -> LatentUse:
    """How the codes of x are used: the rate, taken apart into information and distance of the aggregate posterior.

    E[KL(q(z|x) || p(z))] = I(x; z) + KL(q(z) || p(z)) (Hoffman and Johnson 2016, "ELBO surgery"). Where the first is
    zero, codes carry nothing of x; a large second term says that draws from the prior are not what the decoder was
    trained on. Both are worked out over the examples at hand: every draw is compared with q of every example.

    Args:
        vae: see :func:`pyro_vae.evaluation.importance_sampling`.
        x: data ``(batch, *event_shape)``; some thousand examples are enough.
        context: tensors ``(batch, ...)``; the prior must not depend on them.
        num_particles: of z an example.
        seed: of the draws.
        named: see :func:`pyro_vae.evaluation.importance_sampling`.

    Raises:
        ValueError: where q is a point, which has no density, and where ``draws`` is out of range.

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
        z = posterior((num_particles,))
        log_q = pair.log_posterior(z, posterior)  # at once: a flow may remember where the draw came from
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
    """Of one number per example."""
    n = len(term)
    return term.mean().item(), term.std(correction=1).item() / math.sqrt(n) if n > 1 else math.nan


def _kl(posterior: Any, prior: Any, log_q: Tensor, pair: ModelGuide, z: Tensor) -> Tensor:
    """KL(q || p) of each example, in closed form if it is known and else at the draws, ``(batch,)``."""
    try:
        return kl_divergence(posterior, prior).double().expand(z.shape[1])
    except NotImplementedError:
        log_p = pair.log_density(prior, z, pair.latent, "model")
        return (log_q.double() - log_p.double()).mean(0)


def _log_aggregate(pair: ModelGuide, posterior: Any, z: Tensor) -> Tensor:
    """Log of the mean over the examples of q(z | x), at draws ``(draws, batch, *event)``."""
    examples = z.shape[1]
    rows = z.flatten(0, 1).split(max(1, _PAIRS // examples))
    found = [pair.log_posterior(part.unsqueeze(1), posterior).double().logsumexp(1) for part in rows]
    return torch.cat(found).unflatten(0, z.shape[:2]) - math.log(examples)


def _variance_of_means(posterior: Any) -> Tensor | None:
    try:
        mean = posterior.mean
    except NotImplementedError:
        return None
    return mean.reshape(len(mean), -1).var(0, correction=0)


def _kl_of_dimensions(posterior: Any, prior: Any, z: Tensor) -> Tensor | None:
    """KL of each example and dimension, in closed form if it is known, else at the draws, ``(batch, latent_dim)``."""
    q, p = factors(posterior), factors(prior)
    if q is None or p is None:
        return None
    try:
        kl = kl_divergence(q, p)
    except NotImplementedError:
        kl = (q.log_prob(z) - p.log_prob(z)).mean(0)
    batch = z.shape[1]
    return kl.double().expand(batch, *z.shape[2:]).reshape(batch, -1)
