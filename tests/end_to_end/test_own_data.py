"""Data of one's own of each kind, by commands alone, from a file to samples, reconstructions, codes and an evaluation.

What the commands write is what the VAE of the run gives, in Python, on the splits of ``data.load``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import torch
from PIL import Image
from scipy import sparse
from sklearn.datasets import load_wine
from torchvision.transforms import functional

from pyro_vae import VAE, average_elbo, data, load
from pyro_vae.checkpoints import read_config
from pyro_vae.cli import main
from tests.data.test_elsewhere import fake_cifar, table_of, write_hugging_face
from tests.end_to_end import own_data

QUICK = ["--hidden", "[16]", "--latent_dim", "2", "--epochs", "60", "--lr", "0.01"]
DRAWN, SHOWN = 500, 8


@dataclass(frozen=True)
class Walk:
    """What the commands have written about a run."""

    vae: VAE
    config: dict[str, Any]
    samples: np.ndarray
    reconstructions: np.ndarray
    codes: np.ndarray
    evaluation: dict[str, Any]


def walk(run, source, *options, allow=(), length=QUICK):
    """Train on a source, in the current folder, and run each command on the run."""
    assert main(["train", "--data", source, *options, *length, "--out", run]) == 0
    for command in (
        ["sample", run, "--n", str(DRAWN), "--out", f"{run}/samples.npy"],
        ["reconstruct", run, "--n", str(SHOWN), "--out", f"{run}/reconstructions.npy"],
        ["encode", run, "--out", f"{run}/codes.npy"],
        ["evaluate", run],
    ):
        assert main([*command, *(() if command[0] == "sample" else allow)]) == 0
    with open(f"{run}/evaluation-test.json") as file:
        evaluation = json.load(file)
    arrays = {name: np.load(f"{run}/{name}.npy") for name in ("samples", "reconstructions", "codes")}
    return Walk(load(run), read_config(Path(run)), evaluation=evaluation, **arrays)


def check(found, test, x, *context):
    """Compare with the VAE itself.

    Args:
        found: the walk.
        test: the test split, as the VAE sees it.
        x: all examples as the VAE sees them, in the order of the source.
        context: of them.
    """
    elbo = average_elbo(found.vae, test)
    assert found.evaluation["elbo"]["elbo"] == elbo.elbo
    assert found.evaluation["elbo"]["standard_error"] == elbo.standard_error
    assert found.evaluation["elbo"]["examples"] == len(test)
    with torch.no_grad():
        q = found.vae.encode(x, *context)
    codes = torch.cat([q.mean, q.stddev], 1)
    torch.testing.assert_close(torch.from_numpy(found.codes), codes, rtol=1e-5, atol=1e-5, check_dtype=False)
    first, *of_first = next(iter(data.batches(test[:SHOWN], SHOWN)))
    decoded = test.to_units(found.vae.reconstruct(first, *of_first).double())
    np.testing.assert_allclose(found.reconstructions, decoded.numpy(), rtol=1e-5, atol=1e-5)


def standardised(dataset):
    """The test rows, and all rows in the order of the source, with moments of the training rows by NumPy."""
    values = dataset.train.values.double().numpy()
    loc, scale = torch.from_numpy(np.nanmean(values, 0)), torch.from_numpy(np.nanstd(values, 0))
    test, everything = (split.standardised(loc, scale) for split in (dataset.test, dataset.everything))
    return test, everything.x(slice(None), torch.float32)


def check_units(samples, x, share=0.4):
    """Means and standard deviations of samples are near those of the data; by ``share`` of a standard deviation."""
    mean, spread = np.nanmean(x, 0), np.nanstd(x, 0)
    assert (np.abs(samples.mean(0) - mean) < share * spread).all()
    assert (np.abs(samples.std(0) / spread - 1) < share).all()


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder for the files and runs of all tests, which is the current one; train draws no pictures."""
    folder = tmp_path_factory.mktemp("own_data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("pyro_vae.cli.pictures.draw_run", lambda run, vae, dataset: None)  # slow, and tested in tests/cli
        yield folder


@pytest.fixture(scope="module")
def shapes(here):
    own_data.write_shapes(here / "shapes")
    return walk("of_shapes", "shapes", "--size", "16", "--skip_bad", "true", "--labels", "true")


def shapes_by_hand(folder):
    """The pixels of all shapes as torchvision resizes them on white, in the order of ImageFolder, and their classes."""
    pixels, labels = [], []
    for path in sorted(folder.glob("*/[0-9]*.png")):
        image = own_data.on("white", Image.open(path).convert("RGBA")).convert("RGB")
        image = functional.center_crop(functional.resize(image, 16), 16)
        pixels.append(functional.pil_to_tensor(image))
        labels.append(list(own_data.COLOURS).index(path.parent.name))
    return torch.stack(pixels), torch.tensor(labels)


def test_a_folder_with_bad_files_says_what_to_do(here, shapes, capsys):
    assert main(["train", "--data", "shapes", "--out", "none"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "the images differ in size (height x width): 360 of 16x16 and 40 of 20x24" in said
    assert main(["train", "--data", "shapes", "--size", "16", "--out", "none"]) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert "3 of 403 files" in said
    assert all(f"{name} ({why}" in said for name, why in own_data.BAD.items())
    assert not (here / "none").exists()


def test_a_folder_of_images(here, shapes):
    pixels, labels = shapes_by_hand(here / "shapes")
    found = data.load("shapes", size=16, skip_bad=True, labels=True)
    assert found.train.class_names == tuple(own_data.COLOURS)
    assert torch.equal(found.everything.pixels, pixels)
    assert torch.equal(found.everything.labels, labels)
    assert any(all(name in note for name in own_data.BAD) for note in found.notes)
    assert shapes.config["likelihood"] == {"class": "DiscretizedLogistic", "levels": 256}
    check(shapes, found.test, pixels.float() / 255, torch.nn.functional.one_hot(labels, 3).float())
    assert shapes.samples.shape == (DRAWN, 3, 16, 16)
    assert 0 <= shapes.samples.min() < shapes.samples.max() <= 1


@pytest.mark.parametrize("kind", own_data.COLOURS)
def test_samples_of_a_class_have_its_colour(here, shapes, kind):
    assert main(["sample", "of_shapes", "--label", kind, "--n", "50", "--out", "shapes.npy"]) == 0
    middle = np.load("shapes.npy")[:, :, 7:9, 7:9].mean((0, 2, 3)) * 255
    given = data.load("shapes", size=16, skip_bad=True).train
    mine = given.pixels[given.labels == given.class_names.index(kind), :, 7:9, 7:9].double().mean((0, 2, 3))
    np.testing.assert_allclose(middle, mine, atol=40)
    assert middle.argmax() == np.argmax(own_data.COLOURS[kind])


TABLES = {
    "people.csv": lambda table, path: table.to_csv(path, index=False),
    "people.tsv": lambda table, path: table.to_csv(path, index=False, sep="\t"),
    "people.parquet": lambda table, path: table.to_parquet(path, index=False),
}


@pytest.fixture(scope="module")
def tables(here):
    for name, write in TABLES.items():
        write(own_data.make_table(), here / name)
    return {name: walk(f"of_{name}", name) for name in TABLES}


def test_a_table_with_gaps(tables):
    table = own_data.make_table()
    assert 0.15 < table.isna().to_numpy().mean() < 0.25
    found, of = data.load("people.csv"), tables["people.csv"]
    np.testing.assert_array_equal(found.everything.values.numpy(), table.to_numpy())
    likelihood = of.config["likelihood"]["columns"]
    moments = {name: likelihood[name] for name in ("height", "income")}
    assert all((of["class"], of["likelihood"]) == ("Standardized", "Normal") for of in moments.values())
    assert likelihood["visits"]["class"] == "Poisson"
    for name, of_column in moments.items():
        column = found.train.values[:, found.train.columns.index(name)]
        expected = (column.nanmean().item(), np.nanstd(column))
        assert (of_column["loc"], of_column["scale"]) == pytest.approx(expected)
    check(of, found.test, found.everything.values.float())
    check_units(of.samples, table.to_numpy())
    assert (of.samples[:, 2] == of.samples[:, 2].round()).all()


def test_a_table_is_the_same_in_each_kind_of_file(tables):
    first = data.load("people.csv")
    for name, of in tables.items():
        for split in ("train", "valid", "test"):
            ours, theirs = getattr(data.load(name), split), getattr(first, split)
            np.testing.assert_array_equal(ours.values.numpy(), theirs.values.numpy())
            assert ours.columns == theirs.columns
        assert of.evaluation["elbo"] == tables["people.csv"].evaluation["elbo"]
        np.testing.assert_array_equal(of.codes, tables["people.csv"].codes)


def write_h5(x, path):
    with h5py.File(path, "w") as file:
        file["x"] = x


ARRAYS = {
    "floats.npy": lambda x, path: np.save(path, x),
    "floats.npz": lambda x, path: np.savez(path, x=x),
    "floats.safetensors": lambda x, path: safetensors.numpy.save_file({"x": x}, path),
    "floats.h5": write_h5,
}


@pytest.fixture(scope="module")
def arrays(here):
    for name, write in ARRAYS.items():
        write(own_data.make_floats(), here / name)
    return {name: walk(f"of_{name}", name, length=[*QUICK, "--epochs", "20"]) for name in ARRAYS}


def test_an_array(arrays):
    x, found, of = own_data.make_floats(), data.load("floats.npy"), arrays["floats.npy"]
    np.testing.assert_array_equal(found.everything.values.numpy(), x)
    assert of.config["likelihood"] == {"class": "Normal"}
    check(of, *standardised(found))
    check_units(of.samples, x)


def test_an_array_is_the_same_in_each_kind_of_file(arrays):
    first = data.load("floats.npy")
    for name, of in arrays.items():
        for split in ("train", "valid", "test"):
            assert torch.equal(getattr(data.load(name), split).values, getattr(first, split).values)
        assert of.evaluation["elbo"] == arrays["floats.npy"].evaluation["elbo"]
        np.testing.assert_array_equal(of.codes, arrays["floats.npy"].codes)


@pytest.fixture(scope="module")
def counts(here):
    matrix = own_data.make_counts()
    sparse.save_npz(here / "cells.npz", matrix)
    anndata.AnnData(matrix).write_h5ad(here / "cells.h5ad")
    return {name: walk(f"of_{name}", name) for name in ("cells.npz", "cells.h5ad")}


@pytest.mark.parametrize("name", ["cells.npz", "cells.h5ad"])
def test_sparse_counts(counts, name):
    dense, found, of = own_data.make_counts().toarray(), data.load(name), counts[name]
    np.testing.assert_array_equal(found.everything.matrix.toarray(), dense)
    assert of.config["likelihood"]["library"]
    assert of.config["inputs"] == "log1p"
    x = torch.from_numpy(dense)
    check(of, found.test, x, x.double().sum(1, keepdim=True).log().float())
    assert of.evaluation["elbo"] == counts["cells.npz"].evaluation["elbo"]
    # Whole numbers, with the library sizes of the training rows.
    assert (of.samples == of.samples.round()).all()
    assert of.samples.min() == 0
    totals, of_samples = dense.sum(1), of.samples.sum(1)
    assert abs(of_samples.mean() / totals.mean() - 1) < 0.2
    np.testing.assert_allclose(np.quantile(of_samples, [0.1, 0.9]), np.quantile(totals, [0.1, 0.9]), rtol=0.35)


@pytest.mark.parametrize(("source", "what"), [("cells.npz", "counts"), ("digits", "images")])
def test_counts_and_images_are_not_standardised(counts, capsys, source, what):
    assert main(["train", "--data", source, "--standardize", "true", "--out", "none"]) == 2
    said = capsys.readouterr().err
    assert "standardize is for tables and arrays; " in said
    assert f"{source} holds {what}" in said


def test_a_function(here, capsys):
    (here / "mine.py").write_text(own_data.FUNCTION)
    of = walk("of_function", "mine.py:make", "--labels", "true", allow=["--allow", "mine.py"])
    found = data.load("mine.py:make", labels=True)
    test, x = standardised(found)
    assert torch.equal(found.everything.labels, torch.arange(400) % 2)
    check(of, test, x, torch.nn.functional.one_hot(found.everything.labels, 2).float())
    for label in (0, 1):
        given = found.train.values[found.train.labels == label].numpy()
        assert main(["sample", "of_function", "--label", str(label), "--n", "500", "--out", "class.npy"]) == 0
        check_units(np.load("class.npy"), given)
    capsys.readouterr()
    assert main(["evaluate", "of_function"]) == 2
    assert "mine.py is imported only if this call names it" in capsys.readouterr().err


def test_a_data_set_of_scikit_learn(here):
    of, found, wine = walk("of_wine", "sklearn:wine"), data.load("sklearn:wine"), load_wine()
    np.testing.assert_array_equal(found.everything.values.numpy(), wine.data)
    np.testing.assert_array_equal(found.everything.labels.numpy(), wine.target)
    check(of, *standardised(found))
    check_units(of.samples, wine.data)
    assert main(["sample", "of_wine", "--out", "wine.csv"]) == 0
    assert list(pd.read_csv("wine.csv").columns) == wine.feature_names
    assert of.evaluation["probe"] is not None


def test_a_data_set_of_torchvision(here, monkeypatch):
    pixels, labels, _ = fake_cifar(here / "root", monkeypatch)
    monkeypatch.setenv("PYRO_VAE_DATA", str(here / "root"))
    of = walk("of_cifar", "torchvision:CIFAR10", "--size", "8", "--labels", "true")
    found = data.load("torchvision:CIFAR10", size=8, labels=True)
    assert found.everything.labels.tolist() == labels.reshape(-1).tolist()
    large = torch.from_numpy(pixels.reshape(-1, 3, 32, 32))
    x = functional.resize(large, 8, antialias=True).float() / 255
    assert (found.everything.x(slice(None), torch.float32) - x).abs().max() < 1.5 / 255  # roundings of PIL and of torch
    x = found.everything.x(slice(None), torch.float32)
    check(of, found.test, x, torch.nn.functional.one_hot(found.everything.labels, 10).float())


def test_a_table_of_hugging_face(here, monkeypatch):
    hugging_face = pytest.importorskip("datasets")
    monkeypatch.setattr(hugging_face.config, "HF_DATASETS_CACHE", here / "cache")
    source = write_hugging_face(here / "set", {"train": table_of(hugging_face, n=200)})
    of, found = walk("of_set", source, "--likelihood", "Normal"), data.load(source)
    np.testing.assert_array_equal(found.everything.values[:, 0].numpy(), np.arange(200))
    check(of, *standardised(found))
    check_units(of.samples, found.everything.values.numpy())


@pytest.mark.slow
def test_a_training_by_default_comes_near_the_true_density(here):
    """The ELBO of test rows is below their true log-density, and above that of independent columns."""
    x = own_data.make_floats()
    np.save(here / "normal.npy", x)
    of = walk("of_normal", "normal.npy", length=["--hidden", "[16]", "--latent_dim", "4"])
    found = data.load("normal.npy")
    test, train = (split.values.double().numpy() for split in (found.test, found.train))
    covariance = torch.from_numpy(own_data.WEIGHTS.T @ own_data.WEIGHTS + own_data.NOISE**2 * np.eye(50))
    truth = torch.distributions.MultivariateNormal(torch.full((50,), 7.0, dtype=torch.float64), covariance)
    # Standardised values have the density of x times the product of the standard deviations.
    units = np.log(train.std(0)).sum()
    exact = truth.log_prob(torch.from_numpy(test)).mean().item() + units
    independent = torch.distributions.Normal(torch.from_numpy(train.mean(0)), torch.from_numpy(train.std(0)))
    alone = independent.log_prob(torch.from_numpy(test)).sum(1).mean().item() + units
    elbo = of.evaluation["elbo"]["elbo"]
    assert alone + 20 < elbo < exact
    assert exact - elbo < 10
