"""Guides by hand, with constraints."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pyro.optim
import torch
from pyro.distributions import constraints
from pyro.infer.autoguide import AutoNormal

from tests.svi.programs.cases import Program, case
from tests.svi.programs.data import binary, counts, real


@case
def coin_beta():
    def model(x):
        p = pyro.sample("p", dist.Beta(10.0, 10.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Bernoulli(p), obs=x)

    def guide(x):
        a = pyro.param("a", torch.tensor(15.0), constraint=constraints.positive)
        b = pyro.param("b", torch.tensor(15.0), constraint=constraints.positive)
        pyro.sample("p", dist.Beta(a, b))

    return Program(model, guide, binary(10), optim=pyro.optim.Adam({"lr": 0.0005, "betas": (0.90, 0.999)}))


@case
def coin_with_sequential_plate():
    def model(x):
        p = pyro.sample("p", dist.Beta(10.0, 10.0))
        for i in pyro.plate("data", len(x)):
            pyro.sample(f"x_{i}", dist.Bernoulli(p), obs=x[i])

    def guide(x):
        a = pyro.param("a", torch.tensor(15.0), constraint=constraints.positive)
        pyro.sample("p", dist.Beta(a, 12.0))

    return Program(model, guide, binary(6))


@case
def dirichlet_multinomial():
    def model(x):
        p = pyro.sample("p", dist.Dirichlet(torch.ones(4)))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Categorical(p), obs=x)

    def guide(x):
        q = pyro.param("q", torch.full((4,), 2.0), constraint=constraints.softplus_positive)
        pyro.sample("p", dist.Dirichlet(q))

    return Program(model, guide, counts(9, high=4))


@case(slow=True)
def simplex_parameter():
    def model(x):
        p = pyro.param("p", torch.full((4,), 0.25), constraint=constraints.simplex)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Categorical(p), obs=x)

    return Program(model, lambda x: None, counts(9, high=4))


@case
def maximum_likelihood_unit_interval():
    def model(x):
        p = pyro.param("p", torch.tensor(0.3), constraint=constraints.unit_interval)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Bernoulli(p), obs=x)

    def guide(x):
        pass

    return Program(model, guide, binary(10))


@case
def lower_cholesky_guide():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(torch.zeros(3), 2.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.MultivariateNormal(mu, torch.eye(3) + 0.2), obs=x)

    def guide(x):
        loc = pyro.param("loc", torch.zeros(3))
        tril = pyro.param("tril", torch.eye(3), constraint=constraints.lower_cholesky)
        pyro.sample("mu", dist.MultivariateNormal(loc, scale_tril=tril))

    return Program(model, guide, real(8, 3))


@case
def positive_definite_and_corr_cholesky():
    def model(x):
        cov = pyro.param("cov", torch.eye(3), constraint=constraints.positive_definite)
        corr = pyro.param("corr", torch.eye(3), constraint=constraints.corr_cholesky)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.MultivariateNormal(torch.zeros(3), cov), obs=x)
            pyro.sample("y", dist.MultivariateNormal(torch.zeros(3), scale_tril=corr), obs=x)

    return Program(model, lambda x: None, real(8, 3))


@case
def ordered_and_interval_parameters():
    def model(x):
        levels = pyro.param("levels", torch.tensor([-1.0, 0.0, 1.0]), constraint=constraints.ordered_vector)
        scale = pyro.param("scale", torch.tensor(0.5), constraint=constraints.interval(0.1, 2.0))
        low = pyro.param("low", torch.tensor(1.5), constraint=constraints.greater_than(1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(levels, scale * low).to_event(1), obs=x)

    return Program(model, lambda x: None, real(8, 3))


@case(slow=True)
def gamma_guide():
    def model(x):
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        with pyro.plate("data", len(x)):
            local = pyro.sample("local", dist.Gamma(3.0, rate))
            pyro.sample("x", dist.Poisson(local), obs=x)

    def guide(x):
        a = pyro.param("a", torch.tensor(2.0), constraint=constraints.positive)
        pyro.sample("rate", dist.Gamma(a, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("local", dist.Gamma(x + a, 1.5))

    return Program(model, guide, [(x.float(),) for (x,) in counts(8, high=6)])


@case(slow=True)
def lkj_covariance():
    def model(x):
        theta = pyro.sample("theta", dist.HalfCauchy(torch.ones(3)).to_event(1))
        tril = pyro.sample("tril", dist.LKJCholesky(3, torch.tensor(1.5)))
        with pyro.plate("data", len(x)):
            pyro.sample(
                "x", dist.MultivariateNormal(torch.zeros(3), scale_tril=theta.sqrt().unsqueeze(-1) * tril), obs=x
            )

    return Program(model, AutoNormal(model), real(8, 3))


@case(slow=True)
def von_mises_and_weibull():
    def model(x):
        loc = pyro.param("loc", torch.tensor(0.2))
        k = pyro.param("k", torch.tensor(1.5), constraint=constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("angle", dist.VonMises(loc, k), obs=torch.atan(x))
            pyro.sample("time", dist.Weibull(k, 1.0), obs=x.exp())

    return Program(model, lambda x: None, real(8))
