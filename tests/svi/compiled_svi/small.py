"""A small VAE and small programs, under CompiledSVI and under stock Pyro."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import nn

from pyro_vae import VAE, likelihoods, posteriors, priors
from pyro_vae.svi import CompiledSVI
from pyro_vae.svi.optimizer import as_pyro_optim

D = 5


def make_vae(seed=0, dtype=torch.float64):
    """Make a small VAE: the time of a capture grows with the number of operations and parameters."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        likelihood = likelihoods.Bernoulli(nn.Linear(2, D, bias=False))
        return VAE(priors.StandardNormal(2), likelihood, posteriors.DiagonalNormal(nn.Linear(D, 4))).to(dtype)


def make_x(n=8, seed=1, dtype=torch.float64):
    u = torch.rand(n, D, generator=torch.Generator().manual_seed(seed))
    return (u > 0.5).to(dtype)


def svi_of(vae, optim=None, mode="exact", **options):
    optim = torch.optim.Adam(vae.parameters(), lr=1e-2) if optim is None else optim
    return CompiledSVI(vae.model, vae.guide, optim, Trace_ELBO(), mode=mode, fallback="error", **options)


def stock_of(vae, optim=None):
    optim = torch.optim.Adam(vae.parameters(), lr=1e-2) if optim is None else optim
    return SVI(vae.model, vae.guide, as_pyro_optim(optim), Trace_ELBO())


def losses_of(svi, calls, seed=3):
    pyro.set_rng_seed(seed)
    return [float(svi.step(*(call if isinstance(call, tuple) else (call,)))) for call in calls]


def batches(sizes=(8,) * 6, **options):
    return [make_x(n, seed=i, **options) for i, n in enumerate(sizes)]


def weights(vae):
    return {name: value.clone() for name, value in vae.state_dict().items()}


def same(a, b, rtol=0.0):
    for name, value in a.items():
        torch.testing.assert_close(b[name], value, rtol=rtol, atol=rtol, msg=lambda m, name=name: f"{name}: {m}")
    return a.keys() == b.keys()


slow = pytest.mark.slow
MODES = pytest.mark.parametrize("mode", ["fast", pytest.param("exact", marks=slow)])


class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(D, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.4), nn.Linear(6, 4))

    def forward(self, x):
        return self.layers(x)


def normalised():
    vae = make_vae()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        vae.posterior.net = Normalised().double()
    return vae


def grey():
    return torch.full((8, D), 0.3, dtype=torch.float64)


def with_nan():
    x = make_x()
    x[2, 1] = math.nan
    return x


def regression(x):
    w = pyro.sample("w", dist.Normal(torch.zeros(D), 1.0).to_event(1))
    with pyro.plate("data", x.shape[0]):
        pyro.sample("y", dist.Normal(x.float() @ w, 0.5), obs=x[:, 0].float())


def line(x, y):
    """A regression with one weight, for small changes around it."""
    weight = pyro.param("weight", torch.tensor(0.3, dtype=x.dtype))
    with pyro.plate("data", x.shape[0]):
        pyro.sample("y", dist.Normal(weight * x, 0.5), obs=y)


def no_latents(*args, **kwargs):
    pass


def against_stock(make, steps, mode):
    """Return the losses of the same steps under both, each with its own store."""
    found = []
    for cls, options in ((SVI, {}), (CompiledSVI, {"mode": mode, "fallback": "error"})):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        model, guide, *rest = make()
        svi = cls(model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO(), **options)
        found.append([float(loss) for loss in steps(svi, *rest)])
    assert found[1] == pytest.approx(found[0], rel=1e-6)


TEN = torch.linspace(-1, 1, 10)
