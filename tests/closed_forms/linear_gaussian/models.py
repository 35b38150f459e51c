"""Small linear VAEs, and normals over their z."""

from __future__ import annotations

import pyro.distributions as dist
import torch

from pyro_vae.closed_forms import LinearGaussian
from pyro_vae.distributions import TorchToPyro

D, d = 5, 3


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def make(noise="scalar", dim=D, latent_dim=d, seed=0):
    scale = 0.7 if noise == "scalar" else 0.3 + randn(dim, seed=seed + 2).abs()
    return LinearGaussian(randn(dim, latent_dim, seed=seed), randn(dim, seed=seed + 1), scale)


def normal(kind, batch=(), seed=5, latent_dim=d):
    """Return some normal over z, of each class with a covariance."""
    loc = randn(*batch, latent_dim, seed=seed)
    scale = randn(*batch, latent_dim, seed=seed + 1).exp()
    factor = randn(*batch, latent_dim, 2, seed=seed + 2)
    if kind == "diagonal":
        return dist.Normal(loc, scale).to_event(1)
    if kind == "low rank":
        return dist.LowRankMultivariateNormal(loc, factor, scale**2)
    covariance = torch.diag_embed(scale**2) + factor @ factor.mT
    if kind == "full":
        return dist.MultivariateNormal(loc, covariance)
    return TorchToPyro(torch.distributions.MultivariateNormal(loc, covariance))


NOISE, KINDS = ("scalar", "vector"), ("diagonal", "low rank", "full", "wrapped")


def dense(q):
    """Return the same normal as a MultivariateNormal of torch."""
    q = getattr(q, "base", q)
    covariance = torch.diag_embed(q.variance) if isinstance(q, torch.distributions.Independent) else q.covariance_matrix
    return torch.distributions.MultivariateNormal(q.mean, covariance)
