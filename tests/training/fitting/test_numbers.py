"""What fit() computes: the same numbers as SVI by hand, under each objective and schedule."""

from __future__ import annotations

import copy
import math

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import SVI, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from torch import nn

from pyro_vae import VAE, average_elbo, build, data, fit
from pyro_vae.svi.optimizer import SharedOptim
from pyro_vae.training.optimizer import learning_rate
from tests.conftest import make_context, make_vae, make_x
from tests.training.fitting.conftest import same, train, weights


@pytest.mark.parametrize("objective", [Trace_ELBO(), TraceMeanField_ELBO(), RenyiELBO(num_particles=3)])
def test_one_batch_of_one_epoch_is_one_step_of_svi(objective):
    """At the smallest learning rate nothing moves, so the epoch's loss is that of the weights it began with."""
    vae, x = make_vae(), make_x(n=8)
    (record,) = train(vae, x, epochs=1, batch_size=8, lr=1e-300, objective=objective)
    losses = []
    for order in (x[torch.randperm(8)] for _ in range(400)):
        losses.append(objective.loss(vae.model, vae.guide, order) / 8)
    spread = torch.tensor(losses).std().item()
    assert abs(record.loss - np.mean(losses)) < 5 * spread  # one draw against the mean of 400


def test_the_records_are_recon_minus_kl():
    for record in train(
        make_vae(context=4), (make_x(n=40), *make_context(4, n=40)), valid=(make_x(), *make_context(4))
    ):
        assert record.elbo == pytest.approx(record.recon - record.kl, rel=1e-9)
        assert record.loss == pytest.approx(-record.elbo, rel=1e-9)
        assert record.seconds > 0


@pytest.mark.parametrize(
    "objective",
    [
        Trace_ELBO(num_particles=4),
        Trace_ELBO(num_particles=4, vectorize_particles=True, max_plate_nesting=1),
        TraceMeanField_ELBO(),
        RenyiELBO(alpha=0, num_particles=4, vectorize_particles=True, max_plate_nesting=1),
    ],
)
def test_the_terms_are_those_of_the_vae_under_any_objective(objective):
    """Without movement, the terms of many epochs agree with the average over the data within 5 standard errors."""
    vae, x = make_vae("normal_fixed"), make_x("normal_fixed", n=40)
    history = train(vae, x, epochs=60, lr=1e-300, objective=objective)
    exact = average_elbo(vae, x, kl="analytic", num_particles=5000)
    for name, value in (("recon", exact.recon), ("kl", exact.kl)):
        drawn = np.array([getattr(record, name) for record in history])
        assert abs(drawn.mean() - value) < 5 * drawn.std() / math.sqrt(60)


def test_training_improves_the_bound_on_real_data():
    digits = data.load("digits", binarize="dynamic")
    torch.manual_seed(0)
    vae = build(digits.event_shape, latent_dim=4, hidden=(64,))
    history = fit(vae, digits.train, valid=digits.valid, epochs=30, lr=5e-3, progress=False)
    assert history[-1].valid_elbo > -28
    assert history[0].valid_elbo < -32
    assert average_elbo(vae, digits.test).elbo > -28


def test_the_vae_ends_with_the_best_weights():
    vae, x = make_vae(), make_x(n=40)
    valid, seen = make_x(n=20), {}
    history = train(
        vae,
        x,
        valid=valid,
        epochs=8,
        lr=0.3,
        schedule="constant",
        on_epoch=lambda r: seen.update({r.epoch: weights(vae)}),
    )
    assert same(weights(vae), seen[history.best.epoch])
    assert history.best.valid_elbo == max(r.valid_elbo for r in history)


def test_without_validation_the_vae_ends_with_the_last_weights():
    vae, seen = make_vae(), {}
    train(vae, epochs=3, on_epoch=lambda r: seen.update({r.epoch: weights(vae)}))
    assert same(weights(vae), seen[3])


def test_patience_stops_after_epochs_without_a_better_bound():
    history = train(make_vae(), valid=make_x(n=20), epochs=200, lr=0.3, schedule="constant", patience=3)
    assert len(history) < 200
    assert len(history) == history.best.epoch + 3


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_learning_rate_follows_its_schedule(schedule):
    rates = []

    class Recording(torch.optim.SGD):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    train(make_vae(), lr=1e-3, schedule=schedule, epochs=4, optimizer=Recording)  # 40 examples: three steps an epoch
    assert rates == pytest.approx([learning_rate(1e-3, schedule, i, 3, i / 12) for i in range(12)], rel=1e-12)
    assert rates[0] < rates[3]


class Watching(nn.Module):
    """Notes what it is given, and in which mode."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.seen = inner, []

    def forward(self, x):
        self.seen.append((self.training, x))
        return self.inner(x)


def test_training_shuffles_in_training_mode_and_validates_in_evaluation_mode():
    whole, x = make_vae("normal_fixed"), torch.arange(8.0).reshape(8, 1, 1).expand(8, 2, 3).double()
    vae = VAE(whole.prior, whole.likelihood, Watching(whole.posterior)).eval()
    train(vae, x, valid=x[:2], epochs=6, batch_size=8)
    orders = [tuple(x[:, 0, 0].tolist()) for training, x in vae.posterior.seen if training]
    assert len(orders) == 6
    assert len(set(orders)) > 1
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert [len(x) for training, x in vae.posterior.seen if not training] == [8, 2] + 6 * [2]


def test_optimisers_of_torch_are_taken():
    vae = make_vae()
    twin = copy.deepcopy(vae)
    train(vae, lr=0.01, optimizer=torch.optim.SGD)
    train(twin, lr=0.01)
    assert not same(weights(vae), weights(twin))


def test_shared_optimiser_takes_the_steps_of_pyros_own():
    x = make_x(n=30)
    ours, pyros = make_vae(), make_vae()
    for vae, optim in (
        (ours, SharedOptim(torch.optim.Adam(ours.parameters(), lr=1e-2))),
        (pyros, pyro.optim.Adam({"lr": 1e-2})),
    ):
        pyro.set_rng_seed(1)
        svi = SVI(vae.model, vae.guide, optim, loss=Trace_ELBO())
        for _ in range(10):
            svi.step(x)
    for p, q in zip(ours.parameters(), pyros.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)
