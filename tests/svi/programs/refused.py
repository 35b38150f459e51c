"""Programs that cannot be captured."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import ReweightedWakeSleep, Trace_ELBO

from tests.svi.programs.cases import Program, refused
from tests.svi.programs.data import real
from tests.svi.programs.losses import nets_guide


def located(model: Callable[..., Any], batches: list[tuple[Any, ...]] | None = None) -> Program:
    """Add a guide over ``mu``, the only latent variable."""

    def guide(*args):
        pyro.sample("mu", dist.Normal(pyro.param("loc", torch.tensor(0.1)), 0.5))

    return Program(model, guide, batches or real(8))


@refused
def branch_on_a_draw():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        if mu > 0:  # <- here
            mu = mu / 2
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x)

    return located(model)


@refused
def branch_on_the_data():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            scale = 1.0 if (x.abs() < 2).all() else 2.0  # <- here
            pyro.sample("x", dist.Normal(mu, scale), obs=x)

    return located(model)


@refused
def while_on_a_tensor():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        rest = x.abs().sum()
        while rest > 1:  # <- here
            rest = rest / 2
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu * rest, 1.0), obs=x)

    return located(model)


@refused
def item_of_a_tensor():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        scale = 1 + abs(x.mean().item())  # <- here
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, scale), obs=x)

    return located(model)


@refused
def float_of_a_tensor():
    def model(x):
        scale = math.exp(float(x.std()))  # <- here
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, scale), obs=x)

    return located(model)


@refused
def numpy_of_a_tensor():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        scale = 1.0 + float(x.numpy().std())  # <- here
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, scale), obs=x)

    return located(model)


@refused
def numpy_in_the_guide():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x)

    def guide(x):
        loc = pyro.param("loc", torch.tensor(0.1))
        start = torch.from_numpy(x.numpy().mean(keepdims=True))  # <- here
        pyro.sample("mu", dist.Normal(loc + start.squeeze(), 0.5))

    return Program(model, guide, real(8))


@refused
def list_of_a_tensor():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        for i, value in enumerate(x.tolist()):  # <- here
            pyro.sample(f"x_{i}", dist.Normal(mu, 1.0), obs=torch.tensor(value))

    return located(model)


@refused
def geometric_structure():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        n = pyro.sample("n", dist.Geometric(0.5), infer={"is_auxiliary": True})
        for i in range(int(n)):  # <- here
            mu = mu + 0.1 * i
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x)

    def guide(x):
        pyro.sample("mu", dist.Normal(pyro.param("loc", torch.tensor(0.1)), 0.5))
        pyro.sample("n", dist.Geometric(0.4))

    return Program(model, guide, real(8))


@refused
def recursion_on_a_coin():
    def depth(t=0):
        return t if t == 9 or pyro.sample(f"stop_{t}", dist.Bernoulli(0.5)).bool() else depth(t + 1)  # <- here

    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with poutine.block():
            n = depth()
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu + 0.1 * n, 1.0), obs=x)

    return located(model)


@refused
def check_of_the_user():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        if torch.isnan(x).any():  # <- here
            raise ValueError("x must not hold NaN")
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x)

    return located(model)


@refused
def plate_of_what_is_positive():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        kept = x[x > 0]  # <- here
        with pyro.plate("data", len(kept)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=kept)

    return located(model)


@refused
def lookup_by_a_drawn_label():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        likelihoods = {0: dist.Normal, 1: dist.Laplace}
        cls = likelihoods[int(x[0] > 0)]  # <- here
        with pyro.plate("data", len(x)):
            pyro.sample("x", cls(mu, 1.0), obs=x)

    return located(model)


@refused
def loss_that_gives_an_item():
    class Item(Trace_ELBO):
        def loss_and_grads(self, model, guide, *args, **kwargs):
            loss = self.differentiable_loss(model, guide, *args, **kwargs)
            loss.backward()
            return loss.item()  # <- here

    return nets_guide(Item())


def two_losses() -> Program:
    """Wake-sleep has a loss for the model and one for the guide."""
    return nets_guide(ReweightedWakeSleep(num_particles=3, insomnia=0.7, vectorize_particles=True, max_plate_nesting=1))
