"""Objectives that look at the posteriors of a batch together."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pyro_vae.argument_checks import at_least, finite_number
from pyro_vae.distributions import is_over_logs
from pyro_vae.objectives.objective import Objective, weight
from pyro_vae.objectives.schedules import Weight
from pyro_vae.objectives.terms import Draws, Latent
from pyro_vae.value_checks import holds

__all__ = ["BetaTCVAE", "InfoVAE"]


class BetaTCVAE(Objective):
    """The KL taken apart, each part with a weight of its own (Chen et al. 2018, arXiv 1802.04942).

    recon − α I(x; z) − β TC(z) − γ Σ KL(q(z_j) || p(z_j)): the information that z has of x, the dependence between the
    dimensions of z (total correlation), and each dimension against the prior. With a weight β above 1 the dimensions
    come apart, at less cost in information than a weight on the whole KL. The aggregate posterior q(z), the mean of
    q(z | x) over all N examples of the data, is estimated from the n of the batch: at a code of one of them, that one
    counts 1 / N and each other (N − 1) / (N (n − 1)), for those that are not in the batch too. That is unbiased for
    q(z), and is the paper's stratified sampling, averaged over which of the others stands for those that are missing.
    Its logarithm is too low, the more the fewer of the data a batch has: information and dimension_kl are then too
    large and too small. So the batch should be large. Where it is the whole data, q(z) is exact.

    Args:
        beta: of the total correlation, at least 0, or a schedule of it.
        alpha: of the information, likewise.
        gamma: of the dimensions' KL, likewise. All three at 1 is the ELBO.
        examples: N, how many the whole data have, at least as many as a batch; by default what the plate says where it
            subsamples, and else the batch is taken for all of them.
        **options: see :class:`Objective`.

    Attributes:
        terms: with ``information``, ``total_correlation`` and ``dimension_kl``.

    Raises:
        ValueError: in a step, where posterior or prior is no product over dimensions, where there are several
            latent sites, where the batch has more examples than ``examples``, and where it has one of several, which
            says nothing of the others.

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
        **options: Any,
    ) -> None:
        for name, value in (("beta", beta), ("alpha", alpha), ("gamma", gamma)):
            weight(name, value)
        super().__init__(1, **options)
        self.beta, self.alpha, self.gamma = beta, alpha, gamma
        self.examples = None if examples is None else at_least(1, "examples", examples)

    def objective(self, draws: Draws) -> Tensor:
        """Recon less the three parts, a sum over the examples."""
        latent = _only_latent(draws, "BetaTCVAE")
        _refuse_mask(latent, "BetaTCVAE")
        q, _ = latent.factors()
        n, event = latent.z.shape[0], latent.z.dim() - 1
        if q.batch_shape[:1] != (n,) or draws.examples != n or event == 0:
            raise ValueError(
                f"BetaTCVAE needs codes (batch, dimensions) in one plate; got {tuple(latent.z.shape)} at site "
                f"{latent.name!r} for {draws.examples} examples"
            )
        # log q(z_j of example i | x of example k), (i, k, dimensions)
        pairs = q.log_prob(latent.z.unsqueeze(1)).reshape(n, n, -1)
        log_weights = self._log_weights(pairs, self.examples or draws.whole)
        of_all = (pairs.sum(-1) + log_weights).logsumexp(1)
        of_dimensions = (pairs + log_weights.unsqueeze(-1)).logsumexp(1).sum(-1)
        information = (draws.posterior[0] - of_all).sum()
        total_correlation = (of_all - of_dimensions).sum()
        dimension_kl = (of_dimensions - draws.prior[0]).sum()
        self.note(draws, information=information, total_correlation=total_correlation, dimension_kl=dimension_kl)
        recon = draws.recon.sum()
        weights = [self.weigh(w, recon) for w in (self.alpha, self.beta, self.gamma)]
        return recon - weights[0] * information - weights[1] * total_correlation - weights[2] * dimension_kl

    def _log_weights(self, pairs: Tensor, examples: int | None) -> Tensor:
        """How much q(z | x) of an example counts in q(z) at the code of another, or its own, ``(n, n)``."""
        places = torch.arange(pairs.shape[0], device=pairs.device)
        size = pairs.new_ones(()) * pairs.shape[0]
        whole = size if examples is None else torch.full_like(size, examples)
        if not holds(size <= whole):
            raise ValueError(
                f"examples must be at least as many as a batch has, {pairs.shape[0]}: it is how many the whole data "
                f"have; got {examples}"
            )
        if not holds((size > 1) | (whole == 1)):
            raise ValueError(
                f"BetaTCVAE needs batches of at least 2 of the {examples} examples, to tell q(z) from; got 1. Leave "
                "out a last batch of one, or change the batch size"
            )
        others = (whole - 1).log() - whole.log() - (size - 1).log()
        return torch.where(places.unsqueeze(1) == places, -whole.log(), others)


