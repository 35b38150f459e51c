"""Every objective, and its bound by hand. A new one needs an entry in CASES."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from pyro_vae import objectives as o
from pyro_vae.vae import VAE

ByHand = Callable[[Any, VAE, Tensor], Tensor]
"""The bound of a batch, from the terms at the objective's draws ``(particles, batch)``, the VAE and x."""


@dataclass(frozen=True)
class Case:
    """An objective: what makes it, its bound by hand at so many particles, and whether the quick tests compile it."""

    make: Callable[[], o.Objective]
    by_hand: ByHand | None = None
    particles: int = 1
    quick: bool = False


def log_mean(w: Tensor) -> Tensor:
    return w.logsumexp(0) - math.log(len(w))


def beta_elbo(beta: float) -> ByHand:
    return lambda t, vae, x: (t.recon - beta * (t.posterior - t.prior)).mean(0).sum()


def beta_elbo_in_closed_form(beta: float) -> ByHand:
    return lambda t, vae, x: (t.recon.mean(0) - beta * kl_divergence(vae.encode(x), vae.prior_of())).sum()


def capacity(t: Any, vae: VAE, x: Tensor) -> Tensor:
    kl = (t.posterior - t.prior).mean(0).mean()
    return t.recon.mean(0).sum() - 10 * len(x) * (kl - 2.5).abs()


def free_bits_per_dimension(nats: float) -> ByHand:
    def by_hand(t: Any, vae: VAE, x: Tensor) -> Tensor:
        q = vae.encode(x).base_dist
        kl = kl_divergence(Normal(q.loc, q.scale), Normal(0.0, 1.0)).mean(0)  # of each dimension
        return t.recon.mean(0).sum() - len(x) * sum(max(k, torch.tensor(nats, dtype=torch.float64)) for k in kl)

    return by_hand


def free_bits_per_site(nats: float) -> ByHand:
    def by_hand(t: Any, vae: VAE, x: Tensor) -> Tensor:
        kl = kl_divergence(vae.encode(x), vae.prior_of()).mean()
        return t.recon.mean(0).sum() - len(x) * torch.maximum(kl, torch.tensor(nats))

    return by_hand


def miwae(t: Any, vae: VAE, x: Tensor) -> Tensor:
    return sum(log_mean(group).sum() for group in t.weight.split(2)) / 3


def ciwae(t: Any, vae: VAE, x: Tensor) -> Tensor:
    return 0.3 * t.weight.mean(0).sum() + 0.7 * log_mean(t.weight).sum()


def renyi(alpha: float) -> ByHand:
    return lambda t, vae, x: log_mean((1 - alpha) * t.weight).sum() / (1 - alpha)


def tvo(t: Any, vae: VAE, x: Tensor) -> Tensor:
    """With intervals that end at 0.1, √0.1 and 1."""
    ends = (0.0, 0.1, 0.1**0.5, 1.0)
    means = [((b * t.weight).softmax(0) * t.weight).sum(0) for b in ends[:-1]]
    return sum((right - left) * m for left, right, m in zip(ends[:-1], ends[1:], means, strict=True)).sum()


def beta_tcvae(examples: int | None) -> ByHand:
    """With alpha=2, beta=6 and gamma=3."""

    def by_hand(t: Any, vae: VAE, x: Tensor) -> Tensor:
        q = vae.encode(x).base_dist
        pyro.set_rng_seed(3)
        z = vae.encode(x).rsample()
        n, whole = len(x), examples or len(x)
        of_all, of_dimensions = [], []
        for i, z_i in enumerate(z):
            densities = Normal(q.loc, q.scale).log_prob(z_i).exp()  # (k, dimensions)
            weights = [1 / whole if k == i else (whole - 1) / whole / (n - 1) for k in range(n)]
            of_all.append(sum(w * p.prod() for w, p in zip(weights, densities, strict=True)).log())
            marginals = sum(w * p for w, p in zip(weights, densities, strict=True))
            of_dimensions.append(marginals.log().sum())
        of_all, of_dimensions = torch.stack(of_all), torch.stack(of_dimensions)
        information, tc = t.posterior[0] - of_all, of_all - of_dimensions
        return (t.recon[0] - 2 * information - 6 * tc - 3 * (of_dimensions - t.prior[0])).sum()

    return by_hand


