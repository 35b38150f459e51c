"""Evidence, posterior and ELBO: SciPy, autograd, and identities that hold for any normal q."""

from __future__ import annotations

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.distributions import kl_divergence

from pyro_vae.closed_forms import LinearGaussian
from tests.closed_forms.linear_gaussian.models import KINDS, NOISE, D, d, dense, make, normal, randn

# The evidence and the posterior.


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize(("dim", "latent_dim"), [(5, 3), (1, 1), (2, 4)])
def test_evidence_is_that_of_scipys_normal(noise, dim, latent_dim):
    model, x = make(noise, dim, latent_dim), 3 * randn(7, dim, seed=9)
    noise_covariance = np.diag(np.broadcast_to(model.scale.numpy() ** 2, dim))
    covariance = (model.weight @ model.weight.T).numpy() + noise_covariance
    expected = stats.multivariate_normal(model.bias.numpy(), covariance).logpdf(x.numpy())
    np.testing.assert_allclose(model.log_prob(x), expected, rtol=1e-10)
    np.testing.assert_allclose(model.marginal().covariance_matrix, covariance, rtol=1e-10, atol=1e-12)
    assert (model.marginal().batch_shape, model.marginal().event_shape) == ((), (dim,))
    assert model.latent_dim == latent_dim


@pytest.mark.parametrize("noise", NOISE)
def test_posterior_by_conditioning_the_joint_normal(noise):
    """The mean is Cov(z, x) Cov(x)⁻¹ (x − b), the covariance I − Cov(z, x) Cov(x)⁻¹ Cov(x, z)."""
    model, x = make(noise), randn(7, D, seed=9)
    w, b = model.weight.numpy(), model.bias.numpy()
    gain = w.T @ np.linalg.inv(w @ w.T + np.diag(np.broadcast_to(model.scale.numpy() ** 2, D)))
    q = model.posterior(x)
    np.testing.assert_allclose(q.mean, (x.numpy() - b) @ gain.T, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(q.covariance_matrix, np.broadcast_to(np.eye(d) - gain @ w, (7, d, d)), atol=1e-12)


@pytest.mark.parametrize("noise", NOISE)
def test_evidence_is_joint_over_posterior_at_any_code(noise):
    model, x, z = make(noise), randn(7, D, seed=9), 2 * randn(4, 7, d, seed=8)
    joint = dist.Normal(0, 1).expand((d,)).to_event(1).log_prob(z)
    joint = joint + dist.Normal(z @ model.weight.T + model.bias, model.scale).to_event(1).log_prob(x)
    torch.testing.assert_close(
        joint - model.posterior(x).log_prob(z), model.log_prob(x).expand(4, 7), rtol=1e-10, atol=0
    )


def test_evidence_in_one_dimension_is_the_integral_of_the_joint():
    model, x = make("vector", 3, 1), randn(4, 3, seed=9)
    z = torch.linspace(-12, 12, 6001, dtype=torch.float64).reshape(-1, 1, 1)  # the trapezoidal rule: exact for normals
    log_x = dist.Normal(z @ model.weight.T + model.bias, model.scale).to_event(1).log_prob(x)
    log_z = dist.Normal(0, 1).log_prob(z.squeeze(-1))
    integral = torch.logsumexp(log_x + log_z, 0) + math.log(24 / 6000)
    torch.testing.assert_close(model.log_prob(x), integral, rtol=1e-9, atol=0)


# The bound.


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("kind", KINDS)
def test_elbo_is_evidence_less_kl_to_the_posterior(noise, kind):
    model, x, q = make(noise), randn(7, D, seed=9), normal(kind, (7,))
    expected = model.log_prob(x) - kl_divergence(dense(q), model.posterior(x))
    torch.testing.assert_close(model.elbo(x, q), expected, rtol=1e-10, atol=0)
    # One q for all, and one for each particle, broadcast.
    one, many = normal(kind), normal(kind, (4, 1))
    expected = model.log_prob(x) - kl_divergence(dense(one), model.posterior(x))
    torch.testing.assert_close(model.elbo(x, one), expected, rtol=1e-10, atol=0)
    assert model.elbo(x, many).shape == (4, 7)
    torch.testing.assert_close(model.elbo(x, many)[2], model.elbo(x, many.expand((4, 7)))[2], rtol=1e-12, atol=0)


@pytest.mark.parametrize("noise", NOISE)
def test_elbo_of_the_true_posterior_is_the_evidence(noise):
    model, x = make(noise), randn(7, D, seed=9)
    torch.testing.assert_close(model.elbo(x, model.posterior(x)), model.log_prob(x), rtol=1e-11, atol=0)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.floats(0.01, 10), noise=st.sampled_from(NOISE), kind=st.sampled_from(KINDS))
