"""Correct models as people have them, each with something that a careless check would take for an error."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceGraph_ELBO
from torch import nn
from torch.nn import functional as F

from pyro_vae import VAE, build, likelihoods, nets, posteriors, priors
from pyro_vae.checks import check
from pyro_vae.closed_forms import LinearGaussian

D = 6


@pytest.fixture(autouse=True)
def _fresh():
    torch.manual_seed(0)
    yield
    pyro.clear_param_store()


def bits():
    return (torch.rand(16, D) > 0.5).float()


def encoder():
    return posteriors.DiagonalNormal(nets.MLP(D, (8,), 4))


class Likelihood(nn.Module):
    """Makes a distribution of a linear net's output."""

    def __init__(self, make, net=None):
        super().__init__()
        self.net, self.make = net or nn.Linear(2, D), make

    def forward(self, z):
        return self.make(self.net(z))


class Clamped(nn.Module):
    """clamp(min=0) as the activation of a hidden layer."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(2, 8), nn.Linear(8, D)

    def forward(self, z):
        return self.last(self.first(z).clamp(min=0))


class Scalars(nn.Module):
    """x and z without a dimension beside the batch."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(0.1))

    def model(self, x):
        pyro.module("scalars", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal(self.a * z, 1.0), obs=x)

    def guide(self, x):
        pyro.module("scalars", self)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.b * x, 0.8))


class BinaryCodes(nn.Module):
    """Vectors of independent bits as codes, that say nothing of x, so that prior and posterior are one."""

    def _z(self, x):
        return pyro.sample("z", dist.Bernoulli(x.new_full((len(x), 2), 0.4)).to_event(1))

    def model(self, x):
        with pyro.plate("data", len(x)):
            self._z(x)
            pyro.sample("x", dist.Bernoulli(x.new_full((len(x), D), 0.3)).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            self._z(x)


class Flattened(nn.Module):
    """Observes x in another shape, as Pyro's tutorials do, and logs of it in the encoder."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(D, 4), nn.Linear(2, D)

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), 2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 0.7).to_event(1), obs=x.reshape(-1, D))

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, raw = self.encoder(torch.log1p(x.reshape(-1, D).clamp(min=0))).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, F.softplus(raw) + 1e-3).to_event(1))


def closures():
    """Functions around modules in training mode, with batch norm."""
    encode, decode = nn.Sequential(nn.Linear(D, 4), nn.BatchNorm1d(4)), nn.Linear(2, D)

    def model(x):
        pyro.module("decode", decode)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), 2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(decode(z), 0.7).to_event(1), obs=x)

    def guide(x):
        pyro.module("encode", encode)
        with pyro.plate("data", len(x)):
            loc, raw = encode(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, raw.exp()).to_event(1))

    return model, guide, encode[1]


def vae(likelihood, prior=None):
    return VAE(prior or priors.StandardNormal(2), likelihood, encoder())


MODELS = {
    "a prior of torch.zeros, in float32": lambda: (
        vae(likelihoods.Bernoulli(nets.MLP(2, (8,), D)), lambda: dist.Laplace(torch.zeros(2), 1.0).to_event(1)),
        bits(),
    ),
    "noise so small that one weight is all": lambda: (
        vae(Likelihood(lambda out: dist.Normal(out, 1e-3).to_event(1))),
        torch.randn(16, D),
    ),
    "a clamp as activation": lambda: (
        vae(Likelihood(lambda out: dist.Normal(out, 1.0).to_event(1), Clamped())),
        torch.randn(16, D),
    ),
    "scalars": lambda: (Scalars(), torch.randn(16)),
    "another shape": lambda: (Flattened(), torch.randn(16, 2, 3)),
    "one example": lambda: (build(D, 2, hidden=(8,)), bits()[:1]),
    "data that never change": lambda: (build(D, 2, hidden=(8,)), torch.ones(8, D)),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_correct_model_passes(name):
    model, x = MODELS[name]()
    report = check(model, x, repeats=20)
    assert report.passed, [(line.name, line.finding.detail) for line in report.failures]


@pytest.mark.parametrize("unit", [1e-6, 1.0, 3e3])
def test_the_exact_solution_in_any_unit(unit):
    table = torch.randn(200, D, dtype=torch.float64) @ torch.randn(D, D, dtype=torch.float64) * unit
    model = LinearGaussian.maximum_likelihood(table, 2)
    report = check(model.vae("exact"), table[:16], exact=True, repeats=20)
    assert report.passed, [(line.name, line.finding.detail) for line in report.failures]
    assert report["reach"].verdict == "passed"


def test_functions_run_their_modules_in_evaluation_mode_and_leave_them():
    model, guide, norm = closures()
    before = norm.running_mean.clone()
    report = check((model, guide), torch.randn(16, D), repeats=20)
    assert report.passed, [(line.name, line.finding.detail) for line in report.failures]
    assert torch.equal(norm.running_mean, before)
    assert norm.training


def test_codes_of_bits_are_ranked_with_their_ties():
    report = check(BinaryCodes(), bits(), exact=True, repeats=20)
    assert report.passed, [(line.name, line.finding.detail) for line in report.failures]
    assert report["calibration"].verdict == "passed"


def test_an_objective_without_a_differentiable_loss():
    report = check(build(D, 2, hidden=(8,)), bits(), objective=TraceGraph_ELBO(), repeats=20)
    assert report.passed
    assert report["objective"].verdict == "passed"
    assert report["objective-gradient"].verdict == "passed"


def test_an_exception_on_the_way_leaves_parameters_as_they_were():
    model, guide, _ = closures()
    calls = iter(range(10**6))
    target = {}

    def raising(x):
        if next(calls) == target.get("at"):
            raise RuntimeError("in the middle")
        return guide(x)

    pair, x = (model, raising), torch.randn(16, D)
    modules = [m for f in pair for m in f.__closure__ and [c.cell_contents for c in f.__closure__]]
    parameters = [p for m in modules if isinstance(m, nn.Module) for p in m.parameters()]
    assert check(pair, x, only=["gradient"]).passed
    needed = next(calls)
    before = [p.clone() for p in parameters]
    target["at"] = needed + needed - 3  # in the finite differences of the next check
    report = check(pair, x, only=["gradient"])
    assert "in the middle" in report["gradient"].finding.detail
    assert all(torch.equal(p, q) for p, q in zip(parameters, before, strict=True))
