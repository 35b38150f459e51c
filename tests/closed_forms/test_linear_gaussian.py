"""The linear VAE: SciPy, scikit-learn, autograd, and identities that hold for any normal q."""

from __future__ import annotations

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro.infer import SVI, Trace_ELBO
from scipy import linalg, stats
from sklearn.decomposition import PCA, FactorAnalysis
from torch.distributions import kl_divergence

from pyro_vae import elbo_terms
from pyro_vae.closed_forms import LinearGaussian
from pyro_vae.distributions import TorchToPyro

D, d = 5, 3


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def make(noise="scalar", dim=D, latent_dim=d, seed=0):
    scale = 0.7 if noise == "scalar" else 0.3 + randn(dim, seed=seed + 2).abs()
    return LinearGaussian(randn(dim, latent_dim, seed=seed), randn(dim, seed=seed + 1), scale)


def normal(kind, batch=(), seed=5, latent_dim=d):
    """Some normal over z, of each class that knows its covariance."""
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
    """The same normal as a MultivariateNormal of torch's."""
    q = getattr(q, "base", q)
    covariance = torch.diag_embed(q.variance) if isinstance(q, torch.distributions.Independent) else q.covariance_matrix
    return torch.distributions.MultivariateNormal(q.mean, covariance)


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
    """Over (z, x), the mean Cov(z, x) Cov(x)⁻¹ (x − b) and covariance I − Cov(z, x) Cov(x)⁻¹ Cov(x, z)."""
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
    # And of diagonal ones none is above the best, however near it is.
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


# Maximum likelihood.


@pytest.mark.parametrize("latent_dim", [1, 2, 4])
def test_maximum_likelihood_is_scikit_learns_pca(latent_dim):
    x = randn(60, D, seed=3) @ randn(D, D, seed=4) + 2
    model = LinearGaussian.maximum_likelihood(x, latent_dim)
    pca = PCA(latent_dim).fit(x.numpy())
    # scikit-learn has the covariance with n − 1; ours is that of the likelihood, with n.
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
    # Turning z leaves the evidence as it is, and the bound not.
    turned = LinearGaussian(model.weight @ torch.linalg.qr(randn(3, 3, seed=1)).Q, model.bias, model.scale)
    torch.testing.assert_close(turned.log_prob(x), model.log_prob(x), rtol=1e-10, atol=0)
    assert (turned.elbo(x, turned.best_diagonal(x)) < model.log_prob(x) - 0.1).all()


def test_maximum_likelihood_of_round_data_has_no_direction():
    """All eigenvalues the same: W is 0, but for rounding."""
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


