"""The lines on the objective: its value, its gradient, its noise, its modes, and the causes that are named."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro.infer import RenyiELBO, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from torch import nn
from torch.nn import functional as F

from pyro_vae import build, data
from pyro_vae.checks import check
from pyro_vae.checks.directions import Directions
from pyro_vae.checks.ranks import correlation_of_examples
from pyro_vae.objectives import IWAE, BetaELBO, FreeBits, StickingTheLanding
from tests.checks.mutants.common import Plain, net, reals

LINES = ["objective", "objective-gradient", "objective-training", "objective-noise"]


@pytest.fixture(autouse=True)
def _fresh():
    torch.manual_seed(0)
    yield
    pyro.clear_param_store()


def objective_lines(vae, x, objective, **options):
    return check(vae, x, objective=objective, **({"only": LINES, "repeats": 30} | options))


def bits(batch=24, size=8):
    return (torch.rand(batch, size) > 0.5).float()


# The ten losses of well-known repositories, each with what is to be named, on 48 digits.


def kl_of(mean, variance):
    return -0.5 * (1 + variance.log() - mean**2 - variance).sum()


def bce(reduction):
    return lambda logits, x: F.binary_cross_entropy_with_logits(logits, x, reduction=reduction)


BATCH, PIXELS, LATENTS = 48, 64, 4
FAMOUS = {
    "right, summed": (bce("sum"), kl_of, None),
    "right, per example": (
        lambda logits, x: bce("sum")(logits, x) / BATCH,
        lambda m, v: kl_of(m, v) / BATCH,
        "the negative bound / 48 (a mean over the batch)",
    ),
    "mean of BCE beside a summed KL": (
        bce("mean"),
        kl_of,
        "KL - log p(x|z) / 3072 (a mean over batch and elements)",
    ),
    "both over batch and pixels": (
        bce("mean"),
        lambda m, v: kl_of(m, v) / (BATCH * PIXELS),
        "the negative bound / 3072 (a mean over batch and elements)",
    ),
    "means of both": (
        bce("mean"),
        lambda m, v: kl_of(m, v) / m.numel(),
        "KL / 192 (a mean over batch and latents) - log p(x|z) / 3072 (a mean over batch and elements)",
    ),
    "mean of the KL beside a BCE per example": (
        lambda logits, x: bce("sum")(logits, x) / BATCH,
        lambda m, v: kl_of(m, v) / m.numel(),
        "KL / 192 (a mean over batch and latents) - log p(x|z) / 48 (a mean over the batch)",
    ),
    "sign of the KL": (bce("sum"), lambda m, v: -kl_of(m, v), "the sign of the KL is wrong"),
    "log-variance as log-scale": (
        bce("sum"),
        lambda m, v: -0.5 * (1 + 2 * v.log() - m**2 - v**2).sum(),
        "the log-variance taken for a log-scale",
    ),
    "KL over the batch beside a BCE per example": (
        lambda logits, x: bce("sum")(logits, x) / BATCH,
        kl_of,
        "KL - log p(x|z) / 48 (a mean over the batch)",
    ),
    "KL weight of 0.00025": (
        bce("mean"),
        lambda m, v: 0.00025 * kl_of(m, v) / BATCH,
        "relative to log p(x|z), the KL counts 0.016 times",
    ),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", FAMOUS)
def test_the_cause_of_a_famous_loss_is_named_and_only_there(name):
    recon, kl, cause = FAMOUS[name]
    vae = build((1, 8, 8), LATENTS, hidden=(32,))
    x = next(iter(data.batches(data.load("digits", binarize="threshold").train, BATCH)))[0]

    def objective(x):
        q = vae.encode(x)
        return recon(vae.likelihood.net(q.rsample()), x) + kl(q.mean, q.variance)

    uniform = cause is not None and cause.startswith("the negative bound")
    only = LINES if cause is None or uniform else ["objective"]  # other lines come after it
    report = objective_lines(vae, x, objective, repeats=40, only=only)
    if cause is None:
        assert report.passed
        return
    assert report.failures[0].name == "objective"
    assert cause in report["objective"].finding.detail
    if uniform:  # the gradient is that of the bound except for the factor, which is reported once
        factor = int(cause.split()[4])
        assert (
            f"Training is the same up to the learning rate; multiply by {factor} to"
            in report["objective"].finding.detail
        )
        assert len(report.failures) == 1


def test_the_mean_squared_error_beside_a_kl_per_example():
    """As in many a tutorial; beside a KL divided by the batch, the mean over D elements is a normal of scale √(D/2)."""
    vae, x = Plain(), reals()

    def objective(x):
        q, p = vae.posterior(x), vae.prior(x)
        error = (vae.decoder(q.rsample()) - x).square().mean()
        return error + torch.distributions.kl_divergence(q, p).sum() / len(x)

    found = objective_lines(vae, x, objective, repeats=100, only=["objective"])["objective"].finding
    batch, elements = x.shape
    assert (
        f"it fits KL / {batch} (a mean over the batch) + the squared error / {x.numel()} (a mean over batch and elements), "
        f"as if p(x|z) were a normal of scale {math.sqrt(elements / 2):.3g}. Sum over elements and latents"
    ) in found.detail


@settings(max_examples=8, deadline=None)
@given(weight=st.floats(0.05, 20), of_kl=st.booleans())
def test_any_one_weight_is_found(weight, of_kl):
    vae = Plain()

    def objective(x):
        q, p = vae.posterior(x), vae.prior(x)
        recon = vae.likelihood(q.rsample()).log_prob(x).sum()
        kl = torch.distributions.kl_divergence(q, p).sum()
        return weight * kl - recon if of_kl else kl - weight * recon

    found = objective_lines(vae, reals(), objective, repeats=20, only=["objective"])["objective"].finding
    if abs(weight - 1) < 1e-3:
        return
    assert found.verdict == "failed"
    near = (0.5, 2.0, 1 / 6, 1 / 16, 1 / math.log(2))
    if all(abs(weight / w - 1) > 0.02 for w in near):
        said = f"{weight:.3g} KL - log p(x|z)" if of_kl else f"KL - {weight:.3g} log p(x|z)"
        # The last of three digits is estimated.
        assert said in found.detail or f"{weight:.2g}" in found.detail


def test_what_no_usual_mistake_explains_gets_no_name():
    vae = Plain()

    def objective(x):
        q, p = vae.posterior(x), vae.prior(x)
        recon = vae.likelihood(q.rsample()).log_prob(x)
        return (recon.abs().sqrt() + torch.distributions.kl_divergence(q, p) ** 1.3).sum()

    detail = objective_lines(vae, reals(), objective, only=["objective"])["objective"].finding.detail
    assert "on average, and the negative bound of this batch is" in detail
    assert "it fits" not in detail
    assert "it is" not in detail


def test_the_same_noise_in_each_call():
    vae = Plain()

    def objective(x):
        q, p = vae.posterior(x), vae.prior(x)
        noise = torch.full_like(q.mean, 1.7)
        recon = vae.likelihood(q.mean + q.stddev * noise).log_prob(x).sum()
        return torch.distributions.kl_divergence(q, p).sum() - recon

    found = objective_lines(vae, reals(), objective, repeats=100, only=["objective"])["objective"].finding
    assert "the same in each call" in found.detail


# Objectives of Pyro's and of ours.


@pytest.mark.parametrize(
    "objective",
    [
        Trace_ELBO(),
        TraceMeanField_ELBO(),
        TraceGraph_ELBO(),
        TraceEnum_ELBO(max_plate_nesting=1),
        RenyiELBO(alpha=0, num_particles=3),
        IWAE(4),
        StickingTheLanding(),
        BetaELBO(1.0),
    ],
    ids=lambda o: type(o).__name__,
)
def test_elbos_pass(objective):
    report = objective_lines(build(8, 3, hidden=(8,)), bits(), objective)
    assert report.passed, [(line.name, line.finding.detail) for line in report.failures]
    assert report["objective"].verdict == "passed"
    assert report["objective-gradient"].verdict == "passed"


def test_gradients_are_left_as_they_were():
    """TraceGraph_ELBO gives its gradient to p.grad alone."""
    vae = build(8, 3, hidden=(8,))
    first = next(vae.parameters())
    first.grad = torch.ones_like(first)
    objective_lines(vae, bits(), TraceGraph_ELBO())
    assert torch.equal(first.grad, torch.ones_like(first))
    assert all(p.grad is None for p in list(vae.parameters())[1:])


@pytest.mark.parametrize("objective", [Trace_ELBO(), TraceGraph_ELBO(), TraceEnum_ELBO(max_plate_nesting=1)])
def test_discrete_codes_are_compared_with_the_exact_value_and_gradient(objective):
    codes = {"class": "Categorical", "classes": 4}
    report = objective_lines(build(8, 4, prior=codes, posterior=codes, hidden=(8,)), bits(), objective, repeats=100)
    assert report.passed, [(line.name, line.finding.detail) for line in report.failures]
    assert report["objective-gradient"].verdict == "passed"


def test_weighted_objectives_are_noted():
    vae, x = build(8, 3, hidden=(8,)), bits()
    for objective, words in ((BetaELBO(4.0), "log p(x|z) - 4 KL on purpose"), (FreeBits(0.1), "on purpose")):
        report = objective_lines(vae, x, objective)
        assert report.passed
        assert report["objective"].verdict == "noted"
        assert words in report["objective"].finding.detail


def test_a_weighted_objective_that_is_not_what_it_says():
    class Wrong(BetaELBO):
        def objective(self, draws):
            return super().objective(draws) * 1.1

    report = objective_lines(build(8, 3, hidden=(8,)), bits(), Wrong(4.0))
    assert "not log p(x|z) - 4 KL" in report["objective"].finding.detail


# The plate's scale.


class Subsampled(Plain):
    """64 examples in all."""

    def model(self, x):
        pyro.module("vae", self)
        with pyro.plate("data", 64, subsample=x):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", self.likelihood(z), obs=x)

    def guide(self, x):
        pyro.module("vae", self)
        with pyro.plate("data", 64, subsample=x):
            pyro.sample("z", self.posterior(x))


@pytest.mark.parametrize("scale", [1.0, 4.0, 2.0])
def test_a_loss_by_hand_may_be_that_of_the_batch_or_of_all_data(scale):
    """And of nothing between: 16 of 64 examples count once or four times each."""
    vae = Subsampled()

    def objective(x):
        q, p = vae.posterior(x), vae.prior(x)
        recon = vae.likelihood(q.rsample()).log_prob(x)
        return scale * (torch.distributions.kl_divergence(q, p) - recon).sum()

    report = objective_lines(vae, reals(), objective, repeats=60)
    assert report.passed is (scale != 2.0), [(line.name, line.finding.detail) for line in report.failures]


# Training mode.


class WithDropout(nn.Module):
    """Batch norm and dropout, with which p and q are others in training mode."""

    def __init__(self, size=8, latents=2):
        super().__init__()
        self.latents = latents
        self.encoder = nn.Sequential(nn.Linear(size, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 2 * latents))
        self.decoder = nn.Sequential(nn.Linear(latents, 16), nn.Dropout(0.3), nn.Tanh(), nn.Linear(16, size))

    def q(self, x):
        mean, raw = self.encoder(x).chunk(2, -1)
        return dist.Normal(mean, F.softplus(raw) + 0.1).to_event(1)

    def model(self, x):
        pyro.module("vae", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), self.latents), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("vae", self)
        with pyro.plate("data", len(x)):
            pyro.sample("z", self.q(x))

    def loss(self, x):
        q = self.q(x)
        recon = F.binary_cross_entropy_with_logits(self.decoder(q.rsample()), x, reduction="sum")
        prior = dist.Normal(torch.zeros(self.latents), 1.0).to_event(1)
        return recon + torch.distributions.kl_divergence(q, prior).sum()


def test_dropout_and_batch_norm_in_training_mode_are_no_alarm():
    vae, x = WithDropout(), bits()
    state = {name: t.clone() for name, t in vae.state_dict().items()}
    report = objective_lines(vae.train(), x, vae.loss, repeats=60)
    assert report.passed, [(line.name, line.finding.detail) for line in report.failures]
    assert "in training mode p or q differs" in report["objective-training"].finding.detail
    assert vae.training
    assert all(torch.equal(vae.state_dict()[name], t) for name, t in state.items())  # the running means too


# What the lines are made of.


def test_directions_see_one_row_of_a_tensor():
    """A bias in one of 50 outputs, 5 standard errors of its own row, is far below the noise of the whole tensor."""
    weight = torch.zeros(50, 100)
    directions = Directions.of([("weight", weight)], seed=0)
    assert directions.columns == ["weight"] * 51
    gradient = torch.zeros(50, 100)
    gradient[7] = torch.arange(100.0)
    slopes = directions.slopes([gradient])
    v = directions.whole[0]
    assert torch.isclose(slopes[0], (v * gradient).sum().double())
    row = [i for i in range(1, 51) if slopes[i] != 0]
    assert len(row) == 1
    unit = v[7] / v[7].norm()
    assert torch.isclose(slopes[row[0]], (unit * gradient[7]).sum().double(), rtol=1e-5)


def test_directions_of_scalars_and_of_what_has_no_gradient():
    directions = Directions.of([("a", torch.tensor(1.0)), ("b", torch.zeros(3))], seed=0)
    assert directions.slopes([None, None]).tolist() == [0.0] * 5


def test_correlations_of_examples():
    """Of 30,000 pairs none is wrong at the level 1e-4; one pair of 0.9 is found."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(200, 40, 3, generator=generator)
    assert correlation_of_examples(draws, 1e-4, 0).verdict == "passed"
    draws[:, 7] = 0.9 * draws[:, 3] + 0.1 * draws[:, 7]
    found = correlation_of_examples(draws, 1e-4, 0)
    assert found.verdict == "failed"
    assert found.difference > 0.8
    assert correlation_of_examples(torch.ones(100, 4, 2), 1e-4, 0).verdict == "skipped"