def test_elbo_is_never_above_the_evidence(seed, size, noise, kind):
    model, x = make(noise, seed=seed), size * randn(6, D, seed=seed + 7)
    q = normal(kind, (6,), seed=seed)
    assert (model.elbo(x, q) <= model.log_prob(x) + 1e-9).all()
    # No diagonal q is above the best one, however near it is.
    best = model.best_diagonal(x)
    nearby = dist.Normal(
        best.mean + 1e-3 * randn(6, d, seed=seed), best.stddev * (1e-3 * randn(6, d, seed=seed + 3)).exp()
    ).to_event(1)
    for other in (normal("diagonal", (6,), seed=seed), nearby):
        assert (model.elbo(x, other) < model.elbo(x, best)).all()


@pytest.mark.parametrize("noise", NOISE)
def test_best_diagonal_is_stationary(noise):
    model, x = make(noise), randn(7, D, seed=9)
    best = model.best_diagonal(x)
    for gradient in model.elbo_gradient(x, best.mean, best.stddev):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-11)
    assert (model.elbo(x, best) < model.log_prob(x)).all()
    torch.testing.assert_close(best.mean, model.posterior(x).mean)
    assert (best.stddev < model.posterior(x).stddev).all()


@pytest.mark.parametrize("noise", NOISE)
def test_gradient_is_that_of_autograd_and_of_finite_differences(noise):
    model, x = make(noise), randn(7, D, seed=9)
    loc, scale = randn(7, d, seed=5).requires_grad_(), randn(7, d, seed=6).exp().requires_grad_()

    def elbo(loc, scale):
        return model.elbo(x, dist.Normal(loc, scale).to_event(1))

    ours = model.elbo_gradient(x, loc, scale)
    for mine, expected in zip(ours, torch.autograd.grad(elbo(loc, scale).sum(), [loc, scale]), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-12)
    h = 1e-6
    for i in range(d):
        step = torch.zeros(d, dtype=torch.float64)
        step[i] = h
        by_loc = (elbo(loc + step, scale) - elbo(loc - step, scale)) / (2 * h)
        by_scale = (elbo(loc, scale + step) - elbo(loc, scale - step)) / (2 * h)
        torch.testing.assert_close(ours[0][:, i], by_loc, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(ours[1][:, i], by_scale, rtol=1e-6, atol=1e-6)
    one = model.elbo_gradient(x, loc[0], scale[0])
    assert [g.shape for g in one] == [(7, d), (7, d)]
    torch.testing.assert_close(one[1][0], ours[1][0])


@pytest.mark.parametrize("noise", NOISE)
def test_gradients_by_the_parameters_of_the_model(noise):
    x = randn(4, D, seed=9)
    scale = (make(noise).scale.clone()).requires_grad_()
    inputs = [make().weight.clone().requires_grad_(), make().bias.clone().requires_grad_(), scale]

    def numbers(weight, bias, scale):
        model = LinearGaussian(weight, bias, scale)
        return model.log_prob(x), model.elbo(x, normal("full")), model.elbo(x, model.best_diagonal(x))

    assert torch.autograd.gradcheck(numbers, inputs)


def test_gradient_vanishes_where_the_likelihood_is_greatest():
    x = randn(50, D, seed=3) @ randn(D, D, seed=4)
    best = LinearGaussian.maximum_likelihood(x, 2)
    inputs = [t.clone().requires_grad_() for t in (best.weight, best.bias, best.scale)]
    for gradient in torch.autograd.grad(LinearGaussian(*inputs).log_prob(x).mean(), inputs):
        assert gradient.abs().max() < 1e-10


@pytest.mark.parametrize("kind", KINDS)
def test_float32_keeps_its_digits(kind):
    exact, x, q = make("vector"), randn(7, D, seed=9), normal(kind, (7,))
    model = LinearGaussian(exact.weight.float(), exact.bias.float(), exact.scale.float())
    rough = dense(q)
    rough = dist.MultivariateNormal(rough.mean.float(), rough.covariance_matrix.float())
    for ours, expected in (
        (model.log_prob(x.float()), exact.log_prob(x)),
        (model.elbo(x.float(), rough), exact.elbo(x, q)),
        (model.posterior(x.float()).mean, exact.posterior(x).mean),
        (model.best_diagonal(x.float()).stddev, exact.best_diagonal(x).stddev),
    ):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), expected, rtol=2e-5, atol=2e-5)


def test_all_leading_dimensions_are_batch():
    model, x = make("vector"), randn(4, 7, D, seed=9)
    assert model.log_prob(x).shape == model.elbo(x, model.best_diagonal(x)).shape == (4, 7)
    assert model.posterior(x).batch_shape == model.best_diagonal(x).batch_shape == (4, 7)
    torch.testing.assert_close(model.posterior(x).mean[1], model.posterior(x[1]).mean)
    assert model.log_prob(x[0, 0]).shape == ()
