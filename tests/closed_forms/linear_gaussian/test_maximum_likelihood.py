"""Maximum likelihood and subspaces: scikit-learn, SciPy, and limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from sklearn.decomposition import PCA, FactorAnalysis

from pyro_vae.closed_forms import LinearGaussian
from tests.closed_forms.linear_gaussian.models import D, d, make, randn

# Maximum likelihood.


@pytest.mark.parametrize("latent_dim", [1, 2, 4])
def test_maximum_likelihood_is_scikit_learns_pca(latent_dim):
    x = randn(60, D, seed=3) @ randn(D, D, seed=4) + 2
    model = LinearGaussian.maximum_likelihood(x, latent_dim)
    pca = PCA(latent_dim).fit(x.numpy())
    # scikit-learn's covariance divides by n − 1; that of the likelihood by n.
    as_theirs = math.sqrt(60 / 59)
    theirs = LinearGaussian(model.weight * as_theirs, model.bias, model.scale * as_theirs)
    np.testing.assert_allclose(theirs.log_prob(x), pca.score_samples(x.numpy()), rtol=1e-10)
    np.testing.assert_allclose(
        model.marginal().covariance_matrix * 60 / 59, pca.get_covariance(), rtol=1e-9, atol=1e-12
    )
    assert model.log_prob(x).mean() > pca.score(x.numpy())
    assert (model.weight.shape, model.scale.shape) == ((D, latent_dim), ())
    gram = model.weight.T @ model.weight
    torch.testing.assert_close(gram, torch.diag(gram.diagonal()), rtol=0, atol=1e-10)
    assert (gram.diagonal().diff() < 0).all()
    assert model.subspace_angle(torch.tensor(pca.components_.T)) < 1e-7


def test_factor_analysis_is_scikit_learns():
    x = (randn(80, 2, seed=3) @ randn(2, D, seed=4) + randn(80, D, seed=5) * torch.linspace(0.2, 1, D)).numpy()
    fitted = FactorAnalysis(2).fit(x)
    parts = (fitted.components_.T, fitted.mean_, np.sqrt(fitted.noise_variance_))
    model = LinearGaussian(*(torch.tensor(p) for p in parts))
    np.testing.assert_allclose(model.log_prob(torch.tensor(x)), fitted.score_samples(x), rtol=1e-9)
    np.testing.assert_allclose(model.posterior(torch.tensor(x)).mean, fitted.transform(x), rtol=1e-8, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), latent_dim=st.integers(1, D - 1), step=st.floats(1e-4, 1))
def test_no_other_model_is_more_likely_than_maximum_likelihood(seed, latent_dim, step):
    x = randn(30, D, seed=seed) @ randn(D, D, seed=seed + 1)
    best = LinearGaussian.maximum_likelihood(x, latent_dim)
    weight = best.weight + step * randn(D, latent_dim, seed=seed + 2)
    other = LinearGaussian(weight, best.bias + step * randn(D, seed=seed + 3), best.scale * math.exp(step))
    assert other.log_prob(x).mean() < best.log_prob(x).mean()


def test_at_maximum_likelihood_the_bound_of_the_best_diagonal_is_the_evidence():
    x = randn(60, D, seed=3) @ randn(D, D, seed=4)
    model = LinearGaussian.maximum_likelihood(x, 3)
    torch.testing.assert_close(model.elbo(x, model.best_diagonal(x)), model.log_prob(x), rtol=1e-11, atol=0)
    # A rotation of z leaves the evidence unchanged, but not the bound.
    turned = LinearGaussian(model.weight @ torch.linalg.qr(randn(3, 3, seed=1)).Q, model.bias, model.scale)
    torch.testing.assert_close(turned.log_prob(x), model.log_prob(x), rtol=1e-10, atol=0)
    assert (turned.elbo(x, turned.best_diagonal(x)) < model.log_prob(x) - 0.1).all()


def test_maximum_likelihood_of_round_data_has_no_direction():
    """If all eigenvalues are equal, W is 0 up to rounding."""
    x = torch.cat([torch.eye(4), -torch.eye(4)]).double()
    model = LinearGaussian.maximum_likelihood(x, 2)
    assert model.weight.abs().max() < 1e-7
    assert model.scale.item() == pytest.approx(0.5)


# Angles.


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_subspace_angle_is_scipys(columns):
    model, other = make(dim=8), randn(8, columns, seed=4)
    expected = linalg.subspace_angles(model.weight.numpy(), other.numpy())[0]
    assert model.subspace_angle(other).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-9, 1e-3, 1.0, math.pi / 2 - 1e-9, math.pi / 2])
def test_subspace_angle_is_exact_at_both_ends(angle):
    model = LinearGaussian(torch.eye(4, 2).double(), torch.zeros(4).double(), 1.0)
    sine, cosine = math.sin(angle), math.cos(angle)
    other = torch.tensor([[3.0, 0], [2 * cosine, cosine], [2 * sine, sine], [0, 0]], dtype=torch.float64)
    assert model.subspace_angle(other).item() == pytest.approx(angle, rel=1e-6, abs=1e-15)


def test_subspace_angle_does_not_see_a_turn_or_a_stretch():
    model = make(dim=8)
    assert model.subspace_angle(model.weight @ randn(d, d, seed=3)) < 1e-13