# Log p(x) by Markov's inequality.


class RareWeights(Plain):
    """q(z|x) is 60 nats too small where |z| is above 1.2: rare weights, of which the mean has no variance to speak of."""

    def posterior(self, x):
        class Wrong(dist.Normal):
            def log_prob(self, value):
                return super().log_prob(value) - 60.0 * (value.abs() > 1.2)

        mean, log_variance = self.encode(x)
        return Wrong(mean[..., 0], torch.exp(log_variance / 2)[..., 0])

    def prior(self, x):
        return dist.Normal(x.new_zeros(len(x)), 1.0)

    def likelihood(self, z):
        return dist.Normal(self.decoder(torch.stack([z, 0 * z], -1)), self.scale).to_event(1)


def test_a_few_weights_far_above_log_p_are_found():
    report = check(RareWeights(), reals(), only=["evidence"])
    assert "of one example is" in report["evidence"].finding.detail
    assert "nats above" in report["evidence"].finding.detail


# What the lines say of noise and of examples.


class Code(Plain):
    """One of four codes, drawn straight through or not."""

    def __init__(self, family):
        super().__init__()
        self.family, self.encoder, self.decoder = family, net(6, 8, 4), net(4, 8, 6, seed=1)

    def prior(self, x):
        return self.family(logits=x.new_zeros(len(x), 4))

    def posterior(self, x):
        return self.family(logits=3 * self.encoder(x))


