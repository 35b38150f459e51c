"""encode, impute, score and sample on data of one's own, and what a run says of other data."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from scipy import sparse

from pyro_vae import data, load
from pyro_vae.checkpoints import read_description
from pyro_vae.cli import main
from pyro_vae.cli.arguments import normalised
from pyro_vae.cli.rows import shares

QUICK = ["--hidden", "[16]", "--epochs", "80", "--lr", "0.01", "--latent_dim", "2"]
GAPS = 0.2


def write_arrays(path, n=400, seed=0, names=("ash", "birch", "fir"), width=4):
    """Rows of three classes around three means, a fifth of the values missing, in units far from 1."""
    generator = np.random.default_rng(seed)
    classes = generator.integers(0, len(names), n)
    x = (classes[:, None] + generator.normal(size=(n, width)) / 4) * np.array([1, 10, 100, 1000])[:width] + 50
    x[generator.random(x.shape) < GAPS] = np.nan
    np.savez(path, x=x, y=np.array(names)[classes])
    return x, classes


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on rows with gaps, one with labels as context, and one on images."""
    here = tmp_path_factory.mktemp("rows")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        write_arrays(here / "trees.npz")
        assert main(["train", "--data", "trees.npz", *QUICK]) == 0
        assert main(["train", "--data", "trees.npz", *QUICK, "--labels", "true", "--out", "labels"]) == 0
    return here


@pytest.fixture
def here(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return trained


def read(path):
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in rows[0]}


def numbers(table, names):
    return np.array([[float(value) for value in table[name]] for name in names]).T


def prepared(here):
    """The data as the VAE of the run sees them, in the order of the file."""
    described = read_description(here / "runs/trees-1")
    rows = data.load(here / "trees.npz").everything.standardised(*described.moments)
    return rows.x(slice(None), torch.float32)


def test_what_is_printed_and_kept(here, capsys):
    assert main(["train", "--data", "trees.npz", *QUICK, "--epochs", "1", "--out", "printed"]) == 0
    out = capsys.readouterr().out
    found = data.load("trees.npz")
    assert (
        f"trees.npz: {len(found.train)} rows of 4 to train on, real numbers, standardised, some missing; 1 epoch" in out
    )
    assert "nats per row (recon" in out
    described = json.loads((here / "printed/data.json").read_text())
    values = found.train.values
    assert described["loc"] == pytest.approx(values.nanmean(0).tolist(), rel=1e-12)
    assert described["scale"] == pytest.approx(np.nanstd(values.numpy(), 0).tolist(), rel=1e-12)
    assert described["class_names"] == ["ash", "birch", "fir"]


