"""Handlers around a program: scales, masks, conditions and names."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.contrib.autoname import scope
from pyro.contrib.easyguide import easy_guide
from pyro.distributions import constraints
from pyro.infer.autoguide import AutoNormal

from tests.svi.programs.cases import Program, case
from tests.svi.programs.data import binary, coins, real, regression
from tests.svi.programs.regression import linear


@case(slow=True)
def scaled_by_a_number():
    model = poutine.scale(linear, scale=0.1)
    return Program(model, poutine.scale(AutoNormal(model), scale=0.1), regression())


@case
def annealed_by_a_tensor():
    def model(x, beta):
        with pyro.plate("data", len(x)):
            with poutine.scale(scale=beta):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x, beta):
        gain = pyro.param("gain", torch.tensor(0.2))
        with pyro.plate("data", len(x)), poutine.scale(scale=beta):
            pyro.sample("z", dist.Normal(gain * x, 0.8))

    return Program(model, guide, [(*x, torch.tensor((i + 1) / 5)) for i, x in enumerate(real(8))])


@case(captures=None, slow=True)
def annealed_by_a_number():
    """A Python number is part of the structure, or made dynamic: either is right."""

    def model(x, beta=1.0):
        with pyro.plate("data", len(x)):
            with poutine.scale(scale=beta):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x, beta=1.0):
        gain = pyro.param("gain", torch.tensor(0.2))
        with pyro.plate("data", len(x)), poutine.scale(scale=beta):
            pyro.sample("z", dist.Normal(gain * x, 0.8))

    return Program(model, guide, real(8), kwargs=[{"beta": b} for b in (0.2, 0.4, 0.4, 1.0, 1.0)])


@case
def masked_observations():
    def model(x, mask):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            with poutine.mask(mask=mask):
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x, mask):
        gain = pyro.param("gain", torch.tensor(0.2))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(gain * x * mask, 0.8))

    return Program(model, guide, [(*x, coins(8, seed=i).bool()) for i, x in enumerate(real(8))])


@case
def imputation_with_obs_mask():
    def model(x, mask):
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x, obs_mask=mask)

    def guide(x, mask):
        pyro.sample("loc", dist.Normal(pyro.param("q", torch.tensor(0.0)), 0.5))
        with pyro.plate("data", len(x)):
            pyro.sample("x_unobserved", dist.Normal(pyro.param("fill", torch.tensor(0.1)), 1.0))

    return Program(model, guide, [(*x, coins(8, seed=i).bool()) for i, x in enumerate(real(8))])


@case
def factors_and_deterministic():
    def model(x):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        twice = pyro.deterministic("twice", 2 * a)
        pyro.factor("near_one", -((twice - 1) ** 2))
        with pyro.plate("data", len(x)):
            pyro.factor("data_term", -((x - twice) ** 2))

    def guide(x):
        loc = pyro.param("loc", torch.tensor(0.0))
        pyro.sample("a", dist.Normal(loc, 0.3))
        pyro.factor("prefer", 0.01 * loc, has_rsample=True)

    return Program(model, guide, real(8))


@case(slow=True)
def blocked_site():
    def model(x):
        with poutine.block(hide=["nuisance"]):
            n = pyro.sample("nuisance", dist.Normal(0.0, 0.1))
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu + n, 1.0), obs=x)

    def guide(x):
        pyro.sample("mu", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.5))

    return Program(model, guide, real(8))


@case(loud=True)
def conditioned_and_intervened():
    def model(x):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        b = pyro.sample("b", dist.Normal(a, 1.0))
        c = pyro.sample("c", dist.Normal(a + b, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(c, 1.0), obs=x)

    model = pyro.do(pyro.condition(model, data={"a": torch.tensor(0.3)}), data={"b": torch.tensor(0.1)})

    def guide(x):
        pyro.sample("c", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.5))

    return Program(model, guide, real(8))


@case(slow=True)
def lifted_parameters():
    def net(x, y):
        w = pyro.param("w", torch.zeros(3))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal((x * w).sum(-1), 0.5), obs=y)

    model = poutine.lift(net, prior={"w": dist.Normal(torch.zeros(3), 1.0).to_event(1)})

    def guide(x, y):
        scale = pyro.param("w_scale", torch.full((3,), 0.2), constraint=constraints.positive)
        pyro.sample("w", dist.Normal(pyro.param("w_loc", torch.zeros(3)), scale).to_event(1))

    return Program(model, guide, regression())


@case
def scoped_twice():
    def coin(x):
        p = pyro.sample("p", dist.Beta(2.0, 2.0))
        pyro.sample("x", dist.Bernoulli(p).expand([len(x)]).to_event(1), obs=x)

    def model(x):
        for name in ("left", "right"):
            scope(coin, prefix=name)(x)

    return Program(model, AutoNormal(model), binary(6))


@case
def easy_guide_by_hand():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 8, dim=-1):
            z = pyro.sample("z", dist.Normal(mu, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    @easy_guide(model)
    def guide(self, x):
        self.map_estimate("mu")
        group = self.group(match="z")
        with self.plate("data", 8, dim=-1):
            loc = pyro.param("loc", torch.zeros(8, 1))
            group.sample("z_group", dist.Normal(loc, 0.3).to_event(1))

    return Program(model, guide, real(8))
