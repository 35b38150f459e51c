"""Sequences."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pyro.optim
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.infer.autoguide import AutoDiagonalNormal
from torch import nn

from tests.svi.programs.cases import Program, case
from tests.svi.programs.data import binary, counts, generator, real


@case(slow=True)
def local_level_by_a_loop():
    def model(y):
        sigma = pyro.sample("sigma", dist.LogNormal(-1.0, 0.5))
        z = torch.tensor(0.0)
        for t in range(len(y)):
            z = pyro.sample(f"z_{t}", dist.Normal(z, sigma))
            pyro.sample(f"y_{t}", dist.Normal(z, 0.5), obs=y[t])

    return Program(model, AutoDiagonalNormal(model), real(5))


@case(slow=True)
def autoregressive_with_markov_guide():
    def model(y):
        phi = pyro.sample("phi", dist.Uniform(-1.0, 1.0))
        with pyro.plate("series", y.shape[0]):
            z = torch.zeros(y.shape[0])
            for t in pyro.markov(range(4)):
                z = pyro.sample(f"z_{t}", dist.Normal(phi * z, 1.0))
                pyro.sample(f"y_{t}", dist.Normal(z, 0.5), obs=y[:, t])

    def guide(y):
        q = pyro.param("q", torch.tensor(0.1), constraint=constraints.interval(-1.0, 1.0))
        pyro.sample("phi", dist.Delta(q))
        a, b = pyro.param("a", torch.tensor(0.5)), pyro.param("b", torch.tensor(0.2))
        with pyro.plate("series", y.shape[0]):
            z = torch.zeros(y.shape[0])
            for t in pyro.markov(range(4)):
                z = pyro.sample(f"z_{t}", dist.Normal(a * y[:, t] + b * z, 0.7))

    return Program(model, guide, real(6, 4))


class Emission(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.transition, self.gate = nn.Linear(2, 4), nn.Linear(2, 2)
        self.emit = nn.Linear(2, 3)
        self.z_0 = nn.Parameter(torch.zeros(2))

    def step(self, z):
        loc, scale = self.transition(z).chunk(2, -1)
        gate = self.gate(z).sigmoid()
        return gate * loc + (1 - gate) * z, nn.functional.softplus(scale)


def deep_markov(kind: type[nn.Module]) -> Program:
    p, rnn = Emission(), kind(3, 5, batch_first=True)
    combine, h_0, z_q = nn.Linear(7, 4), nn.Parameter(torch.zeros(1, 1, 5)), nn.Parameter(torch.zeros(2))
    if kind is nn.RNN:
        rnn.nonlinearity = "tanh"

    def model(x, mask, annealing=1.0):
        pyro.module("p", p)
        z = p.z_0.expand(len(x), 2)
        with pyro.plate("sequences", len(x)):
            for t in pyro.markov(range(x.shape[1])):
                loc, scale = p.step(z)
                with poutine.scale(scale=annealing):
                    z = pyro.sample(f"z_{t}", dist.Normal(loc, scale).mask(mask[:, t : t + 1]).to_event(1))
                pyro.sample(
                    f"x_{t}", dist.Bernoulli(logits=p.emit(z)).mask(mask[:, t : t + 1]).to_event(1), obs=x[:, t]
                )

    def guide(x, mask, annealing=1.0):
        pyro.module("rnn", rnn)
        pyro.module("combine", combine)
        start = pyro.param("h_0", h_0).expand(1, len(x), 5).contiguous()
        output = rnn(x.flip(1), start)[0].flip(1)
        z = pyro.param("z_q_0", z_q).expand(len(x), 2)
        with pyro.plate("sequences", len(x)):
            for t in pyro.markov(range(x.shape[1])):
                loc, scale = combine(torch.cat([z, output[:, t]], -1)).chunk(2, -1)
                with poutine.scale(scale=annealing):
                    z = pyro.sample(f"z_{t}", dist.Normal(loc, scale.exp()).mask(mask[:, t : t + 1]).to_event(1))

    masks = [(torch.arange(3) < torch.randint(1, 4, (6, 1), generator=generator(i))).float() for i in range(5)]
    batches = [(*x, mask) for x, mask in zip(binary(6, 3, 3), masks, strict=True)]
    optim = pyro.optim.ClippedAdam({"lr": 0.003, "betas": (0.96, 0.999), "clip_norm": 10.0, "lrd": 0.999})
    return Program(model, guide, batches, optim=optim, kwargs=[{"annealing": 0.5}] * 5, modules=(p, rnn, combine))


@case(slow=True)
def deep_markov_model_rnn():
    return deep_markov(nn.RNN)


@case(slow=True)
def deep_markov_model_gru():
    return deep_markov(nn.GRU)


# With autograd, PyTorch runs nn.LSTM as one kernel of oneDNN; a graph has its operations one by one.
@case(rtol=1e-5, slow=True)
def lstm_language_model():
    embed, lstm, out = nn.Embedding(7, 4), nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 7)

    def model(words):
        for name, module in (("embed", embed), ("lstm", lstm), ("out", out)):
            pyro.module(name, module)
        logits = out(lstm(embed(words[:, :-1]))[0])
        with pyro.plate("sentences", len(words)):
            pyro.sample("words", dist.Categorical(logits=logits).to_event(1), obs=words[:, 1:])

    return Program(model, lambda words: None, counts(6, 5, high=7), modules=(embed, lstm, out))


@case(slow=True)
def transformer_encoder_guide():
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1, batch_first=True)

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(4), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.unsqueeze(-2), 1.0).expand([len(x), 3, 4]).to_event(2), obs=x)

    def guide(x):
        pyro.module("layer", layer)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(layer(x).mean(1), 0.5).to_event(1))

    return Program(model, guide, real(6, 3, 4), modules=(layer,))