class InfoVAE(Objective):
    """recon − (1 − α) kl − (α + λ − 1) MMD(q(z), p(z)) (Zhao, Song and Ermon 2017, arXiv 1706.02262).

    The aggregate posterior is held to the prior by the maximum mean discrepancy between the codes of the batch and
    draws from the prior, while the KL of each example counts less, so that the codes keep information about x. Codes on
    a simplex are compared as points, not as their logs.

    Args:
        alpha: what is taken off the KL, at most 1; 0 with λ = 1 is the ELBO, 1 the MMD-VAE.
        lam: λ.
        bandwidth: of the Gaussian kernel; by default the square root of the number of dimensions of z.
        num_particles: draws of the latent variables an example.
        **options: see :class:`Objective`.

    Attributes:
        terms: with ``mmd``, the unbiased estimate of the squared discrepancy, which may fall below 0.

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
        **options: Any,
    ) -> None:
        finite_number("alpha", alpha, most=1)
        finite_number("lam", lam, least=0)
        if alpha + lam < 1:
            raise ValueError(f"alpha + lam must be at least 1, or the discrepancy is rewarded; got {alpha!r} + {lam!r}")
        if bandwidth is not None:
            finite_number("bandwidth", bandwidth, above=0)
        super().__init__(num_particles, **options)
        self.alpha, self.lam, self.bandwidth = alpha, lam, bandwidth

    def objective(self, draws: Draws) -> Tensor:
        """Recon less the two, a sum over the examples."""
        recon, kl = draws.mean(draws.recon).sum(), draws.mean(draws.kl).sum()
        found = [
            self._discrepancy(latent, draws.num_particles // len(draws.runs)) for run in draws.runs for latent in run
        ]
        mmd = torch.stack(found).sum() / len(draws.runs)
        self.note(draws, mmd=mmd * draws.examples)
        return recon - (1 - self.alpha) * kl - (self.alpha + self.lam - 1) * draws.examples * mmd

    def _discrepancy(self, latent: Latent, num_particles: int) -> Tensor:
        _refuse_mask(latent, "InfoVAE")
        fixed = self.alpha == 1 and torch.is_grad_enabled() and not latent.p.has_rsample
        if fixed and latent.p.log_prob(latent.z.detach()).requires_grad:
            raise ValueError(
                f"InfoVAE with alpha=1 trains a prior through draws from it, and through those of "
                f"{type(latent.p).__name__} at site {latent.name!r} no gradient goes. Use an alpha below 1"
            )
        width = max(len(latent.q.event_shape), 1)
        both = latent.z, latent.p.expand(latent.q.batch_shape)()  # with gradient where it has one
        if is_over_logs(latent.q):
            # The logs lie further apart the lower the temperature is, until the kernel tells nothing from nothing.
            both = both[0].exp(), both[1].exp()
        z, other = (t.flatten(0, -width - 1).flatten(1).unflatten(0, (num_particles, -1)) for t in both)
        bandwidth = self.bandwidth or math.sqrt(z.shape[-1])
        return torch.stack([mmd2(x, y, bandwidth) for x, y in zip(z, other, strict=True)]).mean()


def mmd2(x: Tensor, y: Tensor, bandwidth: float) -> Tensor:
    """The unbiased estimate of the squared maximum mean discrepancy under a Gaussian kernel, ``()``.

    (Gretton et al. 2012, Journal of Machine Learning Research 13, equation 3.)

    Args:
        x: draws ``(n, dimensions)``; of fewer than two there is no estimate, and 0 is returned.
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


def _only_latent(draws: Draws, name: str) -> Latent:
    if len(draws.runs[0]) != 1:
        raise ValueError(f"{name} needs a single latent site; got {', '.join(latent.name for latent in draws.runs[0])}")
    return draws.runs[0][0]


def _refuse_mask(latent: Latent, name: str) -> None:
    whole = latent.mask is None or latent.mask is True
    if not whole or isinstance(latent.scale, Tensor) or latent.scale != 1:
        raise ValueError(
            f"{name} compares the codes of a whole batch, and knows no mask or scale of its examples; site "
            f"{latent.name!r} has one"
        )
