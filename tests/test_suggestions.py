"""What likelihood fits: data sets of many kinds, real and drawn, with the suggestion that is right for each."""

from __future__ import annotations

import dataclasses
import math
import re
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from sklearn import datasets
from sklearn.feature_extraction.text import CountVectorizer

from pyro_vae import build, data
from pyro_vae.suggestions import Suggestion, suggest
from pyro_vae.suggestions.rules import HEAVY, NORMAL, SKEWED, _skew_and_tails, _zeros


def rng(seed=0):
    return np.random.default_rng(seed)


def zero_inflated(family, share, shape, seed=0):
    return family(rng(seed), shape) * (rng(seed + 1).random(shape) >= share)


def negative_binomial(mean, size):
    return lambda generator, shape: generator.negative_binomial(size, size / (size + mean), shape)


@cache
def bag_of_words():
    names = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")
    texts = [text for name in names for text in getattr(datasets, f"load_{name}")().DESCR.split("\n\n")]
    return CountVectorizer().fit_transform([text for text in texts if len(text.split()) > 3]).toarray()


def mixed_table(n=400):
    g = rng(3)
    rows = np.c_[
        g.integers(0, 4, n),
        g.poisson(g.gamma(2, 3, n)),
        g.normal(size=n),
        g.random(n) < 0.4,
        g.standard_t(2, n),
        g.beta(0.7, 0.7, n),
    ]
    rows[g.random(rows.shape) < 0.05] = np.nan
    return rows, ["class", "visits", "score", "smokes", "change", "share"]


def spec(name, levels, upper=1.0):
    return {"class": name, "levels": levels, **({} if upper == 1 else {"upper": upper})}


def mixed(columns):
    return {"class": "Mixed", "columns": columns}


DIGITS = datasets.load_digits()
IRIS, WINE, DIABETES = datasets.load_iris(), datasets.load_wine(), datasets.load_diabetes()
CANCER, LINNERUD = datasets.load_breast_cancer(), datasets.load_linnerud()
CODES_AND_SIZES = np.c_[IRIS.data, IRIS.target]

