"""The examples run, and show what they say."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

from pyro_vae import load
from pyro_vae.cli import main
from tests.end_to_end.digits_as_files import BOTH, BOTH_SLOWLY

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES[0].parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@BOTH
def test_svi_by_hand(digits_from):
    assert example("svi_by_hand").main(epochs=10) > -26


@BOTH_SLOWLY
def test_weight_of_the_kl(digits_from, tmp_path):
    results = example("weight_of_the_kl").main(tmp_path / "figure.png", epochs=20)
    by_weight = [results[beta] for beta in sorted(results)]
    assert [r.recon for r in by_weight] == sorted((r.recon for r in by_weight), reverse=True)
    assert [r.kl for r in by_weight] == sorted((r.kl for r in by_weight), reverse=True)
    assert (tmp_path / "figure.png").stat().st_size > 10_000


@BOTH
def test_your_own_parts(digits_from, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES[0].parent)
    results = example("your_own_parts").main(epochs=4)
    assert len(results) == len(set(results.values())) == 4


def test_your_own_parts_on_the_command_line(monkeypatch, tmp_path):
    monkeypatch.chdir(EXAMPLES[0].parent)
    chosen = {"prior": "Gumbel", "likelihood": "SoftLaplace", "posterior": "TwoNormals"}
    options = [word for part, name in chosen.items() for word in (f"--{part}", f"your_own_parts.{name}")]
    assert main(["train", *options, "--epochs", "1", "--hidden", "16", "--out", str(tmp_path / "run")]) == 0
    monkeypatch.syspath_prepend(EXAMPLES[0].parent)
    vae = load(tmp_path / "run", allow=["your_own_parts"])
    assert {part: type(getattr(vae, part)).__name__ for part in chosen} == chosen


def test_each_of_your_own_parts_is_under_fifteen_lines():
    tree = ast.parse((EXAMPLES[0].parent / "your_own_parts.py").read_text())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert len(classes) == 3
    assert all(node.end_lineno - node.lineno + 1 < 15 for node in classes)


def test_cross_check_elbo(capsys):
    assert example("cross_check_elbo").main() < 1e-9
    out = capsys.readouterr().out
    assert all(name in out for name in ("NumPy, by hand", "elbo(recon, kl)", "Trace_ELBO", "TraceMeanField_ELBO"))


@pytest.mark.slow  # a minute
def test_grid_search():
    wine = example("grid_search").main(("wine",), epochs=20)["wine"]
    assert wine.best_params_["vae__latent_dim"] in (1, 2, 4)
    assert max(wine.cv_results_["mean_test_accuracy"]) > 0.85  # 0.40 of the rows are of one class
    assert wine.best_estimator_["vae"].vae_.schema is not None


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_examples_are_short_and_say_how_to_run_them(path):
    text = path.read_text()
    assert len(text.splitlines()) < 80
    assert f"python examples/{path.name}" in text
