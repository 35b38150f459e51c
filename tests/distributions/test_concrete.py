"""Relaxed one-hot vectors, as logs: the papers' density, one-dimensional logistic variables, and low temperatures."""

from __future__ import annotations

import math

import numpy as np
import pyro
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro.infer import Predictive, Trace_ELBO
from scipy import integrate, special, stats
from torch.distributions.relaxed_categorical import RelaxedOneHotCategorical

from pyro_vae.distributions.concrete import RelaxedOneHot
from pyro_vae.distributions.groups import Grouped

B, G, K = 5, 2, 3
LOWEST = 0.01


def logits(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=g).requires_grad_()


def density(y, weights, temperature):
    """Definition 1 of Maddison et al. (2016), of points."""
    k = len(weights)
    top = np.prod(weights * y ** (-temperature - 1), axis=-1)
    return special.factorial(k - 1) * temperature ** (k - 1) * top / np.sum(weights * y**-temperature, axis=-1) ** k


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_the_density_is_that_of_the_papers_times_the_product(temperature):
    d = RelaxedOneHot(temperature, logits(4))
    y = np.random.default_rng(0).dirichlet(np.ones(4), size=20)
    expected = np.log(density(y, np.exp(logits(4).detach().numpy()), temperature) * np.prod(y, axis=-1))
    np.testing.assert_allclose(d.log_prob(torch.tensor(y).log()).detach(), expected, rtol=1e-9)


@pytest.mark.parametrize("temperature", [LOWEST, 0.7, 2.0])
def test_the_density_integrates_to_one(temperature):
    """With respect to the log ratios to the last element, which spread as 1 / temperature."""
    d = {k: RelaxedOneHot(temperature, logits(k)) for k in (2, 3)}

    def of_two(u):
        z = torch.tensor([u / temperature, 0.0], dtype=torch.float64).log_softmax(-1)
        return d[2].log_prob(z).exp().item() / temperature

    assert integrate.quad(of_two, -60, 60, points=[0], limit=200)[0] == pytest.approx(1.0, rel=1e-6)
    u = torch.linspace(-50, 50, 1001, dtype=torch.float64) / temperature
    grid = torch.stack([*torch.meshgrid(u, u, indexing="ij"), torch.zeros(1001, 1001, dtype=torch.float64)], dim=-1)
    total = d[3].log_prob(grid.log_softmax(-1)).exp().sum() * (u[1] - u[0]) ** 2
    assert total.item() == pytest.approx(1.0, rel=1e-6)


@given(
    temperature=st.floats(LOWEST, 5.0),
    ratio=st.floats(-20.0, 20.0),
    at=st.floats(-15.0, 15.0),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=200, deadline=None)
def test_of_two_classes_the_log_ratio_is_logistic(temperature, ratio, at, dtype):
    """log(y_1 / y_2) is logistic with location (log α_1 − log α_2) / λ and scale 1 / λ, by SciPy."""
    temperature = torch.tensor(temperature, dtype=dtype).item()
    u = (ratio + at) / temperature
    z = torch.tensor([u, 0.0], dtype=dtype).log_softmax(-1)
    ours = RelaxedOneHot(temperature, torch.tensor([ratio, 0.0], dtype=dtype)).log_prob(z).item()
    ratio, u = (torch.tensor(v, dtype=dtype).item() for v in (ratio, u))
    expected = stats.logistic(ratio / temperature, 1 / temperature).logpdf(u)
    assert ours == pytest.approx(expected, rel=1e-4 if dtype == torch.float32 else 1e-10, abs=1e-4)


def test_draws_prefer_the_classes_as_their_weights():
    """P(y_k is the largest) = softmax(logits)_k (Maddison et al., proposition 1b); chi-square, level 1e-4."""
    torch.manual_seed(0)
    for temperature in (LOWEST, 0.4):
        d = RelaxedOneHot(temperature, logits(4))
        counts = d.sample((20_000,)).argmax(-1).bincount(minlength=4).numpy()
        assert stats.chisquare(counts, 20_000 * logits(4).softmax(-1).detach().numpy()).pvalue > 1e-4


@pytest.mark.parametrize("temperature", [LOWEST, 0.05, 0.5])
@pytest.mark.parametrize("grouped", [False, True])
def test_draws_are_logs_of_points_in_float32(temperature, grouped):
    torch.manual_seed(0)
    parameter = (4 * torch.randn(200, 3, 10)).requires_grad_()
    d = RelaxedOneHot(temperature, parameter)
    d = Grouped(d) if grouped else d
    z = d.rsample((20,))
    assert z.dtype == torch.float32
    assert z.isfinite().all()
    assert z.max() <= 0
    assert d.support.check(z).all()
    log_prob = d.log_prob(z)
    assert log_prob.isfinite().all()
    log_prob.sum().backward()
    assert parameter.grad.isfinite().all()
    assert parameter.grad.abs().sum() > 0
    assert not d.sample((20,)).requires_grad


