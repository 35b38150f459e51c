"""The examples run, and show what they say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES[0].parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_svi_by_hand():
    assert example("svi_by_hand").main(epochs=10) > -26


def test_swap_prior_and_likelihood():
    results = example("swap_prior_and_likelihood").main(epochs=4)
    assert len(results) == len(set(results.values())) == 4


def test_cross_check_elbo(capsys):
    assert example("cross_check_elbo").main() < 1e-9
    out = capsys.readouterr().out
    assert all(name in out for name in ("NumPy, by hand", "elbo(recon, kl)", "Trace_ELBO", "TraceMeanField_ELBO"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_examples_are_short_and_say_how_to_run_them(path):
    text = path.read_text()
    assert len(text.splitlines()) < 80
    assert f"python examples/{path.name}" in text
