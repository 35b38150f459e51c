"""Every tool of Pyro's gives the right numbers for a VAE."""

from __future__ import annotations

import copy
import math

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Importance, Predictive, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.inspect import get_model_relations
from torch import nn

from pyro_vae import elbo_terms
from tests.conftest import X, make_vae, make_x


@pytest.mark.parametrize(("loss", "kl"), [(Trace_ELBO, "sampled"), (TraceMeanField_ELBO, "analytic")])
def test_a_step_of_svi_is_the_step_along_the_gradient_of_our_terms(case, loss, kl):
    vae, *batch = case
    twin = copy.deepcopy(vae)
    pyro.set_rng_seed(5)
    value = SVI(vae.model, vae.guide, pyro.optim.SGD({"lr": 1e-3}), loss=loss()).step(*batch)
    ours = -elbo_terms(twin, *batch, kl=kl, seed=5).elbo.sum()
    assert value == pytest.approx(ours.item(), rel=1e-9)
    torch.optim.SGD(twin.parameters(), lr=1e-3).zero_grad()
    ours.backward()
    for moved, start in zip(vae.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(moved.detach(), (start - 1e-3 * start.grad).detach(), rtol=1e-9, atol=1e-12)
        assert start.grad.abs().sum() > 0


def test_svi_improves_the_bound():
    vae, x = make_vae(), make_x(n=2).repeat(25, 1, 1)
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-2}), loss=Trace_ELBO())
    losses = [svi.step(x) for _ in range(300)]
    assert sum(losses[-50:]) < 0.6 * sum(losses[:50])


def test_renyi_elbo_is_the_importance_weighted_bound():
    vae, x = make_vae("normal_fixed"), make_x("normal_fixed", n=1)
    pyro.set_rng_seed(5)
    loss = RenyiELBO(alpha=0, num_particles=20, vectorize_particles=True, max_plate_nesting=1)
    value = loss.loss(vae.model, vae.guide, x)
    torch.manual_seed(5)
    q = vae.encode(x)
    z = q.rsample((20,))
    log_weights = vae.decode(z).log_prob(x) + vae.prior_of().log_prob(z) - q.log_prob(z)
    assert -value == pytest.approx((torch.logsumexp(log_weights, 0) - math.log(20)).sum().item(), rel=1e-9)


def test_every_bound_and_importance_equal_the_evidence_at_the_true_posterior(linear):
    vae, x = linear.vae(), linear.marginal().sample((6,))
    evidence = linear.marginal().log_prob(x).sum().item()
    for loss in (Trace_ELBO(), RenyiELBO(alpha=0.5, num_particles=3)):
        assert -loss.loss(vae.model, vae.guide, x) == pytest.approx(evidence, rel=1e-9)
    importance = Importance(vae.model, guide=vae.guide, num_samples=10).run(x)
    # Pyro subtracts the logarithm of the number of samples in float32.
    assert importance.get_log_normalizer().item() == pytest.approx(evidence, abs=1e-6)


def test_importance_from_another_posterior_estimates_the_evidence(linear):
    """At one point the effective sample size is above 1,000: 0.1 nats is over 3 standard errors."""
    vae, x = linear.vae(), linear.marginal().sample((1,))
    with torch.no_grad():
        linear.encoder.bias += torch.tensor([0.1, -0.1, 0.2, 0.2], dtype=torch.float64)
    importance = Importance(vae.model, guide=vae.guide, num_samples=1500).run(x)
    assert importance.get_ESS() > 1000
    assert importance.get_log_normalizer().item() == pytest.approx(linear.marginal().log_prob(x).item(), abs=0.1)


@pytest.mark.parametrize("parallel", [True, False])
def test_predictive_draws_from_the_marginal(linear, parallel):
    """Mean and covariance within 5 standard errors of the closed form; by chance beyond once in 10⁵ seeds."""
    n = 20_000 if parallel else 500
    x = Predictive(linear.vae().model, num_samples=n, parallel=parallel)(None)["x"].reshape(n, -1)
    exact = linear.marginal()
    deviations = (x - exact.mean).mean(0) / (exact.variance / n).sqrt()
    assert deviations.abs().max() < 5
    spread = torch.cov(x.T) - exact.covariance_matrix
    sizes = (exact.variance.outer(exact.variance) + exact.covariance_matrix**2).div(n).sqrt()
    assert (spread / sizes).abs().max() < 5


@pytest.mark.parametrize("parallel", [True, False])
def test_predictive_with_the_guide_reconstructs(parallel):
    vae, x = make_vae("normal_fixed"), make_x("normal_fixed")
    predictive = Predictive(poutine.uncondition(vae.model), guide=vae.guide, num_samples=8, parallel=parallel)
    draws = predictive(x)
    assert draws["x"].shape == (8, 7, *X)


def test_poutine_conditions_and_replays():
    vae, x, z = make_vae(), make_x(), torch.ones(7, 2, dtype=torch.float64)
    trace = poutine.trace(poutine.condition(vae.model, data={"z": z})).get_trace(x)
    expected = vae.prior_of().log_prob(z) + vae.decode(z).log_prob(x)
    assert trace.log_prob_sum().item() == pytest.approx(expected.sum().item(), rel=1e-12)


def test_model_relations_and_rendering():
    vae, x = make_vae(), make_x()
    relations = get_model_relations(vae.model, (x,))
    assert relations["sample_sample"]["x"] == ["z"]
    assert relations["observed"] == ["x"]
    assert relations["plate_sample"] == {"data": ["z", "x"]}
    assert "data" in pyro.render_model(vae.model, model_args=(x,)).source


def test_model_and_guide_can_be_captured_as_one_graph_with_a_dynamic_batch(case):
    vae, *batch = case

    class Bound(nn.Module):
        def __init__(self):
            super().__init__()
            self.vae = vae

        def forward(self, *batch):
            guide = poutine.trace(self.vae.guide).get_trace(*batch)
            model = poutine.trace(poutine.replay(self.vae.model, trace=guide)).get_trace(*batch)
            return model.log_prob_sum() - guide.log_prob_sum()

    bound, size = Bound(), torch.export.Dim("batch", min=2)
    with pyro.validation_enabled(False):
        graph = torch.export.export(
            bound, tuple(batch), strict=False, dynamic_shapes={"batch": tuple({0: size} for _ in batch)}
        ).module()
        for rows in (7, 3):
            some = [b[:rows] for b in batch]
            torch.manual_seed(5)
            captured = graph(*some)
            torch.manual_seed(5)
            torch.testing.assert_close(captured, bound(*some), rtol=1e-12, atol=1e-12)
