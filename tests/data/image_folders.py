"""Folders of small images for tests."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pyro_vae.data import BadDataError, DamagedDataError
from pyro_vae.data.splits import read_rows

SHARES = (0.6, 0.2, 0.2)


def level(name, shape=(8, 6)):
    """Pixels that say which image they are of."""
    return np.random.default_rng(list(name.encode())).integers(0, 256, shape, dtype=np.uint8)


def write(folder, names, shape=(8, 6, 3)):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(level(name, shape)).save(folder / name)
    return folder


def names(labels="ab", n=20):
    return [f"{label}/{i:03}.png" for label in labels for i in range(n)]


def all_pixels(split):
    return read_rows(split.pixels, slice(None)).numpy()


def as_sorted(split):
    return sorted(all_pixels(split).reshape(len(split), -1).tolist())


def error_of(load, path, **options):
    with pytest.raises((BadDataError, DamagedDataError, ValueError)) as found:
        load(path, **options)
    return found.type, str(found.value).replace(str(path), "PATH")


def damage(path):
    """Write files that are no images: cut, empty, of another kind, and a link to nothing."""
    whole = io.BytesIO()
    Image.fromarray(level("x", (8, 6, 3))).save(whole, "PNG")
    (path / "a" / "cut.png").write_bytes(whole.getvalue()[:100])
    (path / "a" / "empty.jpg").write_bytes(b"")
    (path / "b" / "notes.txt").write_text("not an image")
    (path / "b" / "link.png").symlink_to(path / "nowhere.png")


def same(first, second):
    assert (first.train.class_names, first.notes) == (second.train.class_names, second.notes)
    for name in ("train", "valid", "test"):
        ours, theirs = getattr(first, name), getattr(second, name)
        assert ours.labels.tolist() == theirs.labels.tolist()
        np.testing.assert_array_equal(all_pixels(ours), all_pixels(theirs))
        assert ours.fingerprint() == theirs.fingerprint()
