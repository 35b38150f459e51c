"""Estimates of the bound and of its gradient against the exact ones of a linear Gaussian VAE.

Each test compares means over many draws with closed forms as z-scores, at fixed seeds. Over the few dozen numbers of
the largest test, a z-score above 5 comes by chance once in 40,000 seeds.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pyro_vae import VAE, elbo_terms, likelihoods, nets, posteriors, priors
from pyro_vae.distributions import positive
from tests.conftest import LinearGaussian

DRAWS = 4000


def wrong_posterior():
    """A linear Gaussian VAE away from its optimum, where the gradient is not zero."""
    model = LinearGaussian()
    with torch.no_grad():
        model.encoder.weight += 0.1
        model.encoder.bias += torch.tensor([0.2, -0.3, 0.4, 0.1], dtype=torch.float64)
    return model


def exact_elbo(model, x):
    """E_q[log N(x; Wz + b, σ²)] − KL(q || N(0, I)) for q = N(m, diag(s²)), written out."""
    m, raw = model.encoder(x).chunk(2, -1)
    s = positive(raw)
    w, b, sigma = model.decoder.weight, model.decoder.bias, model.sigma
    squares = ((x - m @ w.T - b) ** 2).sum(-1) + (s**2 @ (w**2).sum(0))
    recon = -squares / (2 * sigma**2) - x.shape[-1] * math.log(sigma * math.sqrt(2 * math.pi))
    kl = ((m**2 + s**2 - 1) / 2 - torch.log(s)).sum(-1)
    return recon, kl


@pytest.mark.parametrize("kl", ["sampled", "analytic"])
def test_the_terms_are_unbiased(kl):
    model = wrong_posterior()
    x = model.marginal().sample((1,))
    recon, divergence = exact_elbo(model, x)
    with torch.no_grad():
        terms = elbo_terms(model.vae(), x.expand(DRAWS, -1), kl=kl, seed=0)
    for drawn, exact in ((terms.recon, recon), (terms.kl, divergence), (terms.elbo, recon - divergence)):
        if drawn.std() > 1e-12:
            assert abs((drawn.mean() - exact.item()) / (drawn.std() / math.sqrt(DRAWS))) < 5
        else:
            torch.testing.assert_close(drawn.mean(), exact.detach()[0])


@pytest.mark.parametrize("kl", ["sampled", "analytic"])
def test_the_gradients_are_unbiased(kl):
    model = wrong_posterior()
    vae, x = model.vae(), model.marginal().sample((1,))
    parameters = list(vae.parameters())
    recon, divergence = exact_elbo(model, x)
    exact = torch.cat([g.flatten() for g in torch.autograd.grad((recon - divergence).sum(), parameters)])
    torch.manual_seed(0)
    drawn = torch.stack(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(elbo_terms(vae, x, kl=kl).elbo.sum(), parameters)])
            for _ in range(DRAWS // 4)
        ]
    )
    scores = (drawn.mean(0) - exact) / (drawn.std(0) / math.sqrt(DRAWS // 4))
    assert scores.abs().max() < 5
    assert exact.abs().max() > 1


def test_the_reconstruction_term_is_the_expectation_by_quadrature():
    """One latent dimension of a non-linear likelihood: the mean of draws against Gauss-Hermite quadrature."""

    torch.manual_seed(0)
    vae = VAE(
        priors.StandardNormal(1),
        likelihoods.Bernoulli(nets.MLP(1, (8,), 3)),
        posteriors.DiagonalNormal(nets.MLP(3, (8,), 2)),
    ).double()
    x = torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64)
    with torch.no_grad():
        q = vae.encode(x)
        points, weights = np.polynomial.hermite_e.hermegauss(60)
        z = q.mean + q.variance.sqrt() * torch.from_numpy(points).unsqueeze(-1)
        exact = (torch.from_numpy(weights / weights.sum()) * vae.decode(z).log_prob(x)).sum()
        drawn = elbo_terms(vae, x.expand(DRAWS, -1), seed=0).recon
    assert abs((drawn.mean() - exact) / (drawn.std() / math.sqrt(DRAWS))) < 5