def test_codes_are_those_of_the_vae_in_the_order_of_the_file(here, capsys):
    assert main(["encode", "runs/trees-1", "--out", "codes.csv"]) == 0
    assert "codes of 400 rows: 2 means, then 2 standard deviations" in capsys.readouterr().out
    vae, x = load("runs/trees-1"), prepared(here)
    table = read("codes.csv")
    with torch.no_grad():
        q = vae.encode(x)
    np.testing.assert_allclose(numbers(table, ["z0", "z1"]), q.mean.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(numbers(table, ["sd0", "sd1"]), q.stddev.numpy(), rtol=1e-5)
    assert table["label"] == np.load("trees.npz")["y"].tolist()
    assert main(["encode", "runs/trees-1", "trees.npz", "--out", "codes.npy"]) == 0
    np.testing.assert_allclose(np.load("codes.npy"), torch.cat([q.mean, q.stddev], 1).numpy(), rtol=1e-5, atol=1e-6)


def test_one_split_alone(here):
    assert main(["encode", "runs/trees-1", "--split", "test", "--out", "test.npy"]) == 0
    assert len(np.load("test.npy")) == len(data.load("trees.npz").test)


def test_imputed_values_are_the_vaes_and_the_others_stay(here, capsys):
    given = np.load("trees.npz")["x"]
    assert main(["impute", "runs/trees-1", "--out", "filled.npy", "--num_particles", "20"]) == 0
    missing = np.isnan(given)
    assert f"{missing.sum()} missing values of 400 rows are filled in" in capsys.readouterr().out
    filled = np.load("filled.npy")
    assert np.array_equal(filled[~missing], given[~missing])
    assert np.isfinite(filled).all()
    # A row that is near its class's mean is filled with about that mean: nearer than the mean of all.
    _, classes = write_arrays(here / "again.npz")
    whole = (classes[:, None]) * np.array([1, 10, 100, 1000]) + 50
    scale = np.array([1, 10, 100, 1000])
    error = ((filled - whole) / scale)[missing]
    of_means = ((np.nanmean(given, 0) - whole) / scale)[missing]
    assert np.abs(error).mean() < 0.8 * np.abs(of_means).mean()


def test_samples_are_rows_in_the_units_of_the_data(here):
    assert main(["sample", "runs/trees-1", "--n", "500", "--out", "rows.csv"]) == 0
    drawn = numbers(read("rows.csv"), ["x0", "x1", "x2", "x3"])
    given = np.load("trees.npz")["x"]
    assert drawn.shape == (500, 4)
    spread = np.nanstd(given, 0)
    assert (np.abs(drawn.mean(0) - np.nanmean(given, 0)) < 0.5 * spread).all()
    assert ((drawn.std(0) > 0.5 * spread) & (drawn.std(0) < 1.5 * spread)).all()


def test_samples_of_one_class(here, capsys):
    assert main(["sample", "labels", "--n", "300", "--label", "fir", "--out", "fir.npy"]) == 0
    assert main(["sample", "labels", "--n", "300", "--label", "ash", "--out", "ash.npy"]) == 0
    means = [np.load(f"{name}.npy")[:, 3].mean() for name in ("ash", "fir")]
    assert means[1] > means[0] + 500  # 1,000 in truth
    assert main(["sample", "labels", "--label", "oak"]) == 2
    assert "label must be one of ash, birch, fir; got 'oak'" in capsys.readouterr().err
    assert main(["sample", "labels", "--label", "brich"]) == 2
    assert "got 'brich'. Did you mean birch?" in capsys.readouterr().err
    assert main(["sample", "runs/trees-1", "--label", "fir"]) == 2
    assert "was trained without labels" in capsys.readouterr().err


def test_a_table_of_samples_has_their_classes(here):
    assert main(["sample", "labels", "--n", "4", "--out", "each.csv"]) == 0
    assert read("each.csv")["label"] == ["ash", "birch", "fir", "ash"]
    assert main(["sample", "labels", "--n", "2", "--label", "fir", "--out", "firs.csv"]) == 0
    assert read("firs.csv")["label"] == ["fir", "fir"]
    assert main(["sample", "runs/trees-1", "--n", "2", "--out", "none.csv"]) == 0
    assert list(read("none.csv")) == ["x0", "x1", "x2", "x3"]


def test_the_data_stand_anywhere_or_behind_their_option(here):
    commands = (["runs/trees-1", "trees.npz", "--out", "a.npy"], ["runs/trees-1", "--out", "a.npy", "trees.npz"])
    commands += (["--data=trees.npz", "--out", "a.npy", "runs/trees-1"], ["runs/trees-1", "--out=a.npy"])
    given = [normalised(["encode", *words]) for words in commands]
    assert given[:3] == [
        ["encode", "runs/trees-1", "trees.npz", "--out", "a.npy"],
        ["encode", "runs/trees-1", "trees.npz", "--out", "a.npy"],
        ["encode", "runs/trees-1", "trees.npz", "--out", "a.npy"],
    ]
    assert given[3] == ["encode", "runs/trees-1", "--out=a.npy"]


def test_scores_rank_among_the_validation_rows(here, capsys):
    assert main(["score", "runs/trees-1", "--flag", "0.1", "--out", "scores.csv"]) == 0
    found = data.load("trees.npz")
    table = read("scores.csv")
    share, flagged = (np.array(table[name], float) for name in ("share", "flagged"))
    assert len(share) == len(found.test)
    assert np.array_equal(flagged, share <= 0.1)
    said = capsys.readouterr()
    assert f"{int(flagged.sum())} of {len(share)} rows are flagged" in said.out
    assert said.err.count("Pareto") <= 1


def test_anomalies_are_flagged(here):
    x, _ = write_arrays(here / "strange.npz", n=50, seed=1)
    np.savez(here / "strange.npz", x=np.nan_to_num(x[:, ::-1], nan=-5000.0))  # columns turned round: other units
    assert main(["score", "runs/trees-1", "strange.npz", "--flag", "0.05", "--out", "strange.npy"]) == 0
    _, share, flagged = np.load("strange.npy").T
    assert flagged.mean() == 1
    assert share.max() == 1 / (len(data.load("trees.npz").valid) + 1)


def test_a_share_is_a_valid_p_value():
    """The rate of shares up to α is at most α: 2,000 tests, one false alarm in 30,000 (four standard errors)."""
    generator = torch.Generator().manual_seed(0)
    for n, alpha in ((19, 0.05), (99, 0.05), (200, 0.1)):
        values = torch.randn(2000, n + 1, generator=generator, dtype=torch.float64)
        found = torch.stack([shares(row[:1], row[1:])[0] for row in values])
        exact = int(alpha * (n + 1)) / (n + 1)
        rate = (found <= alpha).double().mean().item()
        assert abs(rate - exact) < 4 * (exact * (1 - exact) / 2000) ** 0.5


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("0.001", "flag: a rate of 0.001 needs at least 999 validation rows; the run has"),
        ("0", "flag must be a rate of false alarms between 0 and 1"),
        ("1.5", "flag must be a rate of false alarms between 0 and 1"),
    ],
)
def test_a_rate_that_cannot_be_had_is_refused(here, capsys, flag, message):
    assert main(["score", "runs/trees-1", "--flag", flag]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            ["encode", "runs/trees-1", "--out", "codes.txt"],
            "out must end in .npy (an array), .csv (a table) or .parquet",
        ),
        (["impute", "runs/trees-1", "--out", "x.png"], "out must end in .csv (a table), .parquet (a table) or .npy"),
        (["encode", "runs/trees-1", "wide.npy"], "was trained on rows of shape (4,); wide.npy has (7,)"),
        (["encode", "runs/trees-1", "none.npy"], "there is no file or folder none.npy"),
        (["evaluate", "runs/trees-1", "--data", "wide.npy"], "was trained on rows of shape (4,); wide.npy has (7,)"),
        (["encode", "labels", "strangers.npz"], "strangers.npz has labels that the training data lack: oak"),
    ],
)
def test_what_does_not_fit_the_run_is_refused(here, capsys, command, message):
    np.save("wide.npy", np.zeros((100, 7)) + np.arange(100)[:, None])
    write_arrays(here / "strangers.npz", n=30, names=("ash", "oak"))
    assert main(command) == 2
    assert message in capsys.readouterr().err


