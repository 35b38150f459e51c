"""Shares of data by a hash: the same rows as data.load, which stay when others come."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from scipy import sparse
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder

from pyro_vae import data
from pyro_vae.data import BadDataError
from pyro_vae.data.splitting import assign, keys_of_rows
from pyro_vae.data.table_keys import keys_of_table

X = np.random.default_rng(0).normal(size=(300, 3))
INDEX = np.arange(300)


def sorted_rows(x):
    return sorted(map(tuple, np.asarray(x).reshape(len(x), -1).tolist()))


def test_the_rows_are_those_of_load(tmp_path):
    np.save(tmp_path / "x.npy", X)
    loaded = data.load(tmp_path / "x.npy")
    train, valid, test = data.split(X, valid=0.1, test=0.1)
    for mine, theirs in zip((train, valid, test), (loaded.train, loaded.valid, loaded.test), strict=True):
        assert np.array_equal(mine, theirs.values.numpy())
    loaded = data.load(tmp_path / "x.npy", split="0.6,0.3,0.1")
    assert np.array_equal(data.split(X, valid=0.3, test=0.1)[2], loaded.test.values.numpy())


def test_all_kinds_of_data_are_split_alike():
    train, valid = data.split(X)
    rows = [np.isin(X[:, 0], part[:, 0]).nonzero()[0] for part in (train, valid)]
    assert all(len(some) for some in rows)
    tensors = data.split(torch.from_numpy(X))
    pairs = data.split((X, torch.arange(300), INDEX))
    sets = data.split(TensorDataset(torch.from_numpy(X), torch.arange(300)))
    splits = data.split(data.Rows(torch.from_numpy(X), torch.arange(300), 300))
    for i, some in enumerate(rows):
        assert torch.equal(tensors[i], torch.from_numpy(X[some]))
        assert isinstance(pairs[i], tuple)
        assert np.array_equal(pairs[i][0], X[some])
        assert pairs[i][1].tolist() == pairs[i][2].tolist() == some.tolist()
        assert isinstance(sets[i], Subset)
        assert [int(item[1]) for item in sets[i]] == some.tolist()
        assert splits[i].labels.tolist() == some.tolist()


@pytest.mark.parametrize("kind", [sparse.coo_matrix, sparse.csc_array, sparse.csr_array])
def test_sparse_matrices_of_each_kind(kind):
    x = sparse.random(3000, 20, 0.2, random_state=0)
    parts, others = data.split(kind(x)), data.split(sparse.csr_matrix(x))
    assert sum(part.shape[0] for part in parts) == 3000
    for part, other in zip(parts, others, strict=True):
        assert np.array_equal(part.toarray(), other.toarray())


def test_counts_are_split_as_their_file(tmp_path):
    x = sparse.csr_array(np.random.default_rng(0).poisson(0.7, (300, 12)))
    sparse.save_npz(tmp_path / "x.npz", x)
    loaded = data.load(tmp_path / "x.npz", skip_bad=True)
    parts = data.split(x, valid=0.1, test=0.1)
    again = data.split(data.Counts(x), valid=0.1, test=0.1)
    for part, split, other in zip(parts, (loaded.train, loaded.valid, loaded.test), again, strict=True):
        assert np.array_equal(part.toarray(), split.matrix.toarray())
        assert np.array_equal(part.toarray(), other.matrix.toarray())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8, torch.int64, torch.bool, torch.bfloat16])
def test_equal_numbers_go_the_same_way_in_any_dtype(dtype):
    x = torch.randint(0, 2, (500, 12), generator=torch.Generator().manual_seed(0))
    for part, other in zip(data.split(x), data.split(x.to(dtype)), strict=True):
        assert torch.equal(part, other.long())
        assert other.dtype == dtype


NUMBERS = arrays.arrays(
    np.float64,
    st.tuples(st.integers(30, 120), st.integers(1, 3)),
    elements=st.floats(-1e6, 1e6) | st.just(np.nan),
    unique=True,
)
SHARES = st.tuples(st.floats(0.05, 0.45), st.sampled_from([0.0, 0.1, 0.3]))


def parts_or_none(x, **options):
    """The parts, as lists of indices; None if one would be empty, which is refused."""
    try:
        return [part[1].tolist() for part in data.split((x, np.arange(len(x))), **options)]
    except BadDataError:
        return None


@settings(deadline=None, max_examples=30)
@given(NUMBERS, SHARES)
def test_each_row_is_in_one_part(x, shares):
    valid, test = shares
    parts = parts_or_none(x, valid=valid, test=test)
    if parts is not None:
        assert len(parts) == (3 if test else 2)
        assert sorted(row for part in parts for row in part) == list(range(len(x)))
        assert all(part == sorted(part) for part in parts)


@settings(deadline=None, max_examples=30)
@given(NUMBERS, st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_a_row_stays_when_others_come_or_the_order_changes(x, seed, more):
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(x) + more)
    larger = np.concatenate([x, generator.normal(size=(more, x.shape[1]))])[order]
    before, after = parts_or_none(x, valid=0.3), parts_or_none(larger, valid=0.3)
    if before is not None and after is not None:
        assert {row for row in order[after[1]] if row < len(x)} == set(before[1])


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.4), st.floats(0.02, 0.4))
def test_shares_are_as_asked_for(seed, valid, test):
    # Four standard errors of three shares: by chance one of 40 fails once in 130 times, and these are fixed.
    n = 4000
    parts = data.split(np.random.default_rng(seed).normal(size=(n, 2)), valid=valid, test=test)
    for part, share in zip(parts, (1 - valid - test, valid, test), strict=True):
        assert abs(len(part) / n - share) < 4 * (share * (1 - share) / n) ** 0.5


def test_equal_rows_stay_together():
    x = np.repeat(X, 3, axis=0)
    train, valid = data.split(x)
    assert not {tuple(row) for row in train} & {tuple(row) for row in valid}


@pytest.mark.parametrize(
    "kind", [list, np.array, torch.tensor, lambda g: np.array(g, float), lambda g: [str(v) for v in g]]
)
def test_groups_stay_together(kind):
    group = [i % 40 for i in range(300)]
    train, valid = data.split((X, INDEX), group=kind(group), valid=0.3)
    assert {i % 40 for i in train[1]} | {i % 40 for i in valid[1]} == set(range(40))
    assert not {i % 40 for i in train[1]} & {i % 40 for i in valid[1]}
    assert np.array_equal(valid[0], data.split(X, group=group, valid=0.3)[1])


class Squares(Dataset):
    """Pictures of one grey level each, perhaps with noise."""

    def __init__(self, n=200, noise=False):
        self.n, self.noise = n, noise

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        pixels = np.full((2, 3), i, np.uint8)
        if self.noise:
            pixels[0, 0] = torch.randint(256, ())
        return Image.fromarray(pixels), i


def test_a_dataset_of_pictures():
    train, valid = data.split(Squares())
    pixels = np.arange(200, dtype=np.uint8)[:, None, None, None].repeat(2, 2).repeat(3, 3)
    assert [train.indices, valid.indices] == [part[:, 0, 0, 0].tolist() for part in data.split(pixels)]


def test_a_dataset_that_draws_at_random_is_refused():
    with pytest.raises(ValueError, match=r"changes its examples at random, .*group=range\(len\(dataset\)\)"):
        data.split(Squares(noise=True))
    x = Squares(noise=True)
    assert sum(map(len, data.split(x, group=range(len(x))))) == 200


def test_an_image_folder_goes_by_its_file_names(tmp_path):
    for i in range(60):
        path = tmp_path / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (2, 2), 7).save(path)  # all alike
    parts = data.split(ImageFolder(tmp_path), valid=0.3, test=0.1)
    loaded = data.load(tmp_path, split="0.6,0.3,0.1")
    for part, split in zip(parts, (loaded.train, loaded.valid, loaded.test), strict=True):
        assert [part.dataset.targets[i] for i in part.indices] == split.labels.tolist()
    assert len({len(part) for part in (*parts, loaded.train, loaded.valid, loaded.test)}) == 3


class Endless(IterableDataset):
    def __iter__(self):
        return iter(range(10))


@pytest.mark.parametrize(
    ("x", "options", "error", "message"),
    [
        (X, {"valid": 0}, ValueError, "valid and test must be shares of the data, .*; got valid=0, test=0.0"),
        (X, {"valid": 0.5, "test": 0.5}, ValueError, "the sum below 1"),
        (X, {"valid": -0.1}, ValueError, "got valid=-0.1"),
        (X, {"valid": 20}, ValueError, "got valid=20"),
        (X, {"valid": "0.1"}, ValueError, "got valid='0.1'"),
        (X, {"valid": float("nan")}, ValueError, "got valid=nan"),
        (X[:3], {"test": 0.1}, ValueError, "of 3 examples, none is left for valid. Give more, or other shares"),
        (X, {"group": np.zeros(300)}, ValueError, "of 300 examples, in 1 groups, none is left for"),
        (X, {"group": INDEX[:-1]}, ValueError, r"group must have one value per example, \(300,\); got \(299,\)"),
        (X, {"group": np.where(INDEX > 3, np.nan, 1.0)}, ValueError, "group lacks the value of 296 examples"),
        (X, {"label": "kind"}, ValueError, r"label names a column of a DataFrame; x is a ndarray. Give \(x, labels\)"),
        (X, {"group": "column"}, ValueError, "group must have one value per example"),
        ((X, INDEX[:-1]), {}, ValueError, "context 0 must have one row per example: 300; got 299"),
        ((X, INDEX.tolist()), {}, TypeError, "context 0 must be a tensor or a NumPy array; got list"),
        ((), {}, ValueError, "got an empty one"),
        (torch.tensor(1.0), {}, ValueError, "a first dimension that counts the examples"),
        (DataLoader(X), {}, TypeError, r"a Dataset, not a DataLoader: split\(loader.dataset\)"),
        (Endless(), {}, TypeError, "a torch Dataset with a length; got Endless"),
        ("digits", {}, TypeError, "got str"),
        ("digits", {"group": range(6)}, TypeError, "got str"),
        (DataLoader(X), {"group": INDEX}, TypeError, r"a Dataset, not a DataLoader: split\(loader.dataset\)"),
        (None, {}, TypeError, "got NoneType"),
        ([X.tolist()], {}, ValueError, "x must be a tensor, a NumPy array or a table of numbers; got list"),
    ],
)
def test_bad_input(x, options, error, message):
    with pytest.raises(error, match=message):
        data.split(x, **options)


def frame():
    names = {"name": [f"row {i}" for i in range(300)], "who": INDEX // 5}
    return pd.DataFrame(X, columns=list("abc"), index=INDEX[::-1]).assign(**names)


def test_a_frame_is_split_as_its_file(tmp_path):
    frame().to_csv(tmp_path / "x.csv", index=False)
    for group in (None, "who"):
        parts = data.split(frame(), valid=0.2, test=0.2, group=group)
        loaded = data.load(tmp_path / "x.csv", split="0.6,0.2,0.2", group=group)
        for part, split in zip(parts, (loaded.train, loaded.valid, loaded.test), strict=True):
            assert np.allclose(part[list(split.columns)], split.values.numpy())
            assert part.columns.tolist() == ["a", "b", "c", "name", "who"]
    known = frame().drop(columns="name")  # which is no part of x
    again = data.split(data.table(known).everything, valid=0.2, test=0.2)
    assert [len(part) for part in again] == [len(part) for part in data.split(known, valid=0.2, test=0.2)]
    by_value = data.split(frame(), valid=0.2, group=frame()["who"])
    assert by_value[1].equals(data.split(frame(), valid=0.2, group="who")[1])


def test_a_label_says_nothing_about_where_a_row_goes(tmp_path):
    labelled = frame().assign(kind=INDEX % 3)
    labelled.to_csv(tmp_path / "x.csv", index=False)
    parts = data.split(labelled, valid=0.2, test=0.2, label="kind")
    loaded = data.load(tmp_path / "x.csv", split="0.6,0.2,0.2", label="kind")
    for part, split in zip(parts, (loaded.train, loaded.valid, loaded.test), strict=True):
        assert np.allclose(part[list(split.columns)], split.values.numpy())
        assert part["kind"].tolist() == split.labels.tolist()
    without = data.split(frame(), valid=0.2, test=0.2)
    assert [part.index.tolist() for part in parts] == [part.index.tolist() for part in without]


def test_a_series_is_a_table_of_one_column():
    whole, one = data.split(frame()[["a"]]), data.split(frame()["a"])
    assert all(part["a"].equals(other) for part, other in zip(whole, one, strict=True))


def test_a_column_that_a_frame_lacks():
    with pytest.raises(ValueError, match="group: x has no column 'whom'. Did you mean 'who'"):
        data.split(frame(), group="whom")
    with pytest.raises(ValueError, match="label: x has no column 'kinds'. Did you mean 'kind'"):
        data.split(frame().assign(kind=1), label="kinds")


def test_numbers_that_are_equal_in_single_precision_have_one_key():
    numbers = np.random.default_rng(0).normal(size=5000) * np.logspace(-30, 30, 5000)
    edges = [0.0, 1 + 2.0**-24, 1 + 3 * 2.0**-24, -(1 - 2.0**-25), 2.0**24 + 1, np.inf, -np.inf, np.nan]
    values = np.concatenate([numbers, edges])[:, None]
    in_single = values.astype(np.float32).astype(np.float64)
    assert list(keys_of_table("a", values)) == list(keys_of_table("a", in_single)) == list(keys_of_rows(in_single))
    assert len(set(keys_of_table("a", values))) == len(np.unique(in_single))


def test_keys_and_splits_of_many_rows_are_those_of_each_row_alone():
    values = np.random.default_rng(0).normal(size=(9000, 3))
    keys = list(keys_of_table("abc", values))
    assert len(keys) == 9000
    for start in (0, 4095, 8190):
        assert keys[start : start + 3] == list(keys_of_table("abc", values[start : start + 3]))
    hashes = [int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") / 2**64 for key in keys]
    expected = [sum(u >= end for end in (0.5, 0.75)) for u in hashes]
    assert assign(keys, (0.5, 0.25, 0.25)).tolist() == expected
