"""fit() refuses by name what it would otherwise train in part, or not at all, without a word."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import nn

from pyro_vae import VAE, fit, likelihoods, nets, posteriors, priors

X = torch.rand(40, 4, generator=torch.Generator().manual_seed(0)).round()


def make_vae(prior=None, likelihood=None):
    torch.manual_seed(0)
    return VAE(
        prior=prior or priors.StandardNormal(2),
        likelihood=likelihood or likelihoods.Bernoulli(nets.MLP(2, (3,), 4)),
        posterior=posteriors.DiagonalNormal(nets.MLP(4, (3,), 2 * 2)),
    )


def test_a_pair_in_the_wrong_order_is_refused():
    vae = make_vae()
    with pytest.raises(ValueError, match=r"no observed site.*The guide observes x: the pair is \(model, guide\)"):
        fit((vae.guide, vae.model), X, epochs=1, progress=False)


def test_parameters_of_a_part_that_is_no_module_are_refused():
    loc, net = nn.Parameter(torch.zeros(2)), nn.Linear(2, 4)
    before = [p.clone() for p in (loc, *net.parameters())]
    with pytest.raises(ValueError, match=r"prior, which is no module, uses a parameter of shape \(2,\)"):
        fit(make_vae(prior=lambda: dist.Normal(loc, 1.0).to_event(1)), X, epochs=1, progress=False)
    decoder = make_vae(likelihood=lambda z: dist.Bernoulli(logits=net(z)).to_event(1))
    with pytest.raises(ValueError, match="likelihood, which is no module, .* would not be trained. Make the part an"):
        fit(decoder, X, epochs=1, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(before, (loc, *net.parameters()), strict=True))


def test_a_part_that_is_no_module_may_use_frozen_parameters():
    net = nn.Linear(2, 4).requires_grad_(False)
    vae = make_vae(likelihood=lambda z: dist.Bernoulli(logits=net(z)).to_event(1))
    other = make_vae(likelihood=_Decoder(net))
    first, second = (fit(v, X, epochs=2, progress=False, seed=3) for v in (vae, other))
    assert [record.loss for record in first] == [record.loss for record in second]


class _Decoder(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, z):
        return dist.Bernoulli(logits=self.net(z)).to_event(1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": "adam"}, "optimizer must make a torch optimiser .*; got 'adam'"),
        ({"optimizer": torch.optim.Adam([nn.Parameter(torch.zeros(1))])}, "got Adam. Pass its class, without"),
        ({"objective": "iwae"}, r"objective must be a Pyro ELBO, .*; got 'iwae'. Make it: pyro_vae.objectives.IWAE"),
        ({"objective": Trace_ELBO}, r"Call it: Trace_ELBO\(\)"),
    ],
)
def test_what_is_almost_right_is_refused_with_what_would_be(options, words):
    with pytest.raises(TypeError, match=words):
        fit(make_vae(), X, epochs=1, progress=False, **options)


class _Counting(nn.Module):
    """Replaces a buffer in a method that is not ``forward``, as counters and moving averages do."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 4)
        self.register_buffer("runs", torch.zeros(()))

    def logits(self, z):
        self.runs = self.runs + 1
        return self.net(z) + 0.1 * self.runs


def test_buffers_that_the_first_look_changes_are_put_back():
    """Each loss is that of SVI by hand, whose first step sees the first value."""
    decoder = _Counting()
    loc = nn.Parameter(torch.zeros(2))

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder.logits(z)).to_event(1), obs=x)

    def guide(x):
        q = pyro.param("loc", loc)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(q.expand(len(x), 2), 1.0).to_event(1))

    fit((model, guide), X, epochs=1, batch_size=len(X), progress=False)
    assert decoder.runs == 1
    pyro.clear_param_store()


class _Moving(nn.Module):
    """A likelihood that replaces its buffer in each run of the training."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 4)
        self.register_buffer("runs", torch.zeros(()))

    def forward(self, z):
        self.runs = self.runs + int(self.training)
        return dist.Bernoulli(logits=self.net(z)).to_event(1)


@pytest.mark.filterwarnings("ignore:The model and guide cannot be captured")  # they count in Python
@pytest.mark.parametrize("engine", ["pyro", "compiled"])
def test_trial_steps_put_back_a_buffer_that_is_replaced(engine):
    vae = make_vae(likelihood=_Moving())
    fit(vae, X, epochs=3, batch_size=20, engine=engine, progress=False)
    assert vae.likelihood.runs == 6
