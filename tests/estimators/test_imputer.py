"""VAEImputer: what it fills in, and what it leaves as it is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer

from pyro_vae import VAEImputer
from tests.estimators.test_transformer import mixed

SMALL = {"latent_dim": 2, "hidden": (8,), "epochs": 2, "num_particles": 50, "random_state": 0}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 3)) @ RNG.normal(size=(3, 3)) + 5.0
GAPS = np.where(np.random.default_rng(1).random(X.shape) < 0.2, np.nan, X)


def with_gaps():
    df = mixed()
    return df.mask(np.random.default_rng(2).random(df.shape) < 0.2)


def test_a_table_keeps_what_it_has_and_gets_what_the_vae_imputes():
    df = with_gaps()
    before = df.copy()
    imputer = VAEImputer(**SMALL).fit(df)
    found = imputer.transform(df)
    pd.testing.assert_frame_equal(df, before)
    assert not found.isna().any().any()
    for name in df:
        there = df[name].notna()
        assert (found[name][there] == df[name][there]).all()
    assert set(found["sex"]) <= {"f", "m"}
    assert (found["visits"] == found["visits"].round()).all()
    assert set(found["country"]) == {"Malta"}  # a constant column, which x leaves out
    assert found["born"].dtype == df["born"].dtype
    assert found["region"].dtype == df["region"].dtype
    expected = imputer.vae_.impute(df, num_particles=50, seed=imputer._seed)
    assert (found["height"] == expected["height"]).all()
    assert (found.index == df.index).all()


@pytest.mark.slow  # ten seconds of training
def test_a_number_becomes_its_mean_given_the_others():
    """x1 is 2 x0 + 3 with noise of 0.05: the mean of x1 given x0 is known."""
    rng = np.random.default_rng(0)
    x0 = rng.normal(10.0, 4.0, 200)
    x = np.column_stack([x0, 2 * x0 + 3 + 0.05 * rng.normal(size=200)])
    gaps = x.copy()
    gaps[::4, 1] = np.nan
    options = {"epochs": 100, "batch_size": 64, "lr": 0.02, "num_particles": 200, "random_state": 0}
    found = VAEImputer(1, hidden=(32,), **options).fit_transform(gaps)
    error = found[::4, 1] - (2 * x0[::4] + 3)
    assert np.sqrt(np.mean(error**2)) < 0.1 * x[:, 1].std()
    np.testing.assert_array_equal(found[~np.isnan(gaps)], gaps[~np.isnan(gaps)])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_array_keeps_its_dtype(dtype):
    x = GAPS.astype(dtype)
    found = VAEImputer(**SMALL).fit_transform(x)
    assert found.dtype == dtype
    assert not np.isnan(found).any()
    np.testing.assert_array_equal(found[~np.isnan(x)], x[~np.isnan(x)])


def test_a_number_that_stands_for_a_missing_value():
    x = np.random.default_rng(0).poisson(4.0, (80, 3))
    x[::5, 1] = -1
    imputer = VAEImputer(**SMALL, missing_values=-1)
    for found in (imputer.fit_transform(x), imputer.fit_transform(pd.DataFrame(x, columns=list("abc"))).to_numpy()):
        assert found.dtype == x.dtype
        assert (found >= 0).all()
        assert (found[x >= 0] == x[x >= 0]).all()
    with pytest.raises(ValueError, match="NaN"):
        imputer.fit(GAPS)


def test_whole_numbers_in_and_means_out_are_not_cut_off():
    """Fitted on real numbers: a mean for a gap among whole numbers is no whole number, and is not made one."""
    imputer = VAEImputer(**SMALL, missing_values=-1).fit(X)
    found = imputer.transform(np.array([[5, -1, 5], [4, 4, 6]]))
    assert found.dtype == np.float64
    assert found[0, 1] != round(found[0, 1])


def test_text_that_stands_for_a_missing_value():
    df = pd.DataFrame({"sex": ["f", "m", "?", "f"] * 10, "age": [30.0, 41.0, 25.0, 50.0] * 10})
    found = VAEImputer(**SMALL, missing_values="?").fit_transform(df)
    assert set(found["sex"]) == {"f", "m"}


def test_draws_differ_and_means_do_not():
    drawer = VAEImputer(**{**SMALL, "random_state": np.random.RandomState(0)}, sample_posterior=True).fit(GAPS)
    drawn, again = drawer.transform(GAPS), drawer.transform(GAPS)
    drawer.set_params(random_state=3)
    np.testing.assert_array_equal(drawer.transform(GAPS), drawer.transform(GAPS))
    drawer.set_params(sample_posterior=False, random_state=None)
    np.testing.assert_array_equal(drawer.transform(GAPS), drawer.transform(GAPS))
    there = ~np.isnan(GAPS)
    assert (drawn[there] == again[there]).all()
    assert (drawn[~there] != again[~there]).all()
    means = VAEImputer(**SMALL).fit_transform(GAPS)
    assert drawn[~there].var() > means[~there].var()  # draws have the noise of the likelihood too


def test_the_indicator_is_that_of_scikit_learn():
    df = pd.DataFrame(GAPS, columns=["a", "b", "c"]).assign(b=X[:, 1])
    ours = VAEImputer(**SMALL, add_indicator=True).fit(df)
    theirs = SimpleImputer(add_indicator=True).fit(df)
    assert [*ours.get_feature_names_out()] == [*theirs.get_feature_names_out()]
    found = ours.transform(df)
    assert [*found.columns] == [*theirs.get_feature_names_out()]
    np.testing.assert_array_equal(found.iloc[:, 3:], theirs.transform(df)[:, 3:])
    np.testing.assert_array_equal(
        VAEImputer(**SMALL, add_indicator=True).fit_transform(GAPS)[:, 3:], np.isnan(GAPS).astype(float)
    )


def test_a_column_that_the_schema_leaves_out_keeps_its_gaps_with_a_warning():
    df = pd.DataFrame(GAPS, columns=["a", "b", "c"]).assign(name=[None, *(f"Ms {i}" for i in range(79))], void=np.nan)
    imputer = VAEImputer(**SMALL).fit(df)
    with pytest.warns(
        UserWarning, match="leaves missing values in 'name', 'void': its schema leaves these columns out"
    ):
        found = imputer.transform(df)
    assert found["name"].isna().sum() == 1
    assert not found[["a", "b", "c"]].isna().any().any()


def test_gaps_only_in_new_rows():
    imputer = VAEImputer(**SMALL).fit(X)
    assert not np.isnan(imputer.transform(GAPS)).any()
    np.testing.assert_array_equal(imputer.transform(X), X)


def test_a_model_of_the_mask():
    imputer = VAEImputer(**SMALL, mask_likelihood="SelfMasking").fit(GAPS)
    assert imputer.vae_.mask_likelihood is not None
    assert not np.isnan(imputer.transform(GAPS)).any()


@pytest.mark.parametrize("name", ["sample_posterior", "add_indicator"])
def test_refusals(name):
    with pytest.raises(ValueError, match=f"{name} must be True or False; got 'no'"):
        VAEImputer(**SMALL, **{name: "no"}).fit(GAPS)
