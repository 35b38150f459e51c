"""Annealed importance sampling: unbiased weights in both directions, lower and upper bounds, closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_vae import build
from pyro_vae.evaluation import (
    Annealing,
    annealed_importance_sampling,
    quadrature,
    reverse_annealed_importance_sampling,
    sandwich,
)
from pyro_vae.evaluation.hmc import AnnealedChains
from pyro_vae.model_guide import ModelGuide
from tests.combinations.parts import make_vae as parts_vae
from tests.combinations.parts import make_x as parts_x
from tests.conftest import make_context, make_vae, make_x
from tests.evaluation.models import Linear, conjugate, z_score

FEW = Annealing(14, leapfrog_steps=5)


def exact_draws(linear, x, chains, seed=0):
    mean, covariance = (t.detach() for t in linear.moments(x))
    noise = torch.randn(chains, *mean.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return mean + noise @ torch.linalg.cholesky(covariance).T


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("start", ["prior", "posterior"])
def test_forward_weights_are_unbiased(d, start):
    """The mean of 4,000 weights over p(x): z-score below 4.5, level 1e-5 each, fixed seed. Its log is a lower bound."""
    linear = Linear(d, 1.0, shift=0.5, wide=1.3)
    x = linear.data(1)
    found = annealed_importance_sampling(
        linear, x.expand(40, -1), num_particles=100, annealing=replace(FEW, start=start)
    )
    weights = (found.log_weights - linear.truth(x)).exp()
    assert weights.std() < 3  # with a heavier tail the z-score would mean nothing
    assert abs(z_score(weights.flatten(), 1.0)) < 4.5
    assert z_score(found.log_weights.flatten(), linear.truth(x).item()) < -5
    assert 0.4 < found.acceptance.mean() < 0.9


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("start", ["prior", "posterior"])
def test_inverse_reverse_weights_are_unbiased(d, start):
    """The mean of 4,000 inverse weights times p(x): z-score below 4.5, level 1e-5 each. Minus its log is an upper bound."""
    linear = Linear(d, 1.0, shift=0.5, wide=1.3)
    x = linear.data(1).expand(40, -1)
    z = exact_draws(linear, x, 100)
    found = reverse_annealed_importance_sampling(linear, x, z=z, annealing=replace(FEW, start=start))
    inverse = (linear.truth(x) - found.log_weights).exp()
    assert inverse.std() < 3
    assert abs(z_score(inverse.flatten(), 1.0)) < 4.5
    assert z_score(found.log_weights.flatten(), linear.truth(x[:1]).item()) > 5


def test_more_temperatures_are_closer_and_errors_are_true():
    """|z| below 5 for each of 30 estimates, and a mean square between 0.4 and 2: level 1e-4 on a fixed seed."""
    linear = Linear(2)
    x = linear.data(30)
    found = [
        annealed_importance_sampling(linear, x, annealing=Annealing(n, leapfrog_steps=5), num_particles=40)
        for n in (5, 40)
    ]
    z = (found[1].log_prob - linear.truth(x)) / found[1].standard_error
    assert z.abs().max() < 5
    assert 0.4 < z.square().mean() < 2
    assert found[1].standard_error.mean() < 0.5 * found[0].standard_error.mean()
    assert abs(found[1].mean - linear.truth(x).mean()) < 5 * found[1].mean_standard_error


def test_one_temperature_is_importance_sampling_from_the_start():
    linear = Linear(2)
    x = linear.data(3)
    found = annealed_importance_sampling(linear, x, num_particles=5, annealing=Annealing(1, start="posterior"))
    reverse = reverse_annealed_importance_sampling(linear, x, z=exact_draws(linear, x, 5), annealing=Annealing(1))
    with torch.no_grad():
        likelihood = ModelGuide(linear, x).log_likelihood(exact_draws(linear, x, 5))
    torch.testing.assert_close(reverse.log_weights, likelihood, rtol=1e-12, atol=0)
    assert found.log_weights.shape == (5, 3)
    assert torch.equal(found.acceptance, torch.zeros(3, dtype=torch.float64))


def test_transitions_leave_the_posterior_as_it_is():
    """Means and variances of 4,000 exact draws after five transitions: |z| below 4.5, level 1e-5 each."""
    linear = Linear(1, 0.3)
    x = linear.data(1)
    with torch.no_grad():
        path = AnnealedChains(ModelGuide(linear, x), Annealing(10, 3), 10**6, "this")
        torch.manual_seed(0)
        u = exact_draws(linear, x, 4000)
        mean, covariance = linear.moments(x)
        start = u
        for _ in range(5):
            # A step large enough that some proposals are rejected.
            u, difference, probability = path.transition(u, 1.0, torch.full((1,), 0.28, dtype=torch.float64))
        torch.testing.assert_close(difference, ModelGuide(linear, x).log_likelihood(u), rtol=1e-12, atol=1e-12)
    assert 0.2 < probability.mean() < 0.97
    assert (u != start).double().mean() > 0.9
    standard = ((u - mean) / covariance.sqrt()).flatten()
    assert abs(standard.mean()) * 4000**0.5 < 4.5
    assert abs(standard.square().mean() - 1) * 2000**0.5 < 4.5


@pytest.mark.parametrize("kind", ["beta", "uniform", "gamma", "dirichlet"])
@pytest.mark.parametrize("start", ["prior", "posterior"])
def test_constrained_codes(kind, start):
    """The mean of 2,000 weights over p(x), |z| below 5 for each of three examples: 2e-6, on a fixed seed."""
    pair, x, truth = conjugate(kind)
    found = annealed_importance_sampling(
        pair, *x, num_particles=2000, annealing=Annealing(8, leapfrog_steps=4, start=start)
    )
    assert ((found.log_prob - truth).abs() < 5 * found.standard_error + 1e-10).all()
    assert (found.standard_error < 0.2).all()


def test_reverse_chains_of_constrained_codes():
    """The same as forward, for three examples: level 2e-6."""
    pair, x, truth = conjugate("beta")
    torch.manual_seed(0)
    z = torch.distributions.Beta(2 + x[0], 13.5 - x[0]).sample((2000,))
    found = reverse_annealed_importance_sampling(pair, *x, z=z, annealing=Annealing(8, leapfrog_steps=4))
    assert ((found.log_prob - truth).abs() < 5 * found.standard_error).all()


@pytest.mark.parametrize("context", [0, 4])
def test_quadrature_agrees_on_a_nonlinear_decoder(context):
    """Both directions, |z| below 5 for three examples each: level 4e-6, on a fixed seed."""
    vae, x, c = make_vae(context=context, seed=3), make_x(n=3), make_context(context, n=3)
    exact = quadrature(vae, x, *c, nodes=True)
    forward = annealed_importance_sampling(vae, x, *c, num_particles=200, annealing=FEW)
    reverse = reverse_annealed_importance_sampling(vae, x, *c, z=exact.sample(200), annealing=FEW)
    for found in (forward, reverse):
        assert ((found.log_prob - exact.log_prob) / found.standard_error).abs().max() < 5


def test_other_codes():
    """The estimates for a mixture prior agree with quadrature: |z| below 5 for three examples."""
    vae, x = parts_vae("MixtureOfNormals", "DiagonalNormal", 2), parts_x()
    found = annealed_importance_sampling(vae, x, num_particles=200, annealing=FEW)
    assert ((found.log_prob - quadrature(vae, x).log_prob) / found.standard_error).abs().max() < 5
    assert (
        annealed_importance_sampling(parts_vae("Dirichlet", "LogisticNormal", 4), x, annealing=FEW)
        .log_prob.isfinite()
        .all()
    )


def test_the_sandwich_holds_the_truth():
    """Means over 64 simulated examples cross the truth by at most 4 standard errors: level 3e-5 each."""
    linear = Linear(3, 0.4)
    found = sandwich(linear, linear.data(1), examples=64, num_particles=4, annealing=FEW)
    assert found.x.shape == (64, 3)
    assert found.z.shape == (64, 3)
    truth = linear.truth(found.x)
    below, above = found.lower.log_prob - truth, found.upper.log_prob - truth
    assert z_score(below, 0.0) < 4
    assert z_score(above, 0.0) > -4
    # With so few temperatures the bounds are not tight, so each is clearly on its side.
    assert below.mean() < -0.01
    assert above.mean() > 0.01
    torch.testing.assert_close(found.gap, above - below)
    assert found.mean_gap == pytest.approx((above - below).mean().item())
    assert found.mean_gap_standard_error == pytest.approx((above - below).std().item() / 64**0.5)
    # x comes from the model: it has its covariance, within 5 standard errors.
    with torch.no_grad():
        covariance = linear.weight @ linear.weight.T + 0.16 * torch.eye(3, dtype=torch.float64)
    spread = (covariance**2 + covariance.diagonal() * covariance.diagonal().unsqueeze(1)).sqrt() / 64**0.5
    assert ((torch.cov(found.x.T) - covariance).abs() < 5 * spread).all()


def test_the_sandwich_tightens():
    linear = Linear(3, 0.4)
    gaps = [
        sandwich(linear, linear.data(1), examples=30, num_particles=4, annealing=Annealing(n, leapfrog_steps=5))
        for n in (4, 30)
    ]
    assert gaps[1].mean_gap < 0.5 * gaps[0].mean_gap


def test_the_sandwich_with_context():
    vae, x, c = make_vae(context=4), make_x(n=2), make_context(4, n=2)
    options = {"annealing": Annealing(3, leapfrog_steps=2), "num_particles": 2}
    assert sandwich(vae, x, *c, **options).x.shape == x.shape
    found = sandwich(vae, x, *c, examples=5, **options)
    assert found.gap.shape == (5,)
    again = annealed_importance_sampling(vae, found.x, *(t[torch.arange(5) % 2] for t in c), **options)
    assert again.log_prob.shape == (5,)
    assert math.isnan(sandwich(vae, x, *c, examples=1, **options).mean_gap_standard_error)


def test_missing_values():
    torch.manual_seed(0)
    vae = build((4,), 2, hidden=(5,), likelihood="normal", missing=True).double()
    x = torch.rand(3, 4, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 1], [0, 0, 0, 0]]).bool()
    found = annealed_importance_sampling(vae, x, mask=mask, num_particles=50, annealing=FEW)
    other = annealed_importance_sampling(vae, x.masked_fill(~mask, torch.nan), num_particles=50, annealing=FEW)
    torch.testing.assert_close(found.log_prob, other.log_prob, rtol=1e-12, atol=1e-12)
    assert found.log_prob[2].item() == pytest.approx(0, abs=1e-12)  # all of x is masked, so all weights are 1


@pytest.mark.parametrize("start", ["prior", "posterior"])
def test_the_chunk_size_is_of_no_account(start):
    linear = Linear(2, shift=0.5)
    x = linear.data(66)
    options = {"annealing": Annealing(3, leapfrog_steps=1, start=start)}
    z = exact_draws(linear, x, 6)
    whole = annealed_importance_sampling(linear, x, num_particles=6, **options)
    reverse = reverse_annealed_importance_sampling(linear, x, z=z, **options)
    found = annealed_importance_sampling(linear, x, num_particles=6, chunk_size=50, **options)
    torch.testing.assert_close(found.log_weights, whole.log_weights, rtol=1e-9, atol=1e-9)
    found = reverse_annealed_importance_sampling(linear, x, z=z, chunk_size=140, **options)
    torch.testing.assert_close(found.log_weights, reverse.log_weights, rtol=1e-9, atol=1e-9)


def test_trajectories_that_leave_for_infinity_are_rejected():
    """The density is so narrow that the first steps of the pilot run diverge."""
    linear = Linear(1, 1e-4)
    x = linear.data(2)
    found = annealed_importance_sampling(linear, x, num_particles=4, annealing=Annealing(60, leapfrog_steps=5))
    assert found.log_weights.isfinite().all()
    assert (found.acceptance > 0.2).all()

    def cubic(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros_like(x), 1.0))
            pyro.sample("x", dist.Normal(torch.exp(z**3), 0.1), obs=x)

    found = annealed_importance_sampling((cubic, cubic), torch.tensor([1.0, 30.0]), num_particles=4, annealing=FEW)
    assert not found.log_weights.isnan().any()


def test_nothing_is_left_behind():
    vae, x = make_vae().train(), make_x()
    before = torch.get_rng_state()
    options = {"annealing": Annealing(3, leapfrog_steps=2)}
    found = annealed_importance_sampling(vae, x, num_particles=2, **options)
    both = sandwich(vae, x, num_particles=2, **options)
    assert torch.equal(torch.get_rng_state(), before)
    assert vae.training
    for t in (found.log_prob, found.log_weights, both.lower.log_prob, both.upper.log_prob, both.z, both.x):
        assert not t.requires_grad
    assert all(p.grad is None and p.requires_grad for p in vae.parameters())
    assert torch.equal(annealed_importance_sampling(vae, x, num_particles=2, **options).log_prob, found.log_prob)
    assert not torch.equal(
        annealed_importance_sampling(vae, x, num_particles=2, seed=1, **options).log_prob, found.log_prob
    )


def test_single_precision():
    found = annealed_importance_sampling(make_vae().float(), make_x().float(), num_particles=2, annealing=Annealing(3))
    assert found.log_prob.dtype == found.standard_error.dtype == torch.float32


def test_bad_input():
    linear, x = Linear(), Linear().data(2)
    for name, value in (("num_particles", 0), ("chunk_size", True)):
        with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1; got {value}"):
            annealed_importance_sampling(linear, x, **{name: value})
    for name, value in (("temperatures", 0), ("leapfrog_steps", 1.5)):
        with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1; got {value}"):
            Annealing(**{name: value})
    with pytest.raises(ValueError, match='start must be "prior" or "posterior"; got \'guide\''):
        Annealing(start="guide")
    with pytest.raises(ValueError, match="examples must be an integer of at least 1; got 0"):
        sandwich(linear, x, examples=0)
    for z in (torch.zeros(4, 3, 2), torch.zeros(2, 2), torch.zeros(0, 2, 2), torch.zeros(4, 2, 3)):
        with pytest.raises(
            ValueError, match=r"z must be draws from p\(z \| x\) of shape \(num_particles, 2, 2\); got shape"
        ):
            reverse_annealed_importance_sampling(linear, x, z=z.double())
    with pytest.raises(ValueError, match="annealed_importance_sampling needs continuous codes; got discrete ones"):
        annealed_importance_sampling(parts_vae("Categorical", "Categorical"), parts_x())
    with pytest.raises(ValueError, match="sandwich needs codes that torch.distributions.biject_to maps from real vec"):
        sandwich(parts_vae("UniformOnSphere", "PowerSpherical"), parts_x())
    with pytest.raises(ValueError, match="annealed_importance_sampling needs a guide with a density; got Delta, a po"):
        annealed_importance_sampling(
            parts_vae("StandardNormal", "Delta"), parts_x(), annealing=Annealing(start="posterior")
        )
    assert (
        annealed_importance_sampling(parts_vae("StandardNormal", "Delta"), parts_x(), annealing=Annealing(2)).mean < 0
    )


def test_sandwich_without_data_names_its_argument():
    with pytest.raises(ValueError, match="^x_like must be a tensor"):
        sandwich(build(4, 2, hidden=()), examples=2)
