"""Schemas: the kind of each column, and likelihoods in the units of the table."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from pyro_vae import build, suggest_schema
from pyro_vae.suggestions.schemas import in_units
from tests.suggestions.cases import rng

WHOLE = {
    "ages of adults": (rng().normal(50, 15, 1000).clip(18, 90).round(), "real"),
    "ages of all": (rng().uniform(0, 90, 1000).round(), "count"),
    "years": (rng().integers(1990, 2025, 1000), "real"),
    "prices": (np.exp(rng().normal(8, 1, 1000)).round(), "positive"),
    "temperatures": (rng().normal(22, 3, 1000).clip(10).round(), "real"),
    "visits": (rng().poisson(3, 1000), "count"),
    "many visits": (rng().poisson(40, 1000), "count"),
    "steps": (rng().negative_binomial(2, 2 / 5002, 1000), "positive"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers_are_counts_or_rounded_reals_by_their_shape(name):
    numbers, kind = WHOLE[name]
    column = suggest_schema(pd.DataFrame({"x": numbers, "smokes": rng(1).random(1000) < 0.3}))["x"]
    assert (column.kind, column.whole) == (kind, True)


def counts(n: int = 400) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "age": rng().uniform(0, 90, n).round(),
            "steps": rng().poisson(rng().gamma(0.5, 5000, n)),
            "sex": ["f", "m"] * (n // 2),
        }
    )


def test_means_of_counts_start_near_the_counts():
    df = counts()
    vae = build(data=df, latent_dim=2, hidden=(8,))
    mean = vae.decode(torch.zeros(1, 2)).mean[0]
    for place, name in enumerate(["age", "steps"]):
        assert 0.1 < mean[place] / df[name].mean() < 10


def test_the_probability_of_counts_is_that_of_scipy_at_the_mean():
    df = counts()
    vae = build(data=df, latent_dim=2, hidden=(8,))
    p = vae.decode(torch.zeros(len(df), 2)).factor_log_probs(vae.tensors(df)[0])["age"]
    part = vae.likelihood.parts[0]
    mean = vae.decode(torch.zeros(1, 2)).mean[0, 0].item()
    theta = part._theta(part.raw_inverse_dispersion).item()
    assert 1 / theta == pytest.approx(min(1.0, vae.schema["age"].scale ** 2), rel=1e-3)
    np.testing.assert_allclose(p.detach(), stats.nbinom.logpmf(df.age, theta, theta / (theta + mean)), rtol=1e-4)


@pytest.mark.parametrize("spec", ["Poisson", {"class": "NegativeBinomial", "dispersion": "per_element"}])
def test_one_likelihood_for_columns_of_counts_has_a_scale_for_each(spec):
    df = counts()[["age", "steps"]]
    vae = build(data=df, likelihood=spec, latent_dim=2, hidden=(8,))
    schema = vae.schema
    assert vae.likelihood.scale.tolist() == pytest.approx([math.expm1(schema[name].loc) for name in df], rel=1e-6)
    assert vae.decode(torch.zeros(1, 2)).mean.shape == (1, 2)


def test_a_scale_of_the_user_stays():
    schema = suggest_schema(counts())
    given = {"class": "NegativeBinomial", "scale": 7.0, "initial_dispersion": 0.2}
    schema = schema.with_columns([replace(schema["age"], likelihood=given)])
    assert in_units(None, schema)["columns"]["age"] == given


def test_a_typical_count_is_that_of_the_encoding_of_the_column():
    schema = suggest_schema(counts())
    moments = {"standardize": (45.0, 26.0), "log": (3.0, 1.0), "log1p": (3.0, 1.0)}
    found = {"standardize": 45.0, "log": math.exp(3), "log1p": math.expm1(3)}
    for encoding, (loc, scale) in moments.items():
        column = replace(schema["age"], encoding=encoding, loc=loc, scale=scale)
        spec = in_units(None, schema.with_columns([column]))["columns"]["age"]
        assert spec["scale"] == pytest.approx(found[encoding])


def test_a_column_of_zeros_has_the_scale_one():
    schema = suggest_schema(counts())
    schema = schema.with_columns([replace(schema["age"], loc=0.0, scale=1.0)])
    assert in_units(None, schema)["columns"]["age"]["scale"] == 1.0