def test_straight_through_draws_are_biased_on_purpose():
    vae = Code(dist.OneHotCategoricalStraightThrough)
    report = check(vae, reals(), objective=Trace_ELBO(10, vectorize_particles=True, max_plate_nesting=1))
    assert report.passed, [(line.name, line.finding.detail) for line in report.failures]
    assert report["objective-gradient"].verdict == "noted"
    assert "on purpose" in report["objective-gradient"].finding.detail
    assert report["enum-elbo"].verdict == "skipped"


def test_a_gradient_that_is_mostly_noise_says_so():
    """The score function without a baseline; beside the exact gradient of a code, which has no variance to compare."""
    report = objective_lines(Code(dist.OneHotCategorical), reals(), Trace_ELBO(), only=["objective-gradient"])
    assert report.passed
    assert "too noisy along encoder" in report["objective-gradient"].finding.detail
    assert "variance" not in report["objective-gradient"].finding.detail


def test_examples_that_depend_on_each_other_are_told_from_those_that_share_noise():
    vae = Plain()

    def objective(x):
        x = (x - x.mean(0)) / x.std(0)
        return Trace_ELBO().differentiable_loss(vae.model, vae.guide, x)

    found = objective_lines(vae, reals(), objective)["objective-noise"]
    assert found.verdict == "failed"
    assert "depends on the other examples of the batch" in found.finding.detail


@pytest.mark.parametrize("seed", [0, 3])
def test_more_draws_in_evaluation_mode_are_no_failure(seed):
    vae = Plain()

    def objective(x):
        draws = 1 if vae.training else 30
        loss = Trace_ELBO(draws, vectorize_particles=draws > 1, max_plate_nesting=1)
        return loss.differentiable_loss(vae.model, vae.guide, x)

    only = ["objective-training"]
    line = objective_lines(vae, reals(), objective, repeats=100, seed=seed, only=only)["objective-training"]
    assert line.verdict == "noted"
    assert "is the noise different, or the number of draws?" in line.finding.detail
