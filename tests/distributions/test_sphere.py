"""Distributions on the unit sphere: quadrature, SciPy's Beta distribution, and draws."""

from __future__ import annotations

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints
from pyro.infer import Predictive, Trace_ELBO, TraceMeanField_ELBO
from scipy import integrate, stats
from torch.distributions import kl_divergence
from torch.nn.functional import normalize

import pyro_vae.svi.pyro_patches  # noqa: F401  which says what shape draws from a gamma have, where torch (2.10) does not
from pyro_vae.distributions.sphere import PowerSpherical, UniformOnSphere


def directions(*shape, seed=0):
    return normalize(torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=-1)


def make(kind, d):
    if kind == "uniform":
        return UniformOnSphere(d, torch.zeros((), dtype=torch.float64))
    return PowerSpherical(directions(d), kind)


KINDS = ["uniform", 0.0, 0.7, 30.0]


# Densities.


@pytest.mark.parametrize("kind", KINDS)
def test_it_integrates_to_one_on_the_circle(kind):
    angle = 2 * math.pi * torch.arange(4000, dtype=torch.float64) / 4000
    z = torch.stack([angle.cos(), angle.sin()], dim=-1)
    assert make(kind, 2).log_prob(z).exp().mean().item() * 2 * math.pi == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_it_integrates_to_one_on_the_sphere(kind):
    nodes, weights = (torch.tensor(a) for a in np.polynomial.legendre.leggauss(200))
    angle = 2 * math.pi * torch.arange(400, dtype=torch.float64) / 400
    ring = (1 - nodes**2).sqrt().unsqueeze(-1)
    z = torch.stack([ring * angle.cos(), ring * angle.sin(), nodes.unsqueeze(-1).expand(-1, 400)], dim=-1)
    total = (make(kind, 3).log_prob(z).exp().mean(-1) * 2 * math.pi * weights).sum().item()
    assert total == pytest.approx(1.0, rel=1e-7)


@pytest.mark.parametrize("d", [2, 3, 10, 60])
@pytest.mark.parametrize("concentration", [0.0, 0.5, 20.0, 1e4])
def test_density_follows_from_the_beta_distribution(d, concentration):
    """(1 + μ·z)/2 is Beta(κ + (d − 1)/2, (d − 1)/2), and z is uniform over the rings of equal μ·z."""
    p, z = PowerSpherical(directions(d), concentration), directions(20, d, seed=1)
    t = (z * p.loc).sum(-1).numpy()
    of_t = stats.beta((d - 1) / 2 + concentration, (d - 1) / 2).logpdf((1 + t) / 2) - math.log(2)
    area = 2 * math.log(math.pi) * (d - 1) / 4 + math.log(2) - math.lgamma((d - 1) / 2)
    expected = of_t - area - (d - 3) / 2 * np.log1p(-(t**2))
    np.testing.assert_allclose(p.log_prob(z), expected, rtol=1e-9, atol=1e-9)


def test_density_at_three_dimensions_by_hand():
    """∫ (1 + t)^κ 2π dt = 2π 2^(κ+1) / (κ + 1)."""
    p, z = PowerSpherical(directions(3), 4.5), directions(9, 3, seed=1)
    expected = 4.5 * torch.log1p((z * p.loc).sum(-1)) - math.log(2 * math.pi * 2**5.5 / 5.5)
    torch.testing.assert_close(p.log_prob(z), expected, rtol=1e-10, atol=0)


def test_uniform_density_is_one_over_the_area():
    areas = {2: 2 * math.pi, 3: 4 * math.pi, 4: 2 * math.pi**2}
    for d, area in areas.items():
        p = UniformOnSphere(d, torch.zeros(1, dtype=torch.float64)).expand((5,))
        z = directions(7, 5, d)
        np.testing.assert_allclose(p.log_prob(z), np.full((7, 5), -math.log(area)), rtol=1e-12)
        np.testing.assert_allclose(p.entropy(), np.full(5, math.log(area)), rtol=1e-12)
        np.testing.assert_allclose(PowerSpherical(directions(d), 0.0).log_prob(z), p.log_prob(z), rtol=1e-12)


