"""Tables some of whose columns are context or labels, as their schema says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_vae import VAETransformer, average_elbo, build, data, elbo_terms, fit, load, suggest_schema
from pyro_vae.data import BadDataError, Column, Schema, SchemaError
from pyro_vae.data.table_context import encoded_context
from pyro_vae.data.tables import rows_of_frame

N = 400
CONTEXT = ["sex", "dose", "town"]


def make_doses(n: int = N) -> pd.DataFrame:
    """a depends on sex, b on the logarithm of the dose, c on the town."""
    rng = np.random.default_rng(0)
    sex, town, dose = rng.choice(["f", "m"], n), rng.choice(["Ulm", "Bonn", "Trier"], n), np.exp(rng.normal(3, 1, n))
    df = pd.DataFrame(
        {
            "sex": sex,
            "a": rng.normal(size=n) + 3 * (sex == "m"),
            "dose": dose,
            "b": 500 + 100 * np.log(dose) + 30 * rng.normal(size=n),
            "town": town,
            "c": (town == "Ulm") ^ (rng.random(n) < 0.05),
        }
    )
    df["a"] = df.a.mask(rng.random(n) < 0.1)
    return df


def with_context(df: pd.DataFrame) -> Schema:
    schema = suggest_schema(df)
    return schema.with_columns(replace(schema[name], role="context") for name in CONTEXT)


@pytest.fixture(scope="module")
def trained():
    df = make_doses()
    torch.manual_seed(0)
    vae = build(data=df, schema=with_context(df), latent_dim=2, hidden=(32,))
    fit(vae, df, epochs=60, lr=0.01, progress=False)
    return vae, df


def test_context_is_standardised_or_one_hot():
    df = make_doses()
    rows = rows_of_frame(df, with_context(df))
    found = rows.context(slice(None), torch.float64)[0].numpy()
    log = np.log(df.dose)
    expected = np.c_[
        ((df.sex == "m") - (df.sex == "m").mean()) / (df.sex == "m").std(ddof=0),
        (log - log.mean()) / log.std(ddof=0),
        *(df.town == town for town in ("Bonn", "Trier", "Ulm")),
    ]
    np.testing.assert_allclose(found, expected.astype(float), rtol=1e-9, atol=1e-12)
    assert rows.context_features == 5
    assert rows.columns == ("a", "b", "c")


def test_context_stays_with_its_rows():
    df = make_doses()
    rows = rows_of_frame(df, with_context(df))
    chosen = torch.tensor([7, 3, 3])
    for some, expected in (
        (rows[chosen], rows.given[chosen]),
        (rows[:5].followed_by(rows[9:]), rows.given[[*range(5), *range(9, N)]]),
        (rows.to("cpu"), rows.given),
    ):
        torch.testing.assert_close(some.given, expected)


def test_samples_follow_their_context(trained):
    """Standard errors of means of 2,000 draws are 0.02 for a, 1 for b and 0.01 for c; the limits are far wider."""
    vae, _ = trained
    n = 4000
    context = pd.DataFrame(
        {"town": ["Ulm", "Bonn"] * (n // 2), "sex": ["m"] * n, "dose": np.repeat([10.0, 40.0], n // 2)}
    )
    samples = vae.sample(n, context, seed=0)
    assert list(samples) == ["a", "b", "c"]
    assert samples.a.mean() == pytest.approx(3, abs=0.4)
    assert samples.b[n // 2 :].mean() - samples.b[: n // 2].mean() == pytest.approx(100 * np.log(4), rel=0.25)
    assert samples.c[::2].mean() > 0.8 > 0.2 > samples.c[1::2].mean()


def test_a_table_brings_its_context_or_it_stands_beside(trained):
    vae, df = trained
    x, context = df[["c", "a", "b"]], df[CONTEXT[::-1]]
    torch.testing.assert_close(vae.codes(x, context), vae.codes(df))
    pd.testing.assert_frame_equal(vae.impute(x, context, seed=0), vae.impute(df, seed=0)[["c", "a", "b"]])
    assert list(vae.impute(df, seed=0)) == list(df)
    features = encoded_context(vae.schema, rows_of_frame(df, vae.schema).given)
    numbers = rows_of_frame(df, vae.schema).values
    torch.testing.assert_close(vae.codes(numbers, features), vae.codes(df))
    torch.testing.assert_close(elbo_terms(vae, x, context, kl="sampled").kl.shape, torch.Size([N]))


def test_a_table_of_other_roles_is_coded_anew(trained):
    """data.table knows no roles: there the context is a part of x."""
    vae, df = trained
    table = data.table(df)
    assert average_elbo(vae, table.everything, seed=0).elbo == pytest.approx(
        average_elbo(vae, df, seed=0).elbo, abs=0.1
    )
    torch.testing.assert_close(vae.codes(table.train[:9]), vae.codes(table.train)[:9])


def test_a_run_folder_keeps_the_context(trained, tmp_path):
    vae, df = trained
    fit(vae, df, epochs=1, progress=False, out=tmp_path / "run")
    again = load(tmp_path / "run")
    assert again.schema == vae.schema
    torch.testing.assert_close(again.codes(df), vae.codes(df))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda vae, df: vae.sample(3),
            ValueError,
            "needs the context: a DataFrame of n = 3 rows with the columns 'sex'",
        ),
        (lambda vae, df: vae.sample(2, df[:3]), ValueError, "must have n = 2 rows; got 3"),
        (lambda vae, df: vae.sample(3, df[:3].drop(columns="town")), ValueError, "the context has no column 'town'"),
        (
            lambda vae, df: vae.sample(3, df[:3].assign(sex="x")),
            BadDataError,
            "'sex' has 'x', which its schema does not",
        ),
        (lambda vae, df: vae.codes(df.drop(columns="sex")), ValueError, "has no column 'sex'"),
        (
            lambda vae, df: vae.codes(df.assign(dose=np.nan)),
            BadDataError,
            "'dose' is context, and is missing in 400 of",
        ),
        (
            lambda vae, df: vae.codes(df.assign(dose=-1.0)),
            BadDataError,
            "'dose' is context, and has numbers without a log",
        ),
    ],
)
def test_wrong_contexts_are_refused(trained, call, error, message):
    with pytest.raises(error, match=message):
        call(*trained)


def test_a_new_category_is_other_if_the_schema_says_so():
    df = make_doses().assign(town=lambda df: df.town.where(df.town != "Trier", "other"))
    schema = with_context(df)
    town = replace(schema["town"], values=("Bonn", "Ulm", "other"), other=True)
    vae = build(data=df, schema=schema.with_columns([town]), latent_dim=2, hidden=(8,))
    new = vae.codes(df.assign(town="Rome"))
    torch.testing.assert_close(new, vae.codes(df.assign(town="other")))
    assert not torch.equal(new, vae.codes(df.assign(town="Bonn")))


def test_a_context_of_the_user_gets_kind_and_moments():
    df = make_doses()
    schema = data.table(df).train.schema
    given = schema.with_columns([replace(schema["dose"], role="context")])
    assert given["dose"].kind == "number"
    vae = build(data=df, schema=given, latent_dim=2, hidden=(8,))
    dose, expected = vae.schema["dose"], suggest_schema(df)["dose"]
    assert (dose.kind, dose.likelihood) == ("positive", None)
    assert (dose.loc, dose.scale) == (expected.loc, expected.scale)


def test_context_is_no_embedding_and_no_part_of_scikit_learns_x():
    with pytest.raises(SchemaError, match="context is one_hot"):
        Column("town", "category", "context", values=("a", "b", "c"), encoding="embedding")
    df = make_doses()
    with pytest.raises(ValueError, match="gives the role context to 'sex', 'dose', 'town', and X of scikit-learn"):
        VAETransformer(schema=with_context(df)).fit(df)


def test_the_label_of_a_schema_goes_where_label_puts_it(tmp_path):
    df = make_doses()
    df.to_csv(tmp_path / "doses.csv", index=False)
    schema = suggest_schema(df)
    labelled = schema.with_columns([replace(schema["town"], role="label")])
    (tmp_path / "schema.yaml").write_text(labelled.to_yaml())
    how = {"schema": str(tmp_path / "schema.yaml")}
    found, expected = data.load(tmp_path / "doses.csv", **how), data.load(tmp_path / "doses.csv", label="town")
    assert found.train.columns == expected.train.columns
    assert torch.equal(found.train.labels, expected.train.labels)
    assert found.train.class_names == expected.train.class_names == ("Bonn", "Trier", "Ulm")
    conditional = data.load(tmp_path / "doses.csv", labels=True, **how)
    assert conditional.train.context_features == 3
    with pytest.raises(ValueError, match="label is 'sex', and the schema gives the role label to 'town'"):
        data.load(tmp_path / "doses.csv", label="sex", **how)
    df.drop(columns="town").to_csv(tmp_path / "plain.csv", index=False)
    plain = data.load(tmp_path / "plain.csv", **how)
    assert plain.train.labels is None
    assert "there are no labels: column 'town' of the schema is not there" in plain.notes
    vae = build(data=found, latent_dim=2, hidden=(8,))
    assert vae.codes(df.drop(columns="town")).shape == (N, 2)
