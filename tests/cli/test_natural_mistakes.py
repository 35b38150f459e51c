"""What people get wrong on the command line with their own data, and what they are told."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import yaml

from pyro_vae import build, data, fit
from pyro_vae.cli import main
from pyro_vae.cli.usage import as_options


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    here = tmp_path_factory.mktemp("mistakes")
    for folder in ("empty", "texts", "no_run"):
        (here / folder).mkdir()
    (here / "texts" / "readme.md").write_text("no image")
    lines = {
        "good.csv": ["a,b,kind", *(f"{i / 10},{i % 5},{'xyz'[i % 3]}" for i in range(60))],
        "semicolon.csv": ["a;b", *(f"{i / 10};{i % 5}" for i in range(60))],
        "nan.csv": ["a,b,c", *(f"{i / 10},NaN,{i % 5}" for i in range(60))],
        "twice.csv": ["a,b,a", *(f"{i / 10},{i % 5},{i % 7}" for i in range(60))],
        "few.csv": ["a,b", "1,2", "3,4"],
        "gaps.csv": ["a,b", *(f"{i / 10 if i % 3 else ''},{i % 5}" for i in range(60))],
        "other.csv": ["a,b,kind", *(f"{i / 9},{i % 5},{'xyz'[i % 3]}" for i in range(60))],
        "yes.csv": ["a,b", *(f"{i / 10},{'yes' if i % 3 else 'no'}" for i in range(60))],
        "yes.yaml": ["columns: {a: {kind: real}, b: {kind: binary, values: [no, yes]}}"],
    }
    for name, written in lines.items():
        (here / name).write_text("\n".join(written) + "\n")
    np.save(here / "wide.npy", np.random.default_rng(0).normal(size=(50, 7)))
    found = data.load(here / "good.csv", label="kind")
    vae = build(found.event_shape, 2, hidden=(8,), likelihood="Normal")
    fit(vae, found.train, valid=found.valid, epochs=1, out=here / "run", progress=False)
    return here


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train --data semicolon.csv", "seems to have ';' between its columns, not ','.* Give --delimiter ';'"),
        ("train --data good.csv --delimiter ;;", "--delimiter must be one character"),
        ("train --data twice.csv", "two columns of one name: 'a'. Rename one of them"),
        ("train --data empty", "empty holds no file. Put images into it"),
        ("train --data texts", "texts holds no image: 1 of 1 files .readme.md"),
        (
            "train --data good.csv --label knd",
            "--label: .* no column 'knd'. Did you mean 'kind'. It has 'a', 'b', 'kind'",
        ),
        ("train --data good.csv --labels true", "no labels to give to the VAE. --label COLUMN names those"),
        ("train --data few.csv", "of 2 rows, none is left for .*: --split 0.6,0.2,0.2"),
        ("train --data good.csv --split 0.5,0.6", "--split must be the shares .*; got '0.5,0.6'"),
        ("train --data good.csv --size 3", "--size is for images; .* is a table"),
        ("train --data good.csv --binarize dynamic", "--binarize is for images"),
        ("train --data gud.csv", "there is no file or folder gud.csv. Did you mean 'good.csv'"),
        ("train --epochs=two", "--epochs must be a whole number or null; got two"),
        ("train --hidden 64,a", r"--hidden must be .* a list of whole numbers such as \[512,256\]; got 64,a"),
        ("train --hidden", "expected one argument"),
        ("train --channels 2", "--channels must be 1, 3 or null; got 2"),
        ("train --lr -1 --epochs 1", "--lr must be a finite number above 0"),
        ("train --data good.csv --nets conv --epochs 1", r"--nets: conv is for images, .* has shape \(3,\). Take mlp"),
        ("train --data good.csv --likelihood bernoulli", "column 'kind': Bernoulli is over 2 levels up to 1, and the"),
        (
            "train --data good.csv --columns a,b --likelihood bernoulli",
            r"--binarize dynamic or threshold\) or use --likelihood Cont",
        ),
        ("data", "data needs a folder, a file or the name of a data set, such as photos/, wine.csv or digits"),
        (
            "train --resume run --latent_dim 5",
            "--latent_dim: run was built in Python, and goes on with the VAE that it has; got 5",
        ),
        ("impute run", "run was trained on data without missing values, so its VAE fills none in"),
        ("train --latent_dims 3", "there is no option --latent_dims. Did you mean --latent_dim"),
        ("train --prior vampp", "unknown prior 'vampp'.* Did you mean 'VampPrior'"),
        ("train --resume no_run", "no_run is no run folder: it has no config.yaml. pyro-vae train writes one"),
        ("train --resume nowhere", "nowhere is no run folder"),
        ("train --config nowhere.yaml", "there is no file .*nowhere.yaml. --config takes a YAML file"),
        ("train --resume run --out other", "--resume goes on in its own folder, run; leave --out 'other' away"),
        ("encode run wide.npy", r"run was trained on rows of shape \(2,\); wide.npy has \(7,\)"),
        ("evaluate no_run", "no_run.*pyro-vae train writes one"),
        ("reconstruct run --out x.png", r"--out must end in .csv \(a table\)"),
        (
            "train --data good.csv --schema few.csv",
            "few.csv must hold a schema as YAML; got str. pyro-vae suggest DATA --",
        ),
        ("train --data yes.csv --schema yes.yaml", r"'b' has .* it has False, True. YAML reads .*: \['no', 'yes'\]"),
        ("score run --data gaps.csv", "x has NaN: .* Remove or impute them, or train on data with missing values"),
        (
            "train --resume run --epochs 2 --data other.csv",
            "the run in run was trained on other data: .* in another order",
        ),
        ("check run --n 1000", "the number of rows must be from 1 to"),
        ("interpolate run --n 1000", "--n must be from 1 to .*two rows for each walk; got 1000"),
    ],
)
def test_what_is_said(sources, monkeypatch, capsys, words, message):
    monkeypatch.chdir(sources)
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert re.search(message, said)
    for inside in ("Parser key", "Union", "out_shape", "=True", "=(", "Traceback", "unexpected"):
        assert inside not in said


@pytest.mark.parametrize("words", ["--lr -1", "--epochs 0", "--out good.csv", "--out run", "--schedule linear"])
def test_what_cannot_be_is_refused_before_data_are_read(sources, monkeypatch, capsys, words):
    monkeypatch.chdir(sources)
    assert main(["train", "--data", "nan.csv", *words.split()]) == 2
    said = capsys.readouterr()
    assert words.split()[0] in said.err or words.split()[1] in said.err
    assert not said.out


def test_a_command_that_is_missing_is_asked_for(capsys):
    assert main([]) == 2
    assert "error: a command is missing, such as train" in capsys.readouterr().err


def test_a_column_without_values_is_left_out_and_said(sources, monkeypatch, capsys):
    monkeypatch.chdir(sources)
    words = "train --data nan.csv --hidden 8 --latent_dim 2 --epochs 1 --out without"
    assert main(words.split()) == 0
    assert "1 of 3 columns is left out: 'b' has no value in any row" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--hidden", "8,4"], ["--hidden=8, 4"], ["--hidden", "[8,4]"]])
def test_widths_between_commas_are_a_list(words, tmp_path):
    out = tmp_path / "run"
    assert main(["train", *words, "--latent_dim", "2", "--epochs", "1", "--batch_size", "1000", "--out", str(out)]) == 0
    assert yaml.safe_load((out / "config.yaml").read_text())["hidden"] == [8, 4]


def test_all_rows_may_train(sources, monkeypatch, capsys):
    monkeypatch.chdir(sources)
    words = "train --data good.csv --split 1,0,0 --hidden 8 --latent_dim 2 --epochs 1 --out everything"
    assert main(words.split()) == 0
    printed = capsys.readouterr().out
    assert "60 rows of 3 to train on" in printed
    assert "the last epoch's weights" in printed
    assert re.search(r"train elbo .*60 rows", printed)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("lr must be above 0", "--lr must be above 0"),
        ("skip_bad leaves them out", "--skip_bad leaves them out"),
        ("leave it out: skip_bad=True", "leave it out: --skip_bad True"),
        ("x.csv has no size", "x.csv has no size"),
        ("the size must be known", "the size must be known"),
        ("codes (n, latent_dim); got (3,)", "codes (n, latent_dim); got (3,)"),
        ("--lr must be above 0", "--lr must be above 0"),
        ("label: there is none", "--label: there is none"),
    ],
)
def test_options_have_their_dashes(said, shown):
    assert as_options(said, ["lr", "size", "skip_bad", "latent_dim", "label"]) == shown
    assert as_options(said, []) == said


def test_a_run_of_a_tensor_says_what_to_name(tmp_path, capsys):
    fit(build(3, 2, hidden=(8,), likelihood="Normal"), torch.randn(40, 3), epochs=1, out=tmp_path / "t", progress=False)
    assert main(["plot", str(tmp_path / "t")]) == 2
    assert "Name a file with them: --data FILE" in capsys.readouterr().err


def test_a_run_with_a_part_of_ones_own_says_how_it_is_found(sources, tmp_path, capsys):
    config = yaml.safe_load((sources / "run" / "config.yaml").read_text())
    config["prior"] = {"class": "my_priors_elsewhere.Mine"}
    (tmp_path / "run").mkdir()
    for path in (sources / "run").glob("*.*"):
        (tmp_path / "run" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["evaluate", str(tmp_path / "run"), "--allow", "my_priors_elsewhere"]) == 2
    said = capsys.readouterr().err
    assert "Run in the folder of my_priors_elsewhere.py, or name that folder in PYTHONPATH" in said
