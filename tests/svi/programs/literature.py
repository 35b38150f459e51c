"""Other models of the literature."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pyro.optim
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.infer import TraceEnum_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal, AutoLowRankMultivariateNormal, AutoMultivariateNormal, AutoNormal
from torch import nn

from tests.svi.programs.cases import Program, case
from tests.svi.programs.data import binary, coins, counts, generator, normals, real


@case(slow=True)
def item_response():
    def model(student, item, y):
        with pyro.plate("students", 5):
            ability = pyro.sample("ability", dist.Normal(0.0, 1.0))
        with pyro.plate("items", 4):
            difficulty = pyro.sample("difficulty", dist.Normal(0.0, 1.0))
            slope = pyro.sample("slope", dist.LogNormal(0.0, 0.5))
        with pyro.plate("answers", len(y)):
            pyro.sample("y", dist.Bernoulli(logits=slope[item] * (ability[student] - difficulty[item])), obs=y)

    batches = [
        (
            torch.randint(5, (9,), generator=generator(i)),
            torch.randint(4, (9,), generator=generator(30 + i)),
            coins(9, seed=i),
        )
        for i in range(5)
    ]
    return Program(model, AutoNormal(model), batches)


@case(slow=True)
def matrix_factorisation():
    def model(user, item, rating):
        u = pyro.sample("u", dist.Normal(torch.zeros(5, 2), 1.0).to_event(2))
        v = pyro.sample("v", dist.Normal(torch.zeros(6, 2), 1.0).to_event(2))
        with pyro.plate("ratings", len(rating)):
            pyro.sample("r", dist.Normal((u[user] * v[item]).sum(-1), 0.5), obs=rating)

    batches = [
        (
            torch.randint(5, (9,), generator=generator(i)),
            torch.randint(6, (9,), generator=generator(30 + i)),
            normals(9, seed=i),
        )
        for i in range(5)
    ]
    return Program(model, AutoLowRankMultivariateNormal(model, rank=3), batches)


@case
def probabilistic_pca():
    def model(x):
        w = pyro.param("w", lambda: torch.randn(2, 4))
        sigma = pyro.param("sigma", torch.tensor(1.0), constraint=constraints.positive)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ w, sigma).to_event(1), obs=x)

    def guide(x):
        a = pyro.param("a", lambda: 0.1 * torch.randn(4, 2))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.LowRankMultivariateNormal(x @ a, 0.1 * torch.ones(2, 1), 0.5 * torch.ones(2)))

    return Program(model, guide, real(8, 4))


@case(slow=True)
def factor_analysis_with_low_rank_likelihood():
    def model(x):
        w = pyro.param("w", lambda: torch.randn(4, 2))
        d = pyro.param("d", torch.ones(4), constraint=constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.LowRankMultivariateNormal(torch.zeros(4), w, d), obs=x)

    return Program(model, lambda x: None, real(8, 4))


@case(slow=True)
def bradley_terry():
    def model(i, j, won):
        with pyro.plate("players", 5):
            skill = pyro.sample("skill", dist.Normal(0.0, 1.0))
        with pyro.plate("games", len(won)):
            pyro.sample("won", dist.Bernoulli(logits=skill[i] - skill[j]), obs=won)

    batches = [
        (
            torch.randint(5, (9,), generator=generator(i)),
            torch.randint(5, (9,), generator=generator(30 + i)),
            coins(9, seed=i),
        )
        for i in range(5)
    ]
    return Program(model, AutoMultivariateNormal(model), batches)


@case(slow=True)
def capture_recapture():
    """The Cormack-Jolly-Seber model of Pyro's examples: one discrete state per year, summed out."""

    def model(history):
        phi = pyro.sample("phi", dist.Uniform(0.0, 1.0))
        rho = pyro.sample("rho", dist.Uniform(0.0, 1.0))
        with pyro.plate("animals", len(history)):
            z, first = torch.ones(len(history)), torch.zeros(len(history)).bool()
            for t in pyro.markov(range(4)):
                with poutine.mask(mask=first):
                    z = pyro.sample(
                        f"z_{t}",
                        dist.Bernoulli(torch.where(first, phi * z, torch.tensor(1.0))),
                        infer={"enumerate": "parallel"},
                    )
                    pyro.sample(f"y_{t}", dist.Bernoulli(rho * z), obs=history[:, t])
                first = first | history[:, t].bool()

    guide = AutoDiagonalNormal(poutine.block(model, expose=["phi", "rho"]))
    return Program(model, guide, binary(6, 4), loss=TraceEnum_ELBO(max_plate_nesting=1))


@case(slow=True)
def sparse_gamma_deep_exponential_family():
    def softplus(name, *shape):
        a = pyro.param(f"{name}_a", lambda: torch.full(shape, 0.5), constraint=constraints.softplus_positive)
        m = pyro.param(f"{name}_m", lambda: torch.full(shape, 0.7), constraint=constraints.softplus_positive)
        return dist.Gamma(a, a / m)

    def model(x):
        with pyro.plate("w_plate", 12):
            w = pyro.sample("w", dist.Gamma(0.1, 0.3)).reshape(3, 4)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Gamma(0.1, 0.1).expand([3]).to_event(1))
            pyro.sample("x", dist.Poisson(z @ w + 1e-3).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("w_plate", 12):
            pyro.sample("w", softplus("w", 12))
        with pyro.plate("data", 6):
            pyro.sample("z", softplus("z", 6, 3).to_event(1))

    data = [(x.float(),) for (x,) in counts(6, 4, high=4)]
    return Program(
        model, guide, data, loss=TraceMeanField_ELBO(), optim=pyro.optim.AdagradRMSProp({"eta": 0.5, "t": 0.1})
    )


@case
def pharmacokinetics_with_fixed_noise():
    """A model that draws random numbers outside any site."""

    def model(x):
        noise = 0.01 * torch.randn(len(x))
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x + noise)

    return Program(model, AutoNormal(model), real(8))


@case(slow=True)
def change_point_with_softened_switch():
    def model(y):
        times = torch.arange(float(len(y)))
        tau = pyro.sample("tau", dist.Uniform(0.0, 8.0))
        rates = pyro.sample("rates", dist.Exponential(torch.ones(2)).to_event(1))
        late = torch.sigmoid((times - tau) / 0.3)
        with pyro.plate("days", len(y)):
            pyro.sample("y", dist.Poisson(rates[..., 0] * (1 - late) + rates[..., 1] * late), obs=y)

    return Program(model, AutoNormal(model), [(x.float(),) for (x,) in counts(8, high=5)])


@case(slow=True)
def causal_effect_vae():
    encode, treat, outcome = nn.Linear(5, 4), nn.Linear(2, 1), nn.Linear(3, 1)

    def model(x, t, y):
        pyro.module("treat", treat)
        pyro.module("outcome", outcome)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(torch.cat([z, z[:, :1]], -1), 1.0).to_event(1), obs=x)
            t = pyro.sample("t", dist.Bernoulli(logits=treat(z).squeeze(-1)), obs=t)
            pyro.sample("y", dist.Normal(outcome(torch.cat([z, t.unsqueeze(-1)], -1)).squeeze(-1), 1.0), obs=y)

    def guide(x, t, y):
        pyro.module("encode", encode)
        with pyro.plate("data", len(x)):
            loc, scale = encode(torch.cat([x, t.unsqueeze(-1), y.unsqueeze(-1)], -1)).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))

    batches = [(normals(8, 3, seed=i), coins(8, seed=i), normals(8, seed=40 + i)) for i in range(5)]
    return Program(model, guide, batches, loss=TraceMeanField_ELBO(), modules=(encode, treat, outcome))
