"""Gaps above the mean in real tables: the benchmark of a model of the mask, small."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tests.end_to_end.test_imputation import ROOT, script


@pytest.fixture(scope="module")
def benchmark():
    sys.path.insert(0, str(ROOT / "benchmarks"))  # as Python does for a script that is run
    try:
        return script("benchmarks/missing_not_at_random.py")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


def test_every_value_above_the_mean_is_removed_from_half_of_the_columns(benchmark):
    table = benchmark.TABLES["wine"]()
    x, left = benchmark.remove(table, seed=0)
    missing = np.isnan(left)
    columns = missing.any(0)
    assert columns.sum() == table.shape[1] // 2
    np.testing.assert_array_equal(missing[:, columns], (table > table.mean(0))[:, columns])
    np.testing.assert_array_equal(x[~missing], left[~missing])
    np.testing.assert_allclose(np.nanmean(left, axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.nanstd(left, axis=0), 1, rtol=1e-9)


def test_scores_by_hand(benchmark):
    x = np.array([[0.0, 0.0, 5.0], [2.0, 4.0, 9.0]])  # standard deviations 1 and 2; the last column has no gap
    left = np.array([[np.nan, 0.0, 5.0], [2.0, np.nan, 9.0]])
    imputed = np.array([[0.5, 100.0, 100.0], [100.0, 1.0, 100.0]])  # what was not missing does not count
    rmse, bias = benchmark.scores(imputed, x, left)
    assert rmse == pytest.approx((0.5 / 1 + 3 / 2) / 2)
    assert bias == pytest.approx((0.25 / 1 - 1.5 / 2) / 2)


@pytest.mark.slow
def test_the_model_of_the_mask_is_better(benchmark):
    """Over five other masks the difference was -0.505 ± 0.098 (standard deviation); the limit is 3 of these away."""
    results = benchmark.compare("wine", 0, ["upper"])
    assert results["VAE, mask (upper)"][0] < results["VAE"][0] - 0.2
    assert abs(results["VAE, mask (upper)"][1]) < abs(results["VAE"][1])
    assert all(row.count("|") == 7 for row in benchmark.rows("wine", [results], ["upper"]))
