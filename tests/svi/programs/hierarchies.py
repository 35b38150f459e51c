"""Hierarchies, reparametrised and with plates in plates."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pyro.distributions.transforms as T
import torch
from pyro import poutine
from pyro.infer import TraceMeanField_ELBO
from pyro.infer.autoguide import (
    AutoDiagonalNormal,
    AutoHierarchicalNormalMessenger,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
    init_to_median,
)
from pyro.infer.reparam import (
    AutoReparam,
    LatentStableReparam,
    LocScaleReparam,
    ProjectedNormalReparam,
    StudentTReparam,
    TransformReparam,
)
from torch import Tensor

from tests.svi.programs.cases import Program, case
from tests.svi.programs.data import coins, generator, normals, real


def schools(y, sigma):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def schools_data() -> list[tuple[Tensor, Tensor]]:
    y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    return [(y + i, torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])) for i in range(5)]


@case(slow=True)
def eight_schools():
    return Program(schools, AutoMultivariateNormal(schools), schools_data())


@case(slow=True)
def eight_schools_mean_field():
    return Program(schools, AutoNormal(schools), schools_data(), loss=TraceMeanField_ELBO())


@case
def eight_schools_loc_scale_reparam():
    model = poutine.reparam(schools, config={"theta": LocScaleReparam(centered=0.0)})
    return Program(model, AutoDiagonalNormal(model), schools_data())


@case(slow=True)
def eight_schools_learned_centering():
    model = poutine.reparam(schools, config={"theta": LocScaleReparam(centered=None)})
    return Program(model, AutoNormal(model), schools_data())


@case(slow=True)
def eight_schools_reparam_by_itself():
    model = AutoReparam()(schools)
    return Program(model, AutoNormal(model), schools_data())


@case(slow=True)
def eight_schools_hierarchical_messenger():
    return Program(
        schools,
        AutoHierarchicalNormalMessenger(schools, init_loc_fn=init_to_median, hierarchical_sites=["theta"]),
        schools_data(),
    )


@case(slow=True)
def transform_reparam():
    def model(x):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        affine = T.AffineTransform(scale, 2.0)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.TransformedDistribution(dist.Normal(0.0, 1.0), [affine]))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    model = poutine.reparam(model, config={"z": TransformReparam()})
    return Program(model, AutoNormal(model), real(8))


@case(slow=True)
def student_t_stable_projected_reparam():
    @poutine.reparam(
        config={
            "t": StudentTReparam(),
            "s": LatentStableReparam(),
            "direction": ProjectedNormalReparam(),
        }
    )
    def model(x):
        t = pyro.sample("t", dist.StudentT(4.0, 0.0, 1.0))
        s = pyro.sample("s", dist.Stable(1.6, 0.0, 1.0, 0.0))
        direction = pyro.sample("direction", dist.ProjectedNormal(torch.ones(2)))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(t + s + direction.sum(-1), 1.0), obs=x)

    return Program(model, AutoDiagonalNormal(model), real(8))


@case(slow=True)
def nested_plates():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        outer, inner = pyro.plate("outer", 3, dim=-2), pyro.plate("inner", 4, dim=-1)
        with outer:
            a = pyro.sample("a", dist.Normal(mu, 1.0))
        with inner:
            b = pyro.sample("b", dist.Normal(0.0, 1.0))
        with outer, inner:
            c = pyro.sample("c", dist.Normal(a + b, 1.0))
            pyro.sample("x", dist.Normal(c, 0.5), obs=x)

    return Program(model, AutoNormal(model), real(3, 4))


@case
def nested_subsampled_plates():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with (
            pyro.plate("rows", 8, subsample_size=3, dim=-2) as i,
            pyro.plate("columns", 6, subsample_size=2, dim=-1) as j,
        ):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x[i][:, j])

    def guide(x):
        pyro.sample("mu", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.5))

    return Program(model, guide, real(8, 6))


@case(slow=True)
def radon_varying_intercepts_and_slopes():
    def model(county, floor, y):
        mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 5.0).to_event(1))
        scale = pyro.sample("scale", dist.HalfNormal(torch.ones(2)).to_event(1))
        with pyro.plate("counties", 4):
            ab = pyro.sample("ab", dist.Normal(mu, scale).to_event(1))
        with pyro.plate("data", len(y)):
            mean = ab[county, 0] + ab[county, 1] * floor
            pyro.sample("y", dist.Normal(mean, 0.7), obs=y)

    batches = [(torch.randint(4, (9,), generator=generator(i)), coins(9, seed=i), normals(9, seed=i)) for i in range(5)]
    return Program(model, AutoLowRankMultivariateNormal(model), batches)
