"""A global that has the name of a site, as loops in scripts make it."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoNormal

from pyro_vae import CompiledSVI

y: torch.Tensor | None = None
width = 1.0


def model(values):
    weight = pyro.sample("weight", dist.Normal(0.0, 1.0))
    with pyro.plate("data", values.shape[0]):
        pyro.sample("y", dist.Normal(weight, 1.0), obs=values)


def looked_up(name):
    return globals()[name]


def model_that_looks_up(values):
    weight = pyro.sample("weight", dist.Normal(0.0, 1.0))
    with pyro.plate("data", values.shape[0]):
        pyro.sample("obs", dist.Normal(weight, looked_up("width")), obs=values)


@pytest.fixture(autouse=True)
def _store():
    yield
    pyro.clear_param_store()


def compiled(program):
    adam = pyro.optim.Adam({"lr": 0.01})
    return CompiledSVI(program, AutoNormal(program), adam, Trace_ELBO(), mode="exact", audit=False)


def test_a_loop_variable_with_the_name_of_a_site_costs_no_graph():
    global y
    svi = compiled(model)
    for y in torch.randn(64).split(16):
        svi.step(y)
    assert svi.captures == 1


def test_a_global_that_another_function_looks_up_by_its_name_is_watched():
    global width
    svi = compiled(model_that_looks_up)
    values = torch.randn(16)
    for _ in range(3):
        svi.step(values)
    width = 3.0
    for _ in range(3):
        svi.step(values)
    width = 1.0
    assert svi.captures == 2


def test_an_attribute_with_the_name_of_a_site():
    """A trainer keeps its batch under the name that the site has."""

    class Trainer:
        def __init__(self):
            self.x = None

        def model(self, x):
            with pyro.plate("data", x.shape[0]):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

        def guide(self, x):
            loc = pyro.param("loc", torch.tensor(0.0))
            with pyro.plate("data", x.shape[0]):
                pyro.sample("z", dist.Normal(loc, 1.0))

    trainer = Trainer()
    svi = CompiledSVI(trainer.model, trainer.guide, pyro.optim.SGD({"lr": 1e-3}), Trace_ELBO(), mode="exact")
    for i in range(4):
        trainer.x = torch.full((3,), float(i))
        svi.step(trainer.x)
    assert svi.captures == 1
