"""Densities of vectors in float32, at the corners of their parameters: priors, posteriors and what they return.

Against 50 digits where a second formula is short, else against the second implementation in float64 that
tests/combinations has.
"""

from __future__ import annotations

import copy
from itertools import product

import mpmath as mp
import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_vae import distributions, likelihoods, posteriors, priors
from pyro_vae.closed_forms import BetaBernoulli, DirichletMultinomial, GammaPoisson
from pyro_vae.distributions import Gamma, inverse_positive
from tests.combinations import parts
from tests.combinations.parts import FLOOR, SCALES
from tests.combinations.references import log_posterior, log_prior
from tests.float32.elements import SPECTRUM, Given, single
from tests.float32.test_elements import TOLERANCE, error
from tests.likelihoods.cases import ELEMENTS

TINY = 1.2e-38  # the smallest normal number


def worst(got, rights):
    return max(error(float(g), mp.mpf(r)) for g, r in zip(got, rights, strict=True))


def tensor(*values):
    return torch.tensor(values, dtype=torch.float32)


# Multinomial


def log_multinomial(logits, counts):
    total, log_sum = sum(counts), mp.log(sum(mp.exp(a) for a in logits))
    terms = [x * (a - log_sum) - mp.loggamma(x + 1) for a, x in zip(logits, counts, strict=True)]
    return mp.loggamma(total + 1) + sum(terms)


DOCUMENTS = [
    [0, 0, 0, 0, 0],
    [1, 0, 0, 0, 0],
    [0, 0, 3, 0, 1],
    [5, 5, 5, 5, 5],
    [200_000, 540_000, 0, 1_000, 4_000_000],
    [2**24 - 4, 1, 1, 1, 1],
    [3_355_443] * 5,
]


@pytest.mark.parametrize("logits", [SPECTRUM, [0.0] * 5, [-2.0, -1.0, -200.0, -7.5, 1.0]])
def test_multinomial(logits):
    x, raw = tensor(*DOCUMENTS), tensor(logits).requires_grad_()
    p = likelihoods.Multinomial(Given(raw))(torch.zeros(1, 1))
    got = p.log_prob(x)
    assert (
        worst(got, [log_multinomial([mp.mpf(a) for a in logits], [int(c) for c in d]) for d in DOCUMENTS]) <= TOLERANCE
    )
    (gradient,) = torch.autograd.grad(got.sum(), raw)
    wide = torch.tensor(logits, dtype=torch.float64).softmax(0)
    right = x.double().sum(0) - x.double().sum() * wide  # what each count is off its mean
    torch.testing.assert_close(gradient[0].double(), right, rtol=1e-3, atol=1.0)  # of 4e7 words


def test_probabilities_below_the_rounding_of_one_count_in_a_multinomial():
    p = distributions.Multinomial(probs=tensor(1.0, 1e-20))
    right = log_multinomial([mp.mpf(0), mp.log(mp.mpf(single(1e-20)))], [3, 2])
    assert error(p.log_prob(tensor(3, 2)).item(), right) <= TOLERANCE


# Conjugate pairs, of large numbers of everything


def test_conjugate_pairs_keep_bayes_rule():
    """log p(z) + log p(x | z) = log p(z | x) + log p(x), at totals of 10⁶ and 10⁷, at the mean of the posterior."""
    ones = torch.ones(1, 10_000)
    ones[:, :3] = 0
    cases = [
        (BetaBernoulli(1.0, 1.0, 10_000), ones),
        (GammaPoisson(2.0, 1e-6, 2), tensor([3e6, 3.001e6])),
        (DirichletMultinomial(torch.tensor([0.5, 2.0, 1e5]), 5_000_000), tensor([100.0, 1e6, 3_999_900.0])),
    ]
    for model, x in cases:
        q = model.posterior(x)
        z = q.mean
        evidence = model.prior().log_prob(z) + model.likelihood(z).log_prob(x) - q.log_prob(z)
        assert error(model.log_prob(x).item(), mp.mpf(evidence.item())) <= TOLERANCE, type(model).__name__


