"""Estimators of the gradient of a bound: by hand at the same draws, against exact gradients, and in their limits.

Means of draws are compared with exact numbers as z-scores over 200 blocks of draws, at fixed seeds; the largest test
looks at 100 of them, of which one is beyond 5 by chance for one seed in 8,000 (Student's t of 199 degrees).
"""

from __future__ import annotations

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from scipy.special import logsumexp, softmax
from scipy.stats import norm

from pyro_vae import VAE
from pyro_vae.checks import estimators
from pyro_vae.closed_forms import LinearGaussian
from pyro_vae.model_guide import ModelGuide
from tests.combinations import parts

SIGMA, BLOCKS = 0.7, 200
OF_PARAMETERS = ("sticking_the_landing", "doubly_reparametrised")
ELBO = ("pathwise", "analytic_kl", "score_function", "sticking_the_landing")
ALL = (*ELBO, "importance_weighted", "doubly_reparametrised")


def estimate(name, pair, parameters, draws):
    estimator = getattr(estimators, name)
    return estimator(pair, parameters, draws) if name in OF_PARAMETERS else estimator(pair, draws)


def test_they_are_all_tested():
    assert set(estimators.__all__) == set(ALL)


def linear(d=2, posterior="diagonal"):
    """A model with correlated dimensions, and data of four examples."""
    generator = torch.Generator().manual_seed(d)
    weight = torch.randn(3, d, dtype=torch.float64, generator=generator)
    model = LinearGaussian(weight, torch.linspace(-1, 1, 3, dtype=torch.float64), SIGMA)
    x = torch.randn(4, 3, dtype=torch.float64, generator=generator)
    return model, model.vae(posterior), x


def q_near_posterior(model, x):
    """Means and scales of a q beside the true posterior, as a leaf, ``(batch, 2, d)``."""
    best = model.best_diagonal(x)
    return torch.stack([best.mean + 0.2, 1.3 * best.stddev], 1).detach().requires_grad_()


def with_posterior_of(vae, q):
    """The VAE with N(q[:, 0], q[:, 1]) as its posterior, whatever x."""
    return VAE(vae.prior, vae.likelihood, lambda x: dist.Normal(q[:, 0], q[:, 1]).to_event(1)).double()


def blocks(name, vae, x, parameters, draws, rows=25):
    """Gradients by all parameters, each the mean of so many rows: ``(BLOCKS, numbers)``."""
    pair = ModelGuide(vae, x.repeat(rows, *(1 for _ in x.shape[1:])))
    found = []
    for i in range(BLOCKS):
        pyro.set_rng_seed(i)
        value = estimate(name, pair, parameters, draws).sum() / rows
        found.append(flat(torch.autograd.grad(value, parameters)))
    return torch.stack(found)


def flat(gradients):
    return torch.cat([g.flatten() for g in gradients])


def z_scores(gradients, exact=0.0):
    difference = gradients.mean(0) - exact
    # Some are always the same, such as the gradient by a weight of an element of x that is zero in all examples.
    same = difference.abs() < 1e-12
    return torch.where(same, 0.0, difference / (gradients.std(0) / math.sqrt(len(gradients))))


# Values and gradients at the same draws, by hand.