# name: (arguments of suggest, the first suggestion, words of its reason, words of its preparation)
CASES = {
    "binarised digits": ((data.load("digits", binarize="dynamic"),), "Bernoulli", "0 and 1 are the only values", ""),
    "binarised digits as bool": ((DIGITS.images > 8,), "Bernoulli", "0 and 1 are the only values", ""),
    "grey digits": ((data.load("digits").train,), spec("Categorical", 17), "in steps of 1/16", ""),
    "grey digits as a table": ((DIGITS.data / 16,), spec("Categorical", 17), "in steps of 1/16", ""),
    "dequantised digits": ((data.load("digits", dequantize=True),), "Beta", "inside (0, 1)", ""),
    "raw digits": (
        (DIGITS.images,),
        spec("Categorical", 17, 16.0),
        "integers 0 to 16 with 48.9 % at 0 and a rise at 16: a bounded range, not counts",
        "",
    ),
    "raw digits as a table": ((DIGITS.data,), spec("Categorical", 17, 16.0), "a rise at 16", ""),
    "colour photographs in bytes": (
        (rng().integers(0, 250, (50, 3, 6, 6)).astype(np.uint8),),
        spec("DiscretizedLogistic", 256, 255.0),
        "a bounded range, not counts",
        "",
    ),
    "grey bytes": (
        (torch.from_numpy(rng().integers(0, 256, (99, 1, 6, 6))).float() / 255,),
        spec("DiscretizedLogistic", 256),
        "in steps of 1/255",
        "",
    ),
    "iris": ((IRIS.data, IRIS.feature_names), "Normal", "light tails", "Standardise (sepal length (cm), "),
    "iris with its classes": (
        (CODES_AND_SIZES, [*"abcd", "kind"]),
        mixed({**dict.fromkeys("abcd", "Normal"), "kind": spec("Categorical", 3, 2.0)}),
        "kind (integers 0 to 2 with 33.3 % at 0 and 33.3 % at 2: a bounded range",
        "Standardise (a, b, c)",
    ),
    "diabetes": (
        (DIABETES.data, DIABETES.feature_names),
        mixed({name: "Bernoulli" if name == "sex" else "Normal" for name in DIABETES.feature_names}),
        "sex (-0.04464 and 0.05068 are the only values)",
        "Recode -0.04464 and 0.05068 as 0 and 1 (sex)",
    ),
    "wine": ((WINE.data, WINE.feature_names), "Normal", "reals", "Take the logarithm, then standardise (malic_acid, "),
    "breast cancer": (
        (CANCER.data, list(CANCER.feature_names)),
        mixed(
            {
                name: "StudentT" if name in ("concavity error", "concave points error") else "Normal"
                for name in CANCER.feature_names
            }
        ),
        "concavity error (reals from 0 to 0.396, with heavy tails",
        "Take the logarithm, then standardise (mean radius, ",
    ),
    "linnerud's exercises": ((LINNERUD.data,), "NegativeBinomial", "is 29 times their mean", ""),
    "linnerud's bodies": ((LINNERUD.target,), "Normal", "whole numbers from 138", "Standardise the columns"),
    "bag of words": (
        (bag_of_words(),),
        {"class": "Multinomial", "total_count": 32},
        "96.6 % zeros, whose row totals, 3 to 140, vary 15.4 times",
        "",
    ),
    "Poisson counts": ((rng().poisson(3.0, (500, 8)),), "Poisson", "counts whose variance", ""),
    "rare counts": ((rng().poisson(0.04, (500, 30)),), "Poisson", "counts whose variance", ""),
    "negative binomial counts": (
        (negative_binomial(5, 2)(rng(), (500, 8)),),
        "NegativeBinomial",
        "the latent may explain a part of that",
        "",
    ),
    "counts with extra zeros": (
        (zero_inflated(negative_binomial(8, 4), 0.4, (500, 8)),),
        "ZeroInflatedNegativeBinomial",
        "zeros, of which a negative binomial explains",
        "",
    ),
    "counts of two kinds of cells": (
        (rng().poisson(np.where(rng(1).random((800, 1)) < 0.5, 2.0, 20.0), (800, 6)),),
        "NegativeBinomial",
        "counts",
        "",
    ),
    "sums of coin flips": ((rng().binomial(12, 0.5, (600, 3)),), spec("Categorical", 12, 11.0), "less than", ""),
    "dice": ((rng().integers(1, 7, (200, 1)),), spec("Categorical", 7, 6.0), "integers 1 to 6", ""),
    "beta draws": ((rng().beta(2, 5, (400, 3)),), "Beta", "inside (0, 1)", ""),
    "clipped shares": (
        (np.clip(rng().normal(0.5, 0.4, (400, 3)), 0, 1),),
        "ContinuousBernoulli",
        "with 9.83 % at 0 and 9.58 % at 1",
        "",
    ),
    "Student-t draws": ((rng().standard_t(3, (500, 3)),), "StudentT", "heavy tails", ""),
    "normal draws": ((rng().normal(size=(500, 3)),), "Normal", "light tails", ""),
    "real pictures": ((rng().normal(50, 20, (300, 1, 4, 4)),), "Normal", "light tails", "Standardise"),
    "lognormal draws": (
        (np.exp(rng().normal(size=(500, 3))),),
        "Normal",
        "positive and skewed, whose logarithms have light tails",
        "Take the logarithm, then standardise the columns",
    ),
    "rain, dry on most days": (
        (np.maximum(rng().normal(-1, 2, (400, 1)), 0),),
        "Normal",
        "at least half of them equal, which no density fits",
        "",
    ),
    "mixed table": (
        mixed_table(),
        mixed(
            {
                "class": spec("Categorical", 4, 3.0),
                "visits": "NegativeBinomial",
                "score": "Normal",
                "smokes": "Bernoulli",
                "change": "StudentT",
                "share": "Beta",
            }
        ),
        "smokes (0 and 1 are the only values)",
        "Values are missing: build(..., missing=True)",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_data_sets_of_every_kind(name):
    arguments, likelihood, reason, prepare = CASES[name]
    first = suggest(*arguments)[0]
    assert first.likelihood == likelihood, str(first)
    assert reason in first.reason
    assert (prepare in first.prepare) if prepare else (first.prepare == "")


def alternatives(name):
    return [str(s).split(":")[0].split("(")[0] for s in suggest(*CASES[name][0])]


def test_the_simpler_likelihood_stands_beside_the_richer():
    assert alternatives("Poisson counts") == ["Poisson", "NegativeBinomial"]
    assert alternatives("negative binomial counts") == ["NegativeBinomial", "Poisson"]
    assert alternatives("counts with extra zeros") == ["ZeroInflatedNegativeBinomial", "NegativeBinomial", "Poisson"]
    assert alternatives("bag of words") == ["Multinomial", "NegativeBinomial", "Poisson"]
    assert alternatives("Student-t draws") == ["StudentT", "Laplace"]
    assert alternatives("beta draws") == ["Beta", "LogitNormal", "ContinuousBernoulli"]


def test_levels_come_with_what_dequantised_data_would_take():
    of_images, of_tensor = suggest(data.load("digits")), suggest(DIGITS.images / 16)
    names = ["Categorical", "DiscretizedLogistic", "DiscretizedLogisticMixture", "ContinuousBernoulli", "LogitNormal"]
    for found in (of_images, of_tensor, suggest(DIGITS.images)):
        assert [str(s).split(":")[0].split("(")[0] for s in found] == names
        assert all(s.prepare == "" for s in found[:3])
    assert of_images[3].prepare == "Dequantise: data.load(..., dequantize=True)"
    assert of_tensor[3].prepare == "Dequantise: (16 * x + torch.rand_like(x)) / 17"
    assert suggest(DIGITS.images)[3].prepare == "Dequantise: (x + torch.rand_like(x)) / 17"


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case[-1]])
def test_every_suggestion_without_preparation_takes_the_data(name):
    """The classes' own supports, asked through the model of the VAE that ``build`` makes."""
    source = CASES[name][0][0]
    if isinstance(source, data.DataSet):
        source = source.train
    if isinstance(source, data.Images):
        x = source.to_x(source.pixels, torch.float32, torch.Generator().manual_seed(0))
    else:
        x = torch.as_tensor(source).float()
    ready = [s for s in suggest(*CASES[name][0]) if not s.prepare]
    assert ready
    for suggestion in ready:
        vae = build(tuple(x.shape[1:]), likelihood=suggestion.likelihood, hidden=(4,), latent_dim=2)
        vae.model(x[:200])


