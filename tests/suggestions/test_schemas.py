"""Schemas: the kind of each column, and likelihoods in the units of the table."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from pyro_vae import build, data, likelihoods, suggest_schema
from pyro_vae.data import Column, Rows, Schema, SchemaError
from pyro_vae.data.tables import rows_of_frame
from pyro_vae.suggestions.schemas import completed
from pyro_vae.suggestions.units import in_units
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


def test_names_of_any_case_are_the_same_likelihoods():
    df = pd.DataFrame({"x": rng().normal(170, 9, 200), "y": rng().normal(-5, 2, 200), "n": rng().poisson(9, 200)})
    columns = {"x": "student_t", "y": {"class": "standardized", "loc": 1.0, "scale": 3.0}, "n": "poisson"}
    short, long = (
        build(data=df, latent_dim=2, hidden=(8,), likelihood={"class": name, "columns": of}).likelihood.columns
        for name, of in (
            ("mixed", columns),
            ("Mixed", {"x": "StudentT", "y": {**columns["y"], "class": "Standardized"}, "n": "Poisson"}),
        )
    )
    assert short["x"] == {**long["x"], "likelihood": "student_t"}
    assert short["x"]["loc"] == pytest.approx(df.x.mean())
    assert short["y"] == columns["y"]
    assert short["n"]["scale"] == long["n"]["scale"]
    with pytest.raises(SchemaError, match="Bernoulli is over 2 levels.* and the column has 3 values"):
        completed(
            Schema((Column("t", "category", values=("a", "b", "c"), likelihood="bernoulli"),)),
            Rows(torch.zeros(9, 1), columns=("t",)),
        )


@pytest.mark.parametrize("name", ["Laplace", "Poisson"])
def test_a_class_is_taken_as_its_name_is(name):
    df = pd.DataFrame({"x": rng().poisson(40, 200), "y": rng(1).poisson(9, 200)})
    by_name, by_class = (
        build(data=df, latent_dim=2, hidden=(8,), likelihood=given) for given in (name, getattr(likelihoods, name))
    )
    assert type(by_class.likelihood) is type(by_name.likelihood)
    z = torch.zeros(1, 2)
    for part in (by_name.likelihood.net, by_class.likelihood.net):
        torch.nn.init.zeros_(part.layers[-1].weight)
        torch.nn.init.zeros_(part.layers[-1].bias)
    torch.testing.assert_close(by_class.decode(z).mean, by_name.decode(z).mean)


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


INSIDE = rng(5).beta(20, 30, 1000)
REALS = {
    "share": (INSIDE, "proportion", None, None),  # its name says so
    "Oil share (%)": (INSIDE, "proportion", None, None),
    "shareholders": (INSIDE, "real", None, None),  # 0 and 1 are more than five standard deviations away
    "near 1": (1 - rng(5).beta(2, 60, 1000), "proportion", None, None),  # a normal would exceed 1
    "wide": (rng(5).beta(3, 2, 1000), "proportion", None, None),
    "small": (rng(5).beta(3, 300, 1000), "positive", None, None),  # so is a log-normal, and 1 is far
    "with zeros": (np.where(rng(6).random(1000) < 0.2, 0, rng(5).beta(4, 20, 1000)), "real", 0.0, None),
    "rate": (np.where(rng(6).random(1000) < 0.2, 0, rng(5).beta(4, 20, 1000)), "real", 0.0, 1.0),
    "both ends": (rng(5).normal(0.5, 0.4, 1000).clip(0, 1), "proportion", None, None),
    "rain": (rng(5).normal(1, 1.5, 1000).clip(0), "real", 0.0, None),
    "height": (rng(5).normal(170, 10, 1000), "real", None, None),
    "balance": (rng(5).normal(0, 10, 1000), "real", None, None),
    "adult": (rng(5).normal(45, 15, 1000).clip(18).round(), "real", 0.0, None),
}


@pytest.mark.parametrize("beside", ["reals", "no reals"])
@pytest.mark.parametrize("name", REALS)
def test_draws_keep_to_the_support_of_the_numbers(name, beside):
    numbers, kind, low, high = REALS[name]
    other = rng(1).normal(size=1000) if beside == "reals" else rng(1).random(1000) < 0.3
    df = pd.DataFrame({name: numbers, "other": other})
    column = suggest_schema(df)[name]
    if beside == "reals":  # else whatever lies in [0, 1] is a proportion
        assert (column.low, column.high) == (low, high)
        assert column.kind == kind
    drawn = build(data=df, latent_dim=2, hidden=(8,)).sample(2000, seed=0)[name]
    assert numbers.min() < 0 or drawn.min() >= 0
    assert numbers.max() > 1 or drawn.max() <= 1
    if kind == "proportion" and name != "both ends":
        assert 0 < drawn.min() < drawn.max() < 1


def test_a_proportion_of_the_user_has_a_likelihood_that_takes_its_ends():
    for numbers, likelihood in ((INSIDE, "LogitNormal"), (np.append(INSIDE[1:], 1.0), "ContinuousBernoulli")):
        df = pd.DataFrame({"a": numbers, "b": INSIDE})
        schema = data.table(df).train.schema
        given = schema.with_columns([Column("a", "proportion")])
        assert completed(given, rows_of_frame(df, given))["a"].likelihood == likelihood


def test_a_likelihood_of_the_user_keeps_its_kind():
    df = pd.DataFrame({"share": INSIDE, "b": rng(1).normal(size=1000)})
    schema = data.table(df).train.schema.with_columns([Column("share", "number", likelihood="Laplace")])
    column = completed(schema, rows_of_frame(df, schema))["share"]
    assert (column.kind, column.likelihood, column.low) == ("real", "Laplace", None)


def test_a_narrow_proportion_starts_near_its_numbers():
    df = pd.DataFrame({"share": INSIDE, "b": rng(1).normal(size=1000)})
    vae = build(data=df, latent_dim=2, hidden=(8,))
    drawn = vae.sample(2000, seed=0)["share"]
    assert abs(drawn.mean() - INSIDE.mean()) < INSIDE.std()
    assert 0.5 < drawn.std() / INSIDE.std() < 2


@pytest.mark.parametrize(
    ("kind", "encoding"),
    [("real", "log"), ("real", "log1p"), ("positive", "standardize"), ("positive", "log1p"), ("date", "log1p")],
)
def test_an_encoder_and_a_likelihood_standardise_the_same_numbers(kind, encoding):
    """With other moments in the encoder, the likelihood started at standard deviations from the numbers."""
    origin = "2024-01-01" if kind == "date" else 0.0
    schema = Schema((Column("a", kind, encoding=encoding, origin=origin),))
    rows = Rows(torch.tensor(rng().gamma(9.0, 2.0, (50, 1))), columns=("a",))
    with pytest.raises(SchemaError, match=f"column 'a': the encoding of a {kind} column .* got {encoding}"):
        completed(schema, rows)
    assert completed(Schema((Column("a", "proportion", encoding="log1p"),)), rows)["a"].encoding == "log1p"


@pytest.mark.parametrize(
    "change",
    [{"missing": (-999.0,)}, {"kind": "positive"}, {"loc": 4000.0}, {"scale": 0.01}, {"scale": 300.0}],
)
def test_moments_that_are_no_longer_those_of_the_column_give_a_warning(change):
    df = pd.DataFrame({"a": rng().normal(100, 9, 200), "b": rng().normal(size=200)})
    table = df.assign(a=df.a.mask(df.index < 30, -999.0)) if "missing" in change else df
    schema = suggest_schema(table)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(data=table, schema=schema, latent_dim=2, hidden=(4,))
    edited = schema.with_columns([replace(schema["a"], **change)])
    with pytest.warns(UserWarning, match="column 'a': loc .* are far from .* Leave both out of the schema"):
        build(data=table, schema=edited, latent_dim=2, hidden=(4,))
    fresh = schema.with_columns([replace(edited["a"], loc=0.0, scale=1.0)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(data=table, schema=fresh, latent_dim=2, hidden=(4,))


def test_bounds_are_for_what_a_vae_gives_alone():
    """What was observed below a bound, in a new table, stays as it is."""
    df = pd.DataFrame({"rain": rng(5).normal(1, 1.5, 300).clip(0), "b": rng(1).normal(size=300)})
    vae = build(data=df, latent_dim=2, hidden=(8,), missing=True)
    assert (vae.schema["rain"].low, vae.schema["b"].low) == (0.0, None)
    new = pd.DataFrame({"rain": [-3.0, np.nan, 0.5] * 50, "b": [1.0, 2.0, np.nan] * 50})
    for mean in (True, False):
        filled = vae.impute(new, mean=mean, seed=0)
        assert (filled.rain[::3] == -3.0).all()
        assert (filled.rain[1::3] >= 0).all()
        of_rows = vae.impute(rows_of_frame(new, vae.schema), mean=mean, seed=0)
        np.testing.assert_allclose(of_rows.rain, filled.rain)
    assert (vae.sample(500, seed=0).rain >= 0).all()
    assert (vae.decode(torch.zeros(500, 2)).sample()[:, 0] < 0).any()  # the density is that without the bound


@pytest.mark.parametrize(("bounds", "message"), [({"low": 0.5}, "low .* is 0.5, .* has 0"), ({"high": 8}, "high .* 9")])
def test_numbers_beyond_the_bounds_of_a_schema_are_refused(bounds, message):
    rows = Rows(torch.arange(10.0)[:, None], columns=("a",))
    with pytest.raises(SchemaError, match=f"column 'a': {message}"):
        completed(Schema((Column("a", "real", **bounds),)), rows)
    assert completed(Schema((Column("a", "real", low=0, high=9),)), rows)["a"].high == 9