@pytest.mark.parametrize("draws", [2, 5])
@pytest.mark.parametrize("name", ALL)
def test_values_and_gradients_by_hand(name, draws):
    """With NumPy and SciPy, from the draws of z that the same seed gives."""
    model, vae, x = linear()
    q = q_near_posterior(model, x)
    pair = ModelGuide(with_posterior_of(vae, q), x)
    pyro.set_rng_seed(3)
    z = pair.draw(draws).detach().numpy()
    pyro.set_rng_seed(3)
    value = estimate(name, pair, [q], draws)
    by_mean, by_scale = torch.autograd.grad(value.sum(), q)[0].unbind(1)

    mean, s = q.detach().numpy().swapaxes(0, 1)
    w, b, data = model.weight.numpy(), model.bias.numpy(), x.numpy()
    noise = (z - mean) / s
    likelihood = norm(z @ w.T + b, SIGMA).logpdf(data).sum(-1)
    weight = likelihood + norm.logpdf(z).sum(-1) - norm(mean, s).logpdf(z).sum(-1)
    kl = ((mean**2 + s**2 - 1) / 2 - np.log(s)).sum(-1)
    recon_by_z = (data - z @ w.T - b) @ w / SIGMA**2
    joint_by_z = recon_by_z - z
    weight_by_z = joint_by_z + noise / s
    others = np.stack([np.delete(weight, k, 0).mean(0) for k in range(draws)])
    above = (weight - others)[..., None]
    share = softmax(weight, 0)[..., None]
    bound = logsumexp(weight, 0) - math.log(draws)
    expected = {  # value, gradient by the mean, gradient by the scale
        "pathwise": (weight.mean(0), joint_by_z.mean(0), (joint_by_z * noise).mean(0) + 1 / s),
        "analytic_kl": (likelihood.mean(0) - kl, recon_by_z.mean(0) - mean, (recon_by_z * noise).mean(0) - s + 1 / s),
        "score_function": (weight.mean(0), (above * noise / s).mean(0), (above * (noise**2 - 1) / s).mean(0)),
        "sticking_the_landing": (weight.mean(0), weight_by_z.mean(0), (weight_by_z * noise).mean(0)),
        "importance_weighted": (bound, (share * joint_by_z).sum(0), (share * (joint_by_z * noise + 1 / s)).sum(0)),
        "doubly_reparametrised": (bound, (share**2 * weight_by_z).sum(0), (share**2 * weight_by_z * noise).sum(0)),
    }
    for ours, theirs in zip((value, by_mean, by_scale), expected[name], strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=1e-10, atol=1e-10)


def gradient_of_the_model(name, draws):
    """By weight and bias of the decoder, and what it must be: log p(x | z) averaged, or in shares of the weights."""
    model, vae, x = linear()
    q = q_near_posterior(model, x)
    whole = with_posterior_of(vae, q)
    parameters = list(whole.likelihood.parameters())
    pair = ModelGuide(whole, x)
    pyro.set_rng_seed(3)
    terms = pair.draw_terms(draws)
    weighted = name in ("importance_weighted", "doubly_reparametrised")
    share = terms.weight.softmax(0).detach() if weighted else torch.full_like(terms.weight, 1 / draws)
    expected = torch.autograd.grad((share * terms.recon).sum(), parameters)
    pyro.set_rng_seed(3)
    return torch.autograd.grad(estimate(name, pair, [q, *parameters], draws).sum(), parameters), expected


@pytest.mark.parametrize("name", ALL)
def test_the_model_has_its_gradient_at_the_same_draws(name):
    for ours, theirs in zip(*gradient_of_the_model(name, 4), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
        assert ours.abs().max() > 0.01


# Means of gradients.


def wrong():
    """A linear Gaussian VAE away from its optimum, where the gradients are not zero; its parameters, and one x."""
    _, vae, x = linear()
    with torch.no_grad():
        vae.posterior.net.weight += 0.1
        vae.posterior.net.bias += torch.tensor([0.2, -0.3, 0.4, 0.1])
    return vae, list(vae.parameters()), x[:1]


@pytest.mark.parametrize("name", ELBO)
def test_the_mean_gradient_is_the_exact_one(name):
    vae, parameters, x = wrong()
    net = vae.likelihood.net
    model = LinearGaussian(net.weight, net.bias, SIGMA)
    exact = flat(torch.autograd.grad(model.elbo(x, vae.encode(x)).sum(), parameters))
    found = blocks(name, vae, x, parameters, draws=3)
    assert z_scores(found, exact).abs().max() < 5
    assert exact.abs().max() > 1


@pytest.mark.parametrize("name", ["importance_weighted", "doubly_reparametrised"])
def test_the_mean_gradient_of_two_draws_is_that_by_quadrature(name):
    """One latent dimension: the weighted bound is an integral over two normals, by Gauss and Hermite."""
    model, vae, x = linear(d=1)
    q = q_near_posterior(model, x[:1])

    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(60))
    z = (q[0, 0] + q[0, 1] * nodes).unsqueeze(-1)
    likelihood = dist.Normal(z @ model.weight.T + model.bias, SIGMA).to_event(1).log_prob(x[0])
    log_weight = likelihood + dist.Normal(0.0, 1.0).log_prob(z[:, 0]) - dist.Normal(q[0, 0], q[0, 1]).log_prob(z[:, 0])
    pairs = torch.logaddexp(log_weight.unsqueeze(0), log_weight.unsqueeze(1)) - math.log(2)
    bound = (torch.outer(weights, weights) * pairs).sum() / weights.sum() ** 2
    exact = torch.autograd.grad(bound, q)[0].flatten()

    n = 20_000
    rows = q.detach().repeat(n, 1, 1).requires_grad_()
    value = estimate(name, ModelGuide(with_posterior_of(vae, rows), x[:1].expand(n, -1)), [rows], 2)
    found = torch.autograd.grad(value.sum(), rows)[0].flatten(1)
    assert z_scores(found, exact).abs().max() < 5
    assert abs(z_scores(value.detach(), bound.item())) < 5
    assert exact.abs().min() > 0.05


