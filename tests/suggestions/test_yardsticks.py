"""The constants and fits of the rules against SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from pyro_vae.suggestions.rules import HEAVY, NORMAL, SKEWED, _skew_and_tails, _zeros
from tests.suggestions.cases import negative_binomial, zero_inflated


def test_the_normal_and_heavy_tails_are_what_the_constants_say():
    def ratio(law):
        return (law.ppf(0.99) - law.ppf(0.01)) / (law.ppf(0.75) - law.ppf(0.25))

    assert ratio(stats.norm) == pytest.approx(NORMAL, abs=0.005)
    assert ratio(stats.t(7)) < HEAVY < ratio(stats.t(6)) < ratio(stats.laplace)
    assert _skew_and_tails(stats.laplace.ppf((np.arange(9999) + 0.5) / 9999)[:, None])[1] == pytest.approx(
        ratio(stats.laplace), rel=2e-3
    )


@pytest.mark.parametrize(("law", "low", "high"), [(stats.lognorm(0.3), 0.9, 1.1), (stats.expon(), 2.0, 2.5)])
def test_skewness_is_what_the_constants_say(law, low, high):
    q5, q50, q95 = law.ppf([0.05, 0.5, 0.95])
    measured = _skew_and_tails(law.ppf((np.arange(9999) + 0.5) / 9999)[:, None])[0]
    assert measured == pytest.approx((q95 + q5 - 2 * q50) / (q95 - q5), rel=1e-3)
    assert low < measured / SKEWED < high


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_fits_are_the_maxima_of_scipys_likelihoods(share):
    x = zero_inflated(negative_binomial(6, 3), share, (300, 1)).astype(float)

    def loss(parameters):
        size, mean, inflated = np.exp(parameters[0]), np.exp(parameters[1]), parameters[2]
        p = stats.nbinom.pmf(x, size, size / (size + mean))
        return -np.log((1 - inflated) * p + inflated * (x == 0)).sum()

    start, bounds = [0.0, math.log(x.mean())], [(-5, 5), (-5, 5)]
    plain = optimize.minimize(loss, [*start, 0.0], bounds=[*bounds, (0, 0)], tol=1e-12)
    inflated = optimize.minimize(loss, [*start, 0.2], bounds=[*bounds, (0, 0.9)], tol=1e-12)
    size, mean, extra = math.exp(inflated.x[0]), math.exp(inflated.x[1]), inflated.x[2]
    zeros, explained, gain = _zeros(x)
    assert zeros == (x == 0).mean()
    assert explained == pytest.approx((1 - extra) * stats.nbinom.pmf(0, size, size / (size + mean)), abs=2e-3)
    assert gain == pytest.approx(2 * (plain.fun - inflated.fun) - 1, abs=0.02)
    assert (gain > 16) == (share > 0)
