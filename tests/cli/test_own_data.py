"""Every command on runs of one's own data, trained by command and from Python: rows with gaps, a table, counts, images.

The figures are those of Python on the same data, and rows are in the units of the data.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from scipy import sparse

from pyro_vae import average_elbo, build, data, fit, load
from pyro_vae.checkpoints import read_config
from pyro_vae.cli import main

pytestmark = pytest.mark.filterwarnings("ignore::pyro_vae.checkpoints.StandardizedDataWarning")

SMALL = ["--hidden", "[8]", "--latent_dim", "2", "--epochs", "2"]
ROWS = ("gaps", "table", "counts")
KINDS = (*ROWS, "images")
SOURCES = {"gaps": "gaps.npy", "table": "table.csv", "counts": "counts.npz", "images": "photos"}
READING = {"table": {"label": "kind", "split": (0.6, 0.2, 0.2)}, "images": {"size": (6, 8), "channels": 1}}
WORDS = {
    "table": ["--label", "kind", "--split", "0.6,0.2,0.2"],
    "images": ["--size", "6x8", "--channels", "1"],
}


def write_sources(here):
    generator = np.random.default_rng(0)
    gaps = generator.normal(size=(200, 3)) * [1, 10, 100] + [0, 50, 900]
    gaps[generator.random(gaps.shape) < 0.2] = np.nan
    np.save(here / "gaps.npy", gaps)
    with (here / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["height", "visits", "smokes", "kind", "step"])
        for i in range(200):
            height = "" if i % 7 == 0 else f"{generator.normal(170, 10):.2f}"
            visits, smokes = generator.poisson(3), generator.integers(2)
            writer.writerow([height, visits, smokes, "abc"[i % 3], f"{generator.normal():.3f}"])
    matrix = sparse.csr_array(generator.poisson(0.4, (200, 5)) + np.eye(5, dtype=int)[np.arange(200) % 5])
    sparse.save_npz(here / "counts.npz", matrix)
    for name in ("dark", "light"):
        (here / "photos" / name).mkdir(parents=True)
        for i in range(60):
            pixels = generator.integers(0, 128, (8, 8, 3)) + (128 if name == "light" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(here / "photos" / name / f"{i}.png")


def ready(kind, found):
    """A data set as one would prepare it in Python, and the likelihood and options of its VAE."""
    if kind == "table":
        return found, {"data": found}
    if kind == "gaps":
        loc, scale = found.train.moments()
        return found.map(lambda split: split.standardised(loc, scale)), {"likelihood": "Normal", "missing": True}
    if kind == "counts":
        return found, {"likelihood": {"class": "NegativeBinomial", "library": True}, "inputs": "log1p"}
    return found, {"likelihood": "ContinuousBernoulli"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Runs of each kind of data: NAME-command, and NAME-python in another folder than the data."""
    here = tmp_path_factory.mktemp("own")
    write_sources(here)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setenv("PYRO_VAE_DATA", str(here / "cache"))
        for kind in KINDS:
            words = ["--data", SOURCES[kind], *WORDS.get(kind, []), *SMALL, "--out", f"{kind}-command"]
            assert main(["train", *words]) == 0
            found, options = ready(kind, data.load(SOURCES[kind], **READING.get(kind, {})))
            vae = build(found.event_shape, 2, hidden=(8,), **options)
            fit(vae, found.train, valid=found.valid, epochs=2, out=f"{kind}-python", progress=False)
        x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
        fit(build(3, 2, hidden=(8,), likelihood="Normal"), x, epochs=1, out="tensor", progress=False)
        np.save("tensor.npy", torch.randn(80, 3).numpy())
    return here


@pytest.fixture
def here(trained, monkeypatch):
    (trained / "elsewhere").mkdir(exist_ok=True)
    monkeypatch.chdir(trained / "elsewhere")  # the data of a run are found from any folder
    monkeypatch.setenv("PYRO_VAE_DATA", str(trained / "cache"))
    return trained


@pytest.fixture(params=[f"{kind}-{made}" for kind in KINDS for made in ("command", "python")])
def run(request, here):
    return request.param


