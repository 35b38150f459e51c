"""The embedded digits as PNG files in folders of splits and classes, and as a .npz file of the same bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pyro_vae import data

SPLITS = ("train", "valid", "test")

BOTH = pytest.mark.parametrize("digits_from", ["embedded", "folder"], indirect=True)
"""Runs a test, which takes ``digits_from``, on the embedded digits and on their folder."""

BOTH_SLOWLY = pytest.mark.parametrize(
    "digits_from", ["embedded", pytest.param("folder", marks=pytest.mark.slow)], indirect=True
)
"""The same, for a test of many seconds."""


def in_bytes(split):
    """The same digits in the 256 levels of a PNG file: of the 17 levels k, round(255 k / 16)."""
    return replace(split, pixels=(split.pixels.double() * 255 / split.levels).round().byte(), levels=255)


def in_order_of_folder(split):
    """One class after the other, as ImageFolder lists them, with the names that folders give to classes."""
    found = split[split.labels.argsort(stable=True)]
    return replace(found, class_names=tuple(map(str, range(10))))


def write_digits(folder, change=in_bytes, classes=True):
    """Write digits in a folder per split and, with ``classes``, per class; the names of the files keep their order."""
    for name in SPLITS:
        split = change(getattr(data.load("digits"), name))
        for i, (pixels, label) in enumerate(zip(split.pixels.numpy(), split.labels.tolist(), strict=True)):
            place = folder / name / str(label) if classes else folder / name
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[0]).save(place / f"{i:04}.png")


def write_arrays(path):
    """Write the bytes that a folder with classes holds, in its order."""
    digits = data.load("digits").map(in_bytes).map(in_order_of_folder)
    parts = {name: getattr(digits, name) for name in SPLITS}
    x = {f"x_{name}": split.pixels.numpy() for name, split in parts.items()}
    np.savez(path, **x, **{f"y_{name}": split.labels.numpy() for name, split in parts.items()})


def load_levels(folder, **options):
    """Load digits whose files hold the levels 0 to 16 themselves: 16 is white."""
    return data.load(folder, **options).map(lambda split: replace(split, levels=16))


def loading_from(folder):
    """``data.load`` that reads PNG files where the digits are asked for."""
    load = data.load

    def loading(source, **options):
        if source != "digits":
            return load(source, **options)
        if "binarize" in options:
            return load(folder / "bytes", **options)
        return load_levels(folder / "levels", **options)

    return loading
