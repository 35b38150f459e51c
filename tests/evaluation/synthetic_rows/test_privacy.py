"""Nearness to training rows: by hand, the rate of false alarms, and copies."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_vae.evaluation.synthetic_rows.privacy import copies, nearer_to_train, shares_of_nearest
from pyro_vae.evaluation.synthetic_rows.tables import Column, Table
from tests.evaluation.synthetic_rows.frames import normals, numbers

MIXED = (Column("x", "number"), Column("y", "category", ("a", "b", "c")), Column("z", "number"))


def gower(row, other, middle, spread):
    """The distance of two rows of ``MIXED``, column by column."""
    total = 0.0
    for j, column in enumerate(MIXED):
        a, b = row[j], other[j]
        if column.has_labels:
            total += not (a == b or (np.isnan(a) and np.isnan(b)))
        else:
            total += np.isnan(a) != np.isnan(b)
            a, b = (middle[j] if np.isnan(v) else v for v in (a, b))
            total += abs(a - b) / spread[j]
    return total


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**30))
def test_distances_by_their_definition(seed):
    """With columns of few values, so that many rows are equally near."""
    rng = np.random.default_rng(seed)
    real, synthetic = (rng.integers(0, 3, (n, 3)).astype(float) for n in (9, 7))
    for values in (real, synthetic):
        values[rng.random(values.shape) < 0.2] = np.nan
    real[0], real[1] = 0, 2
    middle = np.nanmedian(real, 0)
    spread = np.nanmean(np.abs(real - middle), 0)
    expected = np.zeros(9)
    for row in synthetic:
        distances = np.array([gower(row, other, middle, spread) for other in real])
        nearest = np.isclose(distances, distances.min(), rtol=1e-9, atol=0)
        expected += nearest / nearest.sum() / 7
    np.testing.assert_allclose(shares_of_nearest(Table(MIXED, synthetic), Table(MIXED, real)), expected, atol=1e-12)


def test_the_share_by_hand():
    train, held_out = numbers([[0.0], [10.0]]), numbers([[3.0], [20.0]])
    found = nearer_to_train(numbers([[1.0], [2.0], [9.0], [15.0], [100.0]]), train, held_out)
    assert found.value == pytest.approx((1 + 0 + 1 + 0.5 + 0) / 5)


def test_the_standard_error_is_that_of_all_ways_to_deal_the_rows():
    """Of 4 training and 4 held-out rows, all 70 ways."""
    values = normals(8, 2, 0).values
    synthetic = normals(30, 2, 1)
    dealt = [
        nearer_to_train(synthetic, numbers(values[list(chosen)]), numbers(np.delete(values, chosen, 0)))
        for chosen in combinations(range(8), 4)
    ]
    assert np.mean([f.value for f in dealt]) == pytest.approx(0.5)
    for found in dealt[:5]:
        assert found.standard_error == pytest.approx(np.std([f.value for f in dealt]))


@pytest.mark.parametrize(("n", "m"), [(40, 40), (150, 30), (30, 150)])
def test_rows_of_one_distribution(n, m):
    """200 times, for any sizes: the mean is 0.5, the standard errors are right, and 5 % of the values exceed two.

    Each of the three fails by chance at four standard errors (6e-5; a deviation has an error of 5 %), or at a share of
    11 % (binomial: 4e-4). A binomial error of 300 rows would be too small by a quarter and more.
    """
    found = [nearer_to_train(*(normals(k, 3, 3 * s + i) for i, k in enumerate((300, n, m)))) for s in range(200)]
    values, errors = (np.array([getattr(f, name) for f in found]) for name in ("value", "standard_error"))
    assert values.mean() == pytest.approx(0.5, abs=4 * values.std() / 200**0.5)
    assert (np.abs(values - 0.5) > 2 * errors).mean() < 0.11
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(values.std(), rel=0.2)
    assert errors.mean() > 1.25 * 0.5 / 300**0.5


def test_copies_are_caught_however_many_rows_are_held_out():
    train = normals(200, 3, 0)
    for held_out in (normals(20, 3, 1), normals(400, 3, 1)):
        found = nearer_to_train(train, train, held_out)
        assert found.value == 1
        assert found.standard_error < 0.1
    near = numbers(train.values + 1e-6)
    assert nearer_to_train(near, train, held_out).value == 1
    assert copies(train, train) == 1
    assert copies(near, train) == 0


def test_copies_of_held_out_rows_are_0():
    assert nearer_to_train(normals(50, 2, 1), normals(50, 2, 0), normals(50, 2, 1)).value == 0


def test_the_share_of_copies():
    train = numbers([[1, np.nan], [2, 5.5]])
    assert copies(numbers([[1, np.nan], [2, np.float32(5.5)], [1, 5.5], [2, 5.5]]), train) == 0.75


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**30))
def test_units_and_orders_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    synthetic, real = rng.normal(size=(20, 3)), rng.normal(size=(30, 3))
    order = rng.permutation(30)
    found = shares_of_nearest(numbers(synthetic), numbers(real))
    units = np.array([1000.0, 1, 0.001])
    again = shares_of_nearest(numbers(synthetic * units + 5), numbers(real[order] * units + 5))
    np.testing.assert_allclose(again, found[order])


def test_a_table_of_labels_alone():
    columns = (Column("x", "boolean", (False, True)), Column("y", "category", ("a", "b")))
    train, held_out = (Table(columns, np.array(v, dtype=float)) for v in ([[0, 0], [1, 1]], [[0, 1], [1, 0]]))
    found = nearer_to_train(Table(columns, np.array([[0.0, 0.0], [0.0, np.nan]])), train, held_out)
    assert found.value == pytest.approx((1 + 0.5) / 2)
