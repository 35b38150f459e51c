"""Missing values in real tables: the benchmark beside scikit-learn's imputer, small, and the example."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def script(path):
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def imputation():
    return script("benchmarks/imputation.py")


def test_tables_are_standardised_with_what_is_left(imputation):
    x, left = imputation.remove(imputation.TABLES["wine"](), share=0.3, seed=0)
    missing = np.isnan(left)
    assert 0.25 < missing.mean() < 0.35
    np.testing.assert_array_equal(x[~missing], left[~missing])
    np.testing.assert_allclose(np.nanmean(left, axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.nanstd(left, axis=0), 1, rtol=1e-9)


def test_the_removed_values_do_not_change_what_the_imputers_see(imputation):
    table = imputation.TABLES["wine"]()
    _, left = imputation.remove(table, share=0.3, seed=0)
    _, again = imputation.remove(np.where(np.isnan(left), 1e6, table), share=0.3, seed=0)
    np.testing.assert_array_equal(left, again)


def test_nrmse_by_hand(imputation):
    x = np.array([[0.0, 0.0], [2.0, 4.0]])  # standard deviations 1 and 2
    left = np.array([[np.nan, 0.0], [2.0, np.nan]])
    imputed = np.array([[0.5, 100.0], [100.0, 1.0]])  # what was not missing does not count
    assert imputation.nrmse(imputed, x, left) == pytest.approx((0.5 / 1 + 3 / 2) / 2)
    assert imputation.mean_square(imputed, x, left) == pytest.approx((0.5**2 / 1**2 + 3**2 / 2**2) / 2)


def test_vae_is_not_worse_than_iterative_imputer(imputation):
    results = imputation.compare("wine", seed=0, steps=600)
    vae, means = results["VAE"], results["column means"]
    rounds = [value for name, value in results.items() if name.startswith("IterativeImputer")]
    assert len(rounds) == 2
    assert max(rounds) < means
    assert vae < 0.85 * means
    assert vae <= min(rounds)
    assert imputation.row("wine", [results]).count("|") == 8


def test_example_of_a_mixed_table(capsys):
    results = script("examples/mixed_table.py").main(epochs=50)
    assert results["NRMSE, VAE"] < 0.9 * results["NRMSE, column means"]
    assert results["accuracy, VAE"] > results["accuracy, commonest class"] + 0.2
    assert "Categorical" in capsys.readouterr().out
