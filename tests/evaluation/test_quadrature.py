"""Adaptive quadrature: closed forms, SciPy and fine grids; narrow peaks; draws from the posterior."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import integrate, stats

from pyro_vae import VAE, build
from pyro_vae.evaluation import Annealing, annealed_importance_sampling, importance_sampling, quadrature
from pyro_vae.evaluation.mode_search import ascend
from pyro_vae.evaluation.unconstrained import UnconstrainedCodes
from pyro_vae.model_guide import ModelGuide
from tests.combinations.parts import make_context as parts_context
from tests.combinations.parts import make_vae as parts_vae
from tests.combinations.parts import make_x as parts_x
from tests.conftest import LIKELIHOODS, make_context, make_vae, make_x
from tests.evaluation.models import Linear, conjugate, two_peaks

# Compared with closed forms.


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("sigma", [0.5, 0.01])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-8])
def test_the_error_is_below_the_tolerance(d, sigma, tolerance):
    linear = Linear(d, sigma)
    x = linear.data(6)
    found = quadrature(linear, x, tolerance=tolerance)
    assert found.converged.all()
    assert (found.error < 1.3 * tolerance).all()
    assert ((found.log_prob - linear.truth(x)).abs() < found.error).all()
    assert found.evaluations.double().mean() < 60_000
    assert torch.equal(found.standard_error, torch.zeros(6, dtype=torch.float64))


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize(("shift", "wide"), [(0.0, 1e-3), (100.0, 1.0), (-300.0, 1e-2), (0.0, 300.0)])
def test_the_value_does_not_depend_on_the_guide(d, shift, wide):
    linear = Linear(d, 0.01, shift, wide)
    x = linear.data(4)
    found = quadrature(linear, x, tolerance=1e-7)
    assert found.converged.all()
    torch.testing.assert_close(found.log_prob, linear.truth(x), rtol=0, atol=1e-7)


def test_a_peak_that_the_guide_does_not_know():
    x = torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)
    for sigma in (0.5, 0.003):
        found = quadrature(two_peaks(sigma), x, tolerance=1e-8)
        for value, each in zip(found.log_prob, x.tolist(), strict=True):
            root, width = math.sqrt(each), 10 * sigma
            expected, _ = integrate.quad(
                lambda z, a=each, s=sigma: stats.norm.pdf(z, scale=2) * stats.norm.pdf(a, z * z, s),
                0,
                15,
                points=[max(root - width, 0.01), root, root + width],
                limit=500,
                epsabs=0,
                epsrel=1e-11,
            )
            assert value.item() == pytest.approx(math.log(2 * expected), abs=1e-7)


def wiggles(w, noise, d=1):
    """A decoder (sin w z, cos 1.3 w z) of the first code, and data: p(z | x) has many sharp peaks."""

    def mean(z):
        return torch.cat([torch.sin(w * z[..., :1]), torch.cos(1.3 * w * z[..., :1]), z[..., 1:]], -1)

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), d), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(mean(z), noise).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.new_zeros(len(x), d), 1.0).to_event(1))

    generator = torch.Generator().manual_seed(0)
    x = mean(torch.randn(16, d, generator=generator, dtype=torch.float64))
    return (model, guide), x + noise * torch.randn(x.shape, generator=generator, dtype=torch.float64)


def first_code(x, w, noise, points=1_000_001):
    """Return log p(x) of the first two numbers of x by the trapezium rule on [-8, 8]."""
    u = torch.linspace(-8, 8, points, dtype=torch.float64)
    prior, sine, cosine = -u.square() / 2, torch.sin(w * u), torch.cos(1.3 * w * u)
    far = [torch.logsumexp(prior - ((a - sine) ** 2 + (b - cosine) ** 2) / (2 * noise**2), 0) for a, b in x[:, :2]]
    return torch.stack(far) + math.log(16 / (points - 1)) - 1.5 * math.log(2 * math.pi) - 2 * math.log(noise)


@pytest.mark.parametrize("w", [3.0, 5.0, 20.0])
@pytest.mark.parametrize("noise", [0.05, 0.1])
@pytest.mark.parametrize("tolerance", [1e-5, 1e-7])
def test_many_sharp_peaks(w, noise, tolerance):
    pair, x = wiggles(w, noise)
    found = quadrature(pair, x, tolerance=tolerance)
    assert ((found.log_prob - first_code(x, w, noise)).abs() <= found.error).all()
    assert found.converged.all()
    assert (found.evaluations >= 8192).all()


@pytest.mark.parametrize(("w", "noise"), [(3.0, 0.1), (5.0, 0.2), (5.0, 0.1)])
@pytest.mark.parametrize("tolerance", [1e-4, 1e-6])
def test_many_sharp_peaks_in_two_dimensions(w, noise, tolerance):
    pair, x = wiggles(w, noise, 2)
    found = quadrature(pair, x[:6], tolerance=tolerance)
    second = dist.Normal(0.0, math.sqrt(1 + noise**2)).log_prob(x[:6, 2])
    assert ((found.log_prob - first_code(x[:6], w, noise, 100_001) - second).abs() <= found.error).all()
    assert found.converged.all()
    assert (found.evaluations >= 16384).all()


@pytest.mark.parametrize("component", ["normal", "beta"])
def test_mixtures_of_torch(component):
    """Compared with a fine grid, which is not exact for Beta, whose density bends sharply at the ends."""
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(2, 5, 2, generator=generator, dtype=torch.float64)
    parts = dist.Normal(raw[0], 0.2) if component == "normal" else dist.Beta(1 + raw[0].exp(), 1 + raw[1].exp())
    prior = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=raw[1, :, 0]), torch.distributions.Independent(parts, 1)
    )
    vae = VAE(
        prior=lambda: prior,
        likelihood=lambda z: dist.Normal(z, 0.3).to_event(1),
        posterior=lambda x: dist.Normal(x.sigmoid(), 0.1 + 0 * x).to_event(1),
    )
    x = torch.tensor([[0.3, 0.4], [1.0, 0.2]], dtype=torch.float64)
    found = quadrature(vae, x, tolerance=1e-6)
    ends = (-6.0, 6.0) if component == "normal" else (1e-6, 1 - 1e-6)
    axis = torch.linspace(*ends, 801, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    joint = prior.log_prob(z).unsqueeze(1) + dist.Normal(z.unsqueeze(1), 0.3).log_prob(x).sum(-1)
    expected = torch.logsumexp(joint, 0) + 2 * (axis[1] - axis[0]).log()
    assert found.converged.all()
    torch.testing.assert_close(found.log_prob, expected, rtol=0, atol=2e-6 if component == "normal" else 1e-4)


@pytest.mark.parametrize("kind", ["beta", "uniform", "gamma", "dirichlet"])
def test_constrained_codes(kind):
    pair, x, truth = conjugate(kind)
    found = quadrature(pair, *x, tolerance=1e-7)
    assert found.converged.all()
    torch.testing.assert_close(found.log_prob, truth, rtol=0, atol=1e-6)


# Compared with other integrals.


def grid(vae, x, *c, half=9.0, points=361):
    """Integrate by the trapezium rule on a fine grid, exact to rounding for smooth peaks that fade at the ends."""
    axis = torch.linspace(-half, half, points, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        joint = ModelGuide(vae, x, *c).log_joint(z.unsqueeze(1).expand(-1, len(x), -1))
    return torch.logsumexp(sum(joint), 0) + 2 * math.log(2 * half / (points - 1))


@pytest.mark.parametrize("context", [0, 4])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_nonlinear_decoder(likelihood, context):
    vae, x, c = make_vae(likelihood, context, seed=3), make_x(likelihood, n=2), make_context(context, n=2)
    found = quadrature(vae, x, *c, tolerance=1e-7)
    assert found.converged.all()
    torch.testing.assert_close(found.log_prob, grid(vae, x, *c), rtol=0, atol=1e-7)


def test_a_nonlinear_decoder_against_scipy():
    torch.manual_seed(0)
    vae, x = build(4, 1, hidden=(5,), activation="Tanh").double(), torch.tensor([[1.0, 0.0, 0.0, 1.0]]).double()
    pair = ModelGuide(vae, x)

    def joint(z):
        with torch.no_grad():
            return sum(pair.log_joint(torch.tensor([[[z]]], dtype=torch.float64))).exp().item()

    expected, _ = integrate.quad(joint, -10, 10, epsabs=0, epsrel=1e-11)
    assert quadrature(vae, x, tolerance=1e-9).log_prob.item() == pytest.approx(math.log(expected), abs=1e-9)


def test_importance_sampling_agrees():
    """|z| below 5 for seven examples: level 4e-6, on a fixed seed."""
    vae, x = make_vae(seed=3), make_x()
    sampled = importance_sampling(vae, x, num_particles=20_000)
    assert ((sampled.log_prob - quadrature(vae, x).log_prob) / sampled.standard_error).abs().max() < 5


@pytest.mark.parametrize(
    "prior", ["Normal", "MixtureOfNormals", "Flow-MAF", "VampPrior", "Exemplar", "Conditional-Normal"]
)
def test_other_priors(prior):
    vae, x, c = parts_vae(prior, "DiagonalNormal", 2), parts_x(), parts_context(prior)
    found = quadrature(vae, x, *c, tolerance=1e-5)
    assert found.converged.all()
    wide = {"half": 30.0, "points": 401} if "Flow" in prior else {"half": 10.0}  # flows with kinks and long tails
    torch.testing.assert_close(found.log_prob, grid(vae, x, *c, **wide), rtol=0, atol=1e-3 if "Flow" in prior else 5e-5)


@pytest.mark.parametrize("prior", ["StudentT", "Laplace", "Cauchy"])
def test_kinks_and_heavy_tails(prior):
    """The likelihood is flat far out, so the tails of the prior matter."""
    one = torch.ones(1, dtype=torch.float64)
    p = {"StudentT": dist.StudentT(3 * one), "Laplace": dist.Laplace(0 * one, one), "Cauchy": dist.Cauchy(0 * one, one)}

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", p[prior].expand([len(x)]))
            pyro.sample("x", dist.Normal(torch.tanh(z), 0.5), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, 1.0))

    x = torch.tensor([0.9, 3.0], dtype=torch.float64)
    found = quadrature((model, guide), x, tolerance=1e-6)
    assert found.converged.all()
    density = {"StudentT": stats.t(3), "Laplace": stats.laplace(), "Cauchy": stats.cauchy()}[prior]
    for value, each in zip(found.log_prob, x.tolist(), strict=True):
        # The prior's quantiles map the whole line to an interval; tanh saturates at its ends too.
        def f(t, a=each):
            return density.pdf(t) * stats.norm.pdf(a, math.tanh(t), 0.5)

        pieces = [(-math.inf, -3), (-3, 0), (0, 3), (3, math.inf)]
        expected = sum(integrate.quad(f, a, b, epsabs=0, epsrel=1e-11)[0] for a, b in pieces)
        assert value.item() == pytest.approx(math.log(expected), abs=1e-6)


def test_missing_values():
    torch.manual_seed(0)
    vae = build((4,), 2, hidden=(5,), likelihood="normal", missing=True).double()
    x = torch.rand(3, 4, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 1], [0, 0, 0, 0]]).bool()
    found = quadrature(vae, x, mask=mask)
    other = quadrature(vae, x.masked_fill(~mask, torch.nan))
    torch.testing.assert_close(found.log_prob, other.log_prob, rtol=0, atol=2e-6)
    assert found.log_prob[2].item() == pytest.approx(0, abs=2e-6)  # all of x is masked: the integral of the prior
    assert found.log_prob[0] != found.log_prob[1]


# The computation.


@pytest.mark.parametrize("chunk_size", [40, 500, 10**6])
def test_the_chunk_size_is_of_no_account(chunk_size):
    linear = Linear()
    x = linear.data(2)
    options = {"tolerance": 1e-2, "max_evaluations": 3000}
    whole, found = quadrature(linear, x, **options), quadrature(linear, x, chunk_size=chunk_size, **options)
    torch.testing.assert_close(found.log_prob, whole.log_prob, rtol=1e-12, atol=0)
    assert torch.equal(found.evaluations, whole.evaluations)


def test_many_examples_are_those_one_by_one():
    linear = Linear()
    x = linear.data(66)
    found = quadrature(linear, x, tolerance=1e-6)
    torch.testing.assert_close(found.log_prob, linear.truth(x), rtol=0, atol=1e-6)
    assert torch.equal(found.log_prob, quadrature(linear, x, tolerance=1e-6).log_prob)
    first, second = (quadrature(linear, x[:2], tolerance=1e-6, seed=seed) for seed in (0, 1))
    assert not torch.equal(first.log_prob, second.log_prob)


def test_single_precision():
    vae, x = make_vae(seed=3), make_x()
    exact, found = quadrature(vae, x), quadrature(vae.float(), x.float())
    assert found.log_prob.dtype == found.error.dtype == torch.float32
    assert found.converged.all()
    torch.testing.assert_close(found.log_prob.double(), exact.log_prob, rtol=0, atol=1e-5)


def test_it_says_when_it_has_not_converged():
    linear = Linear(2, 0.01)
    x = linear.data(3)
    found = quadrature(linear, x, tolerance=1e-8, max_evaluations=10_000)
    assert not found.converged.any()
    assert (found.error > 1e-8).all()
    assert (found.evaluations < 30_000).all()


def test_the_ascent_finds_the_mode_and_its_curvature():
    for d in (1, 2):
        linear = Linear(d, 0.05)
        x = linear.data(5)
        codes = UnconstrainedCodes(ModelGuide(linear, x), "this")
        starts = 3 * torch.randn(4, 5, d, dtype=torch.float64)
        modes, curvature, axes = ascend(codes, starts, 1000)
        mean, _ = linear.moments(x)
        torch.testing.assert_close(modes, mean.detach().expand(4, -1, -1), rtol=1e-6, atol=1e-6)
        hessian = axes @ torch.diag_embed(curvature) @ axes.mT
        torch.testing.assert_close(hessian, linear.precision.detach().expand(4, 5, d, d), rtol=1e-4, atol=1e-4)


def test_nothing_is_left_behind():
    vae = make_vae().train()
    before = torch.get_rng_state()
    found = quadrature(vae, make_x(), tolerance=1e-3, nodes=True)
    sample = found.sample(3)
    assert torch.equal(torch.get_rng_state(), before)
    assert vae.training
    assert not found.log_prob.requires_grad
    assert not sample.requires_grad
    assert all(p.grad is None for p in vae.parameters())


# Draws.


@pytest.mark.parametrize("d", [1, 2])
def test_draws_have_the_posteriors_moments(d):
    """Kolmogorov-Smirnov along each dimension and the correlation, level 1e-4 each on a fixed seed."""
    linear = Linear(d, 0.3)
    x = linear.data(3)
    draws = quadrature(linear, x, nodes=True).sample(5000)
    assert draws.shape == (5000, 3, d)
    mean, covariance = (t.detach() for t in linear.moments(x))
    scale = covariance.diagonal().sqrt()
    for i in range(3):
        for k in range(d):
            standard = (draws[:, i, k] - mean[i, k]) / scale[k]
            assert stats.kstest(standard.numpy(), "norm").pvalue > 1e-4
        if d == 2:
            r, n = torch.corrcoef(draws[:, i].T)[0, 1], 5000
            expected = covariance[0, 1] / scale.prod()
            # Fisher's transformation; the boxes lower a correlation by some thousandths.
            assert abs(torch.atanh(r) - torch.atanh(expected)) * math.sqrt(n - 3) < 4.2
    other = quadrature(linear, x, nodes=True)
    assert torch.equal(other.sample(10, seed=4), other.sample(10, seed=4))
    assert not torch.equal(other.sample(10, seed=4), other.sample(10, seed=5))


def test_draws_of_constrained_codes_and_many_examples():
    """Kolmogorov-Smirnov against the Beta posterior, level 1e-4 for each of three on a fixed seed."""
    pair, (x,), _ = conjugate("beta")
    draws = quadrature(pair, x, nodes=True).sample(4000)
    for i, successes in enumerate(x.tolist()):
        assert stats.kstest(draws[:, i].numpy(), stats.beta(2 + successes, 13.5 - successes).cdf).pvalue > 1e-4
    linear = Linear()
    x = linear.data(66)
    draws = quadrature(linear, x, nodes=True, tolerance=1e-3).sample(200)
    mean, covariance = linear.moments(x)
    z = (draws.mean(0) - mean) / (covariance.diagonal() / 200).sqrt()
    assert z.abs().max() < 5.5  # 132 numbers: 5e-6


# Bad input.


def test_bad_input():
    linear, x = Linear(), Linear().data(2)
    with pytest.raises(
        ValueError, match="codes of 1 or 2 dimensions; got 3. Use importance_sampling or annealed_impor"
    ):
        quadrature(Linear(3), x)
    with pytest.raises(
        ValueError, match="quadrature needs continuous codes; got discrete ones, of support .*Use enumera"
    ):
        quadrature(parts_vae("Categorical", "Categorical"), parts_x())
    with pytest.raises(
        ValueError, match="biject_to maps from real vectors; got the support .* Use importance_sampling"
    ):
        quadrature(parts_vae("UniformOnSphere", "PowerSpherical", 2), parts_x())
    for angle in (
        dist.VonMises(torch.zeros(2), 1.0).to_event(1),
        torch.distributions.Independent(torch.distributions.VonMises(torch.zeros(2), torch.ones(2)), 1),
        dist.SineBivariateVonMises(0.0, 0.0, 1.0, 1.0, correlation=0.1),
    ):
        circle = VAE(
            prior=lambda p=angle: p,
            likelihood=lambda z: dist.Normal(z, 1.0).to_event(1),
            posterior=lambda x: dist.Normal(x, 1.0).to_event(1),
        )
        with pytest.raises(ValueError, match=r"needs codes that are real vectors; got codes on a circle, .* Use imp"):
            quadrature(circle, torch.zeros(3, 2))
        with pytest.raises(ValueError, match="annealed_importance_sampling needs codes that are .* on a circle"):
            annealed_importance_sampling(circle, torch.zeros(3, 2), annealing=Annealing(2), num_particles=2)
    limits = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(2)), dist.Uniform(torch.zeros(2, 1), torch.ones(2, 1)).to_event(1)
    )
    with pytest.raises(ValueError, match="biject_to maps from real vectors; got the support Mixture"):
        quadrature(
            VAE(prior=lambda: limits, likelihood=circle.likelihood, posterior=circle.posterior), x[:, :1].float()
        )
    for tolerance in (0.0, -1.0, 1.0, math.nan):
        with pytest.raises(
            ValueError, match=f"tolerance must be a finite number above 0 and below 1, in nats; got {tolerance}"
        ):
            quadrature(linear, x, tolerance=tolerance)
    with pytest.raises(ValueError, match="max_evaluations must be an integer of at least 1; got 0"):
        quadrature(linear, x, max_evaluations=0)
    with pytest.raises(ValueError, match="call quadrature with nodes=True"):
        quadrature(linear, x, tolerance=1e-2).sample(3)
    with pytest.raises(ValueError, match="n must be an integer of at least 1; got 0"):
        quadrature(linear, x, tolerance=1e-2, nodes=True).sample(0)

    def unchecked(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0, validate_args=False), obs=x)

    with pytest.raises(ValueError, match="is NaN: the model has bad weights, or x has NaN"):
        quadrature((unchecked, unchecked), torch.full((2,), torch.nan))