def in_python(here, run):
    """The data of a run, read and prepared in Python."""
    kind = run.split("-")[0]
    found = data.load(here / SOURCES[kind], **READING.get(kind, {}))
    return ready(kind, found)[0]


def test_the_options_of_load_are_recorded(here):
    recorded = {kind: read_config(here / f"{kind}-python") for kind in KINDS}
    for kind, config in recorded.items():
        assert config["data"] == str(here / SOURCES[kind])
        assert os.path.isabs(config["data"])
    assert (recorded["table"]["label"], recorded["table"]["split"]) == ("kind", "0.6,0.2,0.2")
    assert (recorded["images"]["size"], recorded["images"]["channels"]) == ("6x8", 1)
    assert "label" not in recorded["gaps"]
    assert [recorded[kind]["standardize"] for kind in ("gaps", "table", "counts")] == [True, "auto", False]


def test_evaluate(here, run, capsys):
    assert main(["evaluate", str(here / run)]) == 0
    printed = capsys.readouterr()
    assert "changed" not in printed.err
    written = json.loads((here / run / "evaluation-test.json").read_text())
    test = in_python(here, run).test
    expected = average_elbo(load(here / run), test, num_particles=1, kl="sampled", seed=0)
    assert written["elbo"]["examples"] == len(test)
    assert written["elbo"]["elbo"] == pytest.approx(expected.elbo, rel=1e-5)


def table_of(path):
    with open(path, newline="") as file:
        names, *rows = csv.reader(file)
    return names, np.array(rows, float)


DECIMALS = (2, 0, 0, 3)  # of the columns of the table


def as_shown(kind, x):
    """What a table shows of x: the second column as whole numbers, the others unrounded."""
    if kind == "table":
        x[..., 1] = x[..., 1].round()
    return x


def assert_shown(kind, rows, x, **tolerances):
    """Assert that rows show x, and that a table rounds numbers to the decimals of their columns."""
    rounding = 0.0
    if kind == "table":
        steps = 10.0 ** -np.array(DECIMALS)
        np.testing.assert_allclose(rows, np.round(rows / steps) * steps, rtol=1e-9, atol=1e-12)
        rounding = steps / 2 * (np.array(DECIMALS) > 0)
    tolerances = {"rtol": 0.0, "atol": 0.0, **tolerances}
    allowed = rounding + tolerances["atol"] + tolerances["rtol"] * np.abs(x)
    assert (np.abs(rows - x) <= allowed).all(), np.abs(rows - x).max(0)


