"""Tiny VAEs whose numbers can be worked out, in float64."""

from __future__ import annotations

import collections
import os

if "PYTEST_XDIST_WORKER" in os.environ:  # the processes side by side share the cores; before torch counts them
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pyro
import pytest
import torch
import torch._inductor
from torch import nn
from torch.distributions import Distribution

from pyro_vae import VAE, likelihoods, nets, posteriors, priors
from pyro_vae.distributions import import_zuko

import_zuko()  # before a test does so by itself, which would turn the validation of arguments off for all


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items):
    """Of the copies of a test that is marked one_in(n), only every n-th runs by default; the others are thorough."""
    seen = collections.Counter()
    for item in items:
        if marker := item.get_closest_marker("one_in"):
            if seen[item.function] % marker.args[0]:
                item.add_marker(pytest.mark.thorough)
            seen[item.function] += 1


X, Z, C = (2, 3), 2, 4  # event shape, latent dimensions, context features


@pytest.fixture(autouse=True)
def _fresh_randomness():
    pyro.set_rng_seed(0)
    validate = Distribution._validate_args
    assert validate, "something turned validation off while the tests were collected, as torch.compile does"
    yield
    Distribution.set_default_validate_args(validate)  # the first torch.compile of a process turns it off
    left = list(pyro.get_param_store())
    pyro.clear_param_store()  # one failure, not one in each test after it
    assert not left, "a test or the code under test left something in Pyro's store"


@pytest.fixture
def uncompiled(monkeypatch):
    """Graphs of CompiledSVI run as they are, without the seconds of a compilation."""
    monkeypatch.setattr(torch._inductor, "compile", lambda module, examples, options: module.forward)
    monkeypatch.setattr(torch, "compile", lambda module, **options: module)


@pytest.fixture
def without_pictures(monkeypatch):
    """``pyro-vae train`` draws none, which takes longer than a training of two epochs."""
    monkeypatch.setattr("pyro_vae.cli.pictures.draw_run", lambda run, vae, dataset: None)


def make_vae(likelihood: str = "bernoulli", context: int = 0, seed: int = 0) -> VAE:
    """A VAE over x of shape X with two latent dimensions, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        shape = (2, *X) if likelihood == "normal_per_element" else X
        net = nets.MLP(Z, (5,), shape, activation="Tanh", context_features=context)
        make = {
            "bernoulli": lambda: likelihoods.Bernoulli(net),
            "normal_fixed": lambda: likelihoods.Normal(net, scale=0.3),
            "normal_learned": lambda: likelihoods.Normal(net, scale="learned"),
            "normal_per_element": lambda: likelihoods.Normal(net, scale="per_element"),
        }[likelihood]
        encoder = nets.MLP(X, (5,), 2 * Z, activation="Tanh", context_features=context)
        return VAE(priors.StandardNormal(Z), make(), posteriors.DiagonalNormal(encoder)).double()


def make_x(likelihood: str = "bernoulli", n: int = 7) -> torch.Tensor:
    x = torch.rand(n, *X, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return (x > 0.5).double() if likelihood == "bernoulli" else 3 * x - 1


def make_context(context: int, n: int = 7) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(2)
    return (torch.randn(n, context, dtype=torch.float64, generator=generator),) if context else ()


LIKELIHOODS = ("bernoulli", "normal_fixed", "normal_learned", "normal_per_element")


@pytest.fixture(params=[(name, c) for name in LIKELIHOODS for c in (0, C)], ids=lambda p: f"{p[0]}-context{p[1]}")
def case(request):
    """(vae, x, *context) for each likelihood, with and without context."""
    name, context = request.param
    return make_vae(name, context), make_x(name), *make_context(context)


class LinearGaussian(nn.Module):
    """x = W z + b + noise, with orthogonal columns in W, so that the true posterior is a diagonal normal."""

    def __init__(self, dim: int = 4, sigma: float = 0.5) -> None:
        super().__init__()
        q, _ = torch.linalg.qr(torch.randn(dim, Z, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))
        self.weight = q * torch.tensor([2.0, 0.7], dtype=torch.float64)
        self.bias = torch.linspace(-1, 1, dim, dtype=torch.float64)
        self.sigma = sigma
        self.decoder, self.encoder = nn.Linear(Z, dim).double(), nn.Linear(dim, 2 * Z).double()
        precision = 1 + (self.weight**2).sum(0) / sigma**2
        with torch.no_grad():
            self.decoder.weight.copy_(self.weight)
            self.decoder.bias.copy_(self.bias)
            gain = self.weight.T / sigma**2 / precision.unsqueeze(-1)
            raw = torch.log(torch.expm1(precision.rsqrt() - 1e-6))
            self.encoder.weight.copy_(torch.cat([gain, torch.zeros_like(gain)]))
            self.encoder.bias.copy_(torch.cat([-gain @ self.bias, raw]))

    def vae(self) -> VAE:
        """The VAE whose posterior is the true one."""
        return VAE(
            priors.StandardNormal(Z).double(),
            likelihoods.Normal(self.decoder, scale=self.sigma),
            posteriors.DiagonalNormal(self.encoder),
        )

    def marginal(self) -> torch.distributions.MultivariateNormal:
        """p(x) in closed form."""
        covariance = self.weight @ self.weight.T + self.sigma**2 * torch.eye(len(self.bias), dtype=torch.float64)
        return torch.distributions.MultivariateNormal(self.bias, covariance)


@pytest.fixture
def linear():
    return LinearGaussian()
