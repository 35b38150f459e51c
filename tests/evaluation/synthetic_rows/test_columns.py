"""Distances of columns in closed form and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pyro_vae.evaluation.synthetic_rows.columns import compare_columns, distance, new_labels
from pyro_vae.evaluation.synthetic_rows.tables import Column, Table, read
from tests.evaluation.synthetic_rows.frames import normals, people

NUMBER, CATEGORY = Column("x", "number"), Column("x", "category", ("a", "b", "c"))


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_two_shifted_normals(shift):
    """2 Φ(δ / 2) − 1. By the bound of Dvoretzky, Kiefer, Wolfowitz and Massart, both errors of 0.015 fail at 2e-8."""
    n = 40_000
    found = distance(NUMBER, normals(n, 1, 0, shift).values[:, 0], normals(n, 1, 1).values[:, 0])
    assert found == pytest.approx(2 * stats.norm.cdf(shift / 2) - 1, abs=2 * 0.015)
    assert 4 * np.exp(-2 * n * 0.015**2) < 1e-7


def test_two_bernoullis():
    column = Column("x", "boolean", (False, True))
    first, second = np.repeat([0.0, 1.0], [70, 30]), np.repeat([0.0, 1.0], [9, 11])
    assert distance(column, first, second) == pytest.approx(abs(0.3 - 0.55))


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.lists(st.integers(0, 6), min_size=1, max_size=30))
def test_a_distance_by_its_definition(first, second):
    """The largest difference of distribution functions, and half the sum of differences of shares."""
    first, second = np.array(first, dtype=float), np.array(second, dtype=float)
    steps = [abs((first <= x).mean() - (second <= x).mean()) for x in range(7)]
    assert distance(NUMBER, first, second) == pytest.approx(max(steps))
    shares = [abs((first == x).mean() - (second == x).mean()) for x in range(7)]
    labels = Column("x", "category", tuple("abcdefg"))
    assert distance(labels, first, second) == pytest.approx(sum(shares) / 2)
    for column in (NUMBER, labels):
        assert distance(column, first, second) == pytest.approx(distance(column, second, first))
        assert distance(column, first, np.repeat(first, 3)) == pytest.approx(0, abs=1e-12)


def test_nothing_in_common_is_1():
    assert distance(NUMBER, np.zeros(5), np.ones(3)) == 1
    assert distance(CATEGORY, np.zeros(5), np.full(3, 2.0)) == 1


def test_a_frame_of_columns():
    frames = {"train": people(300), "synthetic": people(200, 1), "held_out": people(100, 2)}
    tables, _ = read(frames)
    found = compare_columns(tables["synthetic"], tables["held_out"], tables["train"])
    known = {name: frame["weight"].dropna() for name, frame in frames.items()}
    for name, source in (("synthetic", "synthetic"), ("training", "train")):
        assert found.loc["weight", name] == pytest.approx(stats.ks_2samp(known[source], known["held_out"]).statistic)
        assert found.loc["weight", f"missing_{name}"] == frames[source]["weight"].isna().mean()
        shares = [frames[n]["city"].value_counts(normalize=True) for n in (source, "held_out")]
        assert found.loc["city", name] == pytest.approx((shares[0] - shares[1]).abs().sum() / 2)
    assert found.loc["weight", "missing_real"] == frames["held_out"]["weight"].isna().mean()
    assert found["kind"].to_dict() == {
        "born": "date", "children": "number", "city": "category", "height": "number", "sex": "category",
        "smokes": "boolean", "weight": "number",
    }  # fmt: skip
    assert set(found.loc[["sex", "city", "smokes"], "measure"]) == {"total variation"}
    assert set(found.loc[["born", "children", "height"], "measure"]) == {"Kolmogorov-Smirnov"}
    alone = compare_columns(tables["synthetic"], tables["train"], None)
    assert alone[["training", "missing_training"]].isna().all(axis=None)


def test_new_labels():
    columns = (CATEGORY, Column("y", "number"))
    table, other = (Table(columns, np.array(v, dtype=float)) for v in ([[2, 5], [0, 6], [np.nan, 7], [1, 8]], [[0, 1]]))
    assert new_labels(table, other) == [("x", ["b", "c"], 0.5)]
    assert new_labels(other, table) == []
    assert new_labels(table, other, table) == []
