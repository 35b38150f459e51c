"""Objectives that compare the posteriors of a batch with one another."""

from __future__ import annotations

import math
from typing import Unpack

import torch
from torch import Tensor

from pyro_vae.argument_checks import at_least, finite_number
from pyro_vae.distributions import is_over_logs
from pyro_vae.objectives.objective import Objective, Options, check_weight
from pyro_vae.objectives.schedules import Weight
from pyro_vae.terms import Latent, Terms
from pyro_vae.value_checks import holds

__all__ = ["BetaTCVAE", "InfoVAE"]


class BetaTCVAE(Objective):
    """The ELBO with the KL split into three parts, each with its own weight (Chen et al. 2018, arXiv 1802.04942).

    recon − α I(x; z) − β TC(z) − γ Σ KL(q(z_j) || p(z_j)): the mutual information of x and z, the dependence between
    the dimensions of z (total correlation), and the KL of each dimension to the prior. A weight β above 1 makes the
    dimensions independent and costs less information than a weight on the whole KL. The aggregate posterior q(z) is
    the mean of q(z | x) over all N examples of the data. It is estimated from the n examples of the batch: at the code
    of an example, this example counts 1 / N and each other one (N − 1) / (N (n − 1)). This estimate of q(z) is
    unbiased; it is the stratified sampling of the paper, averaged over the choice of the example that stands for those
    outside the batch. Its logarithm is too low, more so for small batches: information is then too large and
    dimension_kl too small. So use large batches. If the batch is the whole data, q(z) is exact.

    Args:
        beta: weight of the total correlation, at least 0, or a schedule of it.
        alpha: weight of the mutual information, likewise.
        gamma: weight of the dimensions' KL, likewise. With all three at 1, this is the ELBO.
        examples: N, at least the size of a batch. By default, the size of the plate if it subsamples, else that of the
            batch.
        **options: see :class:`Objective`.

    Attributes:
        terms: with ``information``, ``total_correlation`` and ``dimension_kl``.

    Raises:
        ValueError: in a step, if posterior or prior is not a product over dimensions, if there are several latent
            sites, if the batch has more examples than ``examples``, or if it has only one of several examples.

    Example:
        >>> BetaTCVAE(beta=6.0).beta
        6.0
    """

    def __init__(
        self,
        beta: Weight = 6.0,
        alpha: Weight = 1.0,
        gamma: Weight = 1.0,
        examples: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        for name, value in (("beta", beta), ("alpha", alpha), ("gamma", gamma)):
            check_weight(name, value)
        super().__init__(1, **options)
        self.beta, self.alpha, self.gamma = beta, alpha, gamma
        self.examples = None if examples is None else at_least("examples", examples, 1)

    def objective(self, terms: Terms) -> Tensor:
        """Return recon minus the three weighted parts, a sum over the examples."""
        latent = _only_latent(terms, "BetaTCVAE")
        _refuse_mask(latent, "BetaTCVAE")
        q, _ = latent.factors()
        name, z = latent.posterior.name, latent.posterior.value
        n, event = z.shape[0], z.dim() - 1
        if q.batch_shape[:1] != (n,) or terms.examples != n or event == 0:
            raise ValueError(
                f"BetaTCVAE needs codes of shape (batch, dimensions) in one plate; got {tuple(z.shape)} at site "
                f"{name!r} for {terms.examples} examples"
            )
        # log q(z_j of example i | x of example k), (i, k, dimensions)
        pairs = q.log_prob(z.unsqueeze(1)).reshape(n, n, -1)
        log_weights = self._log_weights(pairs, self.examples or terms.data_size)
        log_q = (pairs.sum(-1) + log_weights).logsumexp(1)
        log_q_of_dimensions = (pairs + log_weights.unsqueeze(-1)).logsumexp(1).sum(-1)
        information = (terms.by_site("posterior")[name][0] - log_q).sum()
        total_correlation = (log_q - log_q_of_dimensions).sum()
        dimension_kl = (log_q_of_dimensions - terms.by_site("prior")[name][0]).sum()
        self.note(terms, information=information, total_correlation=total_correlation, dimension_kl=dimension_kl)
        recon = terms.recon.sum()
        weights = [self.weigh(w, recon) for w in (self.alpha, self.beta, self.gamma)]
        return recon - weights[0] * information - weights[1] * total_correlation - weights[2] * dimension_kl

    def _log_weights(self, pairs: Tensor, examples: int | None) -> Tensor:
        """Return the log-weight of q(z | x_k) in q(z) at the code of example i, ``(n, n)``."""
        places = torch.arange(pairs.shape[0], device=pairs.device)
        size = pairs.new_ones(()) * pairs.shape[0]
        data_size = size if examples is None else torch.full_like(size, examples)
        if not holds(size <= data_size):
            raise ValueError(
                f"examples must be at least as many as a batch has, {pairs.shape[0]}, since it is the size of the "
                f"whole data; got {examples}"
            )
        if not holds((size > 1) | (data_size == 1)):
            raise ValueError(
                f"BetaTCVAE needs batches of at least 2 of the {examples} examples to estimate q(z); got 1. Drop a "
                "last batch of one example, or change the batch size"
            )
        of_another = (data_size - 1).log() - data_size.log() - (size - 1).log()
        return torch.where(places.unsqueeze(1) == places, -data_size.log(), of_another)


class InfoVAE(Objective):
    """recon − (1 − α) kl − (α + λ − 1) MMD(q(z), p(z)) (Zhao, Song and Ermon 2017, arXiv 1706.02262).

    The maximum mean discrepancy between the codes of the batch and draws from the prior keeps the aggregate posterior
    close to the prior. The KL of each example has a smaller weight, so the codes keep information about x. Codes on a
    simplex are compared as points, not as their logarithms.

    Args:
        alpha: at most 1; the weight of the KL is 1 − α. 0 with λ = 1 is the ELBO, 1 is the MMD-VAE.
        lam: λ.
        bandwidth: of the Gaussian kernel; by default the square root of the number of dimensions of z.
        num_particles: draws of the latent variables per example.
        **options: see :class:`Objective`.

    Attributes:
        terms: with ``mmd``, the unbiased estimate of the squared discrepancy, which may be negative.

    Example:
        >>> InfoVAE(alpha=1.0, lam=1000.0).lam
        1000.0
    """

    def __init__(
        self,
        alpha: float = 1.0,
        lam: float = 1000.0,
        bandwidth: float | None = None,
        num_particles: int = 1,
        **options: Unpack[Options],
    ) -> None:
        finite_number("alpha", alpha, most=1)
        finite_number("lam", lam, least=0)
        if alpha + lam < 1:
            raise ValueError(
                f"alpha + lam must be at least 1, else the objective rewards a discrepancy; got {alpha!r} + {lam!r}"
            )
        if bandwidth is not None:
            finite_number("bandwidth", bandwidth, above=0)
        super().__init__(num_particles, **options)
        self.alpha, self.lam, self.bandwidth = alpha, lam, bandwidth

    def objective(self, terms: Terms) -> Tensor:
        """Return recon minus the weighted KL and discrepancy, a sum over the examples."""
        recon, kl = terms.mean(terms.recon).sum(), terms.mean(terms.kl).sum()
        runs = terms.latents()
        particles_per_run = terms.num_particles // len(runs)
        found = [self._discrepancy(latent, particles_per_run) for run in runs for latent in run]
        mmd = torch.stack(found).sum() / len(runs)
        self.note(terms, mmd=mmd * terms.examples)
        return recon - (1 - self.alpha) * kl - (self.alpha + self.lam - 1) * terms.examples * mmd

    def _discrepancy(self, latent: Latent, num_particles: int) -> Tensor:
        _refuse_mask(latent, "InfoVAE")
        q, p, z = latent.posterior.distribution, latent.prior.distribution, latent.posterior.value
        without_gradient = self.alpha == 1 and torch.is_grad_enabled() and not p.has_rsample
        if without_gradient and p.log_prob(z.detach()).requires_grad:
            raise ValueError(
                f"InfoVAE with alpha=1 trains a prior through draws from it, and draws from {type(p).__name__} at site "
                f"{latent.prior.name!r} have no gradient. Use an alpha below 1"
            )
        width = max(len(q.event_shape), 1)
        both = z, p.expand(q.batch_shape)()  # with gradient if it has one
        if is_over_logs(q):
            # At low temperatures, the logarithms lie so far apart that the kernel sees no difference.
            both = both[0].exp(), both[1].exp()
        z, other = (t.flatten(0, -width - 1).flatten(1).unflatten(0, (num_particles, -1)) for t in both)
        bandwidth = self.bandwidth or math.sqrt(z.shape[-1])
        return torch.stack([mmd2(x, y, bandwidth) for x, y in zip(z, other, strict=True)]).mean()


def mmd2(x: Tensor, y: Tensor, bandwidth: float) -> Tensor:
    """Return the unbiased estimate of the squared maximum mean discrepancy under a Gaussian kernel, ``()``.

    (Gretton et al. 2012, Journal of Machine Learning Research 13, equation 3.)

    Args:
        x: draws ``(n, dimensions)``. Fewer than two have no estimate, and the result is 0.
        y: draws ``(m, dimensions)``, likewise.
        bandwidth: the standard deviation of the kernel.
    """
    n, m = x.shape[0], y.shape[0]
    if n < 2 or m < 2:
        return 0 * x.sum()
    within = (_kernel(x, x, bandwidth).sum() - n) / (n * (n - 1)) + (_kernel(y, y, bandwidth).sum() - m) / (m * (m - 1))
    return within - 2 * _kernel(x, y, bandwidth).mean()


def _kernel(x: Tensor, y: Tensor, bandwidth: float) -> Tensor:
    squares = (x.square().sum(1)[:, None] - 2 * x @ y.T + y.square().sum(1)).clamp(min=0)
    return torch.exp(-squares / (2 * bandwidth**2))


def _only_latent(terms: Terms, name: str) -> Latent:
    latents = terms.latents()[0]
    if len(latents) != 1:
        names = ", ".join(latent.posterior.name for latent in latents)
        raise ValueError(f"{name} needs a single latent site; got {names}")
    return latents[0]


def _refuse_mask(latent: Latent, name: str) -> None:
    site = latent.posterior
    refuse_mask = site.mask is None or site.mask is True
    if not refuse_mask or isinstance(site.scale, Tensor) or site.scale != 1:
        raise ValueError(
            f"{name} compares the codes of a whole batch and takes no mask or scale of its examples; site "
            f"{site.name!r} has one"
        )