@pytest.mark.parametrize("concentration", [1e-3, 0.1, 1.0, 2.0, 30.0, 1e6])
@pytest.mark.parametrize("rate", [1e-5, 1.0, 1e5])
def test_gamma_near_zero(concentration, rate):
    """Where the ratio to the mean overflows or the product with the rate underflows, and at 0."""
    a, r = torch.tensor(concentration, requires_grad=True), torch.tensor(rate)
    for x in (1e-39, 1e-37, 1e-20, 1e-6, 0.5 * concentration / rate):
        value = torch.tensor(x, requires_grad=True)
        found = Gamma(a, r).log_prob(value)
        z, k, b = (mp.mpf(t.item()) for t in (value, a, r))
        assert error(found.item(), k * mp.log(b) - mp.loggamma(k) + (k - 1) * mp.log(z) - b * z) <= TOLERANCE
        assert torch.autograd.grad(found, a)[0].isfinite()
    zero = torch.zeros(())
    torch.testing.assert_close(Gamma(a, r).log_prob(zero), dist.Gamma(a, r).log_prob(zero))


# Priors: every parameter is filled with corners, a row a combination, and z lies where it says.

REAL = torch.tensor([[0.0, 0.3, -2.0], [1e-5, 5.0, 300.0], [-1e4, 1e-3, 0.0]])
# Logs of points of a simplex, of which the last two underflow.
SIMPLEX = torch.tensor([[0.2, 0.3, 0.5], [TINY, 0.5, 0.5], [1e-6, 1 - 3e-6, 2e-6], [1 / 3, 1 / 3, 1 / 3]]).log()
SIMPLEX = torch.cat([SIMPLEX, torch.tensor([[-5000.0, 0.0, -3000.0], [0.0, -1e-3, -400.0]]).log_softmax(-1)])
ONE_HOT = torch.eye(3)
D = 3


def filled(make, **corners):
    """The module with every combination of corners in its parameters; all elements of a parameter get the same value."""
    for values in product(*corners.values()):
        module = make()
        with torch.no_grad():
            for name, value in zip(corners, values, strict=True):
                module.get_parameter(name).copy_(torch.as_tensor(value))
        yield module


def swept(part):
    """Modules and points of a prior of the tables."""
    points = {parts.REAL: REAL, parts.SIMPLEX: SIMPLEX, parts.ONE_HOT: ONE_HOT}[part.space]
    return filled(lambda: part.cls(D), **part.corners), points if part.at is None else torch.tensor(part.at)


def gaussian_posterior(dim=D):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return posteriors.DiagonalNormal(nn.Linear(4, 2 * dim))