def test_the_mean_score_function_of_categories_is_the_gradient_of_the_sum():
    vae, x = parts.make_vae("Categorical", "Categorical"), parts.make_x()
    parameters = list(vae.parameters())
    q = vae.encode(x)
    z = q.enumerate_support()  # (categories, batch, categories)
    by_category = vae.decode(z).log_prob(x) + vae.prior_of().log_prob(z) - q.log_prob(z)
    exact = flat(torch.autograd.grad((q.log_prob(z).exp() * by_category).sum(), parameters))
    found = blocks("score_function", vae, x, parameters, draws=4)
    assert z_scores(found, exact).abs().max() < 5
    assert exact.abs().max() > 0.1


@pytest.mark.parametrize(
    ("ours", "reference"),
    [("sticking_the_landing", "pathwise"), ("doubly_reparametrised", "importance_weighted")],
)
def test_parameters_that_prior_and_posterior_share(ours, reference):
    """The VampPrior is made of the posterior: its own part of the gradient by the encoder must stay."""
    vae, x = parts.make_vae("VampPrior", "DiagonalNormal"), parts.make_x()
    shared = list(vae.posterior.parameters())
    draws = 1 if ours == "sticking_the_landing" else 4
    difference = blocks(ours, vae, x, shared, draws, rows=10) - blocks(reference, vae, x, shared, draws, rows=10)
    assert z_scores(difference).abs().max() < 5
    # Without the prior's own part, z-scores would be far beyond that.
    z = vae.encode(x).sample((1000,))
    of_the_prior = flat(torch.autograd.grad(vae.prior_of().log_prob(z).mean(0).sum(), shared))
    assert (of_the_prior.abs() / (difference.std(0) / math.sqrt(BLOCKS)).clamp_min(1e-12)).max() > 20


# Limits.


def by_encoder(name, vae, x, draws, seeds=20):
    parameters, encoder = list(vae.parameters()), list(vae.posterior.parameters())
    found = []
    for seed in range(seeds):
        pyro.set_rng_seed(seed)
        value = estimate(name, ModelGuide(vae, x), parameters, draws)
        found.append(flat(torch.autograd.grad(value.sum(), encoder)))
    return torch.stack(found)


