"""The tail of importance weights and the error of the log of their mean, for weights with a known distribution."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pyro_vae import build
from pyro_vae.evaluation.weights import log_mean, pareto_k, warn_of_heavy_tails


def pareto_weights(k, draws, batch, seed=0):
    """Draw log weights from a Pareto distribution with tail index k and mean 1: u^(−k) (1 − k)."""
    u = torch.rand(draws, batch, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return -k * u.log() + math.log(1 - k)


def lognormal_weights(sigma, draws, batch, seed=0):
    noise = torch.randn(draws, batch, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return sigma * noise - sigma**2 / 2


def normal_weights(k, draws, batch, dimensions, seed=0):
    """Draw log weights for a standard normal target and a normal proposal of variance 1 − k: tail index k, log p = 0."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(dimensions, draws, batch, dtype=torch.float64, generator=generator)
    return ((k * -z.square() / 2 + math.log(1 - k) / 2) * -1 + math.log(1 - k)).sum(0)


def zhang_stephens(excess):
    """The fit of Zhang and Stephens (2009, Technometrics 51), straight from the paper, with PSIS's prior of 10 at 1/2."""
    x = np.sort(np.asarray(excess))
    n = len(x)
    m = 30 + math.floor(math.sqrt(n))
    j = np.arange(1, m + 1)
    theta = 1 / x[-1] + (1 - np.sqrt(m / (j - 0.5))) / (3 * x[math.floor(n / 4 + 0.5) - 1])
    k = np.array([-np.mean(np.log1p(-t * x)) for t in theta])  # their k is minus ours
    likelihood = n * (np.log(theta / k) + k - 1)
    weight = 1 / np.exp(likelihood - likelihood[:, None]).sum(1)
    mean = (weight * theta).sum()
    return (np.mean(np.log1p(-mean * x)) * n + 5) / (n + 10)


# The shape.


@pytest.mark.parametrize("draws", [25, 200, 5000])
@pytest.mark.parametrize("k", [0.1, 0.6, 1.5])
def test_the_fit_is_zhang_and_stephens(k, draws):
    generator = np.random.default_rng(3)
    log_weights = np.log(stats.genpareto(k).rvs((draws, 4), random_state=generator) + 1)
    found = pareto_k(torch.tensor(log_weights))
    size = math.ceil(min(0.2 * draws, 3 * math.sqrt(draws)))
    for column, each in zip(log_weights.T, found, strict=True):
        ordered = np.sort(np.exp(column))
        assert each.item() == pytest.approx(zhang_stephens(ordered[-size:] - ordered[-size - 1]), abs=1e-9)