@pytest.mark.parametrize("d", [2, 3, 8])
def test_gradients_of_the_density(d):
    raw = torch.randn(4, d, dtype=torch.float64, requires_grad=True)
    concentration = torch.tensor([0.3, 2.0, 50.0, 400.0], dtype=torch.float64, requires_grad=True)
    z = torch.randn(5, 4, d, dtype=torch.float64, requires_grad=True)

    def log_prob(raw, concentration, z):
        p = PowerSpherical(normalize(raw, dim=-1), concentration, validate_args=False)
        return p.log_prob(normalize(z, dim=-1)), p.entropy(), p.mean, p.variance

    assert torch.autograd.gradcheck(log_prob, [raw, concentration, z])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_antipode_has_a_finite_log_density(dtype):
    loc = directions(3).to(dtype).requires_grad_()
    concentration = torch.tensor(5.0, dtype=dtype, requires_grad=True)
    z = (-loc).detach().requires_grad_()
    log_prob = PowerSpherical(loc, concentration).log_prob(z)
    log_prob.backward()
    assert log_prob < -100
    assert all(t.isfinite().all() for t in (log_prob, loc.grad, z.grad, concentration.grad))


@pytest.mark.parametrize("d", [2, 3, 50])
@pytest.mark.parametrize("concentration", [1.0, 1e2, 1e4])
def test_float32_keeps_its_digits(d, concentration):
    torch.manual_seed(0)
    loc = directions(500, d).float()
    p = PowerSpherical(loc, concentration)
    z = p.rsample((5,))
    assert p.support.check(z).all()
    exact = PowerSpherical(normalize(loc.double(), dim=-1), concentration)
    error = p.log_prob(z) - exact.log_prob(normalize(z.double(), dim=-1))
    assert error.abs().max() < 2e-4
    assert (p.entropy() - exact.entropy()).abs().max() < 2e-5


# Draws.


@pytest.mark.parametrize("d", [2, 3, 10])
@pytest.mark.parametrize("concentration", [0.0, 1.5, 300.0])
def test_draws_follow_the_density(d, concentration):
    """Kolmogorov-Smirnov of t and of a direction of the rings: level 1e-4 per test, 18 tests on a fixed seed."""
    torch.manual_seed(0)
    p = PowerSpherical(directions(d), concentration)
    z = p.sample((4000,))
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(4000).double(), rtol=1e-12, atol=0)
    t = z @ p.loc
    beta = (d - 1) / 2
    assert stats.kstest((1 + t).numpy() / 2, stats.beta(beta + concentration, beta).cdf).pvalue > 1e-4
    tangent = normalize(z - t.unsqueeze(-1) * p.loc, dim=-1)
    axis = normalize(directions(d, seed=2) - (directions(d, seed=2) @ p.loc) * p.loc, dim=-1)
    along = (tangent @ axis).numpy()
    if d == 2:  # the ring is two points
        assert stats.binomtest(int((along > 0).sum()), 4000).pvalue > 1e-4
        return
    # An element of a uniform direction in R^n: its square is Beta(1/2, (n − 1)/2); (1 + u)/2 is Beta of (n − 1)/2 twice.
    assert stats.kstest((1 + along) / 2, stats.beta((d - 2) / 2, (d - 2) / 2).cdf).pvalue > 1e-4


@pytest.mark.parametrize("d", [2, 3, 20])
def test_uniform_draws_are_uniform(d):
    """Kolmogorov-Smirnov along an axis: level 1e-4, on a fixed seed."""
    torch.manual_seed(0)
    z = make("uniform", d).sample((4000,))
    assert (z.dtype, z.shape) == (torch.float64, (4000, d))
    assert UniformOnSphere(d).support.check(z).all()
    along = (z @ directions(d)).numpy()
    assert stats.kstest((1 + along) / 2, stats.beta((d - 1) / 2, (d - 1) / 2).cdf).pvalue > 1e-4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [2, 5])
