"""Estimators of the gradient of a bound: each returns numbers whose gradient is the estimate.

They take a :class:`pyro_vae.model_guide.ModelGuide` and the number of draws of z per example, and return nats,
``(batch,)``. Those without the score of log q also take all parameters whose gradient is wanted, and leave them as they
were. If one is left out and p depends on it too, its gradient counts twice. ``examples/estimator_laboratory.py``
compares the estimators.

Example:
    >>> import torch
    >>> from pyro_vae import build
    >>> vae = build(4, 2, hidden=())
    >>> pair = ModelGuide(vae, torch.ones(3, 4))
    >>> sticking_the_landing(pair, list(vae.parameters()), num_particles=5).sum().backward()
    >>> importance_weighted(pair, num_particles=5).shape
    torch.Size([3])
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_vae.argument_checks import at_least
from pyro_vae.model_guide import ModelGuide

__all__ = [
    "analytic_kl",
    "doubly_reparametrised",
    "importance_weighted",
    "pathwise",
    "score_function",
    "sticking_the_landing",
]


def pathwise(pair: ModelGuide, num_particles: int = 1) -> Tensor:
    """Return the ELBO at reparametrised draws of z, ``(batch,)``, as Trace_ELBO does.

    (Kingma and Welling 2013, arXiv 1312.6114.)
    """
    posterior = _reparametrised(pair)
    return pair.terms(posterior.rsample((num_particles,)), posterior).weight.mean(0)


def analytic_kl(pair: ModelGuide, num_particles: int = 1) -> Tensor:
    """Return the ELBO with KL(q || p) in closed form, ``(batch,)``, as TraceMeanField_ELBO does."""
    posterior = _reparametrised(pair)
    recon = pair.log_likelihood(posterior((num_particles,))).mean(0)
    return recon - kl_divergence(posterior, pair.prior())


def score_function(pair: ModelGuide, num_particles: int = 8) -> Tensor:
    """Return the ELBO with the score-function gradient, ``(batch,)``, for any z.

    The baseline of each draw is the mean of the others (REINFORCE with a leave-one-out baseline: Mnih and Rezende 2016,
    arXiv 1602.06725).
    """
    at_least("num_particles", num_particles, 2, "for a baseline from the others")
    terms = pair.terms(pair.draw(num_particles).detach())
    value = terms.weight.detach()
    baseline = (value.sum(0) - value) / (num_particles - 1)
    score = (value - baseline) * terms.posterior
    bound = terms.recon + terms.prior + (score - score.detach()) - terms.posterior.detach()
    return bound.mean(0)


def sticking_the_landing(pair: ModelGuide, parameters: Sequence[Tensor], num_particles: int = 1) -> Tensor:
    """Return the ELBO with the pathwise gradient without the score of log q, whose mean is zero, ``(batch,)``.

    The gradient's variance vanishes if q is the true posterior (Roeder, Wu and Duvenaud 2017, arXiv 1703.09194).
    """
    joint, weight = _apart(pair, parameters, num_particles)
    return _with_gradient_of((joint + weight).mean(0), weight.mean(0))


def importance_weighted(pair: ModelGuide, num_particles: int) -> Tensor:
    """Return the log of the mean weight of the draws, ``(batch,)`` (Burda et al. 2015, arXiv 1509.00519)."""
    posterior = _reparametrised(pair)
    return pair.terms(posterior.rsample((num_particles,)), posterior).weight.logsumexp(0) - math.log(num_particles)


def doubly_reparametrised(pair: ModelGuide, parameters: Sequence[Tensor], num_particles: int) -> Tensor:
    """Return the bound of :func:`importance_weighted` with a gradient without the score of log q, ``(batch,)``.

    (Tucker et al. 2018, arXiv 1810.04152.)
    """
    joint, weight = _apart(pair, parameters, num_particles)
    share = torch.softmax(weight.detach(), 0)
    gradient = (share * joint + share**2 * weight).sum(0)
    return _with_gradient_of(gradient, weight.logsumexp(0) - math.log(num_particles))


def _reparametrised(pair: ModelGuide) -> TorchDistribution:
    """Return q(z | x) if gradients go through its draws; else raise an error."""
    posterior = pair.posterior()
    if not posterior.has_rsample:
        raise ValueError(
            f"no gradient goes through draws of the posterior {type(posterior).__name__}: it has no rsample. Use "
            "score_function"
        )
    return posterior


def _apart(pair: ModelGuide, parameters: Sequence[Tensor], num_particles: int) -> tuple[Tensor, Tensor]:
    """Return log p(x, z) with gradient by its own parameters only, and log p(x, z) / q(z|x) by z only.

    Both have shape ``(draws, batch)``.
    """
    z = _reparametrised(pair).rsample((num_particles,))
    likelihood, prior = pair.log_joint(z.detach())
    with _held(parameters):
        return likelihood + prior, pair.terms(z).weight


@contextlib.contextmanager
def _held(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Run the block without gradients by these tensors; frozen ones stay frozen."""
    held = [p for p in parameters if p.requires_grad]
    for p in held:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in held:
            p.requires_grad_()


def _with_gradient_of(surrogate: Tensor, value: Tensor) -> Tensor:
    return value.detach() + (surrogate - surrogate.detach())  # this grouping does not round the value
