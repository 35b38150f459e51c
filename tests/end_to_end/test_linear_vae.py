"""The linear VAE, trained by stochastic gradients, reaches the maximum likelihood that is known in closed form."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.end_to_end.digits_as_files import BOTH_SLOWLY

PATH = Path(__file__).parents[2] / "examples" / "linear_vae.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location(PATH.stem, PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check(results):
    """Within 0.1 % of the highest log-likelihood, and in its subspace to 2 degrees."""
    assert 0 < results["short of it, per cent"] < 0.1
    assert 0 < results["angle of the subspaces, degrees"] < 2
    # The bound lies below the log-likelihood, and near it: the posterior has found its optimum too.
    assert 0 < results["log-likelihood, VAE"] - results["ELBO, VAE"] < 0.05
    assert results["scale of the noise, VAE"] == pytest.approx(results["scale of the noise, optimum"], rel=0.01)


@BOTH_SLOWLY
def test_training_reaches_the_maximum_likelihood_of_the_digits(digits_from, example, capsys):
    results = example.main()
    check(results)
    out = capsys.readouterr().out
    assert all(name in out for name in results)


def test_without_the_training_it_is_not_reached(example):
    results = example.main(epochs=2)
    assert results["short of it, per cent"] > 10
    assert results["angle of the subspaces, degrees"] > 10


def test_the_data_are_the_same_each_time(example):
    assert example.digits().equal(example.digits())
