"""A folder of the digits as PNG files gives the numbers that the same digits in memory give, to the last bit.

PNG files have no 17 levels. Rounded to 256, the digits are binarised at one half in the same way; levels that are written
as they are come back as they are. The other tests of this folder that train on the digits run on these files too.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pyro_vae import data
from pyro_vae.checkpoints import read_description
from pyro_vae.cli import main
from tests.end_to_end.digits_as_files import (
    SPLITS,
    in_bytes,
    in_order_of_folder,
    load_levels,
    write_arrays,
    write_digits,
)

FORMS = {
    "grey": {},
    "dynamic": {"binarize": "dynamic"},
    "threshold": {"binarize": "threshold"},
    "dequantised": {"dequantize": True},
    "integers": {"integers": True},
}


def x_of(split):
    """All of x, with the same draws each time."""
    return split.x(slice(None), torch.float32, torch.Generator().manual_seed(0))


def digits_in_order(**options):
    return data.load("digits", **options).map(in_order_of_folder)


def check_same(found, wanted):
    for name in SPLITS:
        ours, theirs = getattr(found, name), getattr(wanted, name)
        assert torch.equal(x_of(ours), x_of(theirs))
        assert torch.equal(ours.labels, theirs.labels)
        assert (ours.classes, ours.class_names) == (theirs.classes, theirs.class_names)


@pytest.mark.parametrize("form", FORMS)
def test_levels_in_files_are_the_digits(digits_folder, form):
    check_same(load_levels(digits_folder / "levels", **FORMS[form]), digits_in_order(**FORMS[form]))


@pytest.mark.parametrize("form", FORMS)
def test_bytes_in_files_are_the_digits_in_256_levels(digits_folder, form):
    check_same(data.load(digits_folder / "bytes", **FORMS[form]), digits_in_order(**FORMS[form]).map(in_bytes))


def test_bytes_in_files_are_the_digits_up_to_half_a_level(digits_folder):
    found, wanted = data.load(digits_folder / "bytes"), digits_in_order()
    assert (x_of(found.train) - x_of(wanted.train)).abs().max() <= 0.5 / 255 + 1e-7
    check_same(data.load(digits_folder / "bytes", binarize="threshold"), digits_in_order(binarize="threshold"))


QUICK = ["--hidden", "[16]", "--latent_dim", "2", "--epochs", "3", "--likelihood", "Bernoulli"]
COMMANDS = {
    "samples": ["sample", "--n", "20"],
    "reconstructions": ["reconstruct", "--n", "20"],
    "interpolations": ["interpolate", "--n", "4"],
    "codes": ["encode"],
}


def train(run, source, *options):
    assert main(["train", "--data", str(source), *QUICK, *options, "--out", run]) == 0
    assert main(["evaluate", run, "--importance_particles", "10"]) == 0
    for name, (command, *given) in COMMANDS.items():
        assert main([command, run, *given, "--out", f"{run}/{name}.npy"]) == 0


def evaluated(run):
    with open(f"{run}/evaluation-test.json") as file:
        return json.load(file)


def check_same_runs(here, first, second):
    assert (here / first / "weights.safetensors").read_bytes() == (here / second / "weights.safetensors").read_bytes()
    for name in COMMANDS:
        np.testing.assert_array_equal(np.load(f"{first}/{name}.npy"), np.load(f"{second}/{name}.npy"))


@pytest.fixture
def here(tmp_path, monkeypatch, without_pictures):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore:importance_sampling")
def test_commands_on_a_folder_give_the_numbers_of_the_digits(here):
    """Binarised at one half, and without folders of classes, which would change the order."""
    write_digits(here / "flat", classes=False)
    train("embedded", "digits", "--binarize", "threshold")
    train("files", "flat", "--binarize", "threshold")
    check_same_runs(here, "embedded", "files")
    ours, theirs = evaluated("files"), evaluated("embedded")
    assert theirs.pop("probe")["accuracy"] > 0.1
    assert ours.pop("probe") is None  # without labels
    assert ours == theirs


@pytest.mark.filterwarnings("ignore:importance_sampling")
def test_commands_on_folders_of_classes_give_the_numbers_of_an_array(here, digits_folder):
    write_arrays(here / "digits.npz")
    train("arrays", "digits.npz", "--labels", "true")
    train("files", digits_folder / "bytes", "--labels", "true")
    check_same_runs(here, "arrays", "files")
    assert evaluated("arrays") == evaluated("files")
    of_arrays, of_files = (read_description(here / run) for run in ("arrays", "files"))
    assert of_arrays.fingerprint == of_files.fingerprint
    for run in ("arrays", "files"):
        assert main(["sample", run, "--label", "7", "--n", "3", "--out", f"{run}/7.npy"]) == 0
    np.testing.assert_array_equal(np.load("arrays/7.npy"), np.load("files/7.npy"))
