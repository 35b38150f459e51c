"""HDF5 files as data, against the same arrays as .npz; files that link, lie or are damaged by what the error says."""

from __future__ import annotations

import sys

import h5py
import numpy as np
import pytest
import torch

from pyro_vae import data
from pyro_vae.data import BadDataError, DamagedDataError, Images, hdf5
from pyro_vae.data.splits import Mapped

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 3, 2)).astype(np.float32)
Y = RNG.integers(0, 4, 200)
WORDS = np.array(["red", "green", "blå"])[Y % 3]


def write(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


CASES = {
    "x": {"x": X},
    "another name": {"measurements": X},
    "labels": {"x": X, "y": Y},
    "splits": {f"{a}_{s}": v[i::3] for a, v in (("x", X), ("y", Y)) for i, s in enumerate(("train", "valid", "test"))},
    "images": {"x": RNG.integers(0, 256, (50, 8, 8), np.uint8)},
    "whole": {"x": RNG.integers(-5, 5, (90, 4))},
    "big-endian": {"x": X.astype(">f4")},
    "booleans": {"x": RNG.random((90, 9)) < 0.5},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ending", [".h5", ".hdf5"])
def test_the_same_as_npz(tmp_path, case, ending):
    np.savez(tmp_path / "a.npz", **CASES[case])
    expected = data.load(tmp_path / "a.npz")
    found = data.load(write(tmp_path / f"a{ending}", **CASES[case]))
    for split in ("train", "valid", "test"):
        mine, theirs = getattr(found, split), getattr(expected, split)
        assert isinstance(mine, type(theirs))
        assert mine.fingerprint() == theirs.fingerprint()
        assert (mine.classes, mine.class_names) == (theirs.classes, theirs.class_names)


@pytest.mark.parametrize("words", [WORDS.astype(h5py.string_dtype()), np.char.encode(WORDS)], ids=["any", "fixed"])
def test_labels_are_text(tmp_path, words):
    found = data.load(write(tmp_path / "a.h5", x=np.arange(200.0)[:, None], y=words)).everything
    assert found.class_names == ("blå", "green", "red")
    assert [found.class_names[k] for k in found.labels] == [WORDS[int(x)] for x in found.values[:, 0]]


@pytest.mark.parametrize("options", [{}, {"dtype": ">f4"}, {"chunks": (7, 3, 2), "compression": "gzip"}])
def test_large_arrays_stay_on_disk_if_they_lie_there_in_one_piece(tmp_path, monkeypatch, options):
    monkeypatch.setattr(hdf5, "_LARGE", 100)
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as file:
        file.create_dataset("x", data=X, **options)
    found = data.load(tmp_path / "a.h5")
    assert isinstance(found.train.values, Mapped) == ("chunks" not in options)
    np.savez(tmp_path / "a.npz", x=X)
    assert found.train.fingerprint() == data.load(tmp_path / "a.npz").train.fingerprint()
    (x,) = next(iter(data.batches(found.train, 16, shuffle=True)))
    assert any(torch.equal(x[0], torch.from_numpy(row)) for row in X)


def test_large_images_stay_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "_LARGE", 100)
    found = data.load(write(tmp_path / "a.h5", **CASES["images"]))
    assert isinstance(found.train, Images)
    assert isinstance(found.train.pixels, Mapped)


def test_an_array_that_is_too_large_for_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "_LARGE", 100)
    monkeypatch.setattr(hdf5, "_MOST", 1000)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=X, compression="gzip")
    with pytest.raises(
        BadDataError, match="'x' has 4,800 bytes, more than the 1,000 that are read into memory. Save it"
    ):
        data.load(tmp_path / "a.h5")