@pytest.mark.parametrize("name", ["sticking_the_landing", "doubly_reparametrised", "score_function"])
def test_no_variance_where_q_is_the_true_posterior(name):
    """All weights are p(x) there, with no slope; what the others still vary is the score of log q."""
    model, vae, x = linear(posterior="exact")
    assert by_encoder(name, vae, x, draws=3).abs().max() < 1e-10
    assert by_encoder("pathwise", vae, x, draws=3).var(0).max() > 0.1
    pyro.set_rng_seed(0)
    value = estimate(name, ModelGuide(vae, x), list(vae.parameters()), 3)
    torch.testing.assert_close(value, model.log_prob(x), rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    ("name", "limit"),
    [("importance_weighted", "pathwise"), ("doubly_reparametrised", "sticking_the_landing")],
)
def test_one_draw_of_the_weighted_bound_is_the_elbo(name, limit):
    vae, parameters, x = wrong()
    found = []
    for each in (name, limit):
        pyro.set_rng_seed(5)
        value = estimate(each, ModelGuide(vae, x), parameters, 1)
        found.append((value, *torch.autograd.grad(value.sum(), parameters)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_doubly_reparametrised_gradients_vary_less_by_the_encoder():
    """Five times less here; measured 0.0076 for 16 draws."""
    vae, _, x = wrong()
    ours, theirs = (
        by_encoder(n, vae, x, 16, 200).var(0).sum() for n in ("doubly_reparametrised", "importance_weighted")
    )
    assert ours < theirs / 5


@pytest.mark.parametrize(
    ("name", "same"), [("sticking_the_landing", "pathwise"), ("doubly_reparametrised", "importance_weighted")]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_are_those_of_the_bound_to_the_last_bit(name, same, dtype):
    vae, parameters, x = wrong()
    pair, found = ModelGuide(vae.to(dtype), x.to(dtype)), []
    for each in (name, same):
        pyro.set_rng_seed(5)
        found.append(estimate(each, pair, parameters, 7))
    assert found[0].dtype == dtype
    assert found[0].shape == (1,)
    assert torch.equal(*found)


@pytest.mark.parametrize("name", ALL)
def test_any_model_and_guide_of_pyro(name):
    """Functions with a latent site of another name, and an observed one under a mask."""
    loc = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    seen = torch.tensor([True, True, False])

    def model(x):
        with pyro.plate("rows", len(x)):
            code = pyro.sample("code", dist.Normal(torch.zeros(len(x), 2).double(), 1.0).to_event(1))
            with poutine.mask(mask=seen.repeat(len(x) // 3)):
                pyro.sample("y", dist.Normal(code, 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("rows", len(x)):
            pyro.sample("code", dist.Normal(loc, 1.0).to_event(1))

    pair = ModelGuide((model, guide), torch.full((3, 2), 4.0).double(), latent="code", observed="y")
    value = estimate(name, pair, [loc], 4)
    gradient = torch.autograd.grad(value.sum(), loc)[0]
    assert value[2].abs() < 1e-12  # of this row nothing is seen, and q is the prior
    assert (value[:2] < -5).all()
    assert gradient[:2].abs().min() > 0.001


# The parameters afterwards, and bad input.


@pytest.mark.parametrize("name", OF_PARAMETERS)
def test_parameters_are_as_before(name):
    vae, parameters, x = wrong()
    vae.likelihood.net.bias.requires_grad_(False)
    before = [p.requires_grad for p in parameters]
    assert before.count(False) == 1
    estimate(name, ModelGuide(vae, x), parameters, 3)
    assert [p.requires_grad for p in parameters] == before


@pytest.mark.parametrize("name", OF_PARAMETERS)
def test_parameters_may_come_once(name):
    """As ``vae.parameters()`` does, which is empty the second time."""
    vae, parameters, x = wrong()
    found = []
    for given in (parameters, vae.parameters()):
        pyro.set_rng_seed(0)
        value = estimate(name, ModelGuide(vae, x), given, 3).sum()
        found.append(flat(torch.autograd.grad(value, parameters)))
    assert all(p.requires_grad for p in parameters)
    assert torch.equal(*found)


@pytest.mark.parametrize("name", OF_PARAMETERS)
def test_parameters_are_as_before_where_the_guide_raises(name):
    vae, parameters, x = wrong()
    frozen = []

    def guide(x):
        if not parameters[0].requires_grad:
            frozen.append(True)
            raise RuntimeError("the guide has failed")
        return vae.guide(x)

    with pytest.raises(RuntimeError, match="the guide has failed"):
        estimate(name, ModelGuide((vae.model, guide), x), parameters, 3)
    assert frozen
    assert all(p.requires_grad for p in parameters)


@pytest.mark.parametrize("draws", [1, 0])
def test_the_score_function_needs_two_draws(draws):
    vae, _, x = wrong()
    with pytest.raises(
        ValueError,
        match=f"num_particles must be an integer of at least 2, for a baseline from the others; got {draws}",
    ):
        estimators.score_function(ModelGuide(vae, x), draws)


@pytest.mark.parametrize("name", [n for n in ALL if n not in ("score_function", "analytic_kl")])
def test_a_posterior_that_cannot_be_reparametrised_is_refused(name):
    vae = parts.make_vae("Categorical", "Categorical")
    with pytest.raises(ValueError, match="no gradient goes through draws of the posterior .* Use score_function"):
        estimate(name, ModelGuide(vae, parts.make_x()), list(vae.parameters()), 2)