def test_a_mixed_table_with_missing_values_trains_as_it_is_told():
    x, names = mixed_table()
    vae = build((6,), likelihood=suggest(x, names)[0].likelihood, hidden=(4,), latent_dim=2, missing=True)
    vae.model(torch.as_tensor(x).float())


@pytest.mark.parametrize("name", ["grey digits as a table", "raw digits"])
def test_what_is_to_be_done_first_does_what_it_is_for(name):
    (array,), *_ = CASES[name]
    x = torch.as_tensor(array).float()
    for suggestion in suggest(array)[3:]:
        formula, *clamp = suggestion.prepare.removeprefix("Dequantise: ").split(", and clamp to ")
        ready = eval(formula, {"torch": torch, "x": x})
        ready = ready.clamp(1e-6, 1 - 1e-6) if clamp else ready
        vae = build(tuple(x.shape[1:]), likelihood=suggestion.likelihood, hidden=(4,), latent_dim=2)
        vae.model(ready)


# Properties.

TABLES = {
    "counts": lambda g: g.poisson(4, (60, 3)),
    "binary": lambda g: g.random((60, 3)) < 0.3,
    "reals": lambda g: g.normal(size=(60, 3)),
    "codes": lambda g: np.c_[g.integers(0, 5, 60), g.integers(0, 2, 60), g.random(60)],
}


