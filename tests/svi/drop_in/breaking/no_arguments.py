"""Programs that take no tensors."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal
from torch import nn

from tests.svi.drop_in.breaking.table import breaks
from tests.svi.drop_in.harness import CHANGE, STEPS, Program
from tests.svi.drop_in.tiny import data, guide, latent, seen, times

X = torch.tensor(2.0)


def bare(*_):
    pyro.sample("x", dist.Normal(latent(), 1.0), obs=X)


@breaks("no-arguments", "graph")
def nothing():
    return Program(bare, guide, times(), optim=pyro.optim.Adam({"lr": 0.1}))


@breaks("no-arguments", "graph")
def nothing_and_an_optimiser_beside_the_graph():
    return Program(bare, guide, times(), optim=pyro.optim.RMSprop({"lr": 0.1}))


@breaks("no-arguments", "graph")
def nothing_evaluated():
    def steps(svi):
        for _ in range(3):
            yield svi.evaluate_loss()
        for _ in range(3):
            yield svi.step()
            yield svi.evaluate_loss()

    return Program(bare, guide, steps)


class Counts(nn.Module):
    """A counter in a buffer, changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("n", torch.tensor(0.0))

    def model(self, *_):
        self.n.add_(1)
        pyro.sample("x", dist.Normal(latent(self.n / 10), 1.0), obs=X)


def noisy(*_):
    pyro.sample("z", dist.Delta(pyro.param("loc", torch.tensor(0.0)) + torch.randn(())))


def counting(*args) -> Program:
    module = Counts()
    return Program(module.model, noisy, times(*args), modules=(module,))


def branching(*args) -> Program:
    def model(*_):
        i = int(torch.randint(3, ()).item())
        z = pyro.sample("z", dist.Normal(float(i), 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=X)

    return Program(model, noisy, times(*args))


@breaks("no-arguments", "graph")
def buffer_of_nothing():
    return counting()


@breaks("no-arguments", "graph")
def buffer_of_a_tensor():
    return counting(torch.ones(2))


@breaks("no-arguments", "either")
def item_of_nothing():
    return branching()


@breaks("no-arguments", "either")
def item_of_a_tensor():
    return branching(torch.ones(2))


@breaks("no-arguments", "graph")
def minibatches_drawn_inside():
    x = data(12)

    def model():
        z = latent()
        with pyro.plate("data", 12, subsample_size=4) as rows:
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[rows])

    return Program(model, guide, times())


@breaks("no-arguments", "graph")
def automatic_guide_of_nothing():
    def model():
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        pyro.sample("x", dist.Normal(0.0, scale), obs=X)

    return Program(model, AutoNormal(model), times(), loss=TraceMeanField_ELBO())


@breaks("no-arguments", "either")
def batches_taken_from_a_loader_inside():
    batches = iter(torch.utils.data.DataLoader(data(60), batch_size=4))

    def model():
        seen(latent(), next(batches))

    return Program(model, guide, times())


@breaks("no-arguments", "graph")
def data_of_an_object_replaced_between_steps():
    class Regression:
        def __init__(self) -> None:
            self.x = data()

        def model(self):
            seen(latent(), self.x)

    regression = Regression()

    def steps(svi):
        for i in range(STEPS):
            if i == CHANGE:
                regression.x = -data()
            yield svi.step()

    return Program(regression.model, guide, steps)


@breaks("no-arguments", "either")
def sometimes_something():
    """None makes another program than a batch."""

    def model(x=None):
        z = latent()
        with pyro.plate("data", 4):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide_of_both(x=None):
        guide()
        if x is None:
            with pyro.plate("data", 4):
                pyro.sample("x_unobserved", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})

    def steps(svi):
        for i in range(STEPS):
            yield svi.step(*[data()] * (i % 2))

    return Program(model, guide_of_both, steps)
