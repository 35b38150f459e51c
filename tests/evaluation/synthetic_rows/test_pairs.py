"""Associations against SciPy, by hand, and by what must hold."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pyro_vae.evaluation.synthetic_rows.pairs import associations, compare_pairs, correlation_ratio, cramers_v
from pyro_vae.evaluation.synthetic_rows.tables import Column, Table, read
from tests.evaluation.synthetic_rows.frames import numbers, people


def table_of_counts(counts):
    """Two columns whose cross-tabulation is ``counts``."""
    places = np.argwhere(np.asarray(counts) >= 0)
    rows = np.repeat(places, np.asarray(counts).ravel(), axis=0).astype(float)
    return rows[:, 0], rows[:, 1]


def test_v_of_a_known_table():
    """Of [[30, 10], [10, 50]]: χ² / n = 0.3403, less its bias of 1 / 99, over a corrected size of 1 − 1 / 99."""
    phi2 = (30 * 50 - 10 * 10) ** 2 / (40 * 60 * 40 * 60)
    assert cramers_v(*table_of_counts([[30, 10], [10, 50]])) == pytest.approx(((phi2 - 1 / 99) / (1 - 1 / 99)) ** 0.5)


def test_v_without_correction_is_that_of_scipy():
    """In a million rows the bias is below 1e-5."""
    counts = np.array([[30_000, 170_000, 50_000], [100_000, 400_000, 250_000]])
    truth = stats.contingency.association(counts, method="cramer")
    assert cramers_v(*table_of_counts(counts)) == pytest.approx(truth, abs=1e-5)


def test_v_is_1_for_a_function_and_0_for_independence():
    assert cramers_v(*table_of_counts([[7, 0, 0], [0, 5, 0], [0, 0, 9]])) == pytest.approx(1)
    assert cramers_v(*table_of_counts([[6, 12], [4, 8]])) == 0
    assert np.isnan(cramers_v(np.arange(9.0), np.arange(9.0)))


def test_the_square_of_v_of_independent_columns_has_a_mean_near_0():
    """Uncorrected, it would be 25 / 199 / 5 = 0.025. Cut at 0, it has a mean of 0.004; five standard errors are less."""
    rng = np.random.default_rng(0)
    found = [cramers_v(*rng.integers(0, 6, (2, 200)).astype(float)) ** 2 for _ in range(200)]
    assert np.mean(found) < 0.008


def test_the_correlation_ratio_against_scipy():
    """ε² of ranks is (H − k + 1) / (n − k), with H of the test of Kruskal and Wallis."""
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 4, 200).astype(float)
    x = (rng.normal(size=200) + groups).round(1)  # with ties
    h = stats.kruskal(*(x[groups == k] for k in range(4))).statistic
    assert correlation_ratio(x, groups) ** 2 == pytest.approx((h - 3) / 196)


def test_the_correlation_ratio_is_1_only_of_a_function_and_0_without_any():
    groups = np.repeat([0.0, 1.0, 2.0], 20)
    assert correlation_ratio(5 * groups, groups) == 1
    assert correlation_ratio(np.tile(np.arange(20.0), 3), groups) == 0
    assert np.isnan(correlation_ratio(np.arange(5.0), np.arange(5.0)))


def test_spearman_with_gaps_is_that_of_scipy_on_complete_rows():
    values = np.random.default_rng(2).normal(size=(200, 3))
    values[:, 1] += values[:, 0]
    values[np.random.default_rng(3).random(values.shape) < 0.2] = np.nan
    found = associations(numbers(values))
    for i, j in itertools.combinations(range(3), 2):
        both = ~np.isnan(values[:, [i, j]]).any(1)
        assert found[i, j] == pytest.approx(stats.spearmanr(values[both, i], values[both, j]).statistic)


def test_a_constant_column_depends_on_nothing():
    columns = (
        Column("a", "number"),
        Column("b", "number"),
        Column("c", "category", ("x", "y")),
        Column("d", "category"),
    )
    values = np.random.default_rng(4).normal(size=(20, 4))
    values[:, 1], values[:, 2], values[:, 3] = 3.0, np.arange(20) % 2, 0.0
    found = associations(Table(columns, values))
    assert found[0, 1] == found[0, 3] == found[1, 2] == found[1, 3] == found[2, 3] == 0
    assert found[0, 2] >= 0


def test_two_rows_tell_nothing():
    assert np.isnan(associations(numbers([[1, 2], [2, 3], [np.nan, 4], [4, np.nan]]))[0, 1])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**30))
def test_units_names_and_orders_do_not_matter(seed):
    frame = people(40, seed)
    other = frame.sample(frac=1, random_state=seed % 1000).assign(
        height=lambda f: np.exp(f["height"] / 20), sex=lambda f: f["sex"].map({"f": "z", "m": "a"})
    )
    found, again = (associations(read({"train": f})[0]["train"]) for f in (frame, other))
    np.testing.assert_allclose(again, found, atol=1e-12)
    np.testing.assert_allclose(found, found.T)
    off = found[~np.eye(len(found), dtype=bool)]
    assert (np.abs(off[~np.isnan(off)]) <= 1).all()


def test_a_frame_of_pairs():
    frames = {"train": people(300), "synthetic": people(200, 1), "held_out": people(100, 2)}
    tables, _ = read(frames | {"held_out": frames["held_out"].assign(height=1.0)})
    names = list(frames["train"])
    found, notes = compare_pairs(tables["synthetic"], tables["held_out"], tables["train"], names)
    assert notes == ["'height' is in no pair: all its values in the real rows are the same"]
    assert len(found) == 6 * 5 // 2
    row = found.set_index(["first", "second"]).loc[("weight", "children")]
    assert row["measure"] == "Spearman"
    for name, source in (("real", "held_out"), ("synthetic", "synthetic"), ("training", "train")):
        both = frames[source][["weight", "children"]].dropna()
        assert row[name] == pytest.approx(stats.spearmanr(both).statistic)
    assert row["difference"] == pytest.approx(abs(row["synthetic"] - row["real"]))
    assert row["training_difference"] == pytest.approx(abs(row["training"] - row["real"]))
    measures = found.set_index(["first", "second"])["measure"]
    assert measures["sex", "smokes"] == "Cramér's V"
    assert measures["weight", "sex"] == measures["sex", "children"] == "correlation ratio"


def test_unknown_pairs_are_counted_in_a_note():
    frame = pd.DataFrame({"a": [*range(10)] + [np.nan] * 10, "b": [np.nan] * 10 + [*range(10)], "c": [*range(20)]})
    tables, _ = read({"train": frame})
    found, notes = compare_pairs(tables["train"], tables["train"], None, ["a", "b", "c"])
    assert notes == ["the associations of 1 pairs are unknown: too few rows have both values"]
    assert found["difference"].isna().to_list() == [True, False, False]