@pytest.mark.parametrize("k", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_it_finds_the_shape_of_scipys_draws(k):
    """The mean k̂ of 100 samples of 100,000 (a tail of 949). Its own error is (1 + k) / √(949 · 100) < 0.007: level 1e-5.

    The prior draws it by 1 % of the way to 1/2.
    """
    weights = stats.genpareto(k).rvs((100_000, 100), random_state=np.random.default_rng(1)) + 1
    found = pareto_k(torch.tensor(np.log(weights)))
    assert found.mean().item() == pytest.approx(k + 0.01 * (0.5 - k), abs=4.5 * (1 + k) / math.sqrt(949 * 100))


@settings(max_examples=30, deadline=None)
@given(shift=st.floats(-1000, 1000), seed=st.integers(0, 1000))
def test_neither_the_scale_of_the_weights_nor_their_order_is_of_account(shift, seed):
    log_weights = lognormal_weights(1.5, 200, 2, seed)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(pareto_k(log_weights[order] + shift), pareto_k(log_weights), rtol=1e-6, atol=1e-6)
    value, error, size = log_mean(log_weights)
    moved = log_mean(log_weights[order] + shift)
    torch.testing.assert_close(moved[0] - shift, value, rtol=0, atol=1e-9)
    torch.testing.assert_close(moved[1:], (error, size), rtol=1e-6, atol=0)


def test_a_single_weight_that_has_everything():
    """If the others underflow beside it, the shape is large, and the error is the change of the log without it."""
    log_weights = torch.linspace(-3000, -2000, 100, dtype=torch.float64).unsqueeze(1).repeat(1, 2)
    log_weights[-1] = 0
    assert (pareto_k(log_weights) > 2).all()
    value, error, size = log_mean(log_weights)
    others = log_weights[:-1].logsumexp(0)
    assert value[0].item() == pytest.approx(-math.log(100))
    torch.testing.assert_close(error, -others * 99 / 100, rtol=1e-9, atol=0)
    torch.testing.assert_close(size, torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize(
    "log_weights",
    [
        torch.zeros(5000, 1),  # all equal
        torch.randn(20, 1),  # a tail of 4
        torch.randint(3, (5000, 1)).float(),  # three values, as for codes with three classes
        torch.full((5000, 1), -math.inf),
        torch.full((1, 1), 3.0),
    ],
)
def test_where_there_is_no_tail_to_tell(log_weights):
    assert pareto_k(log_weights).isnan().all()


def test_where_hardly_any_draw_has_a_weight_the_tail_is_heavy():
    """Only two of 5,000 draws are possible: a k̂ of NaN would give no warning."""
    log_weights = torch.full((5000, 1), -math.inf)
    log_weights[:2] = torch.tensor([[0.0], [1.0]])
    shapes = pareto_k(log_weights)
    assert shapes.tolist() == [math.inf]
    with pytest.warns(UserWarning, match="for 1 of 1 examples"):
        warn_of_heavy_tails(shapes, "importance_sampling", None)


def test_impossible_draws_do_not_count():
    log_weights = lognormal_weights(1.0, 5000, 1)
    half = torch.cat([log_weights, torch.full((100, 1), -math.inf, dtype=torch.float64)])
    torch.testing.assert_close(pareto_k(half), pareto_k(log_weights), rtol=0, atol=0.02)
    assert log_mean(half)[0] == pytest.approx(log_mean(log_weights)[0].item() + math.log(5000 / 5100))
    assert log_mean(half)[1].isfinite().all()


# The error.


def test_the_error_is_the_jackknifes():
    log_weights = lognormal_weights(2.0, 30, 3)
    _, error, _ = log_mean(log_weights)
    without = [torch.cat([log_weights[:i], log_weights[i + 1 :]]).logsumexp(0) for i in range(30)]
    expected = torch.stack(without).var(0, correction=0).mul(29).sqrt()
    torch.testing.assert_close(error, expected, rtol=1e-9, atol=0)


def test_for_weights_much_alike_it_is_the_delta_methods():
    log_weights = lognormal_weights(0.01, 500, 3)
    weights = log_weights.exp()
    expected = weights.std(0) / weights.mean(0) / math.sqrt(500)
    torch.testing.assert_close(log_mean(log_weights)[1], expected, rtol=1e-3, atol=0)


CASES = {
    "pareto 0.3": lambda draws, n: pareto_weights(0.3, draws, n),
    "pareto 0.5": lambda draws, n: pareto_weights(0.5, draws, n),
    "pareto 0.65": lambda draws, n: pareto_weights(0.65, draws, n),
    "pareto 0.8": lambda draws, n: pareto_weights(0.8, draws, n),
    "normal, k 0.3, 20 dimensions": lambda draws, n: normal_weights(0.3, draws, n, 20),
    "normal, k 0.6": lambda draws, n: normal_weights(0.6, draws, n, 1),
    "lognormal 1": lambda draws, n: lognormal_weights(1.0, draws, n),
    "lognormal 3": lambda draws, n: lognormal_weights(3.0, draws, n),
}


@pytest.mark.parametrize("draws", [16, 100, 500])
@pytest.mark.parametrize("case", CASES)
def test_the_spread_of_the_estimate_is_what_the_error_says(case, draws):
    """2,000 independent estimates. Their spread has an error of 2 to 4 %, so 20 % is at least 5 errors: level below 1e-5."""
    value, error, _ = log_mean(CASES[case](draws, 2000))
    assert value.std().item() == pytest.approx(error.square().mean().sqrt().item(), rel=0.2)


@pytest.mark.parametrize("k", [0.3, 0.5, 0.65])
def test_the_mean_over_examples_of_ten_seeds(k):
    """The spread of the mean over 100 examples, of 10 seeds, within 1.3 times what is said: here of 20 such tens.

    The spread of ten is off by 24 % (one standard error), so one in five sets of ten is outside by chance alone. The root
    mean square over twenty is off by 5.3 %: 1.3 is five of that, level 1e-6.
    """
    value, error, _ = log_mean(pareto_weights(k, 500, 100 * 10 * 20))
    means = value.reshape(20, 10, 100).mean(-1)
    said = error.reshape(20, 10, 100).square().sum(-1).sqrt() / 100
    ratio = (means.var(1).mean() / said.square().mean()).sqrt().item()
    assert 1 / 1.3 < ratio < 1.3


@pytest.mark.parametrize(("case", "factor"), [("lognormal 1", 1.5), ("normal, k 0.3, 20 dimensions", 1.5)])
def test_the_bias_is_half_the_squared_error(case, factor):
    """20,000 estimates from 16 draws each: their mean is known within 7 % of the bias (one standard error)."""
    value, error, _ = log_mean(CASES[case](16, 20_000))
    bias = error.square().mean().item() / 2
    assert bias / factor < -value.mean().item() < bias * factor


def test_where_the_tail_is_too_heavy_the_bias_is_larger():
    value, error, _ = log_mean(pareto_weights(0.8, 100, 4000))
    assert -value.mean() > 1.5 * error.square().mean() / 2


# The warning.


def test_it_warns_once_and_says_of_how_many():
    with pytest.warns(UserWarning, match=r"this: Pareto k̂ is above 0.7 for 2 of 4 examples \(the worst 1.20\)") as said:
        warn_of_heavy_tails(torch.tensor([0.2, 0.8, 1.2, math.nan]), "this", None)
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_heavy_tails(torch.tensor([0.2, 0.7, math.nan]), "this", None)


def test_with_a_model_of_the_mask_it_names_no_estimator_that_refuses_one():
    vae = build(2, 1, hidden=(4,), likelihood="Normal", missing=True, mask_likelihood="SelfMasking")
    with pytest.warns(UserWarning, match=r"particles help little. Train a posterior") as said:
        warn_of_heavy_tails(torch.tensor([0.8]), "this", vae)
    assert "annealed" not in str(said[0].message)
