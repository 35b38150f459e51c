"""Models and guides with a known log p(x), in float64."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import torch
from torch import nn


class Linear(nn.Module):
    """x = W z + noise with d standard normal latents, and a guide that is off by a given number of deviations.

    The guide has the true posterior's mean plus ``shift`` deviations, and its diagonal deviation times ``wide``.
    """

    def __init__(self, d=2, sigma=0.5, shift=0.0, wide=1.0, context=False):
        super().__init__()
        generator = torch.Generator().manual_seed(d)
        self.weight = nn.Parameter(torch.randn(3, d, dtype=torch.float64, generator=generator))
        self.d, self.sigma, self.shift, self.wide, self.context = d, sigma, shift, wide, context
        self.encoded = 0

    @property
    def precision(self):
        return torch.eye(self.d, dtype=torch.float64) + self.weight.T @ self.weight / self.sigma**2

    def moments(self, x):
        """Return the mean and covariance of the true posterior."""
        covariance = torch.linalg.inv(self.precision)
        return x @ self.weight @ covariance / self.sigma**2, covariance

    def truth(self, x, c=None):
        covariance = self.weight @ self.weight.T + self.sigma**2 * torch.eye(3, dtype=torch.float64)
        mean = torch.zeros_like(x) if c is None else c
        return torch.distributions.MultivariateNormal(mean, covariance).log_prob(x).detach()

    def data(self, n, seed=0):
        generator = torch.Generator().manual_seed(seed)
        z = torch.randn(n, self.d, dtype=torch.float64, generator=generator)
        noise = torch.randn(n, 3, dtype=torch.float64, generator=generator)
        return (z @ self.weight.T + self.sigma * noise).detach()

    def model(self, x, c=None):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.d), 1.0).to_event(1))
            mean = z @ self.weight.T.to(x.dtype) + (0 if c is None else c)
            pyro.sample("x", dist.Normal(mean, self.sigma).to_event(1), obs=x)

    def guide(self, x, c=None):
        self.encoded += 1
        mean, covariance = self.moments(x.double() - (0 if c is None else c))
        scale = covariance.diagonal().sqrt()
        with pyro.plate("data", len(x)):
            q = dist.Normal((mean + self.shift * scale).to(x.dtype), (self.wide * scale).to(x.dtype))
            pyro.sample("z", q.to_event(1))


def conjugate(kind):
    """Return (model, guide), x and log p(x) for a prior on another support."""
    one = torch.ones(1, dtype=torch.float64)
    if kind == "beta":  # success chances; codes without a dimension of their own
        x = torch.tensor([0.0, 3.0, 10.0], dtype=torch.float64)
        prior, likelihood = dist.Beta(2 * one, 3.5 * one), lambda z: dist.Binomial(10, z)
        truth = dist.BetaBinomial(2 * one, 3.5 * one, 10).log_prob(x)
        guide = dist.Beta(2 * one, 2 * one)
    elif kind == "uniform":  # limits that differ between examples: the mean of a Bernoulli over [low, high]
        x = torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64)
        low, high = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.9, 0.5]], dtype=torch.float64)
        middle = (low + high) / 2
        truth = torch.where(x > 0, middle, 1 - middle).log()

        def model(x, low, high):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Uniform(low, high))
                pyro.sample("x", dist.Bernoulli(z), obs=x)

        def guide(x, low, high):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Uniform(low, high))

        return (model, guide), (x, low, high), truth
    elif kind == "gamma":  # rates, in (0, ∞)
        x = torch.tensor([0.0, 4.0, 9.0], dtype=torch.float64)
        prior, likelihood = dist.Gamma(2.5 * one, 0.5 * one), dist.Poisson
        truth = dist.GammaPoisson(2.5 * one, 0.5 * one).log_prob(x)
        guide = dist.Gamma(2 * one, one)
    else:  # a simplex of three: two reals
        x = torch.tensor([[4.0, 0.0, 1.0], [2.0, 2.0, 1.0]], dtype=torch.float64)
        concentration = torch.tensor([1.2, 2.0, 3.0], dtype=torch.float64)
        prior, likelihood = dist.Dirichlet(concentration), lambda z: dist.Multinomial(5, z, validate_args=False)
        truth = dist.DirichletMultinomial(concentration, torch.tensor(5.0, dtype=torch.float64)).log_prob(x)
        guide = dist.Dirichlet(torch.full((3,), 2.0, dtype=torch.float64))

    def run(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", prior.expand([len(x)]))
            pyro.sample("x", likelihood(z), obs=x)

    def draw(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", guide.expand([len(x)]))

    return (run, draw), (x,), truth


def two_peaks(sigma):
    """x = z² + noise, with a guide that covers the positive root only."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros_like(x), 2.0))
            pyro.sample("x", dist.Normal(z**2, sigma), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            root = x.sqrt()
            pyro.sample("z", dist.Normal(root, sigma / (2 * root)))

    return model, guide


def z_score(values, truth):
    """Return the z-score of the mean of independent values."""
    return ((values.mean() - truth) / values.std() * math.sqrt(len(values))).item()