# As a VAE.


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("latent_dim", [1, 3])
def test_vae_has_the_exact_distributions(noise, latent_dim):
    model, x = make(noise, latent_dim=latent_dim), randn(7, D, seed=9)
    state = torch.get_rng_state()
    vae = model.vae()
    assert torch.equal(state, torch.get_rng_state())
    z = 2 * randn(7, latent_dim, seed=8)
    q, likelihood = vae.encode(x), vae.decode(z)
    difference = vae.prior_of().log_prob(z) + likelihood.log_prob(x) - q.log_prob(z)
    torch.testing.assert_close(difference, model.log_prob(x), rtol=1e-10, atol=0)
    torch.testing.assert_close(q.base.covariance_matrix, model.posterior(x).covariance_matrix, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(q.mean, model.posterior(x).mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(model.elbo(x, q), model.log_prob(x), rtol=1e-10, atol=0)
    assert all(t.dtype == torch.float64 for t in (*vae.parameters(), *vae.buffers()))
    # Every draw gives the evidence, so that any Pyro ELBO of it is exact with one particle.
    loss = Trace_ELBO().loss(vae.model, vae.guide, x)
    assert -loss == pytest.approx(model.log_prob(x).sum().item(), rel=1e-10)


@pytest.mark.parametrize("noise", NOISE)
def test_vae_of_the_best_diagonal(noise):
    model, x = make(noise), randn(7, D, seed=9)
    vae = model.vae("diagonal")
    q, best = vae.encode(x), model.best_diagonal(x)
    torch.testing.assert_close(q.mean, best.mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(q.stddev, best.stddev, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(model.elbo(x, q), model.elbo(x, best), rtol=1e-10, atol=0)


@pytest.mark.parametrize("noise", NOISE)
def test_vae_of_the_best_diagonal_agrees_with_elbo_terms(noise):
    """Within 4.5 standard errors of 4,000 draws, a false alarm in 1e5 an example, on a fixed seed."""
    model, x = make(noise), randn(7, D, seed=9)
    vae = model.vae("diagonal")
    draws = torch.stack([elbo_terms(vae, x, kl="sampled", seed=i, num_particles=1).elbo for i in range(40)])
    error = elbo_terms(vae, x, kl="sampled", seed=99, num_particles=4000).elbo - model.elbo(x, model.best_diagonal(x))
    assert (error.abs() < 4.5 * 1.3 * draws.std(0) / math.sqrt(4000)).all()


@pytest.mark.parametrize("posterior", ["exact", "diagonal"])
def test_vae_is_a_copy_that_trains(posterior):
    model, x = make(), randn(7, D, seed=9)
    vae, before = model.vae(posterior), model.weight.clone()
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    weights = [p.clone() for p in vae.parameters()]
    svi.step(x)
    assert all(not torch.equal(p, w) for p, w in zip(vae.parameters(), weights, strict=True))
    assert torch.equal(model.weight, before)


def test_vae_in_float32_and_with_a_scale_that_is_learned():
    weight = randn(D, d).float().requires_grad_()
    scale = torch.tensor(0.5, requires_grad=True)
    model, x = LinearGaussian(weight, torch.zeros(D), scale), randn(7, D, seed=9).float()
    terms = elbo_terms(model.vae(), x, kl="sampled", seed=0)
    assert terms.elbo.dtype == torch.float32
    torch.testing.assert_close(terms.elbo, model.log_prob(x), rtol=1e-5, atol=1e-5)


def test_samples_of_the_vae_have_the_marginal_distribution():
    """Kolmogorov-Smirnov along a direction: level 1e-4, on a fixed seed."""
    model = make("vector")
    x, direction = model.vae().sample(4000, seed=0), randn(D, seed=3)
    variance = direction @ model.marginal().covariance_matrix @ direction
    along = stats.norm((model.bias @ direction).item(), variance.sqrt().item())
    assert stats.kstest((x @ direction).numpy(), along.cdf).pvalue > 1e-4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu():
    cpu, x = make("vector"), randn(7, D, seed=9)
    model = LinearGaussian(cpu.weight.cuda(), cpu.bias.cuda(), cpu.scale.cuda())
    vae = model.vae()
    assert elbo_terms(vae, x.cuda(), kl="sampled").elbo.is_cuda
    for ours, expected in (
        (model.log_prob(x.cuda()), cpu.log_prob(x)),
        (model.elbo(x.cuda(), model.best_diagonal(x.cuda())), cpu.elbo(x, cpu.best_diagonal(x))),
        (elbo_terms(vae, x.cuda(), kl="sampled").elbo, cpu.log_prob(x)),
        (model.subspace_angle(model.weight), torch.zeros(()).double()),
    ):
        torch.testing.assert_close(ours.cpu(), expected, rtol=1e-9, atol=1e-12)


def test_it_is_exported():
    """With validation on, but for that of a normal of the caller's own, which torch before 2.15 cannot export."""
    model = make("vector")

    class Terms(torch.nn.Module):
        def forward(self, x, loc, scale):
            q = model.best_diagonal(x)
            return (
                model.log_prob(x),
                model.posterior(x).log_prob(loc),
                q.log_prob(loc),
                model.elbo(x, q),
                model.elbo(x, dist.Normal(loc, scale, validate_args=False).to_event(1)),
                *model.elbo_gradient(x, loc, scale),
            )

    def inputs(n):
        return randn(n, D), randn(n, d), randn(n, d).exp()

    assert torch.distributions.Distribution._validate_args
    rows = {0: torch.export.Dim("batch", min=2)}
    graph = torch.export.export(Terms(), inputs(6), strict=False, dynamic_shapes=(rows,) * 3).module()
    assert torch.distributions.Distribution._validate_args
    some = inputs(4)
    torch.testing.assert_close(graph(*some), Terms()(*some))


# Bad input.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": [[1.0]]}, r"weight must be a floating-point tensor \(D, d\); got list"),
        (
            {"weight": torch.ones(3, 2, dtype=torch.int64)},
            "weight must be a floating-point tensor .*got dtype torch.int64",
        ),
        ({"weight": torch.ones(3)}, r"weight must be \(D, d\); got shape \(3,\)"),
        ({"weight": torch.ones(3, 0)}, r"weight must be \(D, d\); got shape \(3, 0\)"),
        ({"weight": torch.full((3, 2), math.nan)}, "weight must be finite; got 6 values that are not"),
        ({"bias": torch.ones(2)}, r"bias must be \(D,\) for weight \(3, 2\); got shape \(2,\)"),
        ({"bias": torch.ones(())}, r"bias must be \(D,\) for weight \(3, 2\); got shape \(\)"),
        ({"bias": 0.0}, "bias must be a tensor of the dtype of weight, torch.float32; got float"),
        (
            {"bias": torch.ones(3).double()},
            "bias must be a tensor of the dtype of weight, torch.float32; got dtype torch.float64",
        ),
        ({"bias": torch.tensor([0, math.inf, 0])}, "bias must be finite; got 1 values that are not"),
        ({"scale": torch.ones(2)}, r"scale must be a number or \(D,\) for weight \(3, 2\); got shape \(2,\)"),
        ({"scale": torch.ones(3).double()}, "scale must be a tensor of the dtype of weight"),
        ({"scale": math.nan}, "scale must be finite; got 1 values"),
        ({"scale": 0.0}, "scale must be above 0 everywhere; got 0"),
        ({"scale": torch.tensor([1.0, 1.0, -2.0])}, "scale must be above 0 everywhere; got -2"),
    ],
)
def test_bad_parameters_are_refused(change, message):
    good = {"weight": torch.ones(3, 2), "bias": torch.zeros(3), "scale": 1.0}
    with pytest.raises(ValueError, match=message):
        LinearGaussian(**{**good, **change})


@pytest.mark.parametrize(
    ("data", "latent_dim", "message"),
    [
        (
            torch.ones(9, 3).int(),
            1,
            r"data must be a floating-point tensor \(n, D\), one row an example; got dtype torch.int32",
        ),
        (torch.ones(9, 1, 3), 1, r"data must be \(n, D\), one row an example; got shape \(9, 1, 3\)"),
        (torch.tensor([[math.nan, 1.0]]), 1, "data must be finite; got 1 values that are not"),
        (torch.ones(9, 3), 0, "latent_dim must be an integer of at least 1; got 0"),
        (torch.ones(9, 3), 1.5, "latent_dim must be an integer of at least 1; got 1.5"),
        (torch.ones(9, 3), 3, "latent_dim must be below the 3 dimensions of the data, to leave noise; got 3"),
        (torch.ones(3, 4), 2, r"data must have at least latent_dim \+ 2 = 4 rows, to leave noise; got 3"),
        (torch.ones(9, 3), 1, "data lie in a subspace of at most latent_dim = 1 dimensions"),
        (randn(9, 2) @ randn(2, 5), 2, "data lie in a subspace of at most latent_dim = 2 dimensions"),
    ],
)
def test_bad_data_are_refused(data, latent_dim, message):
    with pytest.raises(ValueError, match=message):
        LinearGaussian.maximum_likelihood(data, latent_dim)


@pytest.mark.parametrize("method", ["log_prob", "posterior", "best_diagonal"])
def test_bad_x_is_refused(method):
    method = getattr(make(), method)
    with pytest.raises(ValueError, match=r"x must be \(batch, 5\); got shape \(7, 4\). Flatten its events"):
        method(randn(7, 4))
    with pytest.raises(ValueError, match="x must have the dtype of weight, torch.float64; got torch.float32"):
        method(randn(7, D).float())
    with pytest.raises(ValueError, match="x has NaN"):
        method(torch.full((7, D), math.nan).double())


def test_bad_q_is_refused():
    model, x = make(), randn(7, D)
    for q in (dist.Normal(randn(7, d), 1.0), dist.Laplace(randn(7, d), 1.0).to_event(1)):
        with pytest.raises(ValueError, match=r"q must be a normal over vectors z, such as Normal\(loc, scale\)"):
            model.elbo(x, q)
    with pytest.raises(ValueError, match=r"q must have event shape \(3,\); got \(4,\)"):
        model.elbo(x, normal("full", latent_dim=4))
    with pytest.raises(ValueError, match="q must have the dtype of weight, torch.float64; got torch.float32"):
        model.elbo(x, dist.Normal(torch.zeros(7, d), 1.0).to_event(1))
    with pytest.raises(ValueError, match=r"x must be \(batch, 5\)"):
        model.elbo(x[:, 1:], normal("full"))


def test_bad_arguments_of_the_gradient_are_refused():
    model, x, loc = make(), randn(7, D), randn(7, d)
    with pytest.raises(ValueError, match=r"loc must be \(batch, 3\); got shape \(7, 2\)"):
        model.elbo_gradient(x, loc[:, 1:], loc.exp())
    with pytest.raises(ValueError, match=r"scale must be \(batch, 3\); got shape \(\)"):
        model.elbo_gradient(x, loc, torch.tensor(1.0))
    with pytest.raises(ValueError, match="scale must be above 0 everywhere; got 0"):
        model.elbo_gradient(x, loc, torch.zeros_like(loc))
    with pytest.raises(ValueError, match=r"x must be \(batch, 5\)"):
        model.elbo_gradient(x[:, 1:], loc, loc.exp())


def test_bad_words_and_weights_are_refused():
    with pytest.raises(
        ValueError, match=r"other_weight must be \(5, d\), columns in the space of x; got shape \(4, 3\)"
    ):
        make().subspace_angle(randn(4, 3))
    with pytest.raises(ValueError, match="got shape \\(5, 0\\)"):
        make().subspace_angle(randn(5, 0))
    with pytest.raises(ValueError, match='posterior must be "exact" or "diagonal"; got \'full\''):
        make().vae("full")
    sharp = LinearGaussian(torch.eye(2).double(), torch.zeros(2).double(), 1e-7)
    for posterior in ("exact", "diagonal"):
        with pytest.raises(
            ValueError, match="the scales of a VAE's posterior are above 1e-6, and the true one has 1e-07"
        ):
            sharp.vae(posterior)