@pytest.mark.parametrize("made", ["command", "python"])
@pytest.mark.parametrize("kind", ROWS)
def test_reconstructions_are_rows_in_the_units_of_the_data(here, kind, made, capsys):
    run = here / f"{kind}-{made}"
    assert main(["reconstruct", str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "reconstructions.csv")
    names, rows = table_of(run / "reconstructions.csv")
    test = in_python(here, f"{kind}-{made}").test
    vae = load(run)
    x, context = test.x(slice(None), torch.float32), test.context(slice(None), torch.float32)
    expected = vae.reconstruct(x, *context).double()
    if kind == "gaps":
        expected = expected * test.scale + test.loc
    expected = as_shown(kind, expected)
    assert_shown(kind, rows, expected.numpy(), rtol=1e-4, atol=1e-5)
    assert names == (
        ["height", "visits", "smokes", "step"] if kind == "table" else [f"x{i}" for i in range(len(names))]
    )
    assert main(["reconstruct", str(run), "--n", "3", "--out", "three.npy"]) == 0
    three = as_shown(kind, torch.from_numpy(np.load("three.npy")))
    assert_shown(kind, rows[:3], three.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ROWS)
def test_walks_are_rows_from_one_reconstruction_to_another(here, kind):
    run = here / f"{kind}-command"
    assert main(["interpolate", str(run), "--n", "3", "--steps", "4"]) == 0
    assert main(["interpolate", str(run), "--n", "3", "--steps", "4", "--out", "walks.npy"]) == 0
    assert main(["reconstruct", str(run), "--n", "6", "--out", "ends.npy"]) == 0
    names, rows = table_of(run / "interpolations.csv")
    assert names[:2] == ["walk", "step_" if kind == "table" else "step"]
    assert rows[:, :2].tolist() == [[walk, step] for walk in range(3) for step in range(4)]
    walks, ends = (as_shown(kind, torch.from_numpy(np.load(f"{name}.npy"))).numpy() for name in ("walks", "ends"))
    assert_shown(kind, rows[:, 2:], walks.reshape(12, -1), rtol=1e-6)
    if kind != "counts":  # whose means depend on the library size of the first end
        np.testing.assert_allclose(walks[:, 0], ends[:3], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(walks[:, -1], ends[3:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ROWS)
def test_a_picture_of_rows_is_refused(here, kind, capsys):
    for command in ("reconstruct", "interpolate"):
        assert main([command, str(here / f"{kind}-command"), "--out", "x.png"]) == 2
        assert "out must end in .csv (a table), .parquet (a table) or .npy" in capsys.readouterr().err


def test_plot_and_pictures(here, run):
    for command in ("plot", "reconstruct", "interpolate"):
        assert main([command, str(here / run)]) == 0
    figures = {path.name for path in (here / run / "figures").iterdir()}
    pictures = {"reconstructions.png", "interpolations.png", "samples.png"}
    assert figures >= {"training.png", "codes.png"}
    assert (figures >= pictures) == run.startswith("images")


def test_check(here, run, capsys):
    assert main(["check", str(here / run), "--only", "trace-elbo", "--seed", "1"]) == 0
    assert "1 passed" in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_data_given_anew(here, kind, capsys, tmp_path):
    """The data of a run in another place: the same figures, and the run folder stays as it is."""
    source = here / SOURCES[kind]
    moved = tmp_path / source.name
    moved.symlink_to(source, target_is_directory=source.is_dir())
    run = str(here / f"{kind}-python")
    assert main(["evaluate", run]) == 0
    before = re.search(r"test elbo (\S+)", capsys.readouterr().out)[1]
    assert main(["evaluate", run, "--data", str(moved)]) == 0
    assert re.search(r"test elbo (\S+)", capsys.readouterr().out)[1] == before
    for command in ("check", "reconstruct", "interpolate", "plot"):
        options = ["--only", "trace-elbo"] if command == "check" else []
        assert main([command, run, "--data", str(moved), *options]) == 0


def test_resume(here, run, tmp_path):
    """A run goes on with the data, the standardisation and the options that it has."""
    copy = tmp_path / run
    shutil.copytree(here / run, copy)
    described = (copy / "data.json").read_text()
    assert main(["train", "--resume", str(copy), "--epochs", "3"]) == 0
    assert len((copy / "history.jsonl").read_text().splitlines()) == 3
    assert (copy / "data.json").read_text() == described
    assert main(["evaluate", str(copy)]) == 0


def test_config(here, run, tmp_path):
    """The same options again give a run of the same data in the same form."""
    assert main(["train", "--config", str(here / run / "config.yaml"), "--out", str(tmp_path / "again")]) == 0
    again, before = (json.loads((folder / "data.json").read_text()) for folder in (tmp_path / "again", here / run))
    assert again == before


def test_compare(here):
    runs = [str(here / f"{kind}-{made}") for kind in KINDS for made in ("command", "python")]
    assert main(["compare", *runs, "--out", "table.json"]) == 0
    rows = json.loads(Path("table.json").read_text())
    assert [row["run"] for row in rows] == runs


@pytest.mark.slow
def test_sweep(here, tmp_path):
    words = ["--data", str(here / "table.csv"), *WORDS["table"], *SMALL, "--epochs", "1"]
    assert main(["sweep", str(tmp_path / "s"), "latent_dim=1,2", *words]) == 0
    swept = sorted(path.parent for path in (tmp_path / "s").glob("*/config.yaml"))
    assert [yaml.safe_load((path / "config.yaml").read_text())["label"] for path in swept] == ["kind", "kind"]


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_codes_and_scores_of_images_name_the_files(here, tmp_path):
    """In the order of the folder, without those that cannot be read."""
    shutil.copytree(here / "photos", tmp_path / "photos")
    (tmp_path / "photos" / "dark" / "1.png").write_bytes(b"")
    source = f"{tmp_path}/photos"
    words = ["--data", source, *WORDS["images"], *SMALL, "--skip_bad", "true", "--out", "r"]
    assert main(["train", *words]) == 0
    with open(tmp_path / "photos" / "dark" / "1.png", "rb") as file:
        assert not file.read()
    assert main(["encode", "r", "--out", "codes.csv"]) == 0
    assert main(["encode", "r", "--split", "test", "--out", "test.csv"]) == 0
    assert main(["score", "r", source, "--out", "scores.csv"]) == 0
    assert main(["score", "r", "--out", "test-scores.csv"]) == 0
    kept = [f"{kind}/{i}.png" for kind in ("dark", "light") for i in sorted(range(60), key=str)]
    kept.remove("dark/1.png")
    codes, scores, tests, test_scores = map(rows_of, ("codes.csv", "scores.csv", "test.csv", "test-scores.csv"))
    assert [row["file"] for row in codes] == [row["file"] for row in scores] == kept
    of_all = {row["file"]: row for row in codes}
    assert 0 < len(tests) < len(kept)
    for row in tests:  # each name stands beside the codes of this file
        assert row["label"] == row["file"].partition("/")[0]
        assert float(row["z0"]) == pytest.approx(float(of_all[row["file"]]["z0"]), rel=1e-5, abs=1e-6)
    assert [row["file"] for row in test_scores] == [row["file"] for row in tests]


def test_a_tensor_has_no_name(here, capsys, tmp_path):
    run = str(here / "tensor")
    commands = ("evaluate", "reconstruct", "interpolate", "plot", "check", "encode", "impute", "score")
    again = (["train", "--resume", run], ["train", "--config", f"{run}/config.yaml"])
    for words in (*([command, run] for command in commands), *again):
        assert main(words) == 2
        said = "was trained from Python on data without a name. Name a file with them: --data FILE"
        assert said in capsys.readouterr().err
    for command in ("evaluate", "reconstruct", "interpolate", "plot"):
        assert main([command, run, "--data", str(here / "tensor.npy")]) == 0
    rows = data.load(here / "tensor.npy").everything
    expected = average_elbo(load(run), rows, num_particles=1, kl="sampled", seed=0)
    assert main(["evaluate", run, "--data", str(here / "tensor.npy")]) == 0
    assert f"tensor.npy elbo {expected.elbo:.2f}" in capsys.readouterr().out  # as they are in the file


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_other_data_are_evaluated_and_drawn(here, kind, capsys, tmp_path):
    """The run has seen none of them; --split takes a part."""
    source, other = here / SOURCES[kind], tmp_path / SOURCES[kind]
    (shutil.copytree if source.is_dir() else shutil.copy)(source, other)
    if kind == "images":
        (other / "dark" / "0.png").unlink()
    elif kind == "table":
        names, *rows = other.read_text().splitlines(keepends=True)
        other.write_text("".join([names, *rows[20:]]))
    elif kind == "counts":
        sparse.save_npz(other, sparse.load_npz(other)[20:])
    else:
        np.save(other, np.load(other)[20:])
    run, options = str(here / f"{kind}-python"), READING.get(kind, {})
    found = data.load(other, **options)
    assert main(["evaluate", run, "--data", str(other)]) == 0
    said = capsys.readouterr().out
    assert f"{other} elbo" in said
    assert f"; {len(found.everything):,} {found.train.noun}s)" in said
    assert main(["evaluate", run, "--data", str(other), "--split", "test"]) == 0
    said = capsys.readouterr().out
    assert "test elbo" in said
    assert f"; {len(found.test):,} {found.train.noun}s)" in said
    assert main(["reconstruct", run, "--data", str(other), "--out", "all.npy"]) == 0
    assert len(np.load("all.npy")) == (16 if kind == "images" else len(found.everything))
