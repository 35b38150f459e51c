"""The rules of scikit-learn: its own checks, clones, pipelines, searches, several processes."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from pyro_vae import VAEImputer, VAETransformer

pytestmark = pytest.mark.filterwarnings("ignore:importance_sampling")

SMALL = {"latent_dim": 2, "hidden": (8,), "epochs": 1, "num_particles": 30}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3)) @ RNG.normal(size=(3, 3)) + 5.0


def expected_failures(estimator):
    if isinstance(estimator, VAEImputer):
        return {}
    why = "score_samples draws z for each row, so its estimates differ by their standard errors with a row's place"
    return dict.fromkeys(("check_methods_sample_order_invariance", "check_methods_subset_invariance"), why)


@pytest.mark.one_in(8)
@parametrize_with_checks([VAETransformer(**SMALL), VAEImputer(**SMALL)], expected_failed_checks=expected_failures)
@pytest.mark.filterwarnings("ignore")
def test_what_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "check",
    [
        "check_dataframe_column_names_consistency",
        "check_transformer_get_feature_names_out",
        "check_transformer_get_feature_names_out_pandas",
        "check_set_output_transform",
        "check_set_output_transform_pandas",
        "check_global_output_transform_pandas",
    ],
)
@pytest.mark.parametrize("estimator", [VAETransformer(**SMALL), VAEImputer(**SMALL)], ids=["transformer", "imputer"])
@pytest.mark.one_in(6)
@pytest.mark.filterwarnings("ignore")
def test_what_scikit_learn_checks_of_its_own_estimators(estimator, check):
    getattr(estimator_checks, check)(type(estimator).__name__, estimator)


def test_codes_of_a_row_do_not_depend_on_the_others():
    """The two checks that score_samples fails ask this of transform too."""
    transformer = VAETransformer(**SMALL, random_state=0).fit(X)
    codes = transformer.transform(X)
    np.testing.assert_allclose(transformer.transform(X[::-1])[::-1], codes, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(transformer.transform(X[:1]), codes[:1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cls", [VAETransformer, VAEImputer])
def test_clones_copies_and_pickles(cls):
    gaps = np.where(np.random.default_rng(1).random(X.shape) < 0.1, np.nan, X)
    fitted = cls(**SMALL, random_state=3, likelihood={"class": "StudentT"}).fit(gaps)
    expected = fitted.transform(gaps)
    for same in (copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(same.transform(gaps), expected)
    fresh = clone(fitted)
    assert not hasattr(fresh, "vae_")
    np.testing.assert_array_equal(fresh.fit(gaps).transform(gaps), expected)


@pytest.mark.parametrize("cls", [VAETransformer, VAEImputer])
def test_a_fit_that_fails_leaves_no_vae_of_another_x(cls):
    estimator = cls(**SMALL, random_state=0).fit(X)
    with pytest.raises(ValueError, match="no column that tells something"):
        estimator.fit(np.full((5, 3), 7.0))
    with pytest.raises(NotFittedError):
        estimator.transform(X)


def test_random_state():
    def weights(state):
        return VAETransformer(**SMALL, random_state=state).fit(X).transform(X)

    np.testing.assert_array_equal(weights(3), weights(3))
    np.testing.assert_array_equal(weights(np.random.RandomState(3)), weights(np.random.RandomState(3)))
    state = np.random.RandomState(3)
    assert not np.array_equal(weights(state), weights(state))
    assert not np.array_equal(weights(None), weights(None))
    np.random.seed(5)  # noqa: NPY002  which None means in scikit-learn
    first = weights(None)
    np.random.seed(5)  # noqa: NPY002
    np.testing.assert_array_equal(weights(None), first)


def test_fitting_leaves_the_generators_alone():
    before = np.random.RandomState(3).get_state()[1]
    state = np.random.RandomState(3)
    np.random.seed(0)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    VAETransformer(**SMALL, random_state=1).fit(X).score(X)
    assert np.random.random() == expected  # noqa: NPY002
    assert (state.get_state()[1] == before).all()


@pytest.fixture
def table():
    kinds = RNG.integers(0, 2, 60)
    return pd.DataFrame(
        {
            "a": X[:, 0] + kinds,
            "b": X[:, 1],
            "visits": RNG.poisson(2 + kinds),
            "colour": np.array(["red", "blue"])[kinds],
        }
    ), kinds


def test_a_search_within_a_pipeline_and_a_column_transformer(table):
    df, kinds = table
    codes = VAETransformer(**SMALL, random_state=0)
    numbers = make_column_selector(dtype_include=np.number)
    columns = ColumnTransformer([("vae", codes, numbers)], verbose_feature_names_out=False)
    pipeline = make_pipeline(columns, LogisticRegression())
    search = GridSearchCV(pipeline, {"columntransformer__vae__latent_dim": [1, 3]}, cv=2, error_score="raise")
    search.fit(df, kinds)
    assert set(search.best_params_.values()) <= {1, 3}
    best = search.best_estimator_[0]
    assert [*best.get_feature_names_out()] == [f"vae{i}" for i in range(search.best_params_.popitem()[1])]


def test_a_search_by_the_density_uses_score():
    grid = {"latent_dim": [1, 2]}
    search = GridSearchCV(VAETransformer(**SMALL, random_state=0), grid, cv=2, error_score="raise").fit(X)
    by_hand = [
        VAETransformer(**{**SMALL, "latent_dim": 2}, random_state=0).fit(np.delete(X, rows, axis=0)).score(X[rows])
        for rows in (np.arange(30), np.arange(30, 60))
    ]
    assert search.cv_results_["mean_test_score"][1] == pytest.approx(np.mean(by_hand))


@pytest.mark.slow  # half a minute: two processes import torch
def test_two_processes_give_what_one_gives():
    estimator = VAETransformer(**SMALL, random_state=0)
    one, two = (cross_val_score(estimator, X, cv=2, n_jobs=jobs) for jobs in (1, 2))
    np.testing.assert_allclose(one, two, rtol=1e-5)


def test_an_imputer_before_a_classifier(table):
    df, kinds = table
    df = df[["a", "b"]].mask(np.random.default_rng(0).random((60, 2)) < 0.2)
    pipeline = make_pipeline(VAEImputer(**SMALL, random_state=0, add_indicator=True), LogisticRegression())
    assert pipeline.fit(df, kinds).predict(df).shape == (60,)


def test_pandas_as_output_keeps_the_index(table):
    df, _ = table
    df.index = [f"row {i}" for i in df.index]
    codes = VAETransformer(**SMALL, random_state=0).set_output(transform="pandas").fit(df)
    found = codes.transform(df)
    assert [*found.columns] == ["vae0", "vae1"]
    assert (found.index == df.index).all()
    assert (codes.inverse_transform(found).index == df.index).all()
