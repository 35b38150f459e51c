"""Files of arrays: what .npy, .npz and .safetensors files become, and what is said of bad ones."""

from __future__ import annotations

import re

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.numpy import save_file

from pyro_vae import data
from pyro_vae.data import BadDataError, DamagedDataError, Images, Rows, array_files
from pyro_vae.data.splits import Mapped

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 4, 3)).astype(np.float32)
Y = RNG.integers(0, 3, 300)
PIXELS = RNG.integers(0, 256, (100, 3, 9, 8), np.uint8)


def save(path, **arrays):
    if path.suffix == ".npy":
        np.save(path, arrays["x"])
    elif path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    return path


def as_set(rows):
    return {np.asarray(row).tobytes() for row in rows}


@pytest.mark.parametrize("ending", [".npy", ".npz", ".safetensors"])
def test_every_row_is_in_one_split(tmp_path, ending):
    found = data.load(save(tmp_path / f"a{ending}", x=X))
    assert isinstance(found.train, Rows)
    parts = [as_set(part.values) for part in (found.train, found.valid, found.test)]
    assert set.union(*parts) == as_set(X)
    assert sum(map(len, parts)) == len(X)
    assert [len(part) for part in parts] == pytest.approx([240, 30, 30], abs=20)
    assert repr(found).endswith("x (4, 3), real numbers)")


def test_labels_stay_with_their_rows(tmp_path):
    found = data.load(save(tmp_path / "a.npz", x=X, y=Y)).everything
    of = dict(zip((x.tobytes() for x in X), Y, strict=True))
    assert [of[np.asarray(x).tobytes()] for x in found.values] == found.labels.tolist()
    words = data.load(save(tmp_path / "a.npz", x=X, labels=np.array(["lo", "mid", "up"])[Y])).train
    assert words.class_names == ("lo", "mid", "up")


def test_a_file_may_have_its_own_splits(tmp_path):
    parts = {f"x_{name}": X[i::3] for i, name in enumerate(("train", "valid", "test"))}
    labels = {f"y_{name}": Y[i::3] for i, name in enumerate(("train", "valid", "test"))}
    found = data.load(save(tmp_path / "a.safetensors", **parts, **labels))
    for i, split in enumerate((found.train, found.valid, found.test)):
        assert np.array_equal(split.values, X[i::3])
        assert np.array_equal(split.labels, Y[i::3])
    with pytest.raises(ValueError, match=r"split is for data without splits of their own; .* has its own splits"):
        data.load(tmp_path / "a.safetensors", split="0.6,0.2,0.2")


def test_half_precision_of_torch_is_read(tmp_path):
    safetensors.torch.save_file({"x": torch.from_numpy(X).bfloat16()}, tmp_path / "a.safetensors")
    found = data.load(tmp_path / "a.safetensors").everything
    assert as_set(found.values) == as_set(torch.from_numpy(X).bfloat16().float())


@pytest.mark.parametrize(("pixels", "channels"), [(PIXELS, 3), (PIXELS[:, 0], 1), (PIXELS[:, :1], 1)])
def test_bytes_are_images(tmp_path, pixels, channels):
    found = data.load(save(tmp_path / "a.npy", x=pixels), dequantize=True)
    assert isinstance(found.train, Images)
    assert found.event_shape == (channels, 9, 8)
    assert as_set(found.everything.pixels) == as_set(pixels)


@pytest.mark.parametrize("x", [X, X.astype(">f4"), X.astype(np.float16), np.abs(X * 9).astype(">u2"), PIXELS[:, 0]])
def test_a_large_file_stays_on_disk_and_gives_the_same(tmp_path, monkeypatch, x):
    path = save(tmp_path / "a.npy", x=x)
    inside = data.load(path)
    monkeypatch.setattr(array_files, "_LARGE", 100)
    outside = data.load(path)
    store = outside.train.pixels if isinstance(outside.train, Images) else outside.train.values
    assert isinstance(store, Mapped)
    for mine, theirs in ((outside.train, inside.train), (outside.test, inside.test)):
        supply = zip(data.batches(mine, 64, shuffle=True), data.batches(theirs, 64, shuffle=True), strict=True)
        assert all(torch.equal(a, b) for (a,), (b,) in supply)
    if isinstance(outside.train, Rows):
        for mine, theirs in zip(outside.train.moments(), inside.train.moments(), strict=True):
            torch.testing.assert_close(mine, theirs)


