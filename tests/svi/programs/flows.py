"""Normalising flows."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pyro.distributions.transforms as T
import torch
from torch import nn

from tests.svi.programs.cases import Program, case
from tests.svi.programs.data import normals, real


def flow_density(transform: Callable[[], nn.Module]) -> Program:
    flow = transform()

    def model(x):
        pyro.module("flow", flow)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.TransformedDistribution(dist.Normal(torch.zeros(2), 1.0).to_event(1), [flow]), obs=x)

    return Program(model, lambda x: None, real(8, 2), modules=(flow,))


@case(slow=True)
def flow_spline_coupling():
    return flow_density(lambda: T.spline_coupling(2, count_bins=4, hidden_dims=[6]))


@case
def flow_affine_coupling():
    return flow_density(lambda: T.affine_coupling(2, hidden_dims=[6]))


@case(slow=True)
def flow_spline():
    return flow_density(lambda: T.Spline(2, count_bins=4, bound=3.0))


@case
def flow_masked_autoregressive():
    flow = T.affine_autoregressive(2, hidden_dims=[6])

    def model(x):
        pyro.module("flow", flow)
        base = dist.Normal(torch.zeros(2), 1.0).to_event(1)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.TransformedDistribution(base, [flow.inv]), obs=x)

    return Program(model, lambda x: None, real(8, 2), modules=(flow,))


@case(slow=True)
def flow_conditional():
    flow = T.conditional_spline(2, 1, hidden_dims=[6], count_bins=4)

    def model(context, x):
        pyro.module("flow", flow)
        base = dist.Normal(torch.zeros(2), 1.0).to_event(1)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.ConditionalTransformedDistribution(base, [flow]).condition(context), obs=x)

    return Program(
        model,
        lambda c, x: None,
        [(normals(8, 1, seed=i), normals(8, 2, seed=9 + i)) for i in range(5)],
        modules=(flow,),
    )


@case(slow=True)
def flow_in_the_guide():
    flows = nn.ModuleList([T.planar(2), T.sylvester(2, 2), T.radial(2)])

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 0.5).to_event(1), obs=x)

    def guide(x):
        pyro.module("flows", flows)
        with pyro.plate("data", len(x)):
            base = dist.Normal(pyro.param("gain", torch.tensor(0.3)) * x, 1.0).to_event(1)
            pyro.sample("z", dist.TransformedDistribution(base, list(flows)))

    return Program(model, guide, real(8, 2), modules=(flows,))
