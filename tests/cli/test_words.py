"""The library speaks Python; the command line says the same in options."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml

import pyro_vae
from pyro_vae import TrainingInterrupted, build, fit, likelihoods, load
from pyro_vae.checkpoints import NotARunError
from pyro_vae.cli import main
from pyro_vae.cli.words import as_word, of_error, of_remedy, with_options
from pyro_vae.config import NoContextError, make_objective
from pyro_vae.data import BadDataError
from pyro_vae.evaluation import collapse
from pyro_vae.evaluation.collapse import Remedy
from pyro_vae.evaluation.weights import warn_of_heavy_tails
from pyro_vae.objectives import BetaELBO
from pyro_vae.registry import NotAllowedError
from pyro_vae.training.record import FolderNotEmptyError
from tests.conftest import make_x
from tests.evaluation.test_collapse import collapsed

QUICK = ["--epochs", "1", "--hidden", "8", "--latent_dim", "2"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, "0.1"), (1e-3, "0.001"), (1 / 3, repr(1 / 3)), ("iaf", "iaf"), (True, "true"), ([1, 2], "[1, 2]")],
)
def test_a_value_is_one_word(value, text):
    assert as_word(value) == text
    assert yaml.safe_load(text) == value


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Give more, or other shares: split=(0.6, 0.2, 0.2)", "Give more, or other shares: --split 0.6,0.2,0.2"),
        ("Give one for all, such as size=32", "Give one for all, such as --size 32"),
        ('size="20x24" resizes each', '--size "20x24" resizes each'),
        ("leave them out with skip_bad=True", "leave them out with --skip_bad true"),
        ("Give delimiter=';'", "Give --delimiter ';'"),
        ("label=COLUMN names those of a table.", "--label COLUMN names those of a table."),
        ("name their folder with root=... or $PYRO_VAE_DATA", "name their folder with root=... or $PYRO_VAE_DATA"),
        ("the file resize=3.npy, group=", "the file resize=3.npy, group="),
        (
            'Binarise the data (binarize="dynamic" or "threshold" in pyro_vae.data) or use likelihoods.Normal',
            "Binarise the data (of images: --binarize dynamic or threshold) or use --likelihood Normal",
        ),
        (
            "as they are (no binarize or dequantize in pyro_vae.data)",
            "as they are (--binarize none --dequantize false)",
        ),
        ("give reals (dequantize=True in pyro_vae.data), or", "give reals (--dequantize true), or"),
        ("Dequantise: data.load(..., dequantize=True)", "Dequantise: --dequantize true"),
        (
            "keep them with likelihoods.DiscretizedLogistic(levels=256, upper=255.0)",
            "keep them with --likelihood DiscretizedLogistic with 256 levels up to 255.0",
        ),
        ("or use a likelihood without library=True", "or use a likelihood without --likelihood.library true"),
    ],
)
def test_arguments_of_load_are_options(said, words):
    assert of_error(BadDataError(said)) == words


def test_what_the_library_says_of_data_is_said_in_options():
    """Each remedy of a likelihood, each warning of heavy tails."""
    remedies = {part.remedy for part in vars(likelihoods).values() if isinstance(part, type) and part.remedy}
    with pytest.warns(UserWarning, match="Pareto") as caught:
        warn_of_heavy_tails(torch.tensor([0.9, 0.1]), "log p(x)", None)
    said = [with_options(text) for text in (*remedies, str(caught[0].message))]
    assert len(said) > 4
    for text in said:
        assert not re.search(r"pyro_vae\.|likelihoods\.|evaluation\.|=True", text), text
    assert "Train a posterior that covers p(z | x) better, such as --posterior iaf" in said[-1]


def test_a_remedy_is_an_option_with_its_arguments():
    value = {"class": "beta", "beta": {"class": "linear", "steps": 300}}
    said = of_remedy(Remedy("a warm-up", "it helps", "objective", value))
    assert said == 'a warm-up (it helps): --objective beta --objective.beta \'{"class": "linear", "steps": 300}\''
    assert of_remedy(Remedy("a weaker decoder", "it helps")) == "a weaker decoder (it helps)"


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("posterior", ["normal", "full"])
def test_the_remedies_are_options_that_train_takes(posterior, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parts = {"likelihood": {"class": "Normal", "scale": 9.0}, "posterior": posterior}
    vae = collapsed(**parts) if posterior == "normal" else build((2, 3), 2, hidden=(), **parts).double()
    if posterior == "full":
        with torch.no_grad():
            for p in vae.posterior.parameters():
                p.zero_()
    found = collapse(vae, make_x(n=40), objective=BetaELBO(3.0), steps=100)
    assert found.kind == "posterior"
    assert [("per" in r.value) for r in found.remedies if r.what == "free bits"] == [posterior == "full"]
    for i, remedy in enumerate(found.remedies):
        options = ["--epochs", "1", "--hidden", "8", "--posterior", posterior, "--out", f"run-{i}"]
        words = of_remedy(remedy).rpartition("): ")[2] if remedy.argument else ""
        assert main(["train", *options, *shlex.split(words)]) == 0


@pytest.mark.usefixtures("without_pictures")
def test_a_part_that_needs_a_context(tmp_path, capsys):
    prior = {"class": "conditional", "prior": {"class": "normal"}}
    with pytest.raises(NoContextError, match=r"this VAE has none: build\(\.\.\., context_features=\.\.\.\) adds one"):
        build(4, 2, hidden=(3,), prior=prior)
    options = ["--prior", "conditional", "--prior.prior", "normal", "--out", str(tmp_path / "run")]
    assert main(["train", *QUICK, *options]) == 2
    assert "and this VAE has none: --labels true adds one\n" in capsys.readouterr().err
    assert main(["train", *QUICK, *options, "--labels", "true"]) == 0


def test_a_folder_that_is_no_run(tmp_path, capsys):
    with pytest.raises(NotARunError, match=r"is not a run folder: it has no config.yaml. fit\(\.\.\., out=folder\)"):
        load(tmp_path)
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "it has no config.yaml. pyro-vae train writes one, below runs/\n" in capsys.readouterr().err


@pytest.mark.usefixtures("without_pictures")
def test_a_module_that_is_not_allowed(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", *QUICK, "--out", str(run)]) == 0
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "prior": "my_parts.Wide"}))
    with pytest.raises(NotAllowedError, match=r'load\(run, allow=\["my_parts"\]\)'):
        load(run)
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 2
    said = capsys.readouterr().err
    assert said.endswith("If you trust it, add --allow my_parts\n")
    assert "load(" not in said


def test_a_training_that_was_stopped(tmp_path):
    def stop(epoch):
        raise KeyboardInterrupt

    vae, x = build(4, 2, hidden=(3,)), torch.rand(20, 4).round()
    with pytest.raises(TrainingInterrupted) as stopped:
        fit(vae, x, epochs=2, progress=False, out=tmp_path / "run", on_epoch=stop)
    said = str(stopped.value)
    assert f'Go on with the same fit(..., out="{tmp_path / "run"}", resume=True)' in said
    assert of_error(stopped.value) == f"{stopped.value.found}. Go on with: pyro-vae train --resume {tmp_path / 'run'}"
    with pytest.raises(TrainingInterrupted) as stopped:
        fit(vae, x, epochs=2, progress=False, on_epoch=stop)
    assert of_error(stopped.value) == str(stopped.value)


def test_a_folder_that_is_not_empty(tmp_path, capsys):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(FolderNotEmptyError, match="or go on with its run: resume=True"):
        fit(build(4, 2, hidden=(3,)), torch.rand(20, 4).round(), out=tmp_path, progress=False)
    assert main(["train", *QUICK, "--out", str(tmp_path)]) == 2
    assert f"Choose another --out, or go on with its run: --resume {tmp_path}\n" in capsys.readouterr().err


def test_other_errors_keep_their_words():
    assert of_error(ValueError("lr must be above 0")) == "lr must be above 0"


def test_the_remedies_are_objectives_and_parts_in_python_too():
    found = collapse(collapsed(likelihood={"class": "Normal", "scale": 9.0}), make_x(n=40), objective=BetaELBO(3.0))
    assert {remedy.argument for remedy in found.remedies} == {"likelihood", "objective", None}
    for remedy in found.remedies:
        if remedy.argument == "likelihood":
            assert build((2, 3), 2, hidden=(), likelihood=remedy.value).likelihood.scale == "optimal"
        elif remedy.argument == "objective":
            make_objective(remedy.value, collapsed())
        assert str(remedy).startswith(f"{remedy.what} ({remedy.why})")


def test_nothing_below_the_command_line_speaks_its_words():
    home = Path(pyro_vae.__path__[0])
    sources = [path for path in home.rglob("*.py") if home / "cli" not in path.parents]
    assert len(sources) > 100
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.search(r"(?<![-\w])--[a-z]|pyro-vae [a-z]", node.value), f"{path}: {node.value}"