BAD = {
    "objects": (".npy", {"x": np.array([1, "a"], object)}, DamagedDataError, "Save plain numbers: arrays of objects"),
    "text": (".npy", {"x": np.array(["a", "b"])}, TypeError, "a.npy must be a dense array of real numbers; got <U1"),
    "complex": (".npy", {"x": X * 1j}, TypeError, "got complex64. Give numpy.stack([x.real, x.imag], axis=-1)"),
    "no rows": (".npy", {"x": X[:0]}, BadDataError, "must hold at least one example; got an array of shape (0, 4, 3)"),
    "one number": (".npy", {"x": np.array(3.0)}, BadDataError, "must hold at least one example"),
    "infinite": (".npy", {"x": np.where(X > 3, np.inf, X)}, BadDataError, "infinite values. Remove them, or replace"),
    "only NaN": (".npy", {"x": np.where([[[1, 0, 1]]], X, np.nan)}, BadDataError, "element (0, 1) has no value in any"),
    "channels last": (".npy", {"x": PIXELS.transpose(0, 2, 3, 1)}, BadDataError, "Put them first: numpy.moveaxis(x,"),
    "channels": (".npy", {"x": PIXELS.repeat(2, 1)}, BadDataError, "images with 1 or 3 channels, (n, channels,"),
    "others": (".npz", {"a": X, "b": Y}, BadDataError, "must hold an array x, and y for labels, or x_train, x_valid"),
    "labels": (".npz", {"x": X, "y": Y[:7]}, BadDataError, "one label per example, (300,); got shape (7,)"),
    "NaN as label": (".npz", {"x": X, "y": np.where(Y, Y, np.nan)}, BadDataError, "lacks the label of"),
    "no test": (".npz", {"x_train": X, "x_valid": X}, BadDataError, "x_train and no x_test. Give all three splits"),
    "some labels": (
        ".npz",
        {"x_train": X, "x_valid": X, "x_test": X, "y_train": Y},
        BadDataError,
        "labels for 1 of the three splits. Give all, or none",
    ),
    "shapes": (".npz", {"x_train": X, "x_valid": X[:, :2], "x_test": X}, BadDataError, "splits of one shape; got"),
    "few": (".npy", {"x": X[:3]}, ValueError, "is left for"),
    "kinds": (
        ".npz",
        {"x_train": PIXELS, "x_valid": PIXELS / 2, "x_test": PIXELS},
        BadDataError,
        "splits of one shape; got images of shape (3, 9, 8), rows of shape (3, 9, 8)",
    ),
    "too many labels": (".npz", {"x": X, "y": np.arange(300)}, BadDataError, "300 different labels for 300 rows: too"),
    "complex labels": (".npz", {"x": X, "y": Y * 1j}, BadDataError, "labels of complex128; labels are whole numbers"),
    "dates as labels": (".npz", {"x": X, "y": Y.astype("M8[D]")}, BadDataError, "labels of datetime64[D]; labels are"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_arrays(tmp_path, kind):
    ending, arrays, error, message = BAD[kind]
    with pytest.raises(error, match=re.escape(message)):
        data.load(save(tmp_path / f"a{ending}", **arrays))


@pytest.mark.parametrize("ending", [".npy", ".npz", ".safetensors"])
@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"no" + b[2:]])
def test_damaged_files(tmp_path, ending, damage):
    path = save(tmp_path / f"a{ending}", x=X)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedDataError, match=rf"a{ending} cannot be read: "):
        data.load(path)


PARTS = {f"x_{name}": X[i::3] for i, name in enumerate(("train", "valid", "test"))}
NOTED = {
    "two arrays of savez": ({"arr_0": X, "arr_1": X}, "left out beside arr_0: 'arr_1'"),
    "other arrays": ({"x": X, "y": Y, "z": X, "targets": Y}, "left out beside x, y: 'z', 'targets'"),
    "x beside its splits": ({**PARTS, "x": X}, "left out beside x_test, x_train, x_valid: 'x'"),
    "numbers to predict": ({"x": X, "y": X[:, 0, 0]}, "'y' holds real numbers, which are no classes, and is left out"),
}


@pytest.mark.parametrize("ending", [".npz", ".h5"])
@pytest.mark.parametrize("kind", NOTED)
def test_arrays_that_are_left_out_are_noted(tmp_path, kind, ending):
    arrays, note = NOTED[kind]
    if ending == ".h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(tmp_path / "a.h5", "w") as file:
            for name, array in arrays.items():
                file[name] = array
    else:
        np.savez(tmp_path / "a.npz", **arrays)
    found = data.load(tmp_path / f"a{ending}")
    assert len(found.notes) == 1
    assert all(word in found.notes[0] for word in note.split(" beside ")[-1].replace(":", "").replace(",", "").split())
    assert found.classes == (3 if kind == "other arrays" else 0)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (Y.astype(float), ()),
        (Y.astype(float) - 1, ("-1", "0", "1")),
        (np.array([b"lo", b"mid", b"up"])[Y], ("lo", "mid", "up")),
    ],
)
def test_classes_in_any_dtype(tmp_path, labels, names):
    found = data.load(save(tmp_path / "a.npz", x=X, y=labels)).everything
    assert (found.classes, found.class_names) == (3, names)


def test_labels_of_each_split_belong_to_it(tmp_path):
    # As many labels as examples in all, and not as many in each split: each would be the label of another example.
    labels = {f"y_{name}": y for name, y in zip(("train", "valid", "test"), np.split(Y, [50, 250]), strict=True)}
    with pytest.raises(BadDataError, match=r"y_train must have one label per example, \(100,\); got shape \(50,\)"):
        data.load(save(tmp_path / "a.npz", **PARTS, **labels))


def test_equal_rows_are_the_reason_why_a_split_is_empty(tmp_path):
    with pytest.raises(BadDataError, match=r"none is left for valid.*Equal rows stay together; there are 1 that diff"):
        data.load(save(tmp_path / "a.npy", x=np.ones((300, 2))))


def test_a_file_of_numpys_with_the_ending_of_another(tmp_path):
    (tmp_path / "a.npz").write_bytes(save(tmp_path / "b.npy", x=X).read_bytes())
    with pytest.raises(DamagedDataError, match=r"it is no .npz file of NumPy's, but one of .npy. Give its name that"):
        data.load(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["a.png", "a.xlsx", "a"])
def test_a_file_of_another_kind(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=rf"{name} is a file of another kind .* Give a folder of images, or one of th"):
        data.load(tmp_path / name)
