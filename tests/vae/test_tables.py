"""VAEs that know the schema of their table: DataFrames in and out, and the most probable categories."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_vae import average_elbo, build, data, fit, likelihoods, load
from pyro_vae.data import BadDataError, Column, Schema, SchemaError
from pyro_vae.data.table_frames import as_frame
from pyro_vae.vae.point_values import most_probable
from pyro_vae.vae.tables import as_rows
from tests.data.test_schema import make_table


def make_related(n=400):
    """A category and a binary column that follow from a number, with gaps in them."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=n)
    df = pd.DataFrame({"a": 50 + 9 * a, "b": 3 * a + 0.3 * rng.normal(size=n)})
    df["size"] = np.select([a < -0.6, a < 0.6], ["small", "middle"], "large")
    df["high"] = a > 0
    return df, rng.random(n) < 0.2


@pytest.fixture(scope="module")
def related():
    df, gaps = make_related()
    torch.manual_seed(0)
    with_gaps = df.assign(size=df["size"].mask(gaps), high=df["high"].astype("boolean").mask(gaps))
    vae = build(data=with_gaps, latent_dim=2, hidden=(32,))
    fit(vae, with_gaps, epochs=150, lr=0.01, progress=False)
    return vae, df, with_gaps, gaps


def test_an_imputed_category_is_the_most_probable_one(related):
    vae, df, with_gaps, gaps = related
    filled = vae.impute(with_gaps, seed=0)
    for name in ("size", "high"):
        assert (filled[name] == df[name])[gaps].mean() > 0.85  # the most frequent value would be right for half at most
        assert (filled[name] == df[name])[~gaps].all()
    assert filled.dtypes.equals(with_gaps.dtypes)
    draws = vae.impute(with_gaps, mean=False, seed=0)
    assert (draws["size"] == df["size"])[gaps].mean() > 0.7


def test_the_most_probable_code_is_that_of_the_probabilities(related):
    """Against the probabilities of the parts themselves, also behind a mask and averaged over particles."""
    vae, _, with_gaps, _ = related
    rows = as_rows(vae.schema, with_gaps).values.float()[:20]
    weights = torch.rand(3, 20, generator=torch.Generator().manual_seed(0)).softmax(0)
    with torch.no_grad():
        p = vae.decode(torch.randn(60, 2, generator=torch.Generator().manual_seed(1)))
        out = vae.likelihood.net(torch.randn(60, 2, generator=torch.Generator().manual_seed(1)))
        sizes = vae.likelihood.sizes
        place = vae.schema.names.index("size")
        probs = out.split(sizes, -1)[place].softmax(-1).unflatten(0, (3, 20))
        expected = (weights[..., None] * probs).sum(0).argmax(-1)
        masked, _ = vae.observed(p, rows.repeat(3, 1))
        for likelihood in (p, masked):
            assert torch.equal(most_probable(vae.schema, likelihood, weights)[:, place].long(), expected)


def test_samples_and_reconstructions_are_tables(related):
    vae, df, _, _ = related
    samples = vae.sample(500, seed=0)
    assert list(samples.columns) == list(df.columns)
    assert set(samples["size"]) == {"small", "middle", "large"}
    assert samples.a.mean() == pytest.approx(df.a.mean(), abs=2)
    assert samples.groupby("size").a.mean().idxmax() == "large"
    assert vae.sample(500, seed=0).equals(samples)
    again = vae.reconstruct(df)
    assert (again["size"] == df["size"]).mean() > 0.8
    numbers = vae.reconstruct(as_rows(vae.schema, df).values)
    pd.testing.assert_frame_equal(as_frame(vae.schema, numbers), again)


def test_a_run_folder_keeps_the_schema(related, tmp_path):
    _, df, with_gaps, _ = related
    torch.manual_seed(0)
    twin = build(data=with_gaps, latent_dim=2, hidden=(32,))
    fit(twin, with_gaps, epochs=1, progress=False, out=tmp_path / "run")
    found = load(tmp_path / "run")
    assert found.schema == twin.schema
    assert torch.equal(found.codes(df), twin.codes(df))
    assert average_elbo(found, df).elbo == average_elbo(twin, df).elbo