def test_draws_are_the_logs_of_torchs_where_those_are_fine():
    torch.manual_seed(0)
    z = RelaxedOneHot(0.7, logits(3, 4)).rsample((5,))
    torch.manual_seed(0)
    temperature = torch.tensor(0.7, dtype=torch.float64)
    expected = RelaxedOneHotCategorical(temperature, logits=logits(3, 4)).rsample((5,))
    torch.testing.assert_close(z.exp(), expected, rtol=1e-12, atol=0)


def kl_of_gumbel_differences(parameter, draws, seed=0):
    """KL to uniform weights, which no temperature changes: that of the log ratios λ z, which are Gumbel differences."""
    gumbel = -(-torch.rand(draws, *parameter.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).log()).log()  # fmt: skip
    ratios = parameter + gumbel
    ratios = ratios - ratios[..., -1:]

    def log_density(weights):
        return (weights - ratios).sum(-1) - parameter.shape[-1] * torch.logsumexp(weights - ratios, -1)

    return (log_density(parameter) - log_density(torch.zeros_like(parameter))).mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [0.5, 0.1, 0.02, LOWEST])
@pytest.mark.parametrize(("classes", "sharpness"), [(2, 30.0), (3, 10.0), (10, 4.0), (50, 3.0)])
def test_the_kl_is_right_at_every_temperature(dtype, temperature, classes, sharpness):
    """Within 1 %. 200 rows and 400 draws; the standard error of either mean is below 0.2 % of it."""
    torch.manual_seed(1)
    parameter = sharpness * torch.randn(200, classes, dtype=torch.float64)
    truth = kl_of_gumbel_differences(parameter, 400)
    q, p = (RelaxedOneHot(temperature, v.to(dtype)) for v in (parameter, torch.zeros(classes)))
    z = q.rsample((400,))
    assert (q.log_prob(z) - p.log_prob(z)).mean().item() == pytest.approx(truth.item(), rel=0.01)


def test_gradients_through_draws():
    def total(parameter):
        torch.manual_seed(0)
        z = RelaxedOneHot(0.7, parameter, validate_args=False).rsample((3,))
        return RelaxedOneHot(0.5, 2 * parameter, validate_args=False).log_prob(z), z

    assert torch.autograd.gradcheck(total, [logits(2, 4)])


def test_it_expands_to_its_own_class_and_takes_numbers_and_tensors():
    for temperature in (0.5, torch.tensor(0.5), torch.tensor([0.5])):
        d = RelaxedOneHot(temperature, logits(3, 4)).expand((2, 3))
        assert type(d) is RelaxedOneHot
        assert (d.batch_shape, d.event_shape, d.temperature.item(), d.temperature.dtype) == ((2, 3), (4,), 0.5, torch.float64)  # fmt: skip
        assert d.log_prob(d.rsample((6,))).shape == (6, 2, 3)
    with pytest.raises(NotImplementedError):
        d.mean  # noqa: B018


def test_groups_in_a_pyro_model_and_guide():
    parameter = logits(B, G, K)

    def program(parameter):
        with pyro.plate("data", B):
            return pyro.sample("z", Grouped(RelaxedOneHot(LOWEST, parameter)))

    loss = Trace_ELBO(num_particles=4, vectorize_particles=True, max_plate_nesting=1)
    loss.differentiable_loss(lambda: program(logits(G, K, seed=1)), lambda: program(parameter)).backward()
    assert parameter.grad.abs().sum() > 0
    drawn = Predictive(lambda: program(parameter), num_samples=6, parallel=True)()["z"]
    assert Grouped(RelaxedOneHot(LOWEST, parameter)).log_prob(drawn).isfinite().all()


@pytest.mark.parametrize("temperature", [0.0, -1.0, torch.tensor(-1.0), float("nan"), math.inf, 0.009])
def test_bad_temperatures_are_refused(temperature):
    with pytest.raises(
        ValueError, match=r"temperature must be a finite number of at least 0.01; got (-1|0|nan|inf|0.009)\. 0.5"
    ):
        RelaxedOneHot(temperature, logits(3))


def test_a_temperature_a_class_is_refused():
    with pytest.raises(ValueError, match=r"temperature must be one number for all; got a tensor of shape \(3,\)"):
        RelaxedOneHot(torch.ones(3), logits(3))


def test_points_in_the_place_of_their_logs_are_refused():
    with pytest.raises(ValueError, match="within the support"):
        RelaxedOneHot(0.5, torch.zeros(3)).log_prob(torch.full((3,), 1 / 3))
