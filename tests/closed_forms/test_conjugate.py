"""Conjugate pairs: SciPy, quadrature of the joint, and Bayes' rule at any z."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro.infer import SVI, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from scipy import integrate, special, stats

from pyro_vae import VAE, elbo_terms
from pyro_vae.closed_forms import BetaBernoulli, DirichletMultinomial, GammaPoisson, NormalNormal


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def make(name):
    return {
        "beta": lambda: BetaBernoulli(number(0.7), 2.5, 6),
        "gamma": lambda: GammaPoisson(number(1.7), 0.6, 4),
        "dirichlet": lambda: DirichletMultinomial(torch.tensor([0.5, 2.0, 1.3], dtype=torch.float64), 8),
        "normal": lambda: NormalNormal(number(-0.4), 1.8, 0.6, 5),
    }[name]()


def data(name, n=7):
    rng = np.random.default_rng(0)
    draws = {
        "beta": lambda: rng.integers(0, 2, (n, 6)),
        "gamma": lambda: rng.poisson(3, (n, 4)),
        "dirichlet": lambda: rng.multinomial(8, [0.2, 0.5, 0.3], n),
        "normal": lambda: rng.normal(0, 2, (n, 5)),
    }[name]()
    return torch.tensor(draws, dtype=torch.float64)


NAMES = ("beta", "gamma", "dirichlet", "normal")
SIZES = {"beta": (6, 1), "gamma": (4, 1), "dirichlet": (3, 3), "normal": (5, 1)}


# The evidence.


def test_evidence_of_throws_is_scipys_beta_binomial():
    """A sequence with k ones: the probability of k, divided by the C(n, k) sequences with k ones."""
    x = data("beta")
    k = x.sum(-1).numpy()
    expected = stats.betabinom(6, 0.7, 2.5).logpmf(k) - np.log(special.comb(6, k))
    np.testing.assert_allclose(make("beta").log_prob(x), expected, rtol=1e-10)


def test_evidence_of_counts_is_scipys_negative_binomial():
    """Each count given the earlier ones is negative binomial, from their posterior."""
    x, expected = data("gamma"), 0.0
    for i in range(4):
        shape, rate = 1.7 + x[:, :i].sum(-1).numpy(), 0.6 + i
        expected = expected + stats.nbinom(shape, rate / (rate + 1)).logpmf(x[:, i].numpy())
    np.testing.assert_allclose(make("gamma").log_prob(x), expected, rtol=1e-10)


def test_evidence_of_one_count_is_scipys_negative_binomial():
    x = torch.arange(20.0, dtype=torch.float64).unsqueeze(-1)
    expected = stats.nbinom(1.7, 0.6 / 1.6).logpmf(x[:, 0].numpy())
    np.testing.assert_allclose(GammaPoisson(number(1.7), 0.6, 1).log_prob(x), expected, rtol=1e-10)


def test_evidence_of_proportions_is_scipys_dirichlet_multinomial():
    x = data("dirichlet")
    expected = stats.dirichlet_multinomial([0.5, 2.0, 1.3], 8).logpmf(x.numpy().astype(int))
    np.testing.assert_allclose(make("dirichlet").log_prob(x), expected, rtol=1e-10)


def test_evidence_of_measurements_is_scipys_normal():
    x = data("normal")
    covariance = 1.8**2 * np.ones((5, 5)) + 0.6**2 * np.eye(5)
    expected = stats.multivariate_normal(np.full(5, -0.4), covariance).logpdf(x.numpy())
    np.testing.assert_allclose(make("normal").log_prob(x), expected, rtol=1e-10)


@pytest.mark.parametrize("name", ["beta", "gamma", "normal"])
def test_evidence_is_the_integral_of_the_joint(name):
    priors = {"beta": stats.beta(0.7, 2.5), "gamma": stats.gamma(1.7, scale=1 / 0.6), "normal": stats.norm(-0.4, 1.8)}
    likelihoods = {
        "beta": lambda x, z: stats.bernoulli(z).pmf(x).prod(),
        "gamma": lambda x, z: stats.poisson(z).pmf(x).prod(),
        "normal": lambda x, z: stats.norm(z, 0.6).pdf(x).prod(),
    }
    x = data(name, 3)
    # Over the quantiles u of the prior, so the range is (0, 1) and an unbounded density does no harm.
    integrals = [
        integrate.quad(
            lambda u, row=row: likelihoods[name](row, priors[name].ppf(u)), 0, 1, epsabs=0, epsrel=1e-8, limit=400
        )[0]
        for row in x.numpy()
    ]
    np.testing.assert_allclose(make(name).log_prob(x).exp(), integrals, rtol=1e-6)


@pytest.mark.parametrize("name", ["beta", "gamma", "dirichlet"])
def test_evidence_sums_to_one(name):
    n, _ = SIZES[name]
    if name == "gamma":
        model, values = GammaPoisson(number(1.7), 5.0, 2), itertools.product(range(40), repeat=2)
    else:
        values = itertools.product(range(2 if name == "beta" else 9), repeat=n)
        model = make(name)
    x = torch.tensor([v for v in values if name != "dirichlet" or sum(v) == 8], dtype=torch.float64)
    assert model.log_prob(x).exp().sum().item() == pytest.approx(1, rel=1e-10)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [(7,), (1,), (4, 7)])
def test_bayes_rule_at_any_z(name, batch):
    model, x = make(name), data(name)
    z = model.prior().sample(batch)
    posterior = model.posterior(x)
    difference = model.prior().log_prob(z) + model.likelihood(z).log_prob(x) - posterior.log_prob(z)
    torch.testing.assert_close(difference, model.log_prob(x).expand(difference.shape), rtol=1e-10, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    numbers=st.tuples(*[st.floats(0.1, 20)] * 3),
    n=st.integers(1, 6),
    seed=st.integers(0, 2**31),
)
def test_bayes_rule_for_any_parameters(name, numbers, n, seed):
    a, b, c = map(number, numbers)
    model = {
        "beta": lambda: BetaBernoulli(a, b, n),
        "gamma": lambda: GammaPoisson(a, b, n),
        "dirichlet": lambda: DirichletMultinomial(torch.stack([a, b, c]), n),
        "normal": lambda: NormalNormal(a - b, b, c, n),
    }[name]()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        x = model.likelihood(model.prior().sample((5,))).sample()
        q = model.posterior(x)
        z = q.sample()
    difference = model.prior().log_prob(z) + model.likelihood(z).log_prob(x) - q.log_prob(z)
    torch.testing.assert_close(difference, model.log_prob(x), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_posterior_calibrates_draws_of_the_joint(name):
    """The quantile of z under its posterior is uniform: Kolmogorov-Smirnov, level 1e-4 per test, on a fixed seed."""
    model = make(name)
    z = model.prior().sample((4000,))
    q, z = model.posterior(model.likelihood(z).sample()), z[:, 0].numpy()
    cdf = {
        "beta": lambda q: stats.beta(q.base_dist.concentration1[:, 0], q.base_dist.concentration0[:, 0]).cdf(z),
        "gamma": lambda q: stats.gamma(q.base_dist.concentration[:, 0], scale=1 / q.base_dist.rate[:, 0]).cdf(z),
        "dirichlet": lambda q: stats.beta(q.concentration[:, 0], q.concentration[:, 1:].sum(-1)).cdf(z),
        "normal": lambda q: stats.norm(q.mean[:, 0], q.stddev[:, 0]).cdf(z),
    }[name](q)
    assert stats.kstest(cdf, "uniform").pvalue > 1e-4


def test_posteriors_by_hand():
    x = data("beta")[:1]
    assert make("beta").posterior(x).mean.item() == pytest.approx((0.7 + x.sum().item()) / (0.7 + 2.5 + 6))
    x = data("gamma")[:1]
    assert make("gamma").posterior(x).mean.item() == pytest.approx((1.7 + x.sum().item()) / (0.6 + 4))
    x = data("dirichlet")[:1]
    assert make("dirichlet").posterior(x).mean[0, 1].item() == pytest.approx((2.0 + x[0, 1].item()) / (3.8 + 8))
    x = data("normal")[:1]
    precision = 1 / 1.8**2 + 5 / 0.6**2
    q = make("normal").posterior(x)
    assert q.mean.item() == pytest.approx((-0.4 / 1.8**2 + x.sum().item() / 0.6**2) / precision)
    assert q.stddev.item() == pytest.approx(precision**-0.5)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_the_evidence_by_the_parameters(name):
    x = data(name)
    make_it = {
        "beta": lambda a, b: BetaBernoulli(a, b, 6),
        "gamma": lambda a, b: GammaPoisson(a, b, 4),
        "dirichlet": lambda a, b: DirichletMultinomial(torch.stack([a, b, a + b]), 8),
        "normal": lambda a, b: NormalNormal(a, b, a * b, 5),
    }[name]
    inputs = [number(1.3).requires_grad_(), number(0.8).requires_grad_()]
    assert torch.autograd.gradcheck(lambda a, b: make_it(a, b).log_prob(x), inputs)


# As a VAE.


@pytest.mark.parametrize("name", NAMES)
def test_shapes(name):
    model, x, (size, z_dim) = make(name), data(name), SIZES[name]
    assert (model.prior().batch_shape, model.prior().event_shape) == ((), (z_dim,))
    for batch in ((7,), (4, 7)):
        q = model.posterior(x.expand(*batch, size))
        assert (q.batch_shape, q.event_shape) == (batch, (z_dim,))
        likelihood = model.likelihood(q.sample())
        assert (likelihood.batch_shape, likelihood.event_shape) == (batch, (size,))
        assert model.log_prob(x.expand(*batch, size)).shape == batch
    assert model.posterior(x[0]).batch_shape == ()
    assert model.likelihood(model.prior().sample((9, 1))).batch_shape == (9, 1)


@pytest.mark.parametrize("name", NAMES)
def test_every_bound_of_the_vae_is_the_evidence(name):
    model, x = make(name), data(name)
    vae = model.vae()
    assert isinstance(vae, VAE)
    expected = model.log_prob(x)
    sampled = elbo_terms(vae, x, kl="sampled", num_particles=3, seed=0)
    torch.testing.assert_close(sampled.elbo, expected, rtol=1e-10, atol=0)
    for elbo in (Trace_ELBO(), RenyiELBO(alpha=0.5, num_particles=3)):
        assert -elbo.loss(vae.model, vae.guide, x) == pytest.approx(expected.sum().item(), rel=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_the_analytic_kl_gives_the_evidence_on_average(name):
    """Within 4.5 standard errors of 20,000 draws, one false alarm in 1e5 per example, on a fixed seed."""
    model, x = make(name), data(name)
    vae, n = model.vae(), 20_000
    terms = elbo_terms(vae, x, kl="analytic", num_particles=n, seed=0)
    recon = model.likelihood(model.posterior(x).sample((2000,))).log_prob(x)
    assert ((terms.elbo - model.log_prob(x)).abs() < 4.5 * recon.std(0) / math.sqrt(n)).all()
    assert math.isfinite(TraceMeanField_ELBO().loss(vae.model, vae.guide, x))


@pytest.mark.parametrize("name", NAMES)
def test_any_other_posterior_has_a_lower_bound(name):
    """If q is the posterior of the next example, the mean bound of 2,000 draws is far below log p(x)."""
    model, x = make(name), data(name)
    vae = VAE(model.prior, model.likelihood, lambda x: model.posterior(x.roll(1, 0)))
    assert elbo_terms(vae, x, kl="sampled", num_particles=2000, seed=0).elbo.sum() < model.log_prob(x).sum() - 0.1


def test_a_guide_that_learns_reaches_the_evidence():
    """A coin: SVI goes from Beta(1, 1) to the true posterior, since all examples are equal."""
    model = BetaBernoulli(2.0, 2.0, 10)
    x = torch.tensor([1.0] * 7 + [0.0] * 3).expand(64, 10)

    class Learned(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.raw = torch.nn.Parameter(torch.zeros(2))

        def forward(self, x):
            return dist.Beta(*self.raw.exp().expand(len(x), 1, 2).unbind(-1)).to_event(1)

    vae = VAE(model.prior, model.likelihood, Learned())
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    for _ in range(150):
        svi.step(x)
    elbo = elbo_terms(vae, x, kl="sampled", num_particles=200, seed=0).elbo.mean()
    assert elbo.item() == pytest.approx(model.log_prob(x)[0].item(), abs=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_samples_of_the_vae_are_of_the_evidence(name):
    """E of the first element, within 4.5 standard errors of 20,000 draws: one false alarm in 1e5, on a fixed seed."""
    x = make(name).vae().sample(20_000, seed=0)[:, 0]
    expected = {"beta": 0.7 / 3.2, "gamma": 1.7 / 0.6, "dirichlet": 8 * 0.5 / 3.8, "normal": -0.4}[name]
    assert abs(x.mean().item() - expected) < 4.5 * x.std().item() / math.sqrt(20_000)


@pytest.mark.parametrize("name", NAMES)
def test_dtypes(name):
    assert make(name).prior().sample().dtype == torch.float64
    x = data(name).float()
    model = {
        "beta": lambda: BetaBernoulli(0.7, 2.5, 6),
        "gamma": lambda: GammaPoisson(1.7, 0.6, 4),
        "dirichlet": lambda: DirichletMultinomial(torch.tensor([0.5, 2.0, 1.3]), 8),
        "normal": lambda: NormalNormal(-0.4, 1.8, 0.6, 5),
    }[name]()
    sampled = elbo_terms(model.vae(), x, kl="sampled", seed=0)
    for t in (model.prior().sample(), model.posterior(x).sample(), model.log_prob(x), sampled.elbo):
        assert t.dtype == torch.float32
    torch.testing.assert_close(model.log_prob(x).double(), make(name).log_prob(data(name)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sampled.elbo, model.log_prob(x), rtol=1e-4, atol=1e-4)


def test_it_is_exported():
    models = {name: make(name) for name in NAMES}

    class Terms(torch.nn.Module):
        def forward(self, x):
            return [models[name].log_prob(x[name]) for name in NAMES]

    x = {name: data(name) for name in NAMES}
    graph = torch.export.export(Terms(), (x,), strict=False).module()
    torch.testing.assert_close(graph(x), Terms()(x))


class Densities(torch.nn.Module):
    """Return every density of a pair at x and z; that of z given x twice, once through the VAE."""

    def __init__(self, model):
        super().__init__()
        self.model, self.vae = model, model.vae()

    def forward(self, x, z):
        of_z = (self.model.prior(), self.model.posterior(x), self.vae.encode(x))
        return (
            self.model.log_prob(x),
            *(d.log_prob(z) for d in of_z),
            self.model.likelihood(z).log_prob(x),
            self.vae.decode(z).mean,
        )


@functools.cache  # two tests run each graph, and making one takes seconds
def exported(name):
    """Return the densities as a graph for any batch, made with validation on, and as a module."""
    model, x = make(name), data(name)
    z = model.posterior(x).sample()
    rows = {0: torch.export.Dim("batch", min=2)}
    module = Densities(model)
    return torch.export.export(module, (x, z), strict=False, dynamic_shapes=(rows, rows)).module(), module


@pytest.mark.parametrize("name", NAMES)
def test_every_density_is_exported_with_validation_on_and_for_any_batch(name):
    assert torch.distributions.Distribution._validate_args
    graph, module = exported(name)
    assert torch.distributions.Distribution._validate_args
    x = data(name, 5)
    z = make(name).posterior(x).sample()
    torch.testing.assert_close(graph(x, z), module(x, z))


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("beta", [0.5] * 6),
        ("gamma", [1.0, 2.0, 1.5, 0.0]),
        ("dirichlet", [5.0, 4.0, 0.0]),
        ("normal", [math.nan] * 5),
    ],
)
def test_an_exported_graph_refuses_bad_x(name, bad):
    graph, _ = exported(name)
    x = torch.tensor([bad, bad], dtype=torch.float64)
    with pytest.raises(RuntimeError, match="this graph does not take these values"):
        graph(x, make(name).prior().sample((2,)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_priors_that_put_all_at_the_ends_stay_finite(dtype):
    """Draws of z that round to an end of the range still have a density."""
    little = torch.tensor(0.01, dtype=dtype)
    for model in (BetaBernoulli(little, little, 5), GammaPoisson(little, little, 5)):
        z = model.prior().sample((5000,))
        x = model.likelihood(z).sample()
        q = model.posterior(x)
        for t in (model.prior().log_prob(z), model.log_prob(x), q.log_prob(q.sample())):
            assert t.isfinite().all()


# Bad input.


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("beta", [0.5] * 6, r"BetaBernoulli needs x in \{0, 1\}; got 0.5"),
        ("gamma", [1.0, 2.0, -1.0, 0.0], r"GammaPoisson needs x in \{0, 1, 2, ...\}; got -1"),
        ("gamma", [1.0, 2.0, 1.5, 0.0], r"GammaPoisson needs x in \{0, 1, 2, ...\}; got 1.5"),
        ("dirichlet", [9.0, -1.0, 0.0], r"DirichletMultinomial needs x in \{0, 1, 2, ...\}; got -1"),
        ("dirichlet", [5.0, 4.0, 0.0], "DirichletMultinomial needs x with the total 8, its total_count; got 9"),
        ("beta", [0.0] * 5, r"BetaBernoulli is over x of shape \(batch, 6\); got \(2, 5\)"),
        ("gamma", [0.0] * 5, r"GammaPoisson is over x of shape \(batch, 4\); got \(2, 5\)"),
        ("dirichlet", [8.0], r"DirichletMultinomial is over x of shape \(batch, 3\); got \(2, 1\)"),
        ("normal", [0.0], r"NormalNormal is over x of shape \(batch, 5\); got \(2, 1\)"),
        ("normal", [math.nan] * 5, "x has NaN"),
        ("gamma", [math.inf] * 4, "x has infinite values"),
    ],
)
@pytest.mark.parametrize("method", ["log_prob", "posterior"])
def test_bad_x_is_refused(name, bad, message, method):
    x = torch.tensor([bad, bad], dtype=torch.float64)
    with pytest.raises(ValueError, match=message):
        getattr(make(name), method)(x)


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: BetaBernoulli(0.0, 1.0, 3), "a must be a finite number above 0; got 0"),
        (lambda: BetaBernoulli(1.0, -1.0, 3), "b must be a finite number above 0; got -1"),
        (lambda: BetaBernoulli(1.0, math.nan, 3), "b must be a finite number above 0; got nan"),
        (lambda: BetaBernoulli(torch.ones(2), 1.0, 3), "a must be a finite number above 0; got tensor"),
        (lambda: BetaBernoulli("1", 1.0, 3), "a must be a finite number above 0; got '1'"),
        (lambda: BetaBernoulli(1.0, 1.0, 0), "n must be an integer of at least 1; got 0"),
        (lambda: GammaPoisson(0.0, 1.0, 3), "shape must be a finite number above 0; got 0"),
        (lambda: GammaPoisson(1.0, math.inf, 3), "rate must be a finite number above 0; got inf"),
        (lambda: GammaPoisson(1.0, 1.0, 2.5), "n must be an integer of at least 1; got 2.5"),
        (lambda: NormalNormal(math.nan, 1.0, 1.0, 3), "loc must be a finite number; got nan"),
        (lambda: NormalNormal(0.0, 0.0, 1.0, 3), "scale must be a finite number above 0; got 0"),
        (lambda: NormalNormal(0.0, 1.0, -1.0, 3), "noise must be a finite number above 0; got -1"),
        (lambda: NormalNormal(0.0, 1.0, 1.0, 0), "n must be an integer of at least 1; got 0"),
        (
            lambda: DirichletMultinomial(torch.ones(1), 3),
            r"concentration must be a tensor \(K,\) with K of at least 2; got shape \(1,\)",
        ),
        (lambda: DirichletMultinomial(torch.ones(2, 2), 3), r"concentration must be .*; got shape \(2, 2\)"),
        (lambda: DirichletMultinomial([1.0, 1.0], 3), r"concentration must be .*; got \[1.0, 1.0\]"),
        (
            lambda: DirichletMultinomial(torch.tensor([1.0, 0.0]), 3),
            r"concentration must be finite numbers above 0; got \[1.0, 0.0\]",
        ),
        (
            lambda: DirichletMultinomial(torch.tensor([1.0, math.inf]), 3),
            "concentration must be finite numbers above 0",
        ),
        (
            lambda: DirichletMultinomial(torch.ones(2).int(), 3),
            "concentration must be of a floating-point dtype; got torch.int32",
        ),
        (lambda: DirichletMultinomial(torch.ones(2), 0), "total_count must be an integer of at least 1; got 0"),
    ],
)
def test_bad_parameters_are_refused(make_it, message):
    with pytest.raises(ValueError, match=message):
        make_it()