@given(kind=st.sampled_from(sorted(TABLES)), seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_neither_the_order_of_rows_nor_the_container_matters(kind, seed):
    x = TABLES[kind](rng(seed)).astype(float)
    shuffled = rng(seed + 1).permutation(x)
    assert suggest(x) == suggest(shuffled) == suggest(torch.from_numpy(x))


@given(p=st.floats(0, 1), shape=st.sampled_from([(5,), (40, 3), (9, 1, 4, 4), (7, 150)]), seed=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_zeros_and_ones_are_always_bernoulli(p, shape, seed):
    for dtype in (bool, np.uint8, np.int64, np.float32):
        (only,) = suggest((rng(seed).random(shape) < p).astype(dtype))
        assert (only.likelihood, only.prepare) == ("Bernoulli", "")


# Each family with parameters at which 400 × 4 draws tell it from the next. The thresholds lie four standard errors
# out, and 20 seeds of each are fixed: chance fails a family once in about a thousand.
FAMILIES = {
    "Poisson": (lambda g, a: g.poisson(0.2 + 15 * a, (400, 4)), "Poisson"),
    "NegativeBinomial": (
        lambda g, a: negative_binomial(2 + 15 * a, 1 + 3 * a)(g, (400, 4)),
        "NegativeBinomial",
    ),
    "ZeroInflatedNegativeBinomial": (
        lambda g, a: negative_binomial(8 + 8 * a, 4)(g, (400, 4)) * (g.random((400, 4)) >= 0.3 + 0.3 * a),
        "ZeroInflatedNegativeBinomial",
    ),
    "Normal": (lambda g, a: g.normal(a, 1 + a, (400, 4)), "Normal"),
    "StudentT": (lambda g, a: g.standard_t(1.5 + a, (400, 4)), "StudentT"),
    "Beta": (lambda g, a: np.clip(g.beta(0.5 + 4 * a, 1 + a, (400, 4)), 1e-6, 1 - 1e-6), "Beta"),
    "codes": (lambda g, a: g.integers(0, 3 + int(20 * a), (400, 4)), "Categorical"),
    "grey": (lambda g, a: g.integers(0, 40 + int(200 * a), (400, 4)) / (39 + int(200 * a)), "DiscretizedLogistic"),
}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("family", FAMILIES)
def test_draws_of_each_family_are_recognised(family, seed):
    draw, expected = FAMILIES[family]
    generator = rng(seed)
    first = suggest(draw(generator, generator.random()))[0]
    name = first.likelihood if isinstance(first.likelihood, str) else first.likelihood["class"]
    assert name == expected, f"{first}"


@given(
    rows=st.lists(
        st.lists(
            st.one_of(st.floats(-1e3, 1e3), st.integers(0, 300), st.sampled_from([0.0, 0.5, 1.0])),
            min_size=3,
            max_size=3,
        ),
        min_size=2,
        max_size=12,
    )
)
@settings(max_examples=60, deadline=None)
def test_whatever_the_table_no_suggestion_excludes_it(rows):
    x = torch.tensor(rows, dtype=torch.float64).float()
    if (x == x[0, 0]).all() and x[0, 0] not in (0, 1):
        return
    for suggestion in suggest(x):
        assert suggestion.reason
        if not suggestion.prepare:
            build((3,), likelihood=suggestion.likelihood, hidden=(4,), latent_dim=2).model(x)


@given(where=st.lists(st.booleans(), min_size=30, max_size=30))
@settings(max_examples=20, deadline=None)
def test_missing_values_are_left_out_and_said(where):
    x = rng().poisson(4.0, (100, 3)).astype(float)
    x[:10][np.array(where).reshape(10, 3)] = np.nan
    for suggestion in suggest(x):
        assert suggestion.prepare.endswith("Values are missing: build(..., missing=True)") == any(where)
    assert suggest(x)[0].likelihood == "Poisson"


# The yardsticks against SciPy.


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


# Tables, names and what is printed.


class Frame:
    """As much of a pandas DataFrame as is asked for."""

    def __init__(self, values, columns):
        self.values, self.columns = values, columns

    def to_numpy(self):
        return self.values


class NAType:
    """Pandas' NA, which no comparison and no float takes."""

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
        (([[0, 1]],), TypeError, "data must be a tensor, a NumPy array, a table or Images; got list"),
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
        ((INF,), ValueError, "data has infinite values: 1 of 4. Remove them, or write NaN"),
        ((np.full((3, 2), math.nan),), ValueError, "data must have values; column 0 is only NaN"),
        ((np.full((3, 2, 2), math.nan),), ValueError, "data must have values; all of it is only NaN"),
        ((ONE_EMPTY, ["age", "bmi"]), ValueError, "data must have values; bmi is only NaN"),
        ((np.full((4, 2), 7.25),), ValueError, "data must vary; every value is 7.25, which needs no likelihood"),
        (
            (np.eye(2), ["a"]),
            ValueError,
            "names must be one for each column of a table, all different; got ('a',) for (2, 2)",
        ),
        ((np.eye(2), ["a", "a"]), ValueError, "all different; got ('a', 'a') for (2, 2)"),
        ((np.ones((2, 1, 2)), ["a", "b"]), ValueError, "names must be one for each column of a table"),
        (
            (data.load("digits"), ["a"]),
            ValueError,
            "images must be at least one, without names; got 1297 and names ['a']",
        ),
        ((data.load("digits").train[:0],), ValueError, "images must be at least one, without names; got 0"),
    ],
)
def test_bad_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        suggest(*arguments)
