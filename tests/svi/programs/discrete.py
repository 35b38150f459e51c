"""Discrete latent variables, summed out."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pyro.optim
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.infer import TraceEnum_ELBO, TraceTMC_ELBO, config_enumerate
from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoDiscreteParallel,
    AutoGuideList,
    AutoNormal,
    init_to_value,
)
from torch import Tensor, nn

from tests.svi.programs.cases import Program, case
from tests.svi.programs.data import binary, coins, counts, generator, normals, real


def mixture(x):
    weights = pyro.sample("weights", dist.Dirichlet(0.5 * torch.ones(3)))
    scale = pyro.sample("scale", dist.LogNormal(0.0, 2.0))
    with pyro.plate("components", 3):
        locs = pyro.sample("locs", dist.Normal(0.0, 10.0))
    with pyro.plate("data", len(x)):
        k = pyro.sample("k", dist.Categorical(weights))
        pyro.sample("x", dist.Normal(locs[k], scale), obs=x)


GLOBALS = ["weights", "scale", "locs"]


@case
def gaussian_mixture_map():
    guide = AutoDelta(poutine.block(mixture, expose=GLOBALS))
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    return Program(
        config_enumerate(mixture), guide, real(12), loss=elbo, optim=pyro.optim.Adam({"lr": 0.1, "betas": (0.8, 0.99)})
    )


@case(slow=True)
def gaussian_mixture_init_to_value():
    values = {"weights": torch.ones(3) / 3, "scale": torch.tensor(1.0), "locs": torch.tensor([-1.0, 0.0, 1.0])}
    guide = AutoDiagonalNormal(poutine.block(mixture, hide=["k"]), init_loc_fn=init_to_value(values=values))
    return Program(config_enumerate(mixture), guide, real(12), loss=TraceEnum_ELBO(max_plate_nesting=1))


@case(slow=True)
def gaussian_mixture_plate_nesting_guessed():
    guide = AutoNormal(poutine.block(mixture, expose=GLOBALS))
    return Program(config_enumerate(mixture), guide, real(12), loss=TraceEnum_ELBO())


@case(captures=4, slow=True)
def gaussian_mixture_batches_of_several_sizes():
    guide = AutoNormal(poutine.block(mixture, expose=GLOBALS))
    batches = [(normals(n, seed=n),) for n in (12, 7, 9, 12, 5)]
    return Program(config_enumerate(mixture), guide, batches, loss=TraceEnum_ELBO(max_plate_nesting=1))


def assignments_guide(default: str):
    @config_enumerate(default=default)
    def guide(x):
        with pyro.plate("components", 3):
            pyro.sample("locs", dist.Delta(pyro.param("locs_loc", torch.tensor([-1.0, 0.1, 1.0]))))
        pyro.sample("scale", dist.LogNormal(pyro.param("scale_loc", torch.tensor(0.0)), 0.1))
        weights = pyro.param("weights_loc", torch.ones(3) / 3, constraint=constraints.simplex)
        pyro.sample("weights", dist.Delta(weights, event_dim=1))
        with pyro.plate("data", len(x)):
            probs = pyro.param("probs", torch.ones(len(x), 3) / 3, constraint=constraints.simplex)
            pyro.sample("k", dist.Categorical(probs))

    return guide


@case(slow=True)
def gaussian_mixture_assignments_in_the_guide():
    return Program(mixture, assignments_guide("parallel"), real(6), loss=TraceEnum_ELBO(max_plate_nesting=1))


@case(slow=True)
def discrete_enumerated_sequentially():
    def model(x):
        k = pyro.sample("k", dist.Categorical(torch.tensor([0.2, 0.5, 0.3])))
        locs = pyro.param("locs", torch.tensor([-1.0, 0.0, 1.0]))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(locs[k], 1.0), obs=x)

    def guide(x):
        probs = pyro.param("probs", torch.ones(3) / 3, constraint=constraints.simplex)
        pyro.sample("k", dist.Categorical(probs), infer={"enumerate": "sequential"})

    return Program(model, guide, real(6), loss=TraceEnum_ELBO(max_plate_nesting=1))


@case(slow=True)
def auto_discrete_parallel():
    def model(x):
        with pyro.plate("components", 3):
            locs = pyro.sample("locs", dist.Normal(0.0, 10.0))
        with pyro.plate("data", 8):
            k = pyro.sample("k", dist.Categorical(torch.ones(3) / 3), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.Normal(locs[k], 1.0), obs=x)

    guide = AutoGuideList(model)
    guide.append(AutoNormal(poutine.block(model, hide=["k"])))
    guide.append(AutoDiscreteParallel(poutine.block(model, expose=["k"])))
    return Program(model, guide, real(8), loss=TraceEnum_ELBO(max_plate_nesting=1))


@case(slow=True)
def mixture_same_family():
    def model(x):
        weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
        locs = pyro.sample("locs", dist.Normal(torch.zeros(3), 3.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(locs, 1.0)), obs=x)

    return Program(model, AutoNormal(model), real(10))


@case(slow=True)
def dirichlet_process_mixture():
    def sticks(beta):
        return nn.functional.pad(beta, (0, 1), value=1.0) * nn.functional.pad((1 - beta).cumprod(-1), (1, 0), value=1.0)

    def model(x):
        alpha = pyro.param("alpha", torch.tensor(1.5), constraint=constraints.positive)
        with pyro.plate("sticks", 3):
            beta = pyro.sample("beta", dist.Beta(1.0, alpha))
        with pyro.plate("components", 4):
            mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 5.0).to_event(1))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Categorical(sticks(beta)), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.MultivariateNormal(mu[z], torch.eye(2)), obs=x)

    def guide(x):
        kappa = pyro.param("kappa", torch.full((3,), 1.2), constraint=constraints.positive)
        tau = pyro.param("tau", lambda: dist.Normal(torch.zeros(4, 2), 1.0).sample())
        with pyro.plate("sticks", 3):
            pyro.sample("beta", dist.Beta(torch.ones(3), kappa))
        with pyro.plate("components", 4):
            pyro.sample("mu", dist.MultivariateNormal(tau, torch.eye(2)))

    return Program(model, guide, real(8, 2), loss=TraceEnum_ELBO(max_plate_nesting=1))


def hmm_globals(states: int = 3, features: int = 2) -> tuple[Tensor, Tensor]:
    with poutine.mask(mask=True):
        probs_x = pyro.sample("probs_x", dist.Dirichlet(0.9 * torch.eye(states) + 0.1).to_event(1))
        probs_y = pyro.sample("probs_y", dist.Beta(0.1, 0.9).expand([states, features]).to_event(2))
    return probs_x, probs_y


HMM_GLOBALS = ["probs_x", "probs_y"]


@case
def hmm_of_one_sequence():
    @config_enumerate
    def model(y):
        probs_x, probs_y = hmm_globals()
        x = 0
        tones = pyro.plate("tones", 2, dim=-1)
        for t in pyro.markov(range(len(y))):
            x = pyro.sample(f"x_{t}", dist.Categorical(probs_x[x]))
            with tones as d:
                pyro.sample(f"y_{t}", dist.Bernoulli(probs_y[x, d]), obs=y[t])

    guide = AutoDelta(poutine.block(model, expose=HMM_GLOBALS))
    return Program(model, guide, binary(4, 2), loss=TraceEnum_ELBO(max_plate_nesting=1))


@case(slow=True)
def hmm_of_sequences_with_lengths():
    def model(sequences, lengths):
        probs_x, probs_y = hmm_globals()
        tones = pyro.plate("tones", 2, dim=-1)
        with pyro.plate("sequences", len(sequences), dim=-2):
            x = 0
            for t in pyro.markov(range(sequences.shape[1])):
                with poutine.mask(mask=(t < lengths).unsqueeze(-1)):
                    x = pyro.sample(f"x_{t}", dist.Categorical(probs_x[x]), infer={"enumerate": "parallel"})
                    with tones:
                        pyro.sample(f"y_{t}", dist.Bernoulli(probs_y[x.squeeze(-1)]), obs=sequences[:, t])

    guide = AutoDelta(poutine.block(model, expose=HMM_GLOBALS))
    batches = [(coins(5, 4, 2, seed=i), torch.randint(1, 5, (5,), generator=generator(i))) for i in range(5)]
    return Program(model, guide, batches, loss=TraceEnum_ELBO(max_plate_nesting=2))


@case(slow=True)
def hmm_autoregressive_with_history_two():
    @config_enumerate
    def model(y):
        probs = pyro.sample("probs", dist.Dirichlet(torch.ones(2, 2, 2)).to_event(2))
        emit = pyro.param("emit", torch.tensor([0.2, 0.7]), constraint=constraints.unit_interval)
        with pyro.plate("sequences", len(y), dim=-1):
            old, now = 0, 0
            for t in pyro.markov(range(4), history=2):
                old, now = now, pyro.sample(f"x_{t}", dist.Categorical(probs[old, now]))
                pyro.sample(f"y_{t}", dist.Bernoulli(emit[now]), obs=y[:, t])

    guide = AutoNormal(poutine.block(model, expose=["probs"]))
    return Program(model, guide, binary(5, 4), loss=TraceEnum_ELBO(max_plate_nesting=1))


@case(slow=True)
def tensor_monte_carlo():
    @config_enumerate(default="parallel", expand=False, num_samples=3, tmc="diagonal")
    def model(x):
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x[0])

    @config_enumerate(default="parallel", expand=False, num_samples=3, tmc="diagonal")
    def guide(x):
        pyro.sample("loc", dist.Normal(pyro.param("q", torch.tensor(0.3)), 1.0))

    return Program(model, guide, real(1), loss=TraceTMC_ELBO(max_plate_nesting=0))


@case(slow=True)
def discrete_hmm_distribution():
    def model(y):
        logits = pyro.param("logits", torch.zeros(3, 3))
        locs = pyro.param("locs", torch.tensor([-1.0, 0.0, 1.0]))
        with pyro.plate("sequences", len(y)):
            pyro.sample("y", dist.DiscreteHMM(torch.zeros(3), logits, dist.Normal(locs, 1.0)), obs=y)

    return Program(model, lambda y: None, real(4, 5))


@case(slow=True)
def gaussian_hmm_distribution():
    def model(y):
        matrix = pyro.param("matrix", 0.9 * torch.eye(2))
        sigma = pyro.sample("sigma", dist.LogNormal(0.0, 0.3))
        noise = dist.Normal(torch.zeros(2), 1.0).to_event(1)
        hmm = dist.GaussianHMM(
            noise, matrix, dist.Normal(torch.zeros(2), sigma).to_event(1), torch.eye(2), noise, duration=5
        )
        pyro.sample("y", hmm, obs=y)

    return Program(model, AutoDelta(model), real(5, 2))


@case(slow=True)
def latent_dirichlet_allocation():
    layer = nn.Sequential(nn.Linear(10, 6), nn.Sigmoid(), nn.Linear(6, 4), nn.Softmax(-1))

    def model(words):
        with pyro.plate("topics", 4):
            pyro.sample("topic_weights", dist.Gamma(0.25, 1.0))
            topics = pyro.sample("topic_words", dist.Dirichlet(torch.ones(10) / 10))
        with pyro.plate("documents", words.shape[1]):
            mix = pyro.sample("doc_topics", dist.Dirichlet(torch.ones(4)))
            with pyro.plate("words", 5):
                z = pyro.sample("word_topics", dist.Categorical(mix), infer={"enumerate": "parallel"})
                pyro.sample("doc_words", dist.Categorical(topics[z]), obs=words)

    def guide(words):
        pyro.module("predictor", layer)
        w = pyro.param("topic_pseudocounts", lambda: torch.ones(4), constraint=constraints.positive)
        t = pyro.param("pseudocounts", lambda: torch.ones(4, 10), constraint=constraints.greater_than(0.5))
        with pyro.plate("topics", 4):
            pyro.sample("topic_weights", dist.Gamma(w, 1.0))
            pyro.sample("topic_words", dist.Dirichlet(t))
        counted = torch.zeros(10, words.shape[1]).scatter_add(0, words, torch.ones(words.shape))
        with pyro.plate("documents", words.shape[1]):
            pyro.sample("doc_topics", dist.Delta(layer(counted.T), event_dim=1))

    loss = TraceEnum_ELBO(max_plate_nesting=2)
    return Program(
        model, guide, counts(5, 6, high=10), loss=loss, optim=pyro.optim.ClippedAdam({"lr": 0.01}), modules=(layer,)
    )


@case(captures=2, loud=True)
def semi_supervised_vae():
    """Labelled and unlabelled batches in turn: two structures."""
    classify, encode = nn.Linear(6, 3), nn.Linear(9, 4)
    decode = nn.Linear(5, 6)

    def model(x, y=None):
        pyro.module("decode", decode)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            y = pyro.sample("y", dist.OneHotCategorical(torch.ones(3) / 3), obs=y)
            inputs = torch.cat([z.expand((*y.shape[:-1], 2)), y], -1)
            pyro.sample("x", dist.Bernoulli(logits=decode(inputs)).to_event(1), obs=x)

    def guide(x, y=None):
        pyro.module("classify", classify)
        pyro.module("encode", encode)
        with pyro.plate("data", len(x)):
            if y is None:
                y = pyro.sample("y", dist.OneHotCategorical(logits=classify(x)))
            loc, scale = encode(torch.cat([x.expand((*y.shape[:-1], 6)), y], -1)).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))

    labels = [torch.eye(3)[torch.randint(3, (8,), generator=generator(i))] for i in range(6)]
    return Program(
        model,
        config_enumerate(guide, default="parallel", expand=True),
        binary(8, 6, steps=6),
        kwargs=[{"y": label} if i % 2 else {} for i, label in enumerate(labels)],
        loss=TraceEnum_ELBO(max_plate_nesting=1),
        modules=(classify, encode, decode),
    )
