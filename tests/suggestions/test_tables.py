"""Tables, names, text, and bad input."""

from __future__ import annotations

import dataclasses
import math
import re
import warnings

import numpy as np
import pytest
import torch

from pyro_vae import data
from pyro_vae.suggestions import Suggestion, suggest
from pyro_vae.suggestions.rules import _zeros
from tests.suggestions.cases import mixed, negative_binomial, rng, spec


class Frame:
    """The part of a pandas DataFrame that ``suggest`` uses."""

    def __init__(self, values, columns):
        self.values, self.columns = values, columns

    def to_numpy(self):
        return self.values


class NAType:
    """Pandas' NA, which supports neither comparisons nor float()."""

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")


def test_data_frames_bring_their_names_and_their_missing_values():
    n = 200
    values = np.empty((n, 3), dtype=object)
    values[:, 0] = [bool(b) for b in rng().random(n) < 0.5]
    values[:, 1] = [int(k) for k in rng().poisson(3, n)]
    values[:, 2] = [float(f) for f in rng().normal(size=n)]
    values[3, 1], values[5, 2] = NAType(), None
    (only,) = suggest(Frame(values, ["smokes", "visits", 7]))
    assert only.likelihood == mixed({"smokes": "Bernoulli", "visits": "Poisson", "7": "Normal"})
    assert only.prepare == "Values are missing: build(..., missing=True)"
    (renamed,) = suggest(Frame(values, ["smokes", "visits", 7]), names=["a", "b", "c"])
    assert list(renamed.likelihood["columns"]) == ["a", "b", "c"]


def test_all_splits_of_a_data_set_decide_what_is_possible():
    x = (rng().random((200, 1)) < 0.5).astype(float)
    train, valid, test = (data.Rows(torch.from_numpy(part), columns=("a",)) for part in np.split(x, [150, 170]))
    assert suggest(data.DataSet(train, valid, test))[0].likelihood == "Bernoulli"
    test.values[3] = 2.0
    assert suggest(data.DataSet(train, valid, test))[0].likelihood != "Bernoulli"
    assert suggest(train)[0].likelihood == "Bernoulli"


def test_the_preparation_comes_in_steps():
    x = np.c_[rng().normal(100, 5, 200), np.exp(rng().normal(size=200)), rng().integers(1, 3, 200)]
    x[3, 0] = np.nan
    first = suggest(x, ["height", "income", "sex"])[0]
    assert first.todo == (
        ("Standardise", "(height)"),
        ("Take the logarithm, then standardise", "(income)"),
        ("Recode 1 and 2 as 0 and 1", "(sex)"),
        ("Values are missing: build(..., missing=True)", ""),
    )
    assert first.prepare == ". ".join(f"{what} {where}".strip() for what, where in first.todo)
    left = first.with_steps(first.todo[1:2])
    assert (left.likelihood, left.reason) == (first.likelihood, first.reason)
    assert left.prepare == "Take the logarithm, then standardise (income)"
    assert first.with_steps(()).prepare == ""
    assert Suggestion("Poisson", "counts").todo == ()
    assert Suggestion("Normal", "reals", "Standardise").todo == (("Standardise", ""),)


def test_columns_without_names_are_numbered():
    first = suggest(np.c_[rng().random(50) < 0.5, rng().normal(size=50)])[0]
    assert first.likelihood == mixed({"column 0": "Bernoulli", "column 1": "Normal"})


def test_columns_that_never_vary_are_named():
    x = np.c_[rng().normal(size=50), np.full(50, 7.3)]
    assert suggest(x, ["height", "version"])[0].prepare == "Drop what never varies (version)"


def test_whole_numbers_far_from_zero_are_as_good_as_reals():
    years = rng().integers(1900, 2020, (300, 1))
    found = suggest(years)
    assert [s.likelihood for s in found] == ["Normal", "StudentT", "NegativeBinomial"]
    assert found[0].reason.startswith("whole numbers from 1.9e+03")


def test_wide_data_are_never_split_into_columns():
    x = np.c_[rng().normal(size=(50, 100)), rng().random(50) < 0.5]
    assert suggest(x)[0].likelihood == "Normal"


def test_large_data_are_judged_whole_where_values_decide():
    x = np.zeros((9001, 3))
    x[::2] = 1
    assert suggest(x)[0].likelihood == "Bernoulli"
    x[4001, 1] = 0.3  # in no sample of every third row
    assert suggest(x)[0].likelihood != "Bernoulli"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32])
def test_every_dtype_of_numbers_is_taken(dtype):
    x = torch.from_numpy(rng().integers(0, 5, (200, 2))).to(dtype)
    assert suggest(x)[0].likelihood == spec("Categorical", 5, 4.0)
    assert suggest(x.requires_grad_() if x.is_floating_point() else x)[0].likelihood == spec("Categorical", 5, 4.0)