def test_labels_of_other_data_keep_the_codes_of_the_training(here):
    """Data in which a class is missing have other codes of their own."""
    x, classes = write_arrays(here / "all.npz", n=60, seed=3)
    names = np.array(["ash", "birch", "fir"])[classes]
    np.savez("some.npz", x=x[classes > 0], y=names[classes > 0])
    assert main(["encode", "labels", "all.npz", "--out", "all.npy"]) == 0
    assert main(["encode", "labels", "some.npz", "--out", "some.npy"]) == 0
    np.testing.assert_allclose(np.load("some.npy"), np.load("all.npy")[classes > 0], rtol=1e-5, atol=1e-6)


def test_data_that_have_changed_are_told_and_not_trained_on_further(here, capsys):
    shutil.copy("trees.npz", "changing.npz")
    assert main(["train", "--data", "changing.npz", *QUICK, "--epochs", "1", "--out", "changed"]) == 0
    write_arrays(here / "changing.npz", n=300, seed=5)
    capsys.readouterr()
    assert main(["evaluate", "changed"]) == 0
    assert "changing.npz has changed since changed was trained on it" in capsys.readouterr().err
    assert main(["train", "--resume", "changed", "--epochs", "2"]) == 2
    assert "was trained on other data" in capsys.readouterr().err


def test_a_damaged_description_is_refused(here, capsys):
    shutil.copytree("runs/trees-1", "damaged")
    path = here / "damaged/data.json"
    good = json.loads(path.read_text())
    for change in ({"event_shape": "4"}, {"loc": ["a"]}, {"scale": [float("nan")] * 4}, {"examples": 0}):
        path.write_text(json.dumps({**good, **change}))
        assert main(["encode", "damaged"]) == 1
        assert "data.json is damaged" in capsys.readouterr().err


