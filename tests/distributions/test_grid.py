"""Distributions over levels, against SciPy and by sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special, stats

from pyro_vae.distributions.grid import DiscretizedLogistic, Grid, GridCategorical
from tests.likelihoods.cases import log_bin


@pytest.mark.parametrize(
    ("levels", "upper", "text"),
    [(256, 1.0, "{0, 1/255, ..., 1}"), (17, 16, "{0, 1, ..., 16}"), (2, 1, "{0, 1}"), (5, 10.0, "{0, 2.5, ..., 10}")],
)
def test_a_grid_says_what_it_is(levels, upper, text):
    assert repr(Grid(levels, upper)) == text


@pytest.mark.parametrize("levels", [2, 17, 256, 65536])
@pytest.mark.parametrize("upper", [1.0, 0.3, 255.0])
def test_a_grid_takes_its_levels_to_rounding_and_nothing_between(levels, upper):
    grid = Grid(levels, upper)
    index = torch.arange(levels, dtype=torch.float64)
    exact = index * (upper / (levels - 1))
    for x in (exact, exact.float(), exact.float().double()):
        assert grid.check(x).all()
        assert torch.equal(grid.to_index(x).double(), index)
        assert grid.check(grid.from_index(grid.to_index(x))).all()
    step = upper / (levels - 1)
    for off in (-step, -0.1 * step, 0.1 * step, 0.5 * step, upper + step):
        assert not grid.check(torch.tensor(off, dtype=torch.float64)).any()
    assert not grid.check(torch.tensor(float("nan")))


@pytest.mark.parametrize("levels", [2, 5, 256])
def test_discretized_logistic_equals_differences_of_the_cdf_and_sums_to_one(levels):
    g = torch.Generator().manual_seed(0)
    loc = torch.rand(40, generator=g, dtype=torch.float64) * 1.6 - 0.3
    scale = torch.logspace(-2, 1, 40, dtype=torch.float64)
    p = DiscretizedLogistic(loc, scale, levels)
    x = p.support.from_index(torch.arange(levels, dtype=torch.float64)).unsqueeze(-1)
    log_prob = p.log_prob(x)
    expected = log_bin(x.numpy(), loc.numpy(), scale.numpy(), levels, 1.0)
    # Against a difference, which loses digits if a bin is thin.
    np.testing.assert_allclose(log_prob, expected, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(log_prob.exp().sum(0), torch.ones(40, dtype=torch.float64), rtol=1e-12, atol=0)
    mean = (log_prob.exp() * x).sum(0)
    torch.testing.assert_close(p.mean, mean, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(p.variance, (log_prob.exp() * (x - mean) ** 2).sum(0), rtol=1e-8, atol=1e-12)


def test_far_bins_have_the_density_of_the_tail():
    """log P(k) → −(x − h − loc)/s + log(1 − exp(−2h/s)) for x far above loc, where every difference is 0."""
    p = DiscretizedLogistic(torch.tensor(0.0, dtype=torch.float64), torch.tensor(1e-4, dtype=torch.float64), 256)
    x, h, s = 200 / 255, 0.5 / 255, 1e-4
    expected = -(x - h) / s + np.log(-np.expm1(-2 * h / s))
    assert p.log_prob(torch.tensor(x, dtype=torch.float64)).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_finite_input_gives_a_gradient_that_is_not(dtype):
    sizes = torch.tensor([0.0, 1e-6, 0.5, 1.0, 50.0, 1e6, 1e15], dtype=dtype)
    loc = torch.cat([sizes, -sizes])[:, None, None].expand(14, 6, 5).clone().requires_grad_()
    scale = (
        torch.tensor([1e-6, 1e-3, 0.1, 1.0, 50.0, 1e6], dtype=dtype)[:, None].expand(14, 6, 5).clone().requires_grad_()
    )
    x = torch.tensor([0, 1, 128, 254, 255], dtype=dtype) / 255
    log_prob = DiscretizedLogistic(loc, scale).log_prob(x)
    log_prob.sum().backward()
    for tensor in (log_prob, loc.grad, scale.grad):
        assert torch.isfinite(tensor).all()
    assert (log_prob <= 0).all()
    # A pixel pulls the mean from any distance.
    pulled = (loc.detach().abs() > 40) & (scale.detach() < 1e-2)
    assert (loc.grad[pulled & (loc.detach() < 0)][1:] >= 0).all()
    assert (loc.grad[2 + 2, 0, :4] < 0).all()


def test_gradients_of_the_discretized_logistic():
    loc = torch.tensor([0.2, 0.5, -0.3, 1.4], dtype=torch.float64, requires_grad=True)
    scale = torch.tensor([0.001, 0.2, 3.0, 0.05], dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[0.0], [51 / 255], [1.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: DiscretizedLogistic(a, b).log_prob(x), (loc, scale))
    assert torch.autograd.gradcheck(lambda a, b: DiscretizedLogistic(a, b, 9).mean, (loc, scale))


def test_grid_categorical_equals_scipy():
    logits = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p = GridCategorical(logits, upper=2.5)
    probabilities = special.softmax(logits.numpy(), axis=-1)
    values = np.arange(6) * 0.5
    for i in range(3):
        d = stats.rv_discrete(values=(np.arange(6), probabilities[i]))
        for k in range(6):
            assert p.log_prob(torch.tensor(values[k]))[i].item() == pytest.approx(d.logpmf(k), rel=1e-10)
        assert p.mean[i].item() == pytest.approx(d.mean() * 0.5, rel=1e-10)
        assert p.variance[i].item() == pytest.approx(d.var() * 0.25, rel=1e-10)
    x = p.sample((100,))
    assert x.shape == (100, 3)
    assert x.dtype == torch.float64
    assert p.support.check(x).all()


def test_expanded_distributions_keep_their_levels():
    p = DiscretizedLogistic(torch.tensor(3.0), torch.tensor(1.0), 9, 8.0).expand((2, 3))
    assert (p.batch_shape, p.levels, p.upper) == ((2, 3), 9, 8.0)
    q = GridCategorical(torch.zeros(1, 9), 8.0).expand((2, 3))
    assert (q.batch_shape, q.levels, q.upper) == ((2, 3), 9, 8.0)
    assert q.log_prob(torch.tensor(8.0)).shape == (2, 3)


def test_values_off_the_grid_are_refused_by_validation():
    for p in (
        DiscretizedLogistic(torch.zeros(1), torch.ones(1), validate_args=True),
        GridCategorical(torch.zeros(1, 256), validate_args=True),
    ):
        with pytest.raises(ValueError, match="support"):
            p.log_prob(torch.tensor([0.5]))
    with pytest.raises(ValueError, match="scale"):
        DiscretizedLogistic(torch.zeros(1), -torch.ones(1), validate_args=True)
