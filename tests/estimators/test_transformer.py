"""VAETransformer: what it returns, in which units and form, and what it refuses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse, stats

from pyro_vae import VAE, VAETransformer, evaluation, likelihoods, suggest_schema
from pyro_vae.data.tables import rows_of_frame
from pyro_vae.registry import NotAllowedError

SMALL = {"latent_dim": 2, "hidden": (8,), "epochs": 2, "num_particles": 50, "random_state": 0}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 3)) @ RNG.normal(size=(3, 3)) + 5.0


def mixed():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "height": rng.normal(1.7, 0.1, 60),
            "sex": rng.choice(["f", "m"], 60),
            "visits": rng.poisson(3, 60),
            "region": pd.Categorical(rng.choice(["north", "south", "west"], 60)),
            "born": pd.Timestamp("1980-01-01") + pd.to_timedelta(rng.integers(0, 9000, 60), "D"),
            "smokes": rng.random(60) < 0.3,
            "country": "Malta",
        },
        index=[f"p{i}" for i in range(60)],
    )


@pytest.fixture(scope="module")
def fitted():
    return VAETransformer(**SMALL).fit(mixed())


@pytest.mark.filterwarnings("ignore:importance_sampling")
def test_codes_and_densities_are_those_of_the_vae(fitted):
    rows = rows_of_frame(mixed(), fitted.vae_.schema)
    posterior = fitted.vae_.encode(rows)
    np.testing.assert_array_equal(fitted.transform(mixed()), posterior.mean.detach().double())
    expected = evaluation.importance_sampling(fitted.vae_, rows, num_particles=50, seed=fitted._seed).log_prob
    np.testing.assert_array_equal(fitted.score_samples(mixed()), expected.double())
    assert fitted.score(mixed()) == pytest.approx(expected.double().mean().item())


@pytest.mark.filterwarnings("ignore:importance_sampling")
def test_the_density_is_in_the_units_of_x():
    """log p(s x) = log p(x) − columns × log s; all else is as before, since the VAE standardises."""
    schema = suggest_schema(pd.DataFrame(X, columns=["x0", "x1", "x2"]))
    assert {column.kind for column in schema.data} == {"real"}
    small, large = (VAETransformer(**SMALL).fit(s * X) for s in (1.0, 1000.0))
    np.testing.assert_allclose(large.transform(1000 * X), small.transform(X), atol=1e-3)
    np.testing.assert_allclose(large.score_samples(1000 * X), small.score_samples(X) - 3 * np.log(1000), atol=0.01)
    codes = small.transform(X)
    np.testing.assert_allclose(large.inverse_transform(codes), 1000 * small.inverse_transform(codes), rtol=1e-3)


def test_the_density_of_one_normal_column():
    """A decoder that has learnt nothing from z, and q = p(z): log p(x) is a normal log-density, without any error."""
    x = np.random.default_rng(1).normal(300.0, 20.0, size=(50, 1))
    fitted = VAETransformer(1, hidden=(4,), epochs=1, num_particles=50, random_state=0).fit(x)
    with torch.no_grad():
        for parameter in fitted.vae_.parameters():
            parameter.zero_()
        last = [m for m in fitted.vae_.posterior.modules() if isinstance(m, torch.nn.Linear)][-1]
        last.bias[1] = np.log(np.e - 1)  # of which softplus is 1
    scale = fitted.vae_.decode(torch.zeros(1, 1)).variance.sqrt().item()
    expected = stats.norm(x.mean(), scale).logpdf(x[:, 0])
    np.testing.assert_allclose(fitted.score_samples(x), expected, rtol=1e-5)


def test_tables_come_back_as_they_came(fitted):
    df = mixed()
    codes = fitted.transform(df)
    back = fitted.inverse_transform(codes)
    pd.testing.assert_frame_equal(fitted.inverse_transform(codes.tolist()), back)
    drawn = fitted.sample(40)
    assert len(back) == 60
    assert len(drawn) == 40
    for found in (back, drawn):
        assert found.dtypes.to_dict() == df.dtypes.to_dict()
        assert set(found["sex"]) <= {"f", "m"}
        assert set(found["country"]) == {"Malta"}
    pd.testing.assert_frame_equal(back, fitted.vae_.reconstruct(df)[list(df)].reset_index(drop=True))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "bool"])
def test_arrays_come_back_as_they_came(dtype):
    x = np.random.default_rng(0).poisson(3, size=(40, 3)) if dtype != "bool" else X[:40] > 5
    x = (x if dtype != "float32" else X[:40]).astype(dtype)
    fitted = VAETransformer(**SMALL).fit(x)
    back = fitted.inverse_transform(fitted.transform(x))
    assert (back.dtype, back.shape) == (x.dtype, x.shape)
    assert fitted.transform(x).dtype == ("float32" if dtype == "float32" else "float64")
    assert fitted.sample(5).shape == (5, 3)
    if dtype == "float64":  # these are means, and a mean of whole numbers is not whole
        assert (back != np.round(back)).any()


def test_constant_and_empty_columns_of_an_array():
    x = np.column_stack([X, np.full(80, 7.0), np.full(80, np.nan)])
    fitted = VAETransformer(**SMALL).fit(x)
    back = fitted.inverse_transform(fitted.transform(x))
    assert (back[:, 3] == 7).all()
    assert np.isnan(back[:, 4]).all()


def test_names_that_are_no_text():
    df = pd.DataFrame(X, columns=[10, 20, 30])
    fitted = VAETransformer(**SMALL).fit(df)
    assert [*fitted.inverse_transform(fitted.transform(df)).columns] == [10, 20, 30]
    assert not hasattr(fitted, "feature_names_in_")


def test_missing_values():
    gaps = X.copy()
    gaps[::7, 1] = np.nan
    assert np.isfinite(VAETransformer(**SMALL).fit(gaps).transform(gaps)).all()
    assert np.isfinite(VAETransformer(**SMALL, missing=True).fit(X).transform(gaps)).all()
    with pytest.raises(ValueError, match="missing=True"):
        VAETransformer(**SMALL).fit(X).transform(gaps)


def test_validation_rows_choose_the_epoch():
    options = {**SMALL, "epochs": 6, "validation_fraction": 0.25, "patience": 1, "lr": 0.3}
    fitted = VAETransformer(**options).fit(X)
    assert all(epoch.valid_elbo is not None for epoch in fitted.history_)
    assert len(fitted.history_) == min(6, fitted.history_.best.epoch + 1)


def test_a_schema_of_the_users():
    df = mixed()
    schema = suggest_schema(df).select(["height", "visits"])
    fitted = VAETransformer(**SMALL, schema=schema).fit(df)
    assert fitted.n_features_in_ == 7
    assert [*fitted.sample(2).columns] == ["height", "visits", "country"]


def test_parts_of_ones_own_are_given_as_classes():
    class Mine(likelihoods.StudentT):
        """Its own."""

    fitted = VAETransformer(**SMALL, likelihood=Mine).fit(X)
    assert isinstance(fitted.vae_, VAE)
    with pytest.raises(NotAllowedError, match="my_module"):
        VAETransformer(**SMALL, likelihood="my_module.Mine").fit(X)


@pytest.mark.parametrize(
    ("parameters", "x", "error", "message"),
    [
        ({}, sparse.csr_matrix(X), TypeError, "Sparse data was passed"),
        ({}, X[:, 0], ValueError, "Reshape your data"),
        ({}, X[:1], ValueError, "1 sample"),
        ({}, pd.DataFrame(X[:1]), ValueError, r"1 sample\(s\) .* minimum of 2 is required by VAETransformer"),
        ({}, pd.DataFrame(index=range(5)), ValueError, r"0 feature\(s\)"),
        ({}, np.where(X > 6, np.inf, X), ValueError, "infinity"),
        ({}, pd.DataFrame(np.where(X > 6, np.inf, X), columns=list("abc")), ValueError, "column '[abc]'.*infinite"),
        ({}, np.array([["a", "b"], ["c", "d"]]), ValueError, "could not convert|dtype='numeric'"),
        ({}, np.full((5, 2), 3.0), ValueError, "no column that tells something"),
        ({"validation_fraction": 1.0}, X, ValueError, "validation_fraction must be at least 0 and less than 1; got 1"),
        ({"validation_fraction": 0.99}, X[:5], ValueError, "leaves none of 5 rows to train on"),
        ({"schema": "schema.yaml"}, X, TypeError, "schema must be a Schema.* got str"),
        ({"missing": 1}, X, ValueError, "missing must be True or False; got 1"),
        ({"verbose": "yes"}, X, ValueError, "verbose must be True or False; got 'yes'"),
        ({"latent_dim": 0}, X, ValueError, "latent_dim"),
        ({"epochs": 0}, X, ValueError, "epochs"),
        ({"likelihood": "Norml"}, X, ValueError, "Norml"),
    ],
)
def test_refusals_of_fit(parameters, x, error, message):
    with pytest.raises(error, match=message):
        VAETransformer(**{**SMALL, **parameters}).fit(x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda df: df.drop(columns="visits"), "(?s)feature names.*Feature names seen at fit time, yet now missing"),
        (lambda df: df[df.columns[::-1]], "Feature names must be in the same order"),
        (lambda df: df.assign(region="east"), "column 'region'.*'east'"),
        (lambda df: df.iloc[:0], r"0 sample\(s\)"),
    ],
)
def test_refusals_of_transform(fitted, change, message):
    with pytest.raises(ValueError, match=message):
        fitted.transform(change(mixed()))


def test_refusals_of_codes(fitted):
    with pytest.raises(ValueError, match="Z must have 2 columns, as transform gives them; got 3"):
        fitted.inverse_transform(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="NaN"):
        fitted.inverse_transform(np.full((4, 2), np.nan))
    with pytest.raises(ValueError, match="n must be"):
        fitted.sample(0)
