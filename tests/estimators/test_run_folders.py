"""Run folders of estimators: written, read again, opened by everything else, and spoilt."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import pyro_vae
from pyro_vae import CheckpointError, VAEImputer, VAETransformer, build, fit, likelihoods
from pyro_vae.cli import main
from tests.estimators.test_imputer import with_gaps
from tests.estimators.test_transformer import mixed

SMALL = {"latent_dim": 2, "hidden": (8,), "epochs": 2, "num_particles": 50, "random_state": 0}
X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)


@pytest.mark.filterwarnings("ignore:importance_sampling")
@pytest.mark.parametrize("x", [mixed(), X, pd.DataFrame(X, columns=[1, 2, 3])], ids=["table", "array", "numbers"])
def test_a_transformer_comes_back(tmp_path, x):
    fitted = VAETransformer(**SMALL).fit(x)
    fitted.save(tmp_path / "run")
    found = VAETransformer.load(tmp_path / "run")
    assert found.get_params() == fitted.get_params()
    assert found.history_ == fitted.history_
    np.testing.assert_array_equal(found.transform(x), fitted.transform(x))
    np.testing.assert_array_equal(found.score_samples(x), fitted.score_samples(x))
    for one, other in ((found.sample(5), fitted.sample(5)), (found.inverse_transform(np.zeros((2, 2))),) * 2):
        (pd.testing.assert_frame_equal if isinstance(x, pd.DataFrame) else np.testing.assert_array_equal)(one, other)
    with pytest.raises(ValueError, match="feature"):
        found.transform(x[:, :2] if isinstance(x, np.ndarray) else x.iloc[:, :2])
    found.save(tmp_path / "again")
    assert {p.name for p in (tmp_path / "again").iterdir()} == {p.name for p in (tmp_path / "run").iterdir()}


def test_an_imputer_comes_back(tmp_path):
    df = with_gaps()
    fitted = VAEImputer(**SMALL).fit(df)
    fitted.save(tmp_path / "run")
    found = VAEImputer.load(tmp_path / "run")
    assert np.isnan(found.missing_values)
    pd.testing.assert_frame_equal(found.transform(df), fitted.transform(df))


def test_an_imputer_with_an_indicator_comes_back(tmp_path):
    df = with_gaps()
    fitted = VAEImputer(**SMALL, add_indicator=True).fit(df)
    fitted.save(tmp_path / "run")
    found = VAEImputer.load(tmp_path / "run")
    assert [*found.get_feature_names_out()] == [*fitted.get_feature_names_out()]
    pd.testing.assert_frame_equal(found.transform(df), fitted.transform(df))


def test_the_folder_is_a_run_folder(tmp_path, capsys):
    df = mixed()
    df.to_csv(tmp_path / "people.csv", index=False)
    fitted = VAETransformer(**SMALL).fit(df)
    fitted.save(tmp_path / "run")
    vae = pyro_vae.load(tmp_path / "run")
    np.testing.assert_array_equal(vae.codes(df).double(), fitted.transform(df))
    options = ["--data", str(tmp_path / "people.csv"), "--num_particles", "20"]
    assert main(["evaluate", str(tmp_path / "run"), *options]) == 0
    assert "people.csv elbo" in capsys.readouterr().out


def test_any_run_on_a_table_is_an_estimator(tmp_path):
    df = mixed()
    vae = build(data=df, latent_dim=2, hidden=(8,))
    fit(vae, df, epochs=1, progress=False, out=tmp_path / "run")
    found = VAETransformer.load(tmp_path / "run")
    np.testing.assert_array_equal(found.transform(df), vae.codes(df).double())
    assert found.epochs == 1
    assert [*found.feature_names_in_] == [*df]
    with pytest.raises(ValueError, match="takes no missing values: train it with missing=True"):
        VAEImputer.load(tmp_path / "run")


def test_what_cannot_be_written_is_named(tmp_path):
    fitted = VAETransformer(**{**SMALL, "random_state": np.random.RandomState(0)}, likelihood=likelihoods.Normal).fit(X)
    fitted.save(tmp_path / "run")
    with pytest.warns(
        UserWarning, match="likelihood, random_state cannot be written.* the next fit uses their default"
    ):
        found = VAETransformer.load(tmp_path / "run")
    np.testing.assert_array_equal(found.transform(X), fitted.transform(X))


def test_other_runs_are_refused(tmp_path):
    vae = build(3, 2, hidden=(8,), likelihood="normal")
    fit(vae, torch.randn(20, 3), epochs=1, progress=False, out=tmp_path / "tensor")
    with pytest.raises(ValueError, match=r"has no schema.yaml: VAETransformer.load needs a run on a table"):
        VAETransformer.load(tmp_path / "tensor")
    VAETransformer(**SMALL).fit(X).save(tmp_path / "run")
    with pytest.raises(ValueError, match="has a VAETransformer, not a VAEImputer: use its load"):
        VAEImputer.load(tmp_path / "run")
    with pytest.raises(FileExistsError, match="must be a new or an empty folder"):
        VAETransformer(**SMALL).fit(X).save(tmp_path / "run")
    with pytest.raises(FileNotFoundError):
        VAETransformer.load(tmp_path / "nothing")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    run = tmp_path_factory.mktemp("estimators") / "run"
    VAETransformer(**SMALL).fit(X).save(run)
    return run


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class": ["VAETransformer"]}, "not a VAETransformer"),
        ({"parameters": {"fit": 1}}, "has parameters that VAETransformer has not: fit"),
        ({"parameters": []}, "must have a mapping as parameters"),
        ({"left_out": "all"}, "must have a list as left_out"),
        ({"left_out": ["all"]}, "has parameters that VAETransformer has not: all"),
        ({"labels": [[1], 2, 3]}, "must have different names or numbers as labels"),
        ({"labels": ["x0", "x0", "x2"]}, "must have different names or numbers as labels"),
        ({"labels": ["x0", "x1"]}, "has no label 'x2'"),
        ({"dtype": "object"}, "must have one of bool, .* as dtype"),
        ({"dtype": ["float32"]}, "must have one of bool, .* as dtype"),
        ({"with_gaps": [3]}, "must have places of columns as with_gaps"),
        ({"with_gaps": ["x0"]}, "must have places of columns as with_gaps"),
        ({"seed": -1}, "must have an integer of at least 0 as seed"),
        ({"more": 1}, "must have the entries class, parameters"),
    ],
)
def test_damaged_files(saved, tmp_path, changes, message):
    for path in saved.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    described = yaml.safe_load((saved / "estimator.yaml").read_text()) | changes
    (tmp_path / "estimator.yaml").write_text(yaml.safe_dump(described))
    with pytest.raises(ValueError, match=message):
        VAETransformer.load(tmp_path)


def test_a_stranger_imports_nothing(saved, tmp_path, monkeypatch):
    """Not even at the next fit."""
    for path in saved.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "evil_estimator.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    described = yaml.safe_load((saved / "estimator.yaml").read_text())
    described["parameters"]["likelihood"] = "evil_estimator.Likelihood"
    (tmp_path / "estimator.yaml").write_text(yaml.safe_dump(described))
    found = VAETransformer.load(tmp_path)
    with pytest.raises(pyro_vae.registry.NotAllowedError):
        found.fit(X)
    (tmp_path / "estimator.yaml").unlink()
    (tmp_path / "estimator.yaml").symlink_to(saved / "estimator.yaml")
    with pytest.raises(CheckpointError, match="link"):
        VAETransformer.load(tmp_path)
