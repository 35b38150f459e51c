"""Densities of all priors and posteriors: total one, equal to a second implementation, in agreement with draws and KLs."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy import stats

from tests.combinations.grids import Grid, coordinates, grid_for, values
from tests.combinations.parts import (
    DENSITIES,
    ONE_HOT,
    REAL,
    SIMPLEX,
    SPHERE,
    D,
    Density,
    make_context,
    make_vae,
    make_x,
)
from tests.combinations.references import log_posterior, log_prior

every = pytest.mark.parametrize("density", DENSITIES, ids=str)
continuous = pytest.mark.parametrize("density", [d for d in DENSITIES if d.part.space != ONE_HOT], ids=str)
discrete = pytest.mark.parametrize("density", [d for d in DENSITIES if d.part.space == ONE_HOT], ids=str)

# The trapezoid rule is exact to rounding for smooth densities. Where a density has kinks (the Laplace; Zuko's networks,
# which have ReLUs), its error is of the order of the square of the step, 0.033; on the sphere the power has a root at its far end.
SMOOTH = 1e-8
KINKS = 3e-4
LEVEL = 1e-4


def tolerance(density: Density) -> float:
    owner = density.prior if density.room == "prior" else density.posterior
    both = {owner, density.posterior} if density.prior == "VampPrior" else {owner}
    return KINKS if any("Flow" in name or name in ("Laplace", "PowerSpherical") for name in both) else SMOOTH


@cache
def grid_and_mass(density: Density) -> tuple[Grid, torch.Tensor]:
    """The axes of the grid and the probability around each point: one row per axis, examples last."""
    distribution = density.of(density.vae())
    grid = grid_for(density, distribution)
    mass = grid.mass(distribution)
    return replace(grid, z=None, log_volume=None), mass


@continuous
def test_the_density_integrates_to_one(density):
    np.testing.assert_allclose(grid_and_mass(density)[1].sum((0, 1)), 1, atol=tolerance(density))


@discrete
def test_the_probabilities_sum_to_one(density):
    q, z = density.of(density.vae()), values(density)
    totals = q.log_prob(z.unsqueeze(1)).reshape(len(z), -1).exp().sum(0)
    np.testing.assert_allclose(totals.detach(), 1, rtol=1e-12)


@pytest.mark.parametrize("name", ["UniformOnSphere", "PowerSpherical"])
def test_the_density_on_a_circle_integrates_to_one(name):
    """The sphere in two dimensions: 20,000 directions in equal steps."""
    room = "prior" if name == "UniformOnSphere" else "posterior"
    density = Density(room, "UniformOnSphere", "PowerSpherical")
    angle = (torch.arange(20_000, dtype=torch.float64) + 0.5) * (2 * torch.pi / 20_000)
    z = torch.stack([angle.cos(), angle.sin()], dim=-1).unsqueeze(1)
    totals = density.of(density.vae(2)).log_prob(z).exp().mean(0) * 2 * torch.pi
    np.testing.assert_allclose(totals.detach(), 1, atol=1e-6)


@every
def test_the_density_equals_an_independent_one(density):
    """Four dimensions, at draws and, over real vectors, at points farther out."""
    vae = density.vae(D)
    q, c = density.of(vae), make_context(density.prior)
    z = q.expand((3,)).sample() if not q.batch_shape else q.sample()
    for at in (z, 1.7 * z - 0.4) if density.part.space == REAL else (z,):
        if density.room == "prior":
            expected = log_prior(vae.prior, at, c)
        else:
            expected = log_posterior(vae.posterior, make_x(), at, c)
        np.testing.assert_allclose(q.log_prob(at).detach(), expected, rtol=1e-10, atol=1e-10)


def test_delta_is_a_point():
    """Delta has no density: log_prob leaves out the infinite part; it is 0 at the point and -inf elsewhere."""
    vae = make_vae("StandardNormal", "Delta")
    q = vae.encode(make_x())
    out = vae.posterior.net(make_x())
    assert torch.equal(q.sample(), out)
    assert torch.equal(q.log_prob(out), torch.zeros(3, dtype=torch.float64))
    assert (q.log_prob(out + 1) == -torch.inf).all()


def ks_tests() -> int:
    return sum(2 * (1 if not d.of(d.vae()).batch_shape else 3) for d in DENSITIES if d.part.space != ONE_HOT)


@continuous
def test_draws_follow_the_density(density):
    """Kolmogorov-Smirnov of 5,000 draws on both marginals of each example, against the integrated density.

    Level 1e-4 a test on fixed seeds; with the chi-square tests below there are fewer than 200, so that fewer than one
    choice of seeds in 50 would fail by chance.
    """
    torch.manual_seed(11)
    q = density.of(density.vae())
    draws = q.sample((5_000,)).reshape(5_000, -1, q.event_shape[0])
    grid, masses = grid_and_mass(density)
    for dim, along in enumerate(coordinates(density, draws)):
        marginal = masses.sum(1 - dim)
        below = (marginal.cumsum(0) - marginal / 2).numpy()
        for row in range(draws.shape[1]):
            at = along[:, row].numpy()
            p = stats.kstest(np.interp(at, grid.axes[dim][:, row].numpy(), below[:, row]), "uniform").pvalue
            assert p > LEVEL, (dim, row, p)


@pytest.mark.parametrize("density", [d for d in DENSITIES if d.room == "posterior" or d.prior != "VampPrior"], ids=str)
def test_values_broadcast_against_the_batch(density):
    """Codes (5, 1, d) and (5, batch, d) of a batch of distributions; and dimensions in front of that."""
    q = density.of(density.vae(D))
    z = q.expand((5, 3)).sample() if not q.batch_shape else q.sample((5,))
    each = q.log_prob(z)
    assert each.shape == (5, 3)
    torch.testing.assert_close(q.log_prob(z[:, :1]).expand(5, 3)[:, 0], each[:, 0])
    torch.testing.assert_close(q.log_prob(torch.stack([z, z.flip(0)]))[0], each)


@discrete
def test_draws_have_the_probabilities(density):
    """Chi-square of 5,000 draws, level 1e-4 per example on fixed seeds."""
    torch.manual_seed(11)
    q, z = density.of(density.vae()), values(density)
    probabilities = q.log_prob(z.unsqueeze(1)).reshape(len(z), -1).exp().detach()
    draws = q.sample((5_000,)).reshape(5_000, -1, q.event_shape[0])
    for row in range(draws.shape[1]):
        counted = (draws[:, row].unsqueeze(1) == z).all(-1).sum(0)
        assert counted.sum() == 5_000
        assert stats.chisquare(counted.numpy(), 5_000 * probabilities[:, row].numpy()).pvalue > LEVEL


def test_the_number_of_sample_tests_is_the_one_stated():
    chi_square = sum(3 if d.of(d.vae()).batch_shape else 1 for d in DENSITIES if d.part.space == ONE_HOT)
    assert 150 < ks_tests() < ks_tests() + chi_square < 200


def test_the_spaces_are_all_tested():
    assert {d.part.space for d in DENSITIES} == {REAL, SIMPLEX, ONE_HOT, SPHERE}
