"""The parts of the KL that BetaTCVAE weighs, against quadrature and by listing all batches."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import nn
from torch.distributions import constraints

from pyro_vae import VAE, build, fit, objectives, priors

EXAMPLES, SCALE = 32, 0.3


class Means(nn.Module):
    """q(z | x) = N(m_x, 0.3²) for an example that is its own number."""

    support = constraints.real_vector

    def __init__(self, examples=EXAMPLES):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        first = torch.randn(examples, 1, dtype=torch.float64, generator=generator)
        noise = torch.randn(examples, 1, dtype=torch.float64, generator=generator)
        means = torch.cat([first, 0.9 * first + 0.1 * noise], 1)
        self.means = nn.Parameter(means / means.std(0))

    def forward(self, x):
        return dist.Normal(self.means[x[:, 0].long()], SCALE).to_event(1)


def made(examples=EXAMPLES):
    posterior = Means(examples)
    vae = VAE(priors.StandardNormal(2).double(), lambda z: dist.Normal(0 * z[:, :1], 1.0).to_event(1), posterior)
    return vae, torch.arange(examples).double().unsqueeze(1)


def parts(objective, vae, x, seed):
    pyro.set_rng_seed(seed)
    objective.loss(vae.model, vae.guide, x)
    return [objective.terms[name].item() for name in ("total_correlation", "information", "dimension_kl")]


def exact(means):
    """Total correlation, information and KL of the dimensions of a mixture of normals, by the trapezium rule."""
    grid = np.linspace(-6, 6, 801)
    step = grid[1] - grid[0]
    one, two = (stats.norm.pdf(grid[:, None], means[:, j], SCALE) for j in range(2))
    joint, first, second = one @ two.T / len(means), one.mean(1), two.mean(1)
    entropy = -(joint * np.log(joint + 1e-300)).sum() * step**2
    product = np.log(np.outer(first, second) + 1e-300)
    correlation = -entropy - (joint * product).sum() * step**2
    information = entropy - 2 * (0.5 * math.log(2 * math.pi * math.e) + math.log(SCALE))
    divergence = sum((q * (np.log(q + 1e-300) - stats.norm.logpdf(grid))).sum() * step for q in (first, second))
    return [correlation, information, divergence]


@pytest.mark.parametrize("examples", [None, EXAMPLES])
def test_a_batch_of_all_data_is_what_quadrature_says(examples):
    """Three means of 200 draws, z-scores below 4.5: level 2e-5 together, on fixed seeds."""
    vae, x = made()
    found = np.array([parts(objectives.BetaTCVAE(examples=examples), vae, x, seed) for seed in range(200)])
    z = (found.mean(0) - exact(vae.posterior.means.detach().numpy())) / found.std(0, ddof=1) * math.sqrt(200)
    assert np.abs(z).max() < 4.5, z


def test_half_of_the_data_is_nearly_what_quadrature_says():
    """The logarithm of an estimate is too low; with half of the data at hand by about 0.15 nats here."""
    vae, x = made()
    generator = torch.Generator().manual_seed(0)
    objective = objectives.BetaTCVAE(examples=EXAMPLES)
    batches = [torch.randperm(EXAMPLES, generator=generator)[: EXAMPLES // 2] for _ in range(200)]
    found = np.array([parts(objective, vae, x[batch], seed) for seed, batch in enumerate(batches)])
    np.testing.assert_allclose(found.mean(0), exact(vae.posterior.means.detach().numpy()), atol=0.3)


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_the_aggregate_posterior_is_unbiased(size):
    """Over all batches that hold an example, of five in all, the mean of the estimates of q(z) is q(z): exactly."""
    examples, z = 5, torch.tensor([0.3, -0.2], dtype=torch.float64)
    means = Means(examples).means.detach()
    density = dist.Normal(means, SCALE).to_event(1).log_prob(z)
    objective = objectives.BetaTCVAE(examples=examples)
    for own in range(examples):
        others = [i for i in range(examples) if i != own]
        estimates = []
        for rest in itertools.combinations(others, size - 1):
            chosen = density[[own, *rest]]
            weights = objective._log_weights(torch.zeros(size, size, 1, dtype=torch.float64), examples)[0]
            estimates.append((chosen + weights).exp().sum())
        assert torch.stack(estimates).mean().item() == pytest.approx(density.exp().mean().item(), rel=1e-12)


def test_the_parts_add_up_to_the_kl_whatever_the_size_of_the_data():
    vae, x = made()
    for examples in (None, EXAMPLES, 2 * EXAMPLES, 10**9):
        objective = objectives.BetaTCVAE(examples=examples)
        found = parts(objective, vae, x, 0)
        assert sum(found) == pytest.approx(objective.terms["kl"].item(), rel=1e-12)


def test_a_plate_says_how_many_there_are():
    vae, x = made()

    def model(x):
        with pyro.plate("all", EXAMPLES, subsample_size=len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(0 * z[:, :1], 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("all", EXAMPLES, subsample_size=len(x)):
            pyro.sample("z", vae.posterior(x))

    by_plate, by_name = objectives.BetaTCVAE(), objectives.BetaTCVAE(examples=EXAMPLES)
    for objective in (by_plate, by_name):
        pyro.set_rng_seed(0)
        objective.loss(model, guide, x[:8])
    assert by_plate.terms == by_name.terms


def test_a_batch_that_is_too_large_or_too_small():
    vae, x = made()
    with pytest.raises(ValueError, match="examples must be at least as many as a batch has, 32, .*; got 31"):
        objectives.BetaTCVAE(examples=31).loss(vae.model, vae.guide, x)
    with pytest.raises(
        ValueError, match="BetaTCVAE needs batches of at least 2 of the 32 examples to estimate .*; got 1"
    ):
        objectives.BetaTCVAE(examples=32).loss(vae.model, vae.guide, x[:1])
    for objective in (objectives.BetaTCVAE(), objectives.BetaTCVAE(examples=1)):
        assert parts(objective, vae, x[:1], 0)[1] == pytest.approx(0, abs=1e-12)


def test_it_trains_compiled_and_refuses_there_too():
    x = torch.rand(20, 4, generator=torch.Generator().manual_seed(0)).round()
    torch.manual_seed(0)
    vae = build((4,), 2, hidden=(8,))
    history = fit(vae, x, epochs=1, batch_size=10, objective=objectives.BetaTCVAE(examples=20), progress=False)
    assert math.isfinite(history[-1].elbo)
    with pytest.raises(ValueError, match="examples must be at least as many as a batch has, 10"):
        fit(vae, x, epochs=1, batch_size=10, objective=objectives.BetaTCVAE(examples=9), progress=False)
