"""What a step is called with, and what Python decides by it."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoDiagonalNormal, AutoNormal

from tests.svi.programs.cases import Program, case
from tests.svi.programs.data import normals, real


@case
def conditional_keywords():
    """The same structure each time: a keyword that chooses a branch, and one that is a tensor."""

    def model(x, y=None, *, kind="normal", weight=None):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        cls = dist.Normal if kind == "normal" else dist.Laplace
        with pyro.plate("data", len(x)), poutine.scale(scale=weight if weight is not None else 1.0):
            pyro.sample("x", cls(mu, 1.0), obs=x)

    def guide(x, y=None, **kwargs):
        pyro.sample("mu", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.5))

    kwargs = [{"kind": "laplace", "weight": normals(8, seed=i).exp()} for i in range(5)]
    return Program(model, guide, real(8), kwargs=kwargs)


@case(captures=2)
def keyword_that_changes_the_structure():
    def model(x, kind="normal"):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        cls = dist.Normal if kind == "normal" else dist.Laplace
        with pyro.plate("data", len(x)):
            pyro.sample("x", cls(mu, 1.0), obs=x)

    def guide(x, **kwargs):
        pyro.sample("mu", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.5))

    return Program(
        model,
        guide,
        real(8, steps=6),
        kwargs=[{"kind": k} for k in ("normal", "laplace", "normal", "laplace", "normal", "laplace")],
    )


@case
def arguments_in_dicts_and_lists():
    def model(batch, weights):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(batch["x"])):
            pyro.sample("x", dist.Normal(mu + weights[0], weights[1]), obs=batch["x"])

    def guide(batch, weights):
        pyro.sample("mu", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.5))

    return Program(
        model, guide, [({"x": normals(8, seed=i)}, [torch.tensor(0.1 * i), torch.tensor(1.0)]) for i in range(5)]
    )


@case
def no_arguments_at_all():
    data = normals(9)

    def model():
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(data)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=data)

    return Program(model, AutoDiagonalNormal(model), [()] * 5)


@case(slow=True)
def prints_of_what_it_draws():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        print("mu has shape", mu.shape, "and the data", len(x))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x)

    return Program(model, AutoNormal(model), real(8))


@case(slow=True)
def structure_that_python_decides():
    """Branches on shapes, dtypes and a model's settings stay the same for one structure."""
    settings = {"heavy": True}

    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        d = (
            dist.StudentT(4.0, mu, 1.0)
            if settings["heavy"] and x.dim() == 1 and x.is_floating_point()
            else dist.Normal(mu, 1.0)
        )
        with pyro.plate("data", x.size(0)):
            pyro.sample("x", d, obs=x)

    return Program(model, AutoNormal(model), real(8))
