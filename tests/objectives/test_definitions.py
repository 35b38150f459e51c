"""Each objective against its definition, worked out by hand at the same draws, and in its limiting cases."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO, TraceMeanField_ELBO

from pyro_vae import objectives as o
from pyro_vae.model_guide import ModelGuide
from tests.conftest import make_vae, make_x
from tests.objectives.cases import (
    CASES,
    DEFINED_ELSEWHERE,
    beta_elbo,
    beta_tcvae,
    free_bits_per_dimension,
    log_mean,
    renyi,
)

K = 6


def terms(vae, x, num_particles, seed=3):
    """Log p(x | z), log p(z), log q(z | x), each (particles, batch), at the draws of that seed."""
    pyro.set_rng_seed(seed)
    posterior = vae.encode(x)
    return ModelGuide(vae, x).terms(posterior.rsample((num_particles,)), posterior)


def loss_of(objective, vae, x, seed=3):
    """The loss, and each parameter's gradient."""
    vae.zero_grad()
    pyro.set_rng_seed(seed)
    loss = objective.loss_and_grads(vae.model, vae.guide, x)
    return loss, gradients(vae)


def gradients(vae):
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in vae.parameters()]


def gradients_of(bound, vae):
    vae.zero_grad()
    bound.backward()
    return gradients(vae)


def assert_same(objective, by_hand, num_particles=1):
    """Loss and gradient of an objective are those of a bound by hand, from (terms, vae, x)."""
    vae, x = make_vae(), make_x()
    loss, found = loss_of(objective, vae, x)
    bound = by_hand(terms(vae, x, num_particles), vae, x)
    assert float(loss) == pytest.approx(-bound.item(), rel=1e-12)
    for a, b in zip(found, gradients_of(-bound, vae), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_every_objective_has_a_definition():
    missing = set(o.OBJECTIVES) - {type(case.make()).__name__ for case in CASES.values()}
    assert not missing, f"enter {missing} in CASES in tests/objectives/cases.py"
    defined = {type(case.make()).__name__ for case in CASES.values() if case.by_hand}
    undefined = set(o.OBJECTIVES) - defined - set(DEFINED_ELSEWHERE)
    assert not undefined, f"give {undefined} a bound by hand in CASES in tests/objectives/cases.py"


@pytest.mark.parametrize(
    ("objective", "shown"),
    [
        (o.IWAE(num_particles=5), "IWAE(num_particles=5)"),
        (o.IWAE(), "IWAE()"),
        (o.BetaELBO(beta=0.5, kl="analytic"), "BetaELBO(beta=0.5, kl='analytic')"),
        (o.BetaELBO(torch.tensor(2.0)), "BetaELBO(beta=2)"),
        (o.BetaELBO(o.Linear(steps=10)), f"BetaELBO(beta={o.Linear(steps=10)!r})"),
    ],
)
def test_objectives_show_their_arguments(objective, shown):
    assert repr(objective) == shown


@pytest.mark.parametrize("name", o.OBJECTIVES)
def test_an_unknown_argument_is_refused_by_the_class(name):
    needed = {"CapacityELBO": {"capacity": 1.0}, "GECO": {"recon": 1.0}}.get(name, {})
    with pytest.raises(TypeError, match=f"^{name} has no argument 'draws'; it has .*, vectorize_particles, max_plate"):
        getattr(o, name)(**needed, draws=5)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.by_hand])
def test_bound_and_gradient_are_those_by_hand(name):
    case = CASES[name]
    assert_same(case.make(), case.by_hand, case.particles)


@pytest.mark.parametrize("num_particles", [1, K])
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0, 4.0])
def test_any_beta(beta, num_particles):
    assert_same(o.BetaELBO(beta, num_particles), beta_elbo(beta), num_particles)


@pytest.mark.parametrize("nats", [0.0, 0.2, 5.0])
def test_any_floor_of_free_bits(nats):
    assert_same(o.FreeBits(nats, num_particles=K), free_bits_per_dimension(nats), K)


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.5, 2.0])
def test_any_renyi(alpha):
    assert_same(o.Renyi(alpha, K), renyi(alpha), K)


@pytest.mark.parametrize("examples", [None, 7, 14, 1000])
def test_any_size_of_data_for_beta_tcvae(examples):
    assert_same(o.BetaTCVAE(beta=6.0, alpha=2.0, gamma=3.0, examples=examples), beta_tcvae(examples))


def test_piwae_has_a_gradient_for_the_model_and_another_for_the_guide():
    vae, x = make_vae(), make_x()
    loss, found = loss_of(o.PIWAE(groups=3, group_size=2), vae, x)
    of_model = gradients_of(-log_mean(terms(vae, x, K).weight).sum(), vae)
    of_guide = gradients_of(-sum(log_mean(g).sum() for g in terms(vae, x, K).weight.split(2)) / 3, vae)
    assert float(loss) == pytest.approx(-log_mean(terms(vae, x, K).weight).sum().item(), rel=1e-12)
    for (name, _), a, model, guide in zip(vae.named_parameters(), found, of_model, of_guide, strict=True):
        torch.testing.assert_close(a, guide if name.startswith("posterior") else model, rtol=1e-9, atol=1e-10)
        assert not torch.allclose(model, guide)