def test_a_file_that_claims_more_than_it_has_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", shape=(2**30, 2), dtype="f4", chunks=(2**20, 2))
        file.create_dataset("late", shape=(2**30, 1), dtype="f4")
    with pytest.raises(BadDataError, match="'x' claims 8,589,934,592 bytes, and the file has 0 of it"):
        data.load(tmp_path / "a.h5")
    with pytest.raises(BadDataError, match="'late' claims"):
        hdf5.ArraysOfHDF5(tmp_path / "a.h5")["late"]


def link_outside(path):
    write(path.parent / "other.h5", x=X)
    with h5py.File(path, "w") as file:
        file["x"] = h5py.ExternalLink("other.h5", "x")


def link_inside(path):
    with h5py.File(path, "w") as file:
        file["g/a"] = X
        file["x"] = h5py.SoftLink("/g/a")


def virtual(path):
    write(path.parent / "other.h5", x=X)
    layout = h5py.VirtualLayout(X.shape, X.dtype)
    layout[:] = h5py.VirtualSource("other.h5", "x", X.shape)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("x", layout)


def elsewhere(path):
    (path.parent / "raw").write_bytes(X.tobytes())
    with h5py.File(path, "w") as file:
        file.create_dataset("x", X.shape, X.dtype, external=[(str(path.parent / "raw"), 0, X.nbytes)])


def group(path):
    with h5py.File(path, "w") as file:
        file["matrix/data"] = X


def cut(path):
    write(path, x=np.zeros((20_000, 50)))
    path.write_bytes(path.read_bytes()[:100_000])


BAD = {
    "a link to another file": (link_outside, BadDataError, "'x' is a link, which is not followed"),
    "a link within": (link_inside, BadDataError, "'x' is a link, which is not followed"),
    "a virtual array": (virtual, BadDataError, "'x' has its numbers in other files"),
    "external": (elsewhere, BadDataError, "'x' has its numbers in other files"),
    "a group": (group, BadDataError, "'matrix/' is a group. Put the arrays at the top of the file"),
    "cut": (cut, DamagedDataError, "cannot be read: .*truncated"),
    "no HDF5": (lambda path: path.write_bytes(b"no" * 999), DamagedDataError, "cannot be read"),
    "empty": (lambda path: path.write_bytes(b""), DamagedDataError, "cannot be read"),
    "no arrays": (write, BadDataError, "must hold an array x, .*; it holds nothing"),
    "others": (lambda p: write(p, a=X, b=Y), BadDataError, "must hold an array x, .*; it holds a, b"),
    "no shape": (lambda p: write(p, x=h5py.Empty("f4")), BadDataError, "'x' is empty"),
    "one number": (lambda p: write(p, x=3.0), BadDataError, "at least one example"),
    "complex": (lambda p: write(p, x=X[:, 0] * 1j), BadDataError, "'x' must hold numbers or text; got complex64"),
    "fields": (lambda p: write(p, x=np.zeros(9, [("a", "f4")])), BadDataError, "'x' must hold numbers or text; got"),
    "text": (lambda p: write(p, x=WORDS.astype(h5py.string_dtype())), TypeError, "x.h5 must be a dense array of real"),
    "infinite": (lambda p: write(p, x=np.where(X > 2, np.inf, X)), BadDataError, "has infinite values"),
    "labels of others": (
        lambda p: write(p, x=X, y=Y[:9]),
        BadDataError,
        "one label per example, .200,.; got shape .9,",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files(tmp_path, kind):
    make, error, message = BAD[kind]
    make(tmp_path / "x.h5")
    with pytest.raises(error, match=message):
        data.load(tmp_path / "x.h5")


def test_other_options_are_refused(tmp_path):
    with pytest.raises(ValueError, match="label is for tables; .* holds arrays"):
        data.load(write(tmp_path / "a.h5", x=X), label="y")


def test_without_h5py_the_error_says_what_to_install(tmp_path, monkeypatch):
    write(tmp_path / "a.h5", x=X)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"h5py is needed to read this: pip install 'pyro-vae\[hdf5\]'"):
        data.load(tmp_path / "a.h5")