def test_ends_are_those_of_single_precision():
    x = rng().random((100, 2))
    x[0, 0] = 1 - 1e-12  # 1 in float32, which Beta refuses
    assert suggest(x)[0].likelihood == "ContinuousBernoulli"


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_one_end_is_enough_to_be_closed(end):
    x = rng().random((100, 2))
    x[0, 0] = end
    assert suggest(x)[0].likelihood == "ContinuousBernoulli"


def test_extra_zeros_must_be_more_than_chance_gives():
    draws = [negative_binomial(5, 1)(rng(seed), (60, 1)).astype(float) for seed in range(60)]
    found = [_zeros(x) for x in draws]
    assert any(zeros - explained > 0.1 for zeros, explained, _ in found)  # size alone would be no evidence
    assert all(suggest(x)[0].likelihood == "NegativeBinomial" for x in draws)


def test_columns_with_hardly_a_count_are_judged_without_a_warning():
    """Of many rows only some are fitted, and in them a column may be all zeros."""
    x = np.zeros((1200, 2))
    x[1] = 8.0, 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _zeros(x) == (0.0, 0.0, 0.0)
        suggest(x[:, :1])


def test_where_half_of_the_columns_have_heavy_tails_all_get_them():
    x = np.c_[rng().standard_t(2, (300, 2)), rng().normal(size=300)]
    assert suggest(x)[0].likelihood == "StudentT"
    one = np.c_[rng().standard_t(2, (300, 1)), rng().normal(size=(300, 2))]
    assert suggest(one, ["a", "b", "c"])[0].likelihood == mixed({"a": "StudentT", "b": "Normal", "c": "Normal"})


def test_images_are_looked_at_the_same_way_each_time_and_leave_randomness_alone():
    before = torch.get_rng_state()
    for options in ({"binarize": "dynamic"}, {"dequantize": True}, {}):
        digits = data.load("digits", **options)
        assert suggest(digits) == suggest(digits.train)
    assert torch.equal(before, torch.get_rng_state())


def test_grey_levels_of_images_are_their_own_even_where_they_are_not_used():
    some = data.load("digits").train
    dark = dataclasses.replace(some, pixels=some.pixels // 2)
    assert suggest(dark)[0].likelihood == spec("Categorical", 17)


def test_suggestions_print_as_one_would_write_them():
    assert str(Suggestion("Poisson", "counts")) == "Poisson: counts."
    assert repr(Suggestion("Poisson", "counts")) == "Suggestion(Poisson: counts.)"
    assert str(Suggestion(spec("Categorical", 17, 16.0), "why", "Do this")) == (
        "Categorical(levels=17, upper=16.0): why. First: Do this."
    )
    table = mixed({"a": "Normal", "b": spec("Categorical", 3, 2.0), "c": "Normal"})
    assert str(Suggestion(table, "why")) == "Mixed(Normal for a, c; Categorical(levels=3, upper=2.0) for b): why."
    with pytest.raises(dataclasses.FrozenInstanceError):
        Suggestion("Poisson", "counts").reason = "none"


INF = np.array([[0.0, math.inf], [1.0, 2.0]])
ONE_EMPTY = np.array([[0.0, math.nan], [1.0, math.nan]])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[0, 1]],), TypeError, "got list. Give torch.tensor"),
        ((np.zeros((0, 3)),), ValueError, "at least one example with at least one value; got shape (0, 3)"),
        ((torch.tensor(1.0),), ValueError, "at least one example with at least one value; got shape ()"),
        ((np.zeros((3, 2), complex),), TypeError, "data must be a dense array of real numbers; got complex128"),
        ((np.array([["a"]]),), TypeError, "data must be a dense array of real numbers; got <U1"),
        (
            (np.array([[1.0, "red"]], object), ["x", "colour"]),
            ValueError,
            "got 'red' in 'colour'. Write classes as codes",
        ),
        ((np.array([1.0, "3"], object),), ValueError, "got '3'. Write classes as codes"),
        ((INF,), ValueError, "data has infinite values: 1 of 4. Remove them, or replace them by NaN"),
        ((np.full((3, 2), math.nan),), ValueError, "data must have values; column 0 is only NaN"),
        ((np.full((3, 2, 2), math.nan),), ValueError, "data must have values; all of it is only NaN"),
        ((ONE_EMPTY, ["age", "bmi"]), ValueError, "data must have values; bmi is only NaN"),
        ((np.full((4, 2), 7.25),), ValueError, "data must vary; every value is 7.25, which needs no likelihood"),
        (
            (np.eye(2), ["a"]),
            ValueError,
            "names must have one name per column of a table, all different; got ('a',) for (2, 2)",
        ),
        ((np.eye(2), ["a", "a"]), ValueError, "all different; got ('a', 'a') for (2, 2)"),
        ((np.ones((2, 1, 2)), ["a", "b"]), ValueError, "names must have one name per column of a table"),
        (
            (data.load("digits"), ["a"]),
            ValueError,
            "there must be at least one image, and no names; got 1297 and names ['a']",
        ),
        ((data.load("digits").train[:0],), ValueError, "there must be at least one image, and no names; got 0"),
    ],
)
def test_bad_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        suggest(*arguments)
