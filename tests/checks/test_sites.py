"""What a check does not support is said by name and is no failure; what is wrong with sites is."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pyro.distributions.transforms as transforms
import pytest
import torch
from pyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoNormal
from torch import nn

from pyro_vae import check
from pyro_vae.checks import CHECKS
from pyro_vae.checks.in_place import changed_in_place
from tests.checks.mutants.common import BATCH, LATENTS, Plain, bits, reals


@pytest.fixture(autouse=True)
def _empty_store():
    yield
    pyro.clear_param_store()


class SecondSite(Plain):
    """Observes a label beside x."""

    def model(self, x):
        pyro.module("vae", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", self.likelihood(z), obs=x)
            pyro.sample("y", dist.Normal(z.sum(-1), 1.0), obs=x.sum(-1))


class TwoLevels(Plain):
    """A code above the code."""

    def model(self, x):
        pyro.module("vae", self)
        with pyro.plate("data", len(x)):
            top = pyro.sample("top", dist.Normal(x.new_zeros(len(x)), 1.0))
            z = pyro.sample("z", dist.Normal(top[:, None].expand(-1, LATENTS), 1.0).to_event(1))
            pyro.sample("x", self.likelihood(z), obs=x)

    def guide(self, x):
        pyro.module("vae", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", self.posterior(x))
            pyro.sample("top", dist.Normal(z.sum(-1), 1.0))


class GlobalSite(Plain):
    """A scale for all examples, with a prior."""

    def model(self, x):
        pyro.module("vae", self)
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", dist.Normal(self.decoder(z), scale).to_event(1), obs=x)

    def guide(self, x):
        pyro.sample("scale", dist.LogNormal(pyro.param("loc", torch.zeros(())), 0.1))
        super().guide(x)


class FactorInTheGuide(Plain):
    def guide(self, x):
        super().guide(x)
        pyro.factor("nudge", x.new_zeros(()), has_rsample=True)


class FactorAsLikelihood(Plain):
    def model(self, x):
        pyro.module("vae", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", self.prior(x))
            pyro.factor("x", self.likelihood(z).log_prob(x))


class FactorUnderAnotherName(Plain):
    def model(self, x):
        pyro.module("vae", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", self.prior(x))
            pyro.factor("error", self.likelihood(z).log_prob(x))


class Auxiliary(Plain):
    def guide(self, x):
        pyro.module("vae", self)
        with pyro.plate("data", len(x)):
            noise = pyro.sample("noise", dist.Normal(x.new_zeros(len(x)), 1.0), infer={"is_auxiliary": True})
            mean, log_variance = self.encode(x)
            pyro.sample("z", dist.Normal(mean + noise[:, None], torch.exp(log_variance / 2)).to_event(1))


class SumsOverAClass(Plain):
    def model(self, x):
        pyro.module("vae", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", self.prior(x))
            k = pyro.sample("k", dist.Categorical(x.new_ones(len(x), 2)), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.Normal(self.decoder(z) + k.unsqueeze(-1), self.scale).to_event(1), obs=x)


class TakesRows(Plain):
    """All the data are given, and the plate takes a few."""

    def model(self, x):
        pyro.module("vae", self)
        with pyro.plate("data", len(x), subsample_size=4) as index:
            z = pyro.sample("z", self.prior(x[index]))
            pyro.sample("x", self.likelihood(z), obs=x[index])

    def guide(self, x):
        pyro.module("vae", self)
        with pyro.plate("data", len(x), subsample_size=4) as index:
            pyro.sample("z", self.posterior(x[index]))


class ExamplesOnTheRight(Plain):
    """Pixels count rows, examples columns."""

    def model(self, x):
        pyro.module("vae", self)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", self.prior(x))
            with pyro.plate("pixels", x.shape[1], dim=-2):
                pyro.sample("x", dist.Normal(self.decoder(z).T, self.scale), obs=x.T)


class OneByOne(Plain):
    """A site for each example."""

    def model(self, x):
        pyro.module("vae", self)
        for i in pyro.plate("data", len(x)):
            z = pyro.sample(f"z_{i}", dist.Normal(torch.zeros(LATENTS), 1.0).to_event(1))
            pyro.sample(f"x_{i}", self.likelihood(z), obs=x[i])

    def guide(self, x):
        pyro.module("vae", self)
        for i in pyro.plate("data", len(x)):
            pyro.sample(f"z_{i}", self.posterior(x[i]))


class Flow(Plain):
    """With a flow that has no inverse."""

    def __init__(self):
        super().__init__()
        self.planar = transforms.Planar(LATENTS)

    def posterior(self, x):
        return dist.TransformedDistribution(super().posterior(x).base_dist, [self.planar])


class Rounded(Plain):
    """With bits that were rounded, and have the density of what was rounded."""

    def posterior(self, x):
        return dist.RelaxedBernoulliStraightThrough(x.new_tensor(0.5), logits=self.encode(x)[0]).to_event(1)

    def prior(self, x):
        return dist.Bernoulli(logits=x.new_zeros(len(x), LATENTS)).to_event(1)


def with_auto(make):
    vae = Plain()
    return vae.model, make(vae.model)


BEYOND = {
    "a second observed site": (SecondSite, "the model observes 'y' beside 'x'"),
    "two latent sites": (TwoLevels, "model and guide have the latent sites 'top' and 'z'"),
    "a global latent": (GlobalSite, "model and guide have the latent sites 'scale' and 'z'"),
    "a factor in the guide": (FactorInTheGuide, "the guide has the pyro.factor 'nudge'"),
    "a factor for x": (FactorAsLikelihood, "log p(x|z) is a pyro.factor"),
    "a factor in the place of x": (FactorUnderAnotherName, "log p(x|z) is a pyro.factor"),
    "an auxiliary site": (Auxiliary, "the guide has the auxiliary site 'noise'"),
    "a site summed over in the model": (SumsOverAClass, "the model enumerates 'k' itself"),
    "a plate that takes rows": (TakesRows, "the plate 'data' subsamples 4 of the 16 rows of x itself"),
    "a flow without an inverse": (Flow, "q(z|x): its transform Planar has no inverse"),
    "rounded draws": (Rounded, "q(z|x) is one of Pyro's relaxed straight-through distributions"),
    "examples to the right of pixels": (
        ExamplesOnTheRight,
        "at the site 'x', the plate of examples 'data' is to the right of 'pixels'",
    ),
    "a site for each example": (OneByOne, "model and guide have the latent sites 'z_0', 'z_1', 'z_2' and 13 more"),
    "AutoNormal": (lambda: with_auto(AutoNormal), "the guide is an AutoNormal"),
    "AutoDelta": (lambda: with_auto(AutoDelta), "the guide is an AutoDelta"),
    "AutoDiagonalNormal": (lambda: with_auto(AutoDiagonalNormal), "the guide is an AutoDiagonalNormal"),
}


@pytest.mark.parametrize("name", BEYOND)
def test_what_is_not_supported_is_no_failure_and_has_a_name(name):
    make, words = BEYOND[name]
    report = check(make(), reals())
    assert not report.failures, [(line.name, line.finding.detail) for line in report.failures]
    detail = report["sites"].finding.detail
    assert detail.startswith(f"not supported: {words}")
    assert len(report) == len(CHECKS)
    assert all((line.verdict, line.finding.detail) == ("skipped", detail) for line in report)


def test_a_factor_in_the_model_is_named():
    class Model(Plain):
        def model(self, x):
            super().model(x)
            pyro.factor("penalty", -0.1 * self.decoder[0].weight.square().sum())

    report = check(Model(), reals(), only=["trace-elbo", "mean-field-elbo"])
    assert [line.name for line in report.failures] == ["trace-elbo", "mean-field-elbo"]
    for line, loss in zip(report, ("Trace_ELBO", "TraceMeanField_ELBO"), strict=True):
        assert f"{loss} counts the model's pyro.factor 'penalty'" in line.finding.detail


# Data changed in place.


@pytest.mark.parametrize("place", ["model", "guide"])
def test_the_data_of_the_caller_stay_as_they_are(place):
    class Model(Plain):
        def changed(self, x):
            return x.sub_(0.5)

        def model(self, x):
            super().model(self.changed(x) if place == "model" else x)

        def guide(self, x):
            super().guide(self.changed(x) if place == "guide" else x)

    x = reals()
    report = check(Model(), x)
    assert [line.name for line in report.failures] == ["sites"]
    assert f"the {place} changes x in place" in report["sites"].finding.detail
    assert "work on x.clone()" in report["sites"].finding.detail
    assert torch.equal(x, reals())


def test_context_changed_in_place():
    class Model(Plain):
        def model(self, x, c):
            super().model(x)

        def guide(self, x, c):
            c[c < 0] = 0.0
            super().guide(x + c)

    context = reals(seed=3)
    report = check(Model(), reals(), context)
    assert "the guide changes context 0 in place" in report["sites"].finding.detail
    assert torch.equal(context, reals(seed=3))


def test_an_objective_that_changes_x():
    x = reals()
    assert not changed_in_place(lambda x: x.clone().mul_(2).sum(), "the objective", x)
    assert changed_in_place(lambda x: x.mul_(2).sum(), "the objective", x).startswith(
        "the objective changes x in place"
    )
    assert changed_in_place(lambda x: x.clamp_(-99, 99), "the objective", x).startswith("the objective changes x in")
    assert torch.equal(x, reals())


def test_missing_values_are_not_changes():
    x = reals()
    x[0, 0] = torch.nan
    assert not changed_in_place(lambda x: x.sum(), "the guide", x)
    assert changed_in_place(lambda x: x.nan_to_num_(), "the guide", x)
    assert changed_in_place(lambda x: x.numpy().__setitem__((0, 0), 0.0), "the guide", x)


# Words.


def test_the_hint_to_declare_dimensions_is_given_where_it_is_true():
    class Undeclared(Plain):
        def likelihood(self, z):
            return dist.Normal(self.decoder(z), self.scale)

    assert "Declare every dimension after the batch" in check(Undeclared(), reals()).failures[0].finding.detail


def test_the_hint_is_not_given_for_a_product_of_matrices():
    vae = Plain()
    vae.decoder = nn.Linear(LATENTS + 1, 6)
    detail = check(vae, reals()).failures[0].finding.detail
    assert "mat1 and mat2 shapes cannot be multiplied" in detail
    assert "Declare" not in detail


def test_the_hint_is_not_given_for_a_plate_of_another_size():
    class Fixed(Plain):
        size = 12

        def model(self, x):
            pyro.module("vae", self)
            with pyro.plate("data", self.size):
                z = pyro.sample("z", self.prior(x))
                pyro.sample("x", self.likelihood(z), obs=x)

        def guide(self, x):
            pyro.module("vae", self)
            with pyro.plate("data", self.size):
                pyro.sample("z", self.posterior(x))

    vae = Fixed()
    first = check(vae, reals()).failures[0]
    vae.size = BATCH
    second = check(vae, reals()).failures[0]
    assert (first.name, second.name) == ("sites", "shapes")
    for size, line in ((12, first), (BATCH, second)):
        assert f"The plate 'data' has the size {size} whatever x is" in line.finding.detail
        assert "subsample=x" in line.finding.detail
        assert "Declare" not in line.finding.detail


def test_a_missing_site_of_the_guide_is_a_failure():
    class Model(TwoLevels):
        def guide(self, x):
            Plain.guide(self, x)

    report = check(Model(), bits())
    assert [line.name for line in report.failures] == ["sites"]
    assert "the model samples 'top', and the guide does not" in report["sites"].finding.detail


# What is said about natural mistakes.


def pair(likelihood=lambda z: dist.Bernoulli(logits=z.sum(1, keepdim=True)), scale=1.0, observed="x"):
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample(observed, likelihood(z).expand((len(x), 3)).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x[:, :2], torch.tensor(scale)).to_event(1))

    return model, guide


GREY = torch.tensor([[0.25, 0.5, 1.0], [0.0, 1.0, 0.0]])
NATURAL = {
    "grey values": (pair(), GREY, "torch.Size([2, 3])), but it is not. Change the data (for example, binarise"),
    "a scale below 0": (pair(scale=-1.0), GREY.round(), "but it does not. A scale must be positive: apply softplus()"),
    "probabilities above 1": (
        pair(lambda z: dist.Bernoulli(probs=1.5 + 0 * z[:, :1])),
        GREY.round(),
        "but it does not. Probabilities lie in [0, 1]: pass the network's output as logits=",
    ),
    "a location that is NaN": (
        pair(lambda z: dist.Normal(torch.nan * z[:, :1], 1.0)),
        GREY,
        "but it does not. Look at what the network returns for loc: is it NaN?",
    ),
    "the pair turned round": (
        pair()[::-1],
        GREY.round(),
        "but the guide has one: pass (model, guide) in this order",
    ),
    "another name of x's site": (
        pair(observed="obs"),
        GREY.round(),
        "no observed site 'x'; it observes obs. Name the site of x with observed=",
    ),
}


@pytest.mark.parametrize("name", NATURAL)
def test_natural_mistakes_are_said_without_a_table_of_values_and_with_what_to_do(name):
    pair, x, said = NATURAL[name]
    found = check(pair, x, only=["sites"])["sites"].finding
    assert found.verdict == "failed"
    assert said in found.detail
    assert "tensor(" not in found.detail
    assert len(found.detail) < 500