def info_vae(t: Any, vae: VAE, x: Tensor) -> Tensor:
    """With alpha=0.6, lam=50 and bandwidth=0.7."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-((a - b) ** 2).sum() / (2 * 0.7**2))

    pyro.set_rng_seed(3)
    z = vae.encode(x).rsample()
    other = vae.prior_of().sample((len(x),))  # Pyro draws it when the objective asks for it, after z
    n = len(x)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    mmd = sum(kernel(z[i], z[j]) + kernel(other[i], other[j]) for i, j in pairs) / (n * (n - 1))
    mmd = mmd - 2 * sum(kernel(a, b) for a in z for b in other) / n**2
    return (t.recon - 0.4 * (t.posterior - t.prior))[0].sum() - (0.6 + 50 - 1) * n * mmd


CASES = {
    "beta": Case(lambda: o.BetaELBO(0.3), beta_elbo(0.3)),
    "beta of several": Case(lambda: o.BetaELBO(4.0, 6), beta_elbo(4.0), 6),
    "warm-up": Case(lambda: o.BetaELBO(o.Linear(steps=4)), quick=True),
    "cyclical": Case(lambda: o.BetaELBO(o.Cyclical(period=3))),
    "analytic": Case(lambda: o.BetaELBO(0.5, 6, kl="analytic"), beta_elbo_in_closed_form(0.5), 6),
    "analytic warm-up": Case(lambda: o.BetaELBO(o.Sigmoid(middle=2, width=1), 2, kl="analytic")),
    "capacity": Case(lambda: o.CapacityELBO(2.5, gamma=10.0, num_particles=6), capacity, 6),
    "growing capacity": Case(lambda: o.CapacityELBO(o.Linear(end=5.0, steps=4), gamma=10.0)),
    "free bits": Case(lambda: o.FreeBits(0.2, num_particles=6), free_bits_per_dimension(0.2), 6),
    "growing free bits": Case(lambda: o.FreeBits(o.Linear(end=0.5, steps=4)), quick=True),
    "free bits of a site": Case(lambda: o.FreeBits(1.5, per="site", num_particles=6), free_bits_per_site(1.5), 6),
    "geco": Case(lambda: o.GECO(recon=-2.0, rate=0.1), quick=True),
    "iwae": Case(lambda: o.IWAE(6), lambda t, *_: log_mean(t.weight).sum(), 6, quick=True),
    "iwae one by one": Case(lambda: o.IWAE(3, vectorize_particles=False)),
    "miwae": Case(lambda: o.MIWAE(groups=3, group_size=2), miwae, 6),
    "ciwae": Case(lambda: o.CIWAE(0.3, 6), ciwae, 6),
    "piwae": Case(lambda: o.PIWAE(2, 3), quick=True),
    "renyi": Case(lambda: o.Renyi(0.5, 6), renyi(0.5), 6),
    "tvo": Case(lambda: o.TVO(3, 0.1, 6), tvo, 6),
    "stl": Case(lambda: o.StickingTheLanding(2)),
    "dreg": Case(lambda: o.DReG(5), quick=True),
    "tc": Case(lambda: o.BetaTCVAE(beta=6.0, alpha=2.0, gamma=3.0), beta_tcvae(None), quick=True),
    "info": Case(lambda: o.InfoVAE(alpha=0.6, lam=50.0, bandwidth=0.7), info_vae, quick=True),
}
# Their gradients are not those of one bound, or follow from earlier steps; each has a test of its own.
DEFINED_ELSEWHERE = {
    "PIWAE": "tests/objectives/test_definitions.py",
    "GECO": "tests/objectives/test_definitions.py",
    "StickingTheLanding": "tests/objectives/test_gradients.py",
    "DReG": "tests/objectives/test_gradients.py",
}
