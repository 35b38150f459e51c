"""Modules."""

from __future__ import annotations

import dataclasses
from typing import Any

import pyro
import pyro.distributions as dist
import pyro.optim
import torch
from pyro.distributions import constraints
from pyro.infer import TraceGraph_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal, AutoNormal
from pyro.nn import PyroModule, PyroParam, PyroSample, pyro_method
from torch import nn

from tests.svi.programs.cases import Program, case
from tests.svi.programs.data import binary, coins, real, regression
from tests.svi.programs.regression import logistic


class Regression(PyroModule):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.scale = PyroParam(torch.tensor(0.7), constraint=constraints.positive)
        self.register_buffer("shift", torch.tensor(0.1))

    def forward(self, x, y):
        mean = self.linear(x).squeeze(-1) + self.shift
        with pyro.plate("data", len(x)):
            return pyro.sample("y", dist.Normal(mean, self.scale), obs=y)


@case
def pyro_module_with_pyro_param():
    model = Regression()
    return Program(model, lambda x, y: None, regression(), modules=(model,))


@case(slow=True)
def pyro_module_guide_with_method():
    class Guide(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.loc = PyroParam(torch.zeros(3))
            self.scale = PyroParam(lambda: torch.ones(3), constraints.positive, event_dim=1)

        @pyro_method
        def offset(self):
            return pyro.sample("b", dist.Normal(self.loc.sum(), 0.5))

        def forward(self, x, y):
            pyro.sample("w", dist.Normal(self.loc, self.scale).to_event(1))
            self.offset()

    return Program(logistic, Guide(), regression("logistic"))


@case(slow=True)
def bayesian_neural_network():
    class Net(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = PyroModule[nn.Linear](3, 4)
            self.fc1.weight = PyroSample(dist.Normal(0.0, 1.0).expand([4, 3]).to_event(2))
            self.fc1.bias = PyroSample(dist.Normal(0.0, 1.0).expand([4]).to_event(1))
            self.fc2 = PyroModule[nn.Linear](4, 1)
            self.sigma = PyroSample(lambda self: dist.LogNormal(self.fc2.bias.sum(), 1.0))

        def forward(self, x, y=None):
            mean = self.fc2(self.fc1(x).tanh()).squeeze(-1)
            with pyro.plate("data", len(x)):
                pyro.sample("y", dist.Normal(mean, self.sigma), obs=y)
            return mean

    model = Net()
    return Program(model, AutoDiagonalNormal(model), regression(), modules=(model,))


@case(slow=True)
def neural_network_turned_bayesian():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    pyro.nn.module.to_pyro_module_(net)
    for m in net.modules():
        for name, value in list(m.named_parameters(recurse=False)):
            setattr(m, name, PyroSample(dist.Normal(0, 1).expand(value.shape).to_event(value.dim())))

    def model(x, y):
        mean = net(x).squeeze(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(mean, 0.3), obs=y)

    return Program(model, AutoNormal(model, init_scale=0.01), regression())


@case
def random_module():
    net = nn.Linear(3, 1)

    def model(x, y):
        pyro.module("net", net)
        eps = pyro.sample("eps", dist.Normal(torch.zeros(len(x)), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(net(x).squeeze(-1) + 0.1 * eps, 0.3), obs=y)

    def guide(x, y):
        pyro.sample("eps", dist.Normal(0.5 * y, 1.0).to_event(1))

    return Program(model, guide, regression(), modules=(net,))


def vae_nets(features: int = 6, latent: int = 2, hidden: int = 5, *middle: nn.Module) -> tuple[nn.Module, nn.Module]:
    encoder = nn.Sequential(nn.Linear(features, hidden), *middle, nn.Softplus(), nn.Linear(hidden, 2 * latent))
    return encoder, nn.Sequential(nn.Linear(latent, hidden), nn.Softplus(), nn.Linear(hidden, features))


def vae(*middle: nn.Module, **options: Any) -> Program:
    encoder, decoder = vae_nets(6, 2, 5, *middle)

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("latent", dist.Normal(x.new_zeros(x.shape[0], 2), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z), validate_args=False).to_event(1), obs=x)

    def guide(x):
        pyro.module("encoder", encoder)
        with pyro.plate("data", x.shape[0]):
            loc, scale = encoder(x).chunk(2, -1)
            pyro.sample("latent", dist.Normal(loc, scale.exp()).to_event(1))

    options = {"optim": pyro.optim.Adam({"lr": 1e-3})} | options
    return Program(model, guide, binary(8, 6), modules=(encoder, decoder), **options)


@case(slow=True)
def vae_of_the_tutorial():
    return vae()


@case(slow=True)
def epoch_with_a_last_batch_in_a_vae():
    sizes = (8, 8, 5, 8, 5)
    return dataclasses.replace(vae(), batches=[(coins(n, 6, seed=i),) for i, n in enumerate(sizes)])


@case
def vae_with_batch_norm():
    return vae(nn.BatchNorm1d(5))


@case(slow=True)
def vae_with_dropout():
    return vae(nn.Dropout(0.3))


@case(slow=True)
def vae_mean_field():
    return vae(loss=TraceMeanField_ELBO())


@case(slow=True)
def vae_mean_field_particles():
    return vae(loss=TraceMeanField_ELBO(num_particles=3, vectorize_particles=True))


@case(slow=True)
def vae_graph():
    return vae(loss=TraceGraph_ELBO())


@case(loud=True, slow=True)
def module_with_frozen_parameters():
    encoder, decoder = vae_nets()
    for p in encoder[0].parameters():
        p.requires_grad_(False)
    shared = decoder[2].weight  # tied to what the guide reads

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(decoder(z), 1.0).to_event(1), obs=x)

    def guide(x):
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            loc, scale = encoder(x + 0.1 * shared.sum()).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))

    return Program(model, guide, real(8, 6), modules=(encoder, decoder))


@case
def convolutional_vae():
    encoder = nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 4))
    decoder = nn.Sequential(nn.Linear(2, 16), nn.Unflatten(1, (4, 2, 2)), nn.ConvTranspose2d(4, 1, 5, stride=3))

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)[..., :8, :8]).to_event(3), obs=x)

    def guide(x):
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            loc, scale = encoder(x[..., :7, :7]).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))

    return Program(model, guide, binary(6, 1, 8, 8), modules=(encoder, decoder))
