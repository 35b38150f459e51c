"""Image data sets by name: splits, pixels, and files read in torchvision's layout."""

from __future__ import annotations

import dataclasses
import gzip
import struct

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_digits

from pyro_vae import data
from pyro_vae.data import DamagedDataError, DownloadError, Images


def write_idx(path, array, gz=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    codes = {np.dtype("uint8"): 8, np.dtype("int32"): 12}
    header = struct.pack(">HBB", 0, codes[array.dtype], array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    body = header + array.astype(array.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(gzip.compress(body) if gz else body)


def fake_mnist(folder, n_train=5010, n_test=30, name="MNIST"):
    """A few images in the files that torchvision keeps MNIST in; pixel (0, 0) and (0, 1) count them."""
    for part, n in (("train", n_train), ("t10k", n_test)):
        pixels = np.zeros((n, 28, 28), np.uint8)
        pixels[:, 0, 0], pixels[:, 0, 1] = np.arange(n) // 256, np.arange(n) % 256
        write_idx(folder / name / "raw" / f"{part}-images-idx3-ubyte", pixels)
        write_idx(folder / name / "raw" / f"{part}-labels-idx1-ubyte", (np.arange(n) % 10).astype(np.uint8))
    return folder


def test_digits_are_scikit_learns_in_three_disjoint_parts():
    digits = data.load("digits")
    assert [len(part) for part in (digits.train, digits.valid, digits.test)] == [1297, 200, 300]
    assert (digits.event_shape, digits.classes, digits.train.levels) == ((1, 8, 8), 10, 16)

    def rows(pixels, labels):
        return sorted(map(tuple, np.c_[pixels.reshape(len(pixels), -1), labels].astype(int).tolist()))

    parts = [rows(p.pixels.numpy(), p.labels.numpy()) for p in (digits.train, digits.valid, digits.test)]
    bunch = load_digits()
    assert sorted(row for part in parts for row in part) == rows(bunch.images, bunch.target)


def test_digits_are_the_same_each_time_and_mixed():
    a, b = data.load("digits"), data.load("digits")
    assert torch.equal(a.test.pixels, b.test.pixels)
    assert torch.bincount(a.test.labels).min() >= 20


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_torchvisions_sets_are_split_as_documented(tmp_path, name, folder):
    found = data.load(name, fake_mnist(tmp_path, name=folder))
    numbers = [p.pixels[:, 0, 0, 0].int() * 256 + p.pixels[:, 0, 0, 1] for p in (found.train, found.valid, found.test)]
    assert numbers[0].tolist() == list(range(10))
    assert numbers[1].tolist() == list(range(10, 5010))
    assert numbers[2].tolist() == list(range(30))
    assert found.event_shape == (1, 28, 28)
    assert found.train.pixels.dtype == torch.uint8
    assert found.test.labels.tolist() == [i % 10 for i in range(30)]


def test_qmnist_labels_are_classes(tmp_path):
    raw = tmp_path / "QMNIST" / "raw"
    for part, n in (("train", 5010), ("test", 20)):
        labels = np.zeros((n, 8), np.int32)
        labels[:, 0], labels[:, 1] = np.arange(n) % 10, 77
        write_idx(raw / f"qmnist-{part}-images-idx3-ubyte", np.zeros((n, 28, 28), np.uint8))
        write_idx(raw / f"qmnist-{part}-labels-idx2-int", labels)
    found = data.load("qmnist", tmp_path)
    assert found.test.labels.tolist() == [i % 10 for i in range(20)]
    assert found.classes == 10


def test_emnist_stands_upright(tmp_path):
    raw = tmp_path / "EMNIST" / "raw"
    for part, n in (("train", 5010), ("test", 20)):
        pixels = np.zeros((n, 28, 28), np.uint8)
        pixels[:, 3, 5] = 255  # row 3, column 5 of the file is row 5, column 3 of the image
        write_idx(raw / f"emnist-balanced-{part}-images-idx3-ubyte", pixels)
        write_idx(raw / f"emnist-balanced-{part}-labels-idx1-ubyte", (np.arange(n) % 47).astype(np.uint8))
    found = data.load("emnist", tmp_path)
    assert found.test.pixels[0, 0].nonzero().tolist() == [[5, 3]]
    assert found.classes == 47


def test_the_folder_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRO_VAE_DATA", str(fake_mnist(tmp_path)))
    assert len(data.load("mnist").test) == 30


def test_without_files_and_network_the_error_says_where_it_looked(tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(
        DownloadError, match=rf"MNIST is not in {tmp_path} and could not be downloaded .*no network"
    ) as e:
        data.load("mnist", tmp_path)
    assert '"digits" needs no files and no network' in str(e.value)
    assert "PYRO_VAE_DATA" in str(e.value)


def test_damaged_files_are_called_damaged(tmp_path):
    fake_mnist(tmp_path)
    path = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    for content in (path.read_bytes()[:5000], b""):
        path.write_bytes(content)
        with pytest.raises(
            DamagedDataError, match=rf"the files of MNIST in {tmp_path} cannot be read .*damaged or incomplete"
        ):
            data.load("mnist", tmp_path)


def test_every_data_set_has_its_line():
    assert list(data.DESCRIPTIONS) == list(data.NAMES)


def test_an_unknown_name_names_its_neighbour():
    with pytest.raises(ValueError, match=r"unknown data set 'mnits'; there are digits, .*Did you mean 'mnist'\?"):
        data.load("mnits")
    with pytest.raises(ValueError, match=r"unknown data set 'MNIST'.*Did you mean 'mnist'\?"):
        data.load("MNIST")
    with pytest.raises(ValueError, match="unknown data set 'xyz'; there are digits"):
        data.load("xyz")


# From grey levels to floats.

LEVELS = torch.arange(17, dtype=torch.uint8).reshape(17, 1, 1, 1)


def images(**options):
    return Images(LEVELS, torch.zeros(17, dtype=torch.long), 3, levels=16, **options)


def test_grey_values_are_levels_from_zero_to_one():
    assert images().to_x(LEVELS, torch.float64).flatten().tolist() == [i / 16 for i in range(17)]


def test_threshold_is_at_one_half():
    x = images(binarize="threshold").to_x(LEVELS, torch.float32).flatten()
    assert x.tolist() == [float(i >= 8) for i in range(17)]


@pytest.mark.parametrize("levels", [16, 255])
def test_dynamic_binarisation_has_the_grey_value_as_probability(levels):
    """z-scores of 40,000 draws a level; by chance above 5 once in 10⁵ seeds over all levels."""
    pixels = torch.arange(levels + 1, dtype=torch.uint8).repeat(40_000, 1)
    ours = Images(LEVELS, torch.zeros(17), 1, levels=levels, binarize="dynamic")
    x = ours.to_x(pixels, torch.float32, torch.Generator().manual_seed(0))
    p = torch.arange(levels + 1) / levels
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert (x[:, 0] == 0).all()
    assert (x[:, -1] == 1).all()
    scores = (x.mean(0) - p)[1:-1] / (p * (1 - p) / 40_000).sqrt()[1:-1]
    assert scores.abs().max() < 5
    assert scores.std() == pytest.approx(1, abs=0.35)


def test_dequantised_values_stay_in_their_level():
    pixels = LEVELS.repeat(1, 1, 1, 1000)
    x = images(dequantize=True).to_x(pixels, torch.float64, torch.Generator().manual_seed(0)) * 17
    assert torch.equal(x.floor(), pixels.double())
    assert (x - x.floor()).mean() == pytest.approx(0.5, abs=0.02)


def test_labels_become_one_hot_context():
    assert images().context(slice(2), torch.float32) == ()
    labelled = dataclasses.replace(images(with_labels=True), labels=torch.arange(17) % 3)
    (c,) = labelled.context(torch.tensor([0, 2]), torch.float64)
    assert c.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert c.dtype == torch.float64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"binarize": "sometimes"}, 'binarize must be "dynamic", "threshold" or None; got \'sometimes\''),
        ({"binarize": "dynamic", "dequantize": True}, "choose one of the two"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        data.load("digits", **options)


def test_labels_of_another_length_are_refused():
    with pytest.raises(ValueError, match="labels must have one entry per image: 17; got 3"):
        Images(LEVELS, torch.zeros(3), 1)


def test_training_and_validation_images_together():
    digits = data.load("digits", binarize="threshold", labels=True)
    both = digits.train_and_valid
    assert len(both) == 1497
    assert both.binarize == "threshold"
    assert both.with_labels
    for part, rows in ((digits.train, slice(0, 1297)), (digits.valid, slice(1297, 1497))):
        assert torch.equal(both.pixels[rows], part.pixels)
        assert torch.equal(both.labels[rows], part.labels)


def test_slices_keep_everything_else():
    digits = data.load("digits", binarize="dynamic", labels=True).train
    some = digits[torch.tensor([3, 1])]
    assert torch.equal(some.pixels, digits.pixels[[3, 1]])
    assert (some.binarize, some.with_labels, some.name, len(some)) == ("dynamic", True, "digits", 2)


def test_dequantised_pixels_lie_inside_the_unit_interval_and_in_their_level():
    """At the lowest and the highest level alike, where rounding could reach an end."""
    for levels in (16, 255):
        pixels = torch.tensor([0, levels], dtype=torch.uint8).repeat(500_000).reshape(-1, 1, 1, 1)
        images = data.Images(pixels, torch.zeros(len(pixels)), 1, levels=levels, dequantize=True)
        x = images.to_x(pixels, torch.float32, torch.Generator().manual_seed(0))
        assert x.min() > 0
        assert x.max() < 1
        assert torch.equal((x * (levels + 1)).floor(), pixels.float())


def test_dequantisation_noise_is_uniform():
    """Kolmogorov-Smirnov at level 1e-4 on a fixed seed."""
    pixels = torch.full((20_000, 1, 1, 1), 3, dtype=torch.uint8)
    images = data.Images(pixels, torch.zeros(len(pixels)), 1, levels=16, dequantize=True)
    noise = images.to_x(pixels, torch.float64, torch.Generator().manual_seed(0)) * 17 - 3
    assert stats.kstest(noise.flatten().numpy(), "uniform").pvalue > 1e-4


def test_integers_stay_as_they_are():
    digits = data.load("digits", integers=True)
    (x,) = next(iter(data.batches(digits.train, 50)))
    assert torch.equal(x, digits.train.pixels[:50].float())
    assert x.max() == 16


def test_integers_go_with_nothing_else():
    with pytest.raises(ValueError, match="integers keeps the levels as they are; it goes with neither"):
        data.load("digits", integers=True, binarize="dynamic")


@pytest.mark.parametrize(
    ("options", "values"),
    [
        ({}, "17 grey levels in [0, 1]"),
        ({"binarize": "dynamic"}, "0 or 1, drawn anew in each batch"),
        ({"binarize": "threshold"}, "0 or 1, by a threshold"),
        ({"dequantize": True}, "dequantised, in (0, 1)"),
    ],
)
def test_data_sets_show_their_splits_shapes_and_values(options, values):
    digits = data.load("digits", **options)
    form = f"x (1, 8, 8), {values}; 10 classes"
    assert repr(digits) == f"DataSet(digits: 1,297 train, 200 valid, 300 test; {form})"
    assert repr(digits.test) == f"Images(digits: 300 images; {form})"
    other = dataclasses.replace(digits.valid, name=None, with_labels=True)
    assert repr(other) == f"Images(unnamed: 200 images; {form}, given as context)"


def test_integers_are_shown():
    images = dataclasses.replace(data.load("digits").test, integers=True)
    assert "x (1, 8, 8), integers 0 to 16; 10 classes" in repr(images)
