"""Whatever holds data, as a data set in three splits."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import sparse
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from pyro_vae import data
from pyro_vae.data import BadDataError, DataSet, Images, Rows
from pyro_vae.data.conversion import as_data_set
from pyro_vae.data.reading import Reading
from tests.data.parts import parts_of, rows_of, values

X = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
Y = np.arange(200) % 4


def made(value, **options):
    return as_data_set("mine.py:make", value, Reading(**options))


@pytest.mark.parametrize("x", [X, torch.from_numpy(X), torch.from_numpy(X).requires_grad_(), X.astype("f8"), (X,), [X]])
def test_arrays_go_where_those_of_files_go(x, tmp_path):
    np.save(tmp_path / "x.npy", X)
    assert rows_of(made(x)) == rows_of(data.load(tmp_path / "x.npy"))


def test_half_precision_of_torch_is_kept():
    x = torch.from_numpy(X).bfloat16()
    assert rows_of(made(x)) == rows_of(made(x.float()))


@pytest.mark.parametrize(
    "parts", [{"train": X}, {"train": X[:150], "test": X[150:]}, {"train": X[:150], "valid": X[150:]}]
)
def test_all_examples_together_stand_in_the_order_of_their_source(parts):
    np.testing.assert_array_equal(values(made(parts).everything), X)


@pytest.mark.parametrize("labels", [Y, torch.from_numpy(Y), Y.tolist(), Y.astype("u1")])
def test_x_with_labels(labels):
    found = made((X, labels))
    label_of = dict(zip(map(tuple, X.tolist()), Y.tolist(), strict=True))
    for split in parts_of(found):
        assert split.labels.tolist() == [label_of[tuple(row)] for row in values(split).tolist()]
    assert (found.classes, found.train.class_names) == (4, ())
    assert made((X, [f"c{y}" for y in Y])).train.class_names == ("c0", "c1", "c2", "c3")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            (X, X),
            r"may give labels beside x, .*; got a ndarray of shape \(200, 3\). Give x alone, or train from Python",
        ),
        ((X, Y / 2), "whole numbers or names"),
        ((X, Y, Y), "whole numbers or names"),
        ((X, Y[:-1]), "mine.py:make must have one label per example"),
        ((), "mine.py:make must be a tensor, .*; got a tuple"),
        (np.zeros((0, 3)), "at least one example"),
        (np.float64(3), "mine.py:make must be a tensor"),
        (np.array(3.0), "at least one example; got a single number"),
        (np.array(["a", "b"]), "dense array of real numbers"),
        (np.full((9, 2), np.inf), "has infinite values"),
        ({"x": X}, "gives a dictionary with 'x'; it must have train, and may have valid and test"),
        ({"valid": X, "test": X}, "it must have train"),
        ({"train": X, "valid": X[:, :2]}, "splits of one form"),
        ({"train": (X, Y), "test": X}, "has labels for 1 of its 2 splits"),
        (X[:4], "of 4 rows, none is left for"),
        (lambda: X, "must be a tensor, .*; got a function"),
        (TensorDataset(torch.zeros(0, 2)), "at least one example; got none"),
    ],
)
def test_other_things_are_refused(value, message):
    with pytest.raises(BadDataError, match=message):
        made(value)


@pytest.mark.parametrize(
    "option", [{"size": 8}, {"label": "a"}, {"group": "a"}, {"delimiter": ";"}, {"skip_bad": True}]
)
@pytest.mark.parametrize(
    "value", [X, DataLoader(X), TensorDataset(torch.from_numpy(X))], ids=["array", "loader", "set"]
)
def test_options_that_do_not_apply_are_refused(value, option):
    with pytest.raises(ValueError, match=f"^{next(iter(option))} is for "):
        made(value, **option)


def test_splits_of_its_own():
    parts = {"train": X[:150], "valid": X[150:170], "test": X[170:]}
    own = {split: sorted(map(tuple, x.tolist())) for split, x in parts.items()}
    datasets = tuple(TensorDataset(torch.from_numpy(x)) for x in parts.values())
    for value in (parts, datasets, [DataLoader(d, 7) for d in datasets], made(parts), parts_of(made(parts))):
        assert rows_of(made(value)) == list(own.values())
        with pytest.raises(ValueError, match="split is for data without splits of their own"):
            made(value, split="0.5,0.25,0.25")


def test_a_split_that_lacks_is_drawn_from_train():
    found = made({"train": (X[:150], Y[:150]), "test": (X[150:], Y[150:])})
    assert sorted(rows_of(found)[2]) == sorted(map(tuple, X[150:].tolist()))
    assert len(found.train) + len(found.valid) == 150
    assert abs(len(found.valid) / 150 - 1 / 9) < 4 * (8 / 81 / 150) ** 0.5
    assert found.notes == ("mine.py:make has no split for valid: a hash draws it from those for training",)


def test_classes_are_those_of_all_splits():
    found = made({"train": (X[:90], Y[:90] % 2), "valid": (X[90:100], Y[90:100] % 2), "test": (X[100:], Y[100:])})
    assert [split.classes for split in parts_of(found)] == [4, 4, 4]
    assert found.test.labels.tolist() == Y[100:].tolist()


class Pictures(Dataset):
    """Pictures with the number of each in all its pixels."""

    classes = ("even", "odd", "neither")

    def __init__(self, n=60, sizes=((5, 4),), modes=("L",), label=lambda i: i % 2):
        self.n, self.sizes, self.modes, self.label = n, sizes, modes, label

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        size, mode = self.sizes[i % len(self.sizes)], self.modes[i % len(self.modes)]
        picture = Image.new(mode, size, i if mode == "L" else (0, i, 255 - i))
        return (picture, self.label(i)) if self.label else picture


def test_pictures_of_a_dataset_become_images():
    found = made(Pictures())
    assert (type(found.train), found.event_shape, found.train.class_names) == (Images, (1, 4, 5), Pictures.classes)
    for split in parts_of(found):
        assert (split.pixels == split.pixels[:, :1, :1, :1]).all()
        assert split.labels.tolist() == (split.pixels[:, 0, 0, 0] % 2).tolist()
    assert sorted(p for split in parts_of(found) for p in split.pixels[:, 0, 0, 0].tolist()) == list(range(60))


def test_grey_pictures_among_others_become_colour():
    for modes in (("L", "RGB"), ("RGB", "L"), ("L", "L", "RGB")):
        found = made(Pictures(modes=modes))
        assert found.event_shape == (3, 4, 5)
        assert sorted(p for s in parts_of(found) for p in s.pixels[:, 1, 0, 0].tolist()) == list(range(60))
    assert made(Pictures(modes=("RGB",)), channels=1).event_shape == (1, 4, 5)
    with pytest.raises(ValueError, match="channels must be 1"):
        made(Pictures(), channels=2)


def test_pictures_of_several_sizes_need_one():
    with pytest.raises(
        BadDataError, match="several sizes: 4 x 5, and 6 x 6 at item 1. Give one for all, such as size=32"
    ):
        made(Pictures(sizes=((5, 4), (6, 6))))
    assert made(Pictures(sizes=((5, 4), (6, 6), (16, 9))), size=8).event_shape == (1, 8, 8)
    assert made(Pictures(sizes=((5, 4), (6, 6))), size="4x8", channels=3).event_shape == (3, 4, 8)


def test_labels_of_a_dataset():
    assert made(Pictures(label=None)).classes == 0
    named = made(Pictures(label=lambda i: "ab"[i % 2]))
    assert (named.classes, named.train.class_names) == (2, ("a", "b"))
    assert made(Pictures(label=lambda i: torch.tensor(i % 2))).classes == 3
    other = made(Pictures(label=lambda i: {"box": i}))
    assert other.classes == 0
    assert other.notes == ("mine.py:make: what follows x is no label (dict), and is left out",)
    assert made(TensorDataset(torch.from_numpy(X), torch.rand(200))).classes == 0


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_loader_gives_its_examples_each_time(shuffle):
    loader = DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), 32, shuffle=shuffle)
    found = made(loader)
    assert sorted(row for part in rows_of(found) for row in part) == sorted(map(tuple, X.tolist()))
    assert made(loader).train.fingerprint() == found.train.fingerprint()
    assert rows_of(found) == rows_of(made(X))
    assert found.classes == 4


def test_examples_that_a_loader_leaves_out_are_noted():
    found = made(DataLoader(TensorDataset(torch.from_numpy(X)), 32, drop_last=True))
    assert sum(map(len, parts_of(found))) == 192
    assert found.notes == ("mine.py:make: the DataLoader leaves out 8 examples: drop_last=True",)


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.zeros(2)


class Odd(Dataset):
    """Gives what it is told."""

    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Endless(), "a Endless without a length, which may never end"),
        (DataLoader(Endless(), 4), "without a length"),
        (Odd({"image": 1}), "yields a dictionary with 'image'; it must yield x, or x and a label"),
        (Odd(()), "yields an empty tuple"),
        (Odd("a"), "x of item 0 must be a tensor, a NumPy array or a table of numbers; got str"),
        (Odd(torch.zeros(2), torch.zeros(3)), r"item 0 has \(2,\) of float32, item 1 has \(3,\) of float32"),
        (Odd(torch.zeros(2), torch.zeros(2).double()), "of one shape and dtype"),
        (Odd(torch.zeros(2), Image.new("L", (2, 2))), "of one shape and dtype"),
        (DataLoader(Odd(torch.zeros(2), torch.zeros(3)), 1), "examples of one shape; got (2,), (3,)"),
    ],
)
def test_datasets_that_cannot_be_read(value, message):
    with pytest.raises(BadDataError, match=message.replace("(2,), (3,)", r"\(2,\), \(3,\)")):
        made(value)


def test_numbers_of_a_dataset():
    assert isinstance(made(Odd(*map(float, range(50)))).train, Rows)
    assert isinstance(made(DataSet(*parts_of(made(X)))).train, Rows)


FRAME = pd.DataFrame(X, columns=list("abc")).assign(name="x", kind=[f"k{y}" for y in Y], who=np.arange(200) // 5)


def test_a_frame_gives_what_its_file_gives(tmp_path):
    FRAME.to_csv(tmp_path / "x.csv", index=False)
    for options in ({}, {"label": "kind", "split": "0.6,0.2,0.2"}, {"group": "who"}, {"columns": "c,a"}):
        found, of_file = made(FRAME, **options), data.load(tmp_path / "x.csv", **options)
        assert found.train.columns == of_file.train.columns
        for mine, theirs in zip(parts_of(found), parts_of(of_file), strict=True):
            assert np.allclose(values(mine), values(theirs))
            assert mine.labels is None or torch.equal(mine.labels, theirs.labels)
        assert (found.train.class_names, len(found.notes)) == (of_file.train.class_names, len(of_file.notes))


def test_frames_as_splits():
    parts = {"train": FRAME[:100], "valid": FRAME[100:150], "test": FRAME[150:]}
    found = made(parts, label="kind")
    assert [len(part) for part in parts_of(found)] == [100, 50, 50]
    assert found.test.labels.tolist() == Y[150:].tolist()
    with pytest.raises(BadDataError, match="splits of one form"):
        made({**parts, "valid": FRAME[100:102]}, label="kind")
    with pytest.raises(ValueError, match="label: mine.py:make has no column 'kid'"):
        made(FRAME, label="kid")


def test_counts_and_their_labels(tmp_path):
    dense = np.random.default_rng(0).poisson(3, (200, 12))
    dense[3] = 0
    x = sparse.csr_array(dense)
    sparse.save_npz(tmp_path / "x.npz", x)
    found, of_file = made((x, Y), skip_bad=True), data.load(tmp_path / "x.npz", skip_bad=True)
    label_of = dict(zip(map(tuple, x.toarray().tolist()), Y.tolist(), strict=True))
    for mine, theirs in zip(parts_of(found), parts_of(of_file), strict=True):
        assert np.array_equal(mine.matrix.toarray(), theirs.matrix.toarray())
        assert mine.labels.tolist() == [label_of[tuple(row)] for row in mine.matrix.toarray().tolist()]
    assert found.notes == ("mine.py:make: 1 row is left out, which has no counts: 3 (counted from 0)",)
    with pytest.raises(BadDataError, match="must hold counts, whole numbers from 0"):
        made(x / 2)


def test_the_splits_of_pictures_take_little_memory():
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 3, 64, 64), np.uint8)  # 18 MB
    tracemalloc.start()
    found = made(pixels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * pixels.nbytes
    assert len(found.train) > 1000
