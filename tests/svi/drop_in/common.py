"""The 25 commonest patterns of programs for ``pyro.infer.SVI``, each of which a graph should hold.

 1. no arguments: the data are a variable around
 2. a counter in a buffer, changed in place
 3. annealing by a float argument
 4. a wrapper around both programs (``poutine.scale``)
 5. ``config_enumerate`` and ``TraceEnum_ELBO``
 6. a scheduler of the learning rate (``pyro.optim.ExponentialLR``)
 7. dropout, in training and out of it
 8. a subsampling plate
 9. ``AutoNormal``
10. ``AutoLowRankMultivariateNormal``
11. ``AutoDelta`` and a mixture, enumerated (MAP)
12. ``TraceMeanField_ELBO`` over a VAE
13. masks: sequences, or missing values
14. a regression whose nets are given to ``pyro.module``
15. a ``PyroModule`` with ``PyroSample`` priors
16. an LKJ prior over correlations
17. a hidden Markov model (``pyro.markov``)
18. semi-supervised: labels that are sometimes ``None``
19. vectorised particles
20. ``RenyiELBO``
21. ``ClippedAdam``, whose rate decays by itself
22. ``clip_norm`` of the gradients
23. ``evaluate_loss`` on other data between steps
24. Dirichlet draws in a guide (topics)
25. site names made from sizes

and, beyond these, ``ReweightedWakeSleep`` with its two losses and parameters in double precision.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.infer import (
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceMeanField_ELBO,
    config_enumerate,
)
from pyro.infer.autoguide import AutoDelta, AutoLowRankMultivariateNormal, AutoMultivariateNormal, AutoNormal
from pyro.nn import PyroModule, PyroSample
from torch import nn

from tests.svi.drop_in.harness import STEPS, Case, Program, table
from tests.svi.drop_in.tiny import Net, data, guide, latent, model, rows, seen, times

COMMON: dict[str, Case] = {}
common = table(COMMON)


def adam(lr: float = 0.02, **options) -> pyro.optim.PyroOptim:
    return pyro.optim.Adam({"lr": lr, **options})


def batches(svi):
    """Another batch each step, the last of each epoch a smaller one."""
    for i in range(STEPS):
        yield svi.step(data(3 if i % 3 == 2 else 5) + 0.1 * i)


def regression(*sizes: int):
    """x and y, one epoch after the other."""

    def steps(svi):
        for i in range(STEPS):
            x = rows(sizes[i % len(sizes)])
            yield svi.step(x, x.sum(-1))

    return steps


def linear(x, y=None):
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    sigma = pyro.sample("sigma", dist.LogNormal(0.0, 1.0))
    with pyro.plate("data", x.shape[0]):
        return pyro.sample("y", dist.Normal((x * w).sum(-1), sigma), obs=y)


@common("common", "graph")
def no_arguments():
    x = data(4)

    def coin():
        seen(latent(), x)

    return Program(coin, guide, times(), optim=adam())


@common("common", "graph")
def counter_in_a_buffer():
    class Warming(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("steps", torch.zeros(()))

        def model(self, x):
            self.steps += 1
            seen(latent((self.steps / 5).clamp(max=1.0)), x)

    warming = Warming()
    return Program(warming.model, guide, batches, optim=adam(), modules=(warming,))


@common("common", "graph")
def annealing_by_a_float():
    def tempered(x, beta):
        seen(latent(beta), x)

    def steps(svi):
        for i in range(STEPS):
            yield svi.step(data(4), min(1.0, (i + 1) / 5))

    return Program(tempered, guide, steps, optim=adam())


@common("common", "graph")
def wrapper_around_both():
    net = Net()
    scaled = poutine.scale(scale=1 / 5)
    return Program(scaled(net.model), scaled(net.guide), times(rows()), optim=adam(), modules=(net,))


@common("common", "graph")
def enumerated_labels():
    @config_enumerate
    def mixture(x):
        weights = pyro.param("weights", torch.tensor([0.4, 0.6]), constraints.simplex)
        locs = pyro.param("locs", torch.tensor([-1.0, 2.0]))
        with pyro.plate("data", x.shape[0]):
            k = pyro.sample("k", dist.Categorical(weights))
            pyro.sample("x", dist.Normal(locs[k], 1.0), obs=x)

    return Program(mixture, lambda x: None, batches, loss=TraceEnum_ELBO(max_plate_nesting=1), optim=adam())


@common("common", "graph")
def scheduler():
    optim = pyro.optim.ExponentialLR({"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": 0.5})

    def steps(svi):
        for i in range(STEPS):
            yield svi.step(data(4))
            if i % 2:
                optim.step()

    return Program(model, guide, steps, optim=optim)


@common("common", "graph")
def dropout():
    net = nn.Sequential(nn.Linear(1, 6), nn.Dropout(0.5), nn.Tanh(), nn.Linear(6, 1))

    def netted(x):
        pyro.module("net", net)
        seen(latent() + net(x[:, None])[:, 0], x)

    def steps(svi):
        for i in range(STEPS):
            net.train(i % 4 != 3)
            yield svi.step(data(4)) if net.training else svi.evaluate_loss(data(4))

    return Program(netted, guide, steps, optim=adam(), modules=(net,))


@common("common", "graph")
def subsampling_plate():
    def minibatch(x):
        z = latent()
        with pyro.plate("data", x.shape[0], subsample_size=3) as rows:
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[rows])

    return Program(minibatch, guide, times(data(9)), optim=adam())


@common("common", "graph")
def auto_normal():
    return Program(linear, AutoNormal(linear), regression(5, 5, 3), optim=adam())


@common("common", "graph")
def auto_low_rank():
    return Program(linear, AutoLowRankMultivariateNormal(linear, rank=2), regression(5), optim=adam())


@common("common", "graph")
def auto_delta_of_a_mixture():
    @config_enumerate
    def mixture(x):
        weights = pyro.sample("weights", dist.Dirichlet(torch.ones(2)))
        with pyro.plate("components", 2):
            locs = pyro.sample("locs", dist.Normal(0.0, 3.0))
        with pyro.plate("data", x.shape[0]):
            k = pyro.sample("k", dist.Categorical(weights))
            pyro.sample("x", dist.Normal(locs[k], 1.0), obs=x)

    automatic = AutoDelta(poutine.block(mixture, expose=["weights", "locs"]))
    return Program(mixture, automatic, batches, loss=TraceEnum_ELBO(max_plate_nesting=1), optim=adam())


@common("common", "graph")
def vae_of_a_mean_field():
    net = Net()

    def steps(svi):
        for i in range(STEPS):
            yield svi.step(rows(2 if i % 3 == 2 else 6))

    return Program(net.model, net.guide, steps, loss=TraceMeanField_ELBO(), optim=adam(), modules=(net,))


@common("common", "graph")
def masked_rows():
    def masked(x, there):
        z = latent()
        with pyro.plate("data", x.shape[0]), poutine.mask(mask=there):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def steps(svi):
        for i in range(STEPS):
            yield svi.step(data(4), torch.arange(4) <= i % 4)

    return Program(masked, guide, steps, optim=adam())


@common("common", "graph")
def nets_of_pyro_module():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))

    def netted(x, y):
        pyro.module("net", net)
        loc, raw = net(x).unbind(-1)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("y", dist.Normal(loc, nn.functional.softplus(raw) + 0.1), obs=y)

    return Program(netted, lambda x, y: None, regression(6, 6, 2), optim=adam(), modules=(net,))


@common("common", "graph")
def bayesian_net():
    class Regression(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.linear = PyroModule[nn.Linear](3, 1)
            self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 3]).to_event(2))
            self.linear.bias = PyroSample(dist.Normal(0.0, 10.0).expand([1]).to_event(1))

        def forward(self, x, y=None):
            mean = self.linear(x).squeeze(-1)
            with pyro.plate("data", x.shape[0]):
                pyro.sample("y", dist.Normal(mean, 0.5), obs=y)
            return mean

    net = Regression()
    return Program(net, AutoNormal(net), regression(5, 3), optim=adam())


@common("common", "graph")
def lkj_correlations():
    def correlated(x):
        scale = pyro.sample("scale", dist.HalfNormal(torch.ones(3)).to_event(1))
        factor = pyro.sample("factor", dist.LKJCholesky(3, 2.0))
        with pyro.plate("data", x.shape[0]):
            normal = dist.MultivariateNormal(torch.zeros(3), scale_tril=scale[:, None] * factor)
            pyro.sample("x", normal, obs=x)

    return Program(correlated, AutoMultivariateNormal(correlated), times(rows()), optim=adam())


@common("common", "graph")
def hidden_markov_model():
    @config_enumerate
    def hmm(sequence):
        transition = pyro.param("transition", torch.tensor([[0.7, 0.3], [0.4, 0.6]]), constraints.simplex)
        locs = pyro.param("locs", torch.tensor([0.0, 1.5]))
        state = 0
        for t in pyro.markov(range(sequence.shape[-1])):
            state = pyro.sample(f"state_{t}", dist.Categorical(transition[state]))
            pyro.sample(f"x_{t}", dist.Normal(locs[state], 1.0), obs=sequence[t])

    return Program(hmm, lambda x: None, times(data(4)), loss=TraceEnum_ELBO(max_plate_nesting=0), optim=adam())


@common("common", "graph")
def semi_supervised():
    net = nn.Linear(3, 2)

    def supervised(xs, ys=None):
        with pyro.plate("data", xs.shape[0]):
            y = pyro.sample("y", dist.Categorical(logits=torch.zeros(2)), obs=ys)
            locs = pyro.param("locs", torch.tensor([[-1.0] * 3, [1.0] * 3]))
            pyro.sample("x", dist.Normal(locs[y], 1.0).to_event(1), obs=xs)

    def classifier(xs, ys=None):
        pyro.module("net", net)
        if ys is None:
            with pyro.plate("data", xs.shape[0]):
                pyro.sample("y", dist.Categorical(logits=net(xs)))

    def steps(svi):
        for i in range(STEPS):
            yield svi.step(rows(), (rows()[:, 0] > 0).long() if i % 2 else None)

    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    return Program(supervised, config_enumerate(classifier), steps, loss=elbo, optim=adam(), modules=(net,))


@common("common", "graph")
def vectorised_particles():
    elbo = Trace_ELBO(num_particles=3, vectorize_particles=True)
    return Program(model, guide, batches, loss=elbo, optim=adam())


@common("common", "graph")
def renyi():
    return Program(model, guide, batches, loss=RenyiELBO(alpha=0.5, num_particles=2), optim=adam())


@common("common", "graph")
def clipped_adam():
    return Program(model, guide, batches, optim=pyro.optim.ClippedAdam({"lr": 0.05, "lrd": 0.9, "clip_norm": 2.0}))


@common("common", "graph")
def clip_norm():
    return Program(model, guide, batches, optim=pyro.optim.Adam({"lr": 0.05}, {"clip_norm": 0.5}))


@common("common", "graph")
def evaluation_between_steps():
    def steps(svi):
        for i in range(STEPS):
            yield svi.step(data(5))
            if i % 2:
                yield svi.evaluate_loss(data(3))

    return Program(model, guide, steps, optim=adam())


@common("common", "graph")
def dirichlet_draws_in_a_guide():
    def topics(words):
        with pyro.plate("documents", words.shape[0]):
            mixture = pyro.sample("mixture", dist.Dirichlet(torch.ones(2)))
            shares = mixture @ torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])
            pyro.sample("words", dist.Multinomial(9, shares), obs=words)

    def proportions(words):
        a = pyro.param("a", torch.ones(2), constraints.positive)
        with pyro.plate("documents", words.shape[0]):
            pyro.sample("mixture", dist.Dirichlet(a.expand(words.shape[0], 2)))

    words = torch.tensor([[5.0, 2.0, 2.0], [1.0, 2.0, 6.0], [3.0, 3.0, 3.0]])
    return Program(topics, proportions, times(words), optim=adam())


@common("common", "graph")
def names_made_from_sizes():
    def named(x):
        n, k = x.shape
        z = pyro.sample(f"z_{n}", dist.Normal(torch.zeros(k), 1.0).to_event(1))
        with pyro.plate(f"data_{n}", n):
            pyro.sample(f"x_{n}_{k}", dist.Normal(z, 1.0).to_event(1), obs=x)

    return Program(named, AutoNormal(named), times(rows()), optim=adam())


@common("common", "graph")
def double_precision():
    def located(x):
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(3.0, dtype=torch.float64)), 0.1))

    def steps(svi):
        for _ in range(STEPS):
            yield svi.step(data(4).double())

    return Program(model, located, steps, optim=adam(0.1, betas=(0.95, 0.999)))


@common("common", "graph")
def wake_sleep():
    """Of two losses: as a tuple."""
    loss = ReweightedWakeSleep(num_particles=2, vectorize_particles=False)
    return Program(model, guide, batches, loss=loss, optim=adam())