def test_moments(kind, d):
    """4.5 standard errors of 40,000 draws per element: a false alarm in 1e5 each, on a fixed seed."""
    torch.manual_seed(0)
    p = make(kind, d)
    z = p.sample((40_000,))
    for draws, expected in ((z, p.mean), ((z - p.mean) ** 2, p.variance)):
        assert ((draws.mean(0) - expected).abs() < 4.5 * draws.std(0) / 200).all()


@pytest.mark.parametrize("concentration", [0.4, 40.0])
def test_entropy_and_kl_to_the_uniform(concentration):
    """By quadrature over t, and by the mean of 40,000 draws within 4.5 standard errors (1e-5), on a fixed seed."""
    torch.manual_seed(0)
    for d in (2, 3, 12):
        p = PowerSpherical(directions(d), concentration)
        q = make("uniform", d)
        kl = kl_divergence(p, q).item()
        beta = (d - 1) / 2
        marginal, uniform = stats.beta(beta + concentration, beta), stats.beta(beta, beta)
        # The ratio of the densities is that of the marginals of (1 + t)/2.
        exact, _ = integrate.quad(
            lambda b, m=marginal, u=uniform: m.pdf(b) * (m.logpdf(b) - u.logpdf(b)), 0, 1, limit=200
        )
        assert kl == pytest.approx(exact, rel=1e-6)
        z = p.sample((40_000,))
        draws = p.log_prob(z) - q.log_prob(z)
        assert abs(draws.mean().item() - kl) < 4.5 * draws.std().item() / 200
        assert p.entropy().item() == pytest.approx(q.entropy().item() - kl, rel=1e-12)


@pytest.mark.parametrize("d", [2, 3, 6])
def test_gradients_through_draws_are_those_of_the_mean(d):
    """Mean gradient of 50,000 draws within 4.5 standard errors of the closed form: 1e-5 each, on a fixed seed."""
    torch.manual_seed(0)
    n, weight = 50_000, torch.randn(d, dtype=torch.float64)
    raw = torch.randn(d, dtype=torch.float64)
    raws = raw.expand(n, d).clone().requires_grad_()
    concentrations = torch.full((n,), 3.0, dtype=torch.float64, requires_grad=True)
    p = PowerSpherical(normalize(raws, dim=-1), concentrations)
    sampled = torch.autograd.grad((p.rsample() @ weight).sum(), [raws, concentrations], retain_graph=True)
    exact = torch.autograd.grad((p.mean @ weight)[0], [raws, concentrations])
    for draws, expected in zip(sampled, exact, strict=True):
        standard_error = draws.std(0) / n**0.5
        assert ((draws.mean(0) - expected[0]).abs() < 4.5 * standard_error + 1e-12).all()


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_directions_along_the_first_axis(sign, dtype):
    """At the point where the paper's reflection divides by zero, and near it."""
    torch.manual_seed(0)
    for tilt in (0.0, 1e-30, 1e-6):
        loc = normalize(torch.tensor([sign, tilt, 0.0], dtype=dtype), dim=-1).requires_grad_()
        concentration = torch.tensor(200.0, dtype=dtype, requires_grad=True)
        z = PowerSpherical(loc, concentration).rsample((2000,))
        assert (z[:, 0] * sign).mean().item() == pytest.approx(200 / 202, abs=2e-3)
        z.sum().backward()
        assert loc.grad.isfinite().all()
        assert concentration.grad.isfinite()


# Interface.


@pytest.mark.parametrize("kind", KINDS)
def test_shapes(kind):
    p = make(kind, 4)
    assert (p.batch_shape, p.event_shape, p.has_rsample, p.support) == ((), (4,), True, constraints.sphere)
    q = p.expand((2, 3))
    assert type(q) is type(p)
    assert (q.batch_shape, q.event_shape) == ((2, 3), (4,))
    assert q.mean.shape == q.variance.shape == (2, 3, 4)
    assert q.entropy().shape == (2, 3)
    z = q.rsample((5,))
    assert z.shape == (5, 2, 3, 4)
    assert len(z.flatten(0, 2).unique(dim=0)) == 30
    assert q.log_prob(z).shape == (5, 2, 3)
    assert torch.equal(q.log_prob(z), p.log_prob(z))
    assert q.log_prob(z[0, 0, 0]).shape == (2, 3)


