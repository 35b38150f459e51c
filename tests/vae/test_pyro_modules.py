"""PyroModules as parts: their parameters train by SVI as those of any other module."""

from __future__ import annotations

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.nn import PyroModule, PyroParam
from torch import nn
from torch.distributions import constraints

from pyro_vae import VAE, CompiledSVI, fit, likelihoods, nets, posteriors, priors

X = torch.ones(8, 6)


class Decoder(PyroModule):
    def __init__(self):
        super().__init__()
        self.layer = PyroModule[nn.Linear](2, 6)

    def forward(self, z):
        return dist.Bernoulli(logits=self.layer(z)).to_event(1)


class Shifted(PyroModule):
    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.ones(2))
        self.scale = PyroParam(torch.ones(2), constraints.positive)

    def forward(self):
        return dist.Normal(self.loc, self.scale).to_event(1)


class Plain(nn.Module):
    """The same as ``Decoder``, without Pyro."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 6)

    def forward(self, z):
        return dist.Bernoulli(logits=self.layer(z)).to_event(1)


def make_vae(prior=None, likelihood=None):
    posterior = posteriors.DiagonalNormal(nets.MLP(6, (4,), 2 * 2))
    likelihood = likelihood or likelihoods.Bernoulli(nets.MLP(2, (4,), 6))
    return VAE(prior or priors.StandardNormal(2), likelihood, posterior)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("parts", [{"likelihood": Decoder}, {"prior": Shifted}])
@pytest.mark.parametrize("kind", [SVI, CompiledSVI])
def test_all_parameters_train_by_svi(parts, kind):
    torch.manual_seed(0)
    vae = make_vae(**{name: part() for name, part in parts.items()})
    before = copy.deepcopy(vae.state_dict())
    svi = kind(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    for _ in range(3):
        svi.step(X)
    assert all(not torch.equal(value, before[name]) for name, value in vae.state_dict().items())
    assert not pyro.get_param_store().keys()


def test_losses_are_those_of_a_plain_module():
    losses = []
    for kind in (Decoder, Plain):
        torch.manual_seed(0)
        vae = make_vae(likelihood=kind())
        losses.append([record.loss for record in fit(vae, X, epochs=3, seed=1, progress=False)])
    assert losses[0] == losses[1]
