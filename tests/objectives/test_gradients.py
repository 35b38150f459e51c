"""Gradients without the score: the same mean, from an independent implementation, and less variance."""

from __future__ import annotations

import pyro
import pytest
import torch

from pyro_vae import objectives as o
from pyro_vae.checks.estimators import doubly_reparametrised, sticking_the_landing
from pyro_vae.model_guide import ModelGuide
from tests.conftest import make_vae, make_x
from tests.objectives.test_definitions import gradients, loss_of


@pytest.mark.parametrize("num_particles", [1, 5])
@pytest.mark.parametrize(
    ("objective", "estimator"), [(o.StickingTheLanding, sticking_the_landing), (o.DReG, doubly_reparametrised)]
)
def test_the_gradient_is_that_of_the_estimator(objective, estimator, num_particles, monkeypatch):
    vae, x = make_vae(), make_x()
    noise = torch.randn(num_particles, len(x), 2, dtype=torch.float64)
    served = lambda shape, **_: noise if len(shape) == 3 else noise[0]  # noqa: E731
    monkeypatch.setattr("torch.distributions.normal._standard_normal", served)
    loss, found = loss_of(objective(num_particles), vae, x)
    vae.zero_grad()
    bound = estimator(ModelGuide(vae, x), list(vae.parameters()), num_particles=num_particles).sum()
    (-bound).backward()
    assert float(loss) == pytest.approx(-bound.item(), rel=1e-12)
    for a, b in zip(found, gradients(vae), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def spread(objective, vae, x, draws=300):
    """Mean and standard deviation over draws of the gradient of all the posterior's parameters."""
    found = []
    for seed in range(draws):
        _loss, _ = loss_of(objective, vae, x, seed)
        found.append(torch.cat([p.grad.flatten() for p in vae.posterior.parameters()]))
    found = torch.stack(found)
    return found.mean(0), found.std(0)


def test_sticking_the_landing_has_no_variance_at_the_true_posterior(linear):
    vae, x = linear.vae(), torch.randn(5, 4, dtype=torch.float64)
    loss, _ = loss_of(o.StickingTheLanding(), vae, x)
    assert float(loss) == pytest.approx(-linear.marginal().log_prob(x).sum().item(), rel=1e-9)
    gradient = torch.cat([p.grad.flatten() for p in vae.posterior.parameters()])
    assert gradient.abs().max() < 1e-8
    _, pathwise = spread(o.BetaELBO(1.0), vae, x, 20)
    assert pathwise.max() > 0.1


@pytest.mark.parametrize(("ours", "plain"), [(o.StickingTheLanding(4), o.BetaELBO(1.0, 4)), (o.DReG(16), o.IWAE(16))])
def test_less_variance_and_the_same_mean(linear, ours, plain):
    """Near the true posterior. 300 draws each; a false alarm in the means has probability below 1e-4 (5 errors, 20 of them)."""
    vae, x = linear.vae(), torch.randn(5, 4, dtype=torch.float64)
    with torch.no_grad():
        linear.encoder.bias.add_(0.05)
    mean, deviation = spread(ours, vae, x)
    other_mean, other = spread(plain, vae, x)
    error = ((deviation.square() + other.square()) / 300).sqrt()
    assert ((mean - other_mean).abs() < 5 * error).all()
    assert deviation.square().sum() < 0.5 * other.square().sum()


@pytest.mark.parametrize("objective", [o.DReG(5), o.StickingTheLanding(2), o.PIWAE(2, 3), o.BetaELBO(0.3)])
def test_going_backward_from_the_loss_is_what_a_step_does(objective):
    vae, x = make_vae(), make_x()
    loss, found = loss_of(objective, vae, x)
    vae.zero_grad()
    pyro.set_rng_seed(3)
    again = objective.differentiable_loss(vae.model, vae.guide, x)
    (3 * again).backward()
    assert again.item() == float(loss)
    for a, b in zip(found, gradients(vae), strict=True):
        torch.testing.assert_close(3 * a, b)