def test_parameters_broadcast_and_dtypes_are_kept():
    p = PowerSpherical(directions(3).float(), torch.tensor([1.0, 2.0]))
    assert p.batch_shape == (2,)
    assert p.sample().shape == (2, 3)
    assert torch.equal(p.mode, p.loc)
    for t in (
        p.sample(),
        p.log_prob(p.sample()),
        p.entropy(),
        p.mean,
        p.variance,
        kl_divergence(p, UniformOnSphere(3)),
    ):
        assert t.dtype == torch.float32
    q = UniformOnSphere(3)
    assert all(t.dtype == torch.float32 for t in (q.sample(), q.entropy(), q.mean, q.log_prob(q.sample())))
    assert kl_divergence(p, UniformOnSphere(3).expand((5, 1))).shape == (5, 2)


def test_in_a_pyro_model_and_guide():
    raw, x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True), directions(5, 3, seed=3)
    concentration = torch.full((5,), 8.0, dtype=torch.float64, requires_grad=True)

    def model(x):
        with pyro.plate("data", 5):
            z = pyro.sample("z", make("uniform", 3))
            pyro.sample("x", dist.Normal(z, 0.5).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", 5):
            pyro.sample("z", PowerSpherical(normalize(raw, dim=-1), concentration))

    assert Predictive(model, num_samples=6, parallel=True)(None)["z"].shape == (6, 5, 3)
    losses = []
    for elbo in (Trace_ELBO, TraceMeanField_ELBO):
        pyro.set_rng_seed(0)
        loss = elbo(num_particles=4000, vectorize_particles=True, max_plate_nesting=1).differentiable_loss(
            model, guide, x
        )
        assert all(g.isfinite().all() and g.abs().sum() > 0 for g in torch.autograd.grad(loss, [raw, concentration]))
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], abs=0.2)


def test_it_is_exported():
    class Terms(torch.nn.Module):
        def forward(self, raw, concentration):
            p = PowerSpherical(normalize(raw, dim=-1), concentration, validate_args=False)
            q = UniformOnSphere(3, like=raw, validate_args=False).expand(p.batch_shape)
            z = p.rsample((2,))
            return p.log_prob(z) - q.log_prob(z), kl_divergence(p, q)

    sizes = ({0: torch.export.Dim.DYNAMIC}, {0: torch.export.Dim.DYNAMIC})
    inputs = (directions(6, 3), torch.rand(6, dtype=torch.float64))
    graph = torch.export.export(Terms(), inputs, strict=False, dynamic_shapes=sizes).module()
    inputs, results = (directions(9, 3), torch.rand(9, dtype=torch.float64)), []
    for module in (Terms(), graph):
        torch.manual_seed(0)
        results.append(module(*inputs))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("d", [1, 0, -3])
def test_spheres_of_too_few_dimensions_are_refused(d):
    with pytest.raises(ValueError, match=f"dim must be an integer of at least 2, the plane around a circle; got {d}"):
        UniformOnSphere(d)


def test_bad_parameters_are_refused():
    with pytest.raises(
        ValueError, match=r"loc must be unit vectors \(\*batch, d\) with d of at least 2; got shape \(5, 1\)"
    ):
        PowerSpherical(torch.ones(5, 1), 1.0)
    with pytest.raises(ValueError, match=r"concentration must be one number per direction, \(5,\); got shape \(5, 2\)"):
        PowerSpherical(directions(5, 3), torch.ones(5, 2))
    with pytest.raises(ValueError, match="parameter loc"):
        PowerSpherical(2 * directions(3), 1.0)
    with pytest.raises(ValueError, match="parameter concentration"):
        PowerSpherical(directions(3), -1.0)
    for p in (PowerSpherical(directions(3), 1.0), make("uniform", 3)):
        with pytest.raises(ValueError, match="within the support"):
            p.log_prob(2 * directions(3))
    with pytest.raises(ValueError, match="got dimensions 3 and 4. Give posterior and prior the same dimension"):
        kl_divergence(PowerSpherical(directions(3), 1.0), UniformOnSphere(4))