def test_geco():
    """Two steps: the multiplier of the second follows from the first."""
    vae, x = make_vae(), make_x()
    geco = o.GECO(recon=-1.0, rate=0.01, decay=0.9)
    multiplier, average = 1.0, None
    for seed in (3, 4, 5):
        loss, found = loss_of(geco, vae, x, seed)
        t = terms(vae, x, 1, seed)
        recon, kl = t.recon.sum(), (t.posterior - t.prior).sum()
        by_hand = kl + multiplier * (-len(x) - recon)
        assert float(loss) == pytest.approx(by_hand.item(), rel=1e-9)
        for a, b in zip(found, gradients_of(by_hand, vae), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)
        missing = -1.0 - recon.item() / len(x)
        average = missing if average is None else 0.9 * average + 0.1 * missing
        multiplier *= math.exp(min(max(0.01 * average, -0.1), 0.1))
        assert geco.state["log_multiplier"].item() == pytest.approx(math.log(multiplier), rel=1e-9)


# Limiting cases: the ELBO, of Pyro's own.

ELBO_AT_LAST = {
    "beta 1": o.BetaELBO(1.0),
    "one particle": o.IWAE(1),
    "one group of one": o.MIWAE(1, 1),
    "one group of one, by parts": o.PIWAE(1, 1),
    "all share": o.CIWAE(1.0, 1),
    "alpha 1": o.Renyi(1.0, 1),
    "parts alike": o.BetaTCVAE(1.0),
    "no discrepancy": o.InfoVAE(0.0, 1.0),
    "one draw": o.DReG(1),
}


@pytest.mark.parametrize("name", ELBO_AT_LAST)
def test_limiting_cases_are_pyros_elbo(name):
    vae, x = make_vae(), make_x()
    loss, found = loss_of(ELBO_AT_LAST[name], vae, x)
    expected, gradient = loss_of(Trace_ELBO(), vae, x)
    assert float(loss) == pytest.approx(expected, rel=1e-12)
    if name == "one draw":
        return  # its gradient has the same mean alone
    for a, b in zip(found, gradient, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    "objective", [o.FreeBits(0.0), o.BetaELBO(1.0, kl="analytic"), o.CapacityELBO(0.0, gamma=1.0, kl="analytic")]
)
def test_limiting_cases_with_the_closed_kl(objective):
    vae, x = make_vae(), make_x()
    loss, found = loss_of(objective, vae, x)
    expected, gradient = loss_of(TraceMeanField_ELBO(), vae, x)
    assert float(loss) == pytest.approx(expected, rel=1e-12)
    for a, b in zip(found, gradient, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_renyi_is_pyros():
    vae, x = make_vae(), make_x()
    pyros = RenyiELBO(alpha=0.3, num_particles=K, vectorize_particles=True, max_plate_nesting=1)
    loss, found = loss_of(o.Renyi(0.3, K), vae, x)
    expected, gradient = loss_of(pyros, vae, x)
    assert float(loss) == pytest.approx(expected, rel=1e-10)
    for a, b in zip(found, gradient, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


# Particles one by one.


@pytest.mark.parametrize(
    "make",
    [
        lambda **v: o.BetaELBO(0.5, K, **v),
        lambda **v: o.BetaELBO(0.5, K, kl="analytic", **v),
        lambda **v: o.FreeBits(0.2, num_particles=K, **v),
        lambda **v: o.FreeBits(0.2, per="site", num_particles=K, **v),
        lambda **v: o.IWAE(K, **v),
        lambda **v: o.MIWAE(3, 2, **v),
        lambda **v: o.PIWAE(3, 2, **v),
    ],
)
def test_particles_one_by_one_and_together_give_the_same(make, monkeypatch):
    vae, x = make_vae(), make_x()
    noise = torch.randn(K, len(x), 2, dtype=torch.float64)

    def served(shape, **_):
        nonlocal at
        at += 1
        return noise if len(shape) == 3 else noise[at]

    monkeypatch.setattr("torch.distributions.normal._standard_normal", served)
    at = -1
    together, found = loss_of(make(max_plate_nesting=1), vae, x)
    at = -1
    one_by_one, others = loss_of(make(vectorize_particles=False), vae, x)
    assert at == K - 1
    assert float(together) == pytest.approx(float(one_by_one), rel=1e-12)
    for a, b in zip(found, others, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_loss_is_that_of_a_step_and_changes_nothing():
    vae, x = make_vae(), make_x()
    objective = o.BetaELBO(o.Linear(steps=4), K)
    for _ in range(2):
        loss_of(objective, vae, x)
    pyro.set_rng_seed(3)
    before = objective.loss(vae.model, vae.guide, x)
    assert float(before) == pytest.approx(float(loss_of(objective, vae, x)[0]), rel=1e-12)
    assert objective.state["steps"].item() == 3
