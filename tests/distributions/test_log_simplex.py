"""Logs of points of a simplex: the support, the map from real vectors, and transformed distributions."""

from __future__ import annotations

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats
from torch.distributions import biject_to, constraints, kl_divergence, transform_to
from torch.distributions.transforms import ExpTransform

from pyro_vae.distributions.concrete import RelaxedOneHot
from pyro_vae.distributions.dirichlet import LogDirichlet
from pyro_vae.distributions.groups import Grouped, GroupedSupport
from pyro_vae.distributions.log_simplex import AdditiveLogRatio, AsLogs, as_logs, log_simplex
from pyro_vae.distributions.logistic_normal import LogisticNormal

THIRD = torch.full((3,), 1 / 3, dtype=torch.float64)


def reals(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


# The transform.


def test_the_transform_is_the_log_of_a_softmax_with_a_last_zero():
    x = reals(7, 3).detach()
    z = AdditiveLogRatio()(x)
    expected = special.log_softmax(np.append(x.numpy(), np.zeros((7, 1)), axis=-1), axis=-1)
    np.testing.assert_allclose(z, expected, rtol=1e-12)
    torch.testing.assert_close(AdditiveLogRatio().inv(z), x, rtol=1e-10, atol=1e-12)
    assert torch.equal(AdditiveLogRatio().log_abs_det_jacobian(x, z), torch.zeros(7, dtype=torch.float64))


def test_shapes_and_equality_of_the_transform():
    t = AdditiveLogRatio()
    assert t.forward_shape(torch.Size((4, 3))) == (4, 4)
    assert t.inverse_shape(torch.Size((4, 4))) == (4, 3)
    assert (t.domain, t.codomain, t.bijective) == (constraints.real_vector, log_simplex, True)
    assert t == AdditiveLogRatio(cache_size=1)
    assert hash(t) == hash(AdditiveLogRatio())
    assert t != ExpTransform()
    assert torch.autograd.gradcheck(t, [reals(2, 3)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(x=st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=6))
@settings(deadline=None)
def test_there_and_back_is_the_same_point(dtype, x):
    x = torch.tensor(x, dtype=dtype)
    z = AdditiveLogRatio()(x)
    assert log_simplex.check(z)
    torch.testing.assert_close(AdditiveLogRatio().inv(z), x, rtol=1e-6, atol=1e-2 if dtype == torch.float32 else 1e-10)


@pytest.mark.parametrize("way", [biject_to, transform_to])
def test_real_vectors_are_brought_to_the_support_also_of_groups(way):
    assert way(log_simplex) == AdditiveLogRatio()
    support = Grouped(RelaxedOneHot(0.5, torch.zeros(2, 3))).support
    transform, u = way(support), reals(5, 4).detach()
    z = transform(u)
    assert support.check(z).all()
    torch.testing.assert_close(transform.inv(z), u)
    assert transform.inverse_shape((5, 6)) == (5, 4)
    assert torch.equal(transform.log_abs_det_jacobian(u, z), torch.zeros(5, dtype=torch.float64))
    with pytest.raises(NotImplementedError, match="no map from real vectors to GroupedSupport"):
        way(GroupedSupport(constraints.simplex, 2, 3))


def test_the_support():
    assert log_simplex.check(THIRD.log())
    assert log_simplex.check(torch.tensor([0.0, -torch.inf, -5000.0]))
    assert not log_simplex.check(THIRD)
    assert not log_simplex.check(THIRD.log() + 0.01)


# Transformed distributions.


def test_the_density_is_that_of_the_points_times_their_product():
    base = dist.Dirichlet(torch.tensor([0.7, 2.0, 3.1], dtype=torch.float64))
    y = base.sample((20,))
    torch.testing.assert_close(AsLogs(base).log_prob(y.log()), base.log_prob(y) + y.log().sum(-1))
    torch.testing.assert_close(LogDirichlet(base.concentration).log_prob(y.log()), AsLogs(base).log_prob(y.log()))


def test_what_is_over_points_is_carried_and_what_is_over_logs_is_not():
    p = dist.Dirichlet(torch.ones(2, 3))
    for ours in (LogDirichlet(torch.ones(3)), LogisticNormal(torch.zeros(2), torch.ones(2)), Grouped(RelaxedOneHot(0.5, torch.zeros(2, 3)))):  # fmt: skip
        assert as_logs(ours) is ours
    carried = as_logs(p)
    assert (type(carried), carried.base, carried.support, carried.has_rsample) == (AsLogs, p, log_simplex, True)
    assert carried.expand((5, 2)).rsample((4,)).shape == (4, 5, 2, 3)
    groups = as_logs(Grouped(p))
    assert isinstance(groups.base, AsLogs)
    assert groups.support.check(groups.sample((4,))).all()
    assert as_logs(dist.Normal(torch.zeros(3), 1.0).to_event(1)) is None
    mixture = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(torch.ones(2)), p)
    assert isinstance(as_logs(mixture), AsLogs)


def test_the_kl_of_what_is_carried_is_that_of_the_points():
    p, q = (dist.Dirichlet(reals(3, seed=s).exp()) for s in (0, 1))
    expected = kl_divergence(p, q)
    torch.testing.assert_close(kl_divergence(AsLogs(p), AsLogs(q)), expected)
    torch.testing.assert_close(kl_divergence(AsLogs(p), LogDirichlet(q.concentration)), expected)


# The Dirichlet.


@pytest.mark.parametrize("concentration", [(0.5, 2.0), (1e-3, 1e-3), (30.0, 0.2)])
def test_dirichlet_integrates_to_one(concentration):
    """Over the log ratio, which reaches thousands for small concentrations."""
    d = LogDirichlet(torch.tensor(concentration, dtype=torch.float64))

    def density(u):
        return d.log_prob(torch.tensor([u, 0.0], dtype=torch.float64).log_softmax(-1)).exp().item()

    reach = 40 / min(concentration)
    total = sum(integrate.quad(density, *ends, limit=400)[0] for ends in ((-reach, -50), (-50, 50), (50, reach)))
    assert total == pytest.approx(1.0, rel=1e-6)


def below_log_odds(u, a, b):
    """P(log y / (1 − y) < u) for y a Beta(a, b); in the tails, which floats of y do not reach, y^a / (a B(a, b))."""
    small = np.exp(a * u - special.betaln(a, b) - np.log(a))
    return np.where(u < -500, small, special.betainc(a, b, special.expit(u)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("concentration", [(0.5, 2.0, 7.0), (0.01, 0.02, 0.01), (1e-4, 1e-4, 1.0)])
def test_dirichlet_draws_have_the_log_ratios(dtype, concentration):
    """z_i − z_j are the log odds of a Beta(α_i, α_j): Kolmogorov-Smirnov, level 1e-4 per test, 18 on a fixed seed."""
    torch.manual_seed(3)
    z = LogDirichlet(torch.tensor(concentration, dtype=dtype)).sample((4000,)).double().numpy()
    assert np.isfinite(z).all()
    for i, j in ((0, 1), (1, 2), (2, 0)):
        u, a, b = z[:, i] - z[:, j], concentration[i], concentration[j]
        share = np.where(u < 0, below_log_odds(np.minimum(u, 0), a, b), 1 - below_log_odds(-np.maximum(u, 0), b, a))
        assert stats.kstest(share, "uniform").pvalue > 1e-4


def test_dirichlet_draws_have_a_gradient():
    """Of the mean of log y_1, which is ψ(α_1) − ψ(Σ α): within 4.5 standard errors, on a fixed seed."""
    torch.manual_seed(0)
    a = torch.tensor([0.3, 1.5, 0.05], dtype=torch.float64).expand(100_000, 3).clone().requires_grad_()
    (each,) = torch.autograd.grad(LogDirichlet(a).rsample()[:, 0].sum(), a)
    truth = -special.polygamma(1, 1.85) + np.array([special.polygamma(1, 0.3), 0, 0])
    score = (each.mean(0) - torch.from_numpy(truth)) / (each.std(0) / 100_000**0.5)
    assert score.abs().max() < 4.5
