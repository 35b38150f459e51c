"""Data sets of many kinds, real and drawn, with the right suggestion for each."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from sklearn import datasets
from sklearn.feature_extraction.text import CountVectorizer

from pyro_vae import data


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