def aggregate(cls, offset):
    """VampPrior or Exemplar over codes that lie far apart, or nearly in one place, with narrow scales."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        prior = cls(gaussian_posterior(), 4, components=5)
        prior.start_from(3 * torch.randn(5, 4))
        with torch.no_grad():
            prior.posterior.net.bias[D:] += offset
            for name, parameter in prior.named_parameters():
                if name == "raw_scale":
                    parameter.fill_(offset)
    return prior


SPREAD = torch.linspace(-3, 3, 12).reshape(4, D)
CONCENTRATIONS = [inverse_positive(torch.tensor(a)).item() for a in (1e-3, 0.5, 1.0, 100.0, 1e6)]
PRIORS = {
    **{name: swept(part) for name, part in parts.PRIORS.items() if part.corners is not None},
    "MixtureOfNormals": (
        filled(
            lambda: priors.MixtureOfNormals(D, 4),
            loc=(SPREAD, 100 * SPREAD),
            raw_scale=SCALES,
            logits=(0.0, torch.tensor([0.0, 80.0, -80.0, 1.0])),
        ),
        torch.cat([REAL, SPREAD, 100 * SPREAD]),
    ),
    "VampPrior": ([aggregate(priors.VampPrior, raw) for raw in (-20.0, -5.0, 1.0)], REAL),
    "Exemplar": ([aggregate(priors.Exemplar, raw) for raw in (-20.0, -5.0, 1.0)], REAL),
    "Conditional": ([], REAL),  # its densities are those of the prior that it is given
    "Dirichlet": (
        [
            *filled(lambda: priors.Dirichlet(D), raw_concentration=CONCENTRATIONS),
            *filled(lambda: priors.Dirichlet(D), raw_concentration=(torch.tensor([1e-3, 5.0, 1e6]),)),
        ],
        SIMPLEX,
    ),
}
SPHERES = ("UniformOnSphere",)


def log_laplaces(prior, z):
    """scipy.stats.laplace underflows before its logarithm."""
    loc, raw = (p.detach() for p in (prior.loc, prior.raw_scale))
    scale = np.logaddexp(0, raw.numpy()) + 1e-6
    return (-np.abs((z - loc).numpy()) / scale - np.log(2 * scale)).sum(-1)


def log_dirichlet(prior, z):
    """With 50 digits, because SciPy needs every element of a point above 0."""
    a = [mp.mpf(v) for v in (torch.nn.functional.softplus(prior.raw_concentration) + 1e-6).tolist()]
    constant = mp.loggamma(sum(a)) - sum(map(mp.loggamma, a))
    return [constant + sum(v * b for v, b in zip(a, row, strict=True)) for row in z.tolist()]


ELSEWHERE = {"RelaxedCategorical": "in test_relaxed_categories", "Flow": "in test_flows"}


@pytest.mark.parametrize("name", PRIORS)
def test_priors(name):
    modules, z = PRIORS[name]
    found = []
    for module in modules:
        got = module().log_prob(z)
        if got.requires_grad:
            got.sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())
        wide = copy.deepcopy(module).double()
        exact = z.double().log_softmax(-1) if z is SIMPLEX else z.double()
        rights = {"Laplace": log_laplaces, "Dirichlet": log_dirichlet}.get(name, log_prior)(wide, exact)
        found.append((worst(got, rights), module))
    if found:
        error_found, module = max(found, key=lambda f: f[0])
        print(f"| prior {name} | {len(found) * len(z)} | {error_found:.1e} |")
        assert error_found <= TOLERANCE, dict(module.named_parameters())


@pytest.mark.parametrize("dim", [2, 3, 10, 1000, 100_000])
def test_uniform_on_the_sphere(dim):
    z = torch.nn.functional.normalize(torch.ones(1, dim), dim=-1)
    right = mp.loggamma(mp.mpf(dim) / 2) - mp.log(2) - mp.mpf(dim) / 2 * mp.log(mp.pi)
    assert worst(priors.UniformOnSphere(dim)().log_prob(z), [right]) <= TOLERANCE


@pytest.mark.parametrize("components", [10, 100])
@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1.0])
def test_mixtures_of_few_and_of_many(components, scale):
    """At the means, which are as far apart as those of a posterior, and next to them; against direct differences."""
    g = torch.Generator().manual_seed(0)
    loc = torch.randn(components, 20, generator=g)
    logits, scales = torch.randn(components, generator=g), torch.full((components, 20), scale)
    z = torch.cat([loc, loc + 3 * scale * torch.randn(components, 20, generator=g), 3 * loc])
    z.requires_grad_()
    got = distributions.NormalMixture(logits, loc, scales).log_prob(z)
    (gradient,) = torch.autograd.grad(got.sum(), z)
    wide = z.detach().double().requires_grad_()
    each = torch.distributions.Normal(loc.double(), scales.double()).log_prob(wide.unsqueeze(-2)).sum(-1)
    right = (logits.double().log_softmax(0) + each).logsumexp(-1)
    (right_gradient,) = torch.autograd.grad(right.sum(), wide)
    assert worst(got, right.tolist()) <= TOLERANCE
    torch.testing.assert_close(gradient.double(), right_gradient, rtol=1e-3, atol=1e-3 / scale)


# Posteriors, from what their nets give.


POINTS = {parts.REAL: REAL, parts.SIMPLEX: SIMPLEX, parts.ONE_HOT: ONE_HOT}
POSTERIORS = {
    name: (part, torch.tensor(part.rows), POINTS[part.space]) for name, part in parts.POSTERIORS.items() if part.rows
}


def exact_normal(covariance, difference):
    """log N(difference; 0, covariance) with 50 digits."""
    solved = mp.lu_solve(covariance, difference)
    squares = sum(a * b for a, b in zip(solved, difference, strict=True))
    return -(squares + mp.log(mp.det(covariance)) + len(difference) * mp.log(2 * mp.pi)) / 2


def log_matrix_normal(name, out, z):
    """For FullNormal, LowRankNormal and Householder, whose covariances are singular in float64 in the corners."""
    out, z = [mp.mpf(v) for v in out], [mp.mpf(v) for v in z]
    d = len(z)
    scales = [mp.log1p(mp.exp(r)) + mp.mpf(1e-6) for r in out[d : 2 * d]]
    factor = mp.diag(scales)
    if name == "FullNormal":
        below = iter(out[2 * d :])
        for i in range(d):
            for j in range(i):
                factor[i, j] = next(below)
    covariance, mean = factor * factor.T, mp.matrix(out[:d])
    vectors = [mp.matrix(out[k : k + d]) for k in range(2 * d, len(out), d)]
    if name == "LowRankNormal":
        covariance = covariance + sum((f * f.T for f in vectors), mp.zeros(d))
    if name == "Householder":
        turn = mp.eye(d)
        for v in vectors:
            turn = (mp.eye(d) - 2 / (v.T * v)[0] * (v * v.T)) * turn
        covariance, mean = turn * covariance * turn.T, turn * mean
    return exact_normal(covariance, mp.matrix(z) - mean)


@pytest.mark.parametrize("name", POSTERIORS)
def test_posteriors(name):
    part, out, z = POSTERIORS[name]
    out = out.clone().requires_grad_()
    found = []
    for point in z:
        q = part.cls(Given(out), **part.options)
        values = point.expand(len(out), -1)
        got = q(torch.zeros(len(out), 1)).log_prob(values)
        (gradient,) = torch.autograd.grad(got.sum(), out)
        assert gradient.isfinite().all()
        if name in ("FullNormal", "LowRankNormal", "Householder"):
            rights = [log_matrix_normal(name, row.tolist(), point.tolist()) for row in out]
        else:
            wide = values.double().log_softmax(-1) if z is SIMPLEX else values.double()
            rights = log_posterior(
                part.cls(Given(out.detach().double()), **part.options), torch.zeros(len(out), 1), wide
            )
        found += [
            (error(g, mp.mpf(r)), row, point) for g, r, row in zip(got.tolist(), rights, out.tolist(), strict=True)
        ]
    worst_found = max(found, key=lambda f: f[0])
    print(f"| posterior {name} | {len(found)} | {worst_found[0]:.1e} |")
    assert worst_found[0] <= TOLERANCE, worst_found


def test_householder_near_its_mode():
    """At a scale of 1e-6, for values that are not the last draw."""
    _, out, _ = POSTERIORS["Householder"]
    out = out[out[:, D] == FLOOR]
    q = posteriors.Householder(Given(out), reflections=2)(torch.zeros(len(out), 1))
    torch.manual_seed(0)
    for _ in range(5):
        z = q.sample().clone()
        pairs = zip(out.tolist(), z.tolist(), strict=True)
        rights = [log_matrix_normal("Householder", row, point) for row, point in pairs]
        assert worst(q.log_prob(z).tolist(), rights) <= TOLERANCE


@pytest.mark.parametrize("temperature", [0.01, 0.1, 0.67, 5.0])
@pytest.mark.parametrize("logits", [[0.0, 0.0, 0.0], [0.3, -2.0, 1.0], [60.0, -60.0, 0.0]])
def test_relaxed_categories(temperature, logits):
    """Prior and posterior, with 50 digits: (K − 1)! λ^(K−1) Π α_k exp(−λ z_k) / (Σ α_k exp(−λ z_k))^K."""
    prior = priors.RelaxedCategorical(D, temperature=temperature)
    with torch.no_grad():
        prior.logits.copy_(torch.tensor(logits))
    raw = torch.tensor(logits).requires_grad_()
    posterior = posteriors.RelaxedCategorical(Given(raw.expand(len(SIMPLEX), D)), temperature=temperature)
    heat, rights = mp.mpf(single(temperature)), []
    for z in SIMPLEX.tolist():
        terms = [mp.mpf(single(a)) - heat * mp.mpf(v) for a, v in zip(logits, z, strict=True)]
        log_sum = mp.log(sum(map(mp.exp, terms)))
        rights.append(mp.log(2) + 2 * mp.log(heat) + sum(terms) - 3 * log_sum)
    for got in (prior().log_prob(SIMPLEX), posterior(torch.zeros(len(SIMPLEX), 1)).log_prob(SIMPLEX)):
        got.sum().backward()
        assert worst(got.tolist(), rights) <= TOLERANCE
    assert raw.grad.isfinite().all()


@pytest.mark.parametrize("dim", [2, 3, 10, 300])
@pytest.mark.parametrize("length", [0.0, 1e-3, 1.0, 1e3, 1e5])
def test_power_spherical(dim, length):
    """From its mean, near it, across it, near the antipode; z and the direction are taken to their unit lengths."""
    v = torch.zeros(1, dim)
    v[0, :2] = torch.tensor([0.6, 0.8]) * length
    q = posteriors.PowerSpherical(Given(v.requires_grad_()))(torch.zeros(1, 1))
    across = torch.zeros(dim)
    across[:2] = torch.tensor([0.8, -0.6])
    mu = v[0].detach() + 1e-6
    mu = mu / mu.norm()
    z = torch.nn.functional.normalize(torch.stack([mu, mu + 1e-3 * across, mu + across, -mu + 1e-2 * across]), dim=-1)
    got = q.log_prob(z)
    (gradient,) = torch.autograd.grad(got.sum(), v)
    assert gradient.isfinite().all()
    out = [mp.mpf(single(a)) for a in (v[0].detach() + 1e-6).tolist()]
    norm = mp.sqrt(sum(a * a for a in out))
    kappa, beta = dim * norm + mp.mpf(1e-6), mp.mpf(dim - 1) / 2
    constant = (2 * beta + kappa) * mp.log(2) + beta * mp.log(mp.pi)
    constant += mp.loggamma(beta + kappa) - mp.loggamma(2 * beta + kappa)
    rights = []
    for row in z.tolist():
        size = mp.sqrt(sum(mp.mpf(a) ** 2 for a in row))
        cosine = sum(a * mp.mpf(b) for a, b in zip(out, row, strict=True)) / norm / size
        rights.append(kappa * mp.log1p(cosine) - constant)
    assert worst(got.tolist(), rights) <= TOLERANCE, list(zip(got.tolist(), map(float, rights), strict=True))


# Densities without a short second formula, against the same module in float64.


@pytest.mark.parametrize("flow", ["MAF", "NSF", "NICE"])
def test_flows(flow):
    torch.manual_seed(0)
    prior = priors.Flow(D, flow, transforms=2, hidden=(8,))
    posterior = posteriors.Flow(nn.Linear(4, 6), D, flow, features=6, transforms=2, hidden=(8,))
    x = torch.randn(len(REAL), 4)
    for module, inputs in ((prior, ()), (posterior, (x,))):
        wide = copy.deepcopy(module).double()
        right = wide(*(i.double() for i in inputs)).log_prob(REAL.double())
        assert worst(module(*inputs).log_prob(REAL), right.tolist()) <= TOLERANCE


def test_inverse_autoregressive_flows_at_their_draws():
    torch.manual_seed(0)
    module = posteriors.InverseAutoregressiveFlow(nn.Linear(4, 2 * D + 6), D, features=6)
    x = torch.randn(50, 4)
    q = module(x)
    z = q.rsample()
    right = copy.deepcopy(module).double()(x.double()).log_prob(z.detach().double())
    assert worst(q.log_prob(z), right.tolist()) <= TOLERANCE


def test_a_row_of_columns_is_the_sum_of_them():
    names = {"a": "Normal", "b": "Bernoulli", "c": "Poisson", "d": "Beta"}
    points = {key: ELEMENTS[key][1].points()[-1] for key in ("Bernoulli", "Poisson", "Beta")}
    raws = [0.5, *points["Bernoulli"][0], *points["Poisson"][0], *points["Beta"][0]]
    xs = [0.25, points["Bernoulli"][1], points["Poisson"][1], points["Beta"][1]]
    p = likelihoods.Mixed(Given(tensor(raws)), names)
    right = sum(ELEMENTS[key][1].log_density(*map(mp.mpf, raw), mp.mpf(x)) for key, (raw, x) in points.items())
    scale = mp.mpf(single(0.5))
    right += -((mp.mpf(0.25) / scale) ** 2) / 2 - mp.log(scale) - mp.log(2 * mp.pi) / 2
    assert error(p(torch.zeros(1, 1)).log_prob(tensor(xs)).item(), right) <= TOLERANCE


@pytest.mark.parametrize("size", [0.0, 1e-4, 1.0, 1e4])
def test_the_optimal_normal(size):
    x = size * torch.linspace(-1, 2, 12).reshape(4, 3)
    p = likelihoods.Normal(Given(torch.full((4, 3), 0.1 * size)), scale="optimal").train()(torch.zeros(4, 1))
    squares = (x.double().numpy() - np.float32(0.1 * size).astype(float)) ** 2
    variance = squares.mean() + 1e-12
    right = -0.5 * (squares / variance + np.log(2 * np.pi * variance)).sum(-1)
    assert worst(p.log_prob(x), right) <= TOLERANCE


def test_every_density_is_swept():
    of_priors = {*PRIORS, *SPHERES, *ELSEWHERE}
    assert set(priors.__all__) == of_priors, "give a prior corners in tests/combinations/parts.py, or a test here"
    of_posteriors = {*POSTERIORS, "PowerSpherical", "InverseAutoregressiveFlow", *ELSEWHERE, "Delta"}  # has no density
    assert set(posteriors.__all__) == of_posteriors, (
        "give a posterior rows in tests/combinations/parts.py, or a test here"
    )
    by_way_of_parts = {
        "Beta", "ContinuousBernoulli", "Columns", "Dirichlet", "DiscretizedLogistic", "LogDirichlet", "Gamma", "GridCategorical", "Grouped",
        "LogisticNormal", "LogitNormal", "Multinomial", "NegativeBinomial", "NormalMixture", "OptimalNormal", "Poisson",
        "PowerSpherical", "RelaxedOneHot", "Standardized", "StudentT", "TorchToPyro", "UniformOnSphere", "ZeroInflatedNegativeBinomial",
    }  # fmt: skip
    classes = {
        n: getattr(distributions, n) for n in distributions.__all__ if isinstance(getattr(distributions, n), type)
    }
    of_ours = {n for n, cls in classes.items() if issubclass(cls, torch.distributions.Distribution)}
    assert of_ours == by_way_of_parts