def test_tables_with_other_codes_are_coded_anew(related):
    vae, df, _, _ = related
    some = df[df["size"] != "middle"]  # whose codes would be 0 and 1 by themselves
    assert torch.equal(vae.codes(data.table(some).everything), vae.codes(some))
    with pytest.raises(BadDataError, match="column 'size' has 'huge', which its schema does not know"):
        vae.codes(df.assign(size="huge"))
    with pytest.raises(ValueError, match="no column 'b'"):
        vae.codes(df.drop(columns="b"))


def test_columns_of_all_kinds_train_and_come_out_in_their_support():
    df = make_table(200)
    schema = data.table(df).train.schema
    torch.manual_seed(0)
    vae = build(data=df, latent_dim=2, hidden=(16,))
    assert vae.schema.names == schema.names
    history = fit(vae, df, epochs=3, progress=False)
    assert np.isfinite(history[-1].elbo)
    samples = vae.sample(300, seed=0)
    assert (samples.income > 0).all()
    assert samples.share.between(0, 1).all()
    assert (samples.visits >= 0).all()
    assert (samples.age == samples.age.round()).all()
    assert set(samples.code) == {1, 2}
    assert samples.size.cat.ordered if hasattr(samples.size, "cat") else samples["size"].cat.ordered
    assert samples.since.dt.normalize().equals(samples.since)
    filled = vae.impute(df, num_particles=10, seed=0)
    gaps = df.drop(columns=["country", "id"]).isna()
    assert not filled[gaps.columns].isna().any().any()


def test_a_column_of_ones_own_kind(related):
    _, df, _, _ = related
    schema = related[0].schema.with_columns([Column("a", "real", likelihood="StudentT", loc=50.0, scale=9.0)])
    vae = build(data=df, schema=schema, latent_dim=2, hidden=(8,))
    assert vae.likelihood.columns["a"]["likelihood"] == "StudentT"
    assert vae.schema["a"].loc == 50.0


@pytest.mark.parametrize(
    "laplace", [likelihoods.Laplace, {"class": likelihoods.Laplace}, functools.partial(likelihoods.Laplace, scale=2.0)]
)
def test_a_likelihood_that_is_a_class_goes_into_a_run_folder_by_its_name(laplace, tmp_path):
    df = pd.DataFrame(np.random.default_rng(0).normal(5, 1, (60, 2)), columns=["a", "b"])
    spec = {"class": "Mixed", "columns": {"a": laplace, "b": "Normal"}}
    vae = build(data=df, latent_dim=2, hidden=(4,), likelihood=spec)
    fit(vae, df, epochs=1, progress=False, out=tmp_path / "run")
    same, kept = load(tmp_path / "run"), Schema.read(tmp_path / "run/schema.yaml")["a"].likelihood
    assert (kept if isinstance(kept, str) else kept["class"]) == "Laplace"
    pd.testing.assert_frame_equal(same.sample(3, seed=0), vae.sample(3, seed=0))
    torch.testing.assert_close(same.tensors(df)[0], vae.tensors(df)[0])


def test_a_column_with_a_misspelt_name_is_no_change(related):
    with pytest.raises(SchemaError, match="the schema has no column 'sise'; it has a, b, size, high"):
        related[0].schema.with_columns([Column("sise", "real")])


def test_whole_numbers_come_out_as_integers_whatever_pandas_made_of_them(tmp_path):
    rng = np.random.default_rng(0)
    df = pd.DataFrame(
        {"age": rng.integers(18, 90, 60), "height": rng.normal(170, 9, 60), "code": rng.choice([1, 2], 60)}
    )
    with_gaps = df.mask(rng.random(df.shape) < 0.2)
    assert with_gaps.dtypes.tolist() == ["float64"] * 3
    vae = build(data=with_gaps, latent_dim=2, hidden=(8,))
    for found in (vae.sample(5, seed=0), vae.impute(with_gaps, seed=0), vae.impute(df.astype("float64"), seed=0)):
        assert found.dtypes.astype(str).tolist() == ["int64", "float64", "int64"]
    filled = vae.impute(with_gaps, seed=0)
    assert (filled == df)[with_gaps.notna()].where(with_gaps.notna(), True).all(axis=None)
    filled.to_csv(tmp_path / "filled.csv", index=False)
    assert ".0" not in "".join(line.split(",")[0] for line in (tmp_path / "filled.csv").read_text().splitlines())
    odd = with_gaps.assign(age=with_gaps.age + 0.5)  # no whole numbers: what is there stays
    assert vae.impute(odd, seed=0).age.dtype == "float64"