def test_data_and_suggest_show_what_is_there(here, capsys):
    assert main(["data", "trees.npz"]) == 0
    out = capsys.readouterr().out
    assert "trees.npz: x (4,), real numbers, some missing; 3 classes" in out
    for name, count in zip(*np.unique(np.load("trees.npz")["y"], return_counts=True), strict=True):
        assert any(line.split() == [name, str(count)] for line in out.splitlines())
    assert main(["suggest", "trees.npz"]) == 0
    assert "Normal: columns of reals" in capsys.readouterr().out
    assert main(["data", "trees.npz", "--size", "3"]) == 2
    assert "size is for images; trees.npz holds arrays" in capsys.readouterr().err


def test_suggest_repeats_the_options_that_train_needs_too(here, capsys):
    assert main(["suggest", "trees.npz", "--split", "0.5,0.3,0.2"]) == 0
    assert "pyro-vae train --data trees.npz --split 0.5,0.3,0.2 chooses the first" in capsys.readouterr().out


@pytest.mark.usefixtures("without_pictures")
def test_rates_need_validation_rows_that_the_run_has_not_seen(here, capsys):
    for name, options in {"seen": ["--validate", "false"], "none": ["--split", "1,0,0"]}.items():
        assert main(["train", "--data", "trees.npz", *QUICK, "--epochs", "1", *options, "--out", name]) == 0
    capsys.readouterr()
    assert main(["score", "seen", "--flag", "0.1", "--out", "scores.csv"]) == 2
    said = capsys.readouterr().err
    assert "--flag: seen was trained on its validation rows too (validate: false), which are more likely" in said
    assert main(["score", "seen", "--out", "scores.csv"]) == 0
    assert "the shares of new rows are too small" in capsys.readouterr().err
    assert main(["score", "none", "trees.npz", "--out", "scores.csv"]) == 2
    assert "none has no validation rows for scores to rank among: its shares leave none" in capsys.readouterr().err
    assert main(["encode", "none", "--split", "test"]) == 2
    assert "trees.npz has no rows for test: its shares leave none" in capsys.readouterr().err


@pytest.mark.usefixtures("without_pictures")
def test_a_column_of_x_may_be_called_label(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    with open("a.csv", "w") as file:
        file.write("label,b,kind\n")
        file.writelines(f"{'' if i % 9 == 0 else i % 7},{generator.normal():.3f},{'pq'[i % 2]}\n" for i in range(120))
    assert main(["train", "--data", "a.csv", "--label", "kind", *QUICK, "--epochs", "1", "--out", "run"]) == 0
    assert main(["impute", "run", "--out", "b.csv"]) == 0
    given, filled = read("a.csv"), read("b.csv")
    assert [float(b) for a, b in zip(given["label"], filled["label"], strict=True) if a] == [
        float(a) for a in given["label"] if a
    ]
    assert filled["kind"] == given["kind"]


@pytest.mark.usefixtures("without_pictures")
def test_data_of_another_kind_are_not_taken_on_another_scale(here, tmp_path, capsys):
    generator = np.random.default_rng(0)
    counts = generator.poisson(2, (80, 4)) + 1
    sparse.save_npz(tmp_path / "counts.npz", sparse.csr_array(counts))
    np.save(tmp_path / "dense.npy", counts)
    np.save(tmp_path / "real.npy", generator.normal(size=(80, 4)))
    capsys.readouterr()
    assert main(["score", "runs/trees-1", str(tmp_path / "counts.npz"), "--out", "scores.csv"]) == 2
    assert "trained on rows of numbers; " in (said := capsys.readouterr().err)
    assert "counts.npz holds sparse counts" in said
    words = ["--data", str(tmp_path / "counts.npz"), *QUICK, "--epochs", "1", "--out", "counted"]
    assert main(["train", *words]) == 0
    for name in ("counts.npz", "dense.npy"):
        assert main(["encode", "counted", str(tmp_path / name), "--out", f"{name}.npy"]) == 0
    assert np.array_equal(np.load("counts.npz.npy"), np.load("dense.npy.npy"))
    capsys.readouterr()
    assert main(["encode", "counted", str(tmp_path / "real.npy")]) == 2
    assert "must hold counts, whole numbers from 0 to 2^53; row 0" in capsys.readouterr().err


def test_labels_that_a_run_needs(here, tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.load("trees.npz")["x"])
    assert main(["encode", "labels", str(tmp_path / "x.npy")]) == 2
    assert "x.npy has no labels to give to the VAE" in capsys.readouterr().err
