"""Checks of numbers and words: what passes, and one wording for what does not."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import numpy as np
import pytest
import torch

from pyro_vae.argument_checks import at_least, at_least_one, finite_number, is_finite_number, is_integer, one_of
from pyro_vae.nets.shapes import as_shape, as_widths
from pyro_vae.seeds import seeded


@pytest.mark.parametrize("value", [2, np.int64(2), np.uint8(2), torch.tensor(2)])
def test_integers_of_python_numpy_and_torch_pass(value):
    found = at_least("n", value, 2)
    assert found == 2
    assert type(found) is int


@pytest.mark.parametrize("value", [1, -3, 2.0, True, np.True_, "2", None, math.nan, np.float64(2), [2]])
def test_other_values_and_smaller_integers_are_refused(value):
    with pytest.raises(ValueError, match=f"^n must be an integer of at least 2; got {re.escape(repr(value))}$"):
        at_least("n", value, 2)


def test_the_reason_for_a_limit_is_said():
    with pytest.raises(ValueError, match="^n must be an integer of at least 2, to have a variance; got 1$"):
        at_least("n", 1, 2, "to have a variance")
    with pytest.raises(ValueError, match="^q must be a finite number above 0 and below 1, a share; got 1$"):
        finite_number("q", 1, above=0, below=1, why="a share")


def test_words():
    one_of("path", "linear", "linear", "spherical")
    with pytest.raises(ValueError, match='^path must be "linear" or "spherical"; got \'round\'$'):
        one_of("path", "round", "linear", "spherical")
    with pytest.raises(ValueError, match='^n must be "a", "b" or "c"; got None$'):
        one_of("n", None, "a", "b", "c")


def test_several_counts_at_once():
    at_least_one(a=1, b=np.int32(7))
    with pytest.raises(ValueError, match="^b must be an integer of at least 1; got 0$"):
        at_least_one(a=1, b=0, c=-1)


@pytest.mark.parametrize("value", [0.5, Fraction(1, 2), np.float32(0.5), np.float64(0.5)])
def test_real_numbers_pass(value):
    found = finite_number("lr", value, above=0, below=1)
    assert found == 0.5
    assert type(found) is float


@pytest.mark.parametrize("value", [True, "1", None, math.nan, math.inf, -math.inf, 1j, 10**400, [1.0]])
def test_what_is_no_finite_number_is_refused(value):
    with pytest.raises(ValueError, match=f"^fill must be a finite number; got {re.escape(repr(value))}$"):
        finite_number("fill", value)
    assert not is_finite_number(value)


@pytest.mark.parametrize(
    ("limits", "inside", "outside", "words"),
    [
        ({"above": 0}, (1e-300, 7), (0, -1), "above 0"),
        ({"least": 0}, (0, 7), (-1e-300,), "of at least 0"),
        ({"above": 1e-6}, (2e-6,), (1e-6,), "above 1e-6"),
        ({"above": 0, "below": 1}, (0.5,), (0, 1), "above 0 and below 1"),
        ({"above": 0, "most": 1}, (0.5, 1), (0, 1.5), "above 0 and of at most 1"),
        ({"least": 0, "most": 1}, (0, 0.5, 1), (-0.5, 1.5), "of at least 0 and of at most 1"),
    ],
)
def test_limits_hold_and_are_said(limits, inside, outside, words):
    for value in inside:
        assert finite_number("a", value, **limits) == value
    for value in outside:
        with pytest.raises(ValueError, match=f"^a must be a finite number {re.escape(words)}; got {value!r}$"):
            finite_number("a", value, **limits)


def test_the_questions_agree_with_the_checks():
    assert is_integer(3, 3)
    assert not is_integer(2, 3)
    assert not is_integer(True, 1)
    assert is_finite_number(np.float32(2))
    assert not is_finite_number(False)


@pytest.mark.parametrize("bad", [True, (3, True), 0, (), 2.5, "3", np.array([2, 3])])
def test_shapes_are_integers_and_no_bools(bad):
    with pytest.raises(ValueError, match="event_shape must be an integer or integers of at least 1"):
        as_shape("event_shape", bad)


def test_shapes_and_widths_may_be_integers_of_numpy():
    assert as_shape("event_shape", np.int64(3)) == (3,)
    assert as_widths("hidden", np.int64(3)) == (3,)
    assert as_widths("hidden", []) == as_widths("hidden", ()) == ()


@pytest.mark.parametrize("bad", [True, -1, math.nan, math.inf, "3", 2.5])
def test_seeds_are_integers(bad):
    with pytest.raises(ValueError, match="seed must be an integer of at least 0"), seeded(bad):
        pass
