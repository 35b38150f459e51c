"""Batches of anything: every example once an epoch, the same again from the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from pyro_vae import data
from pyro_vae.data import batches

X = torch.arange(10.0).reshape(10, 1)
C = 10 * X


@given(n=st.integers(1, 50), size=st.integers(1, 60), shuffle=st.booleans(), epoch=st.integers(0, 3))
def test_every_example_comes_once_an_epoch(n, size, shuffle, epoch):
    x = torch.arange(float(n)).reshape(n, 1)
    supply = batches((x, -x), size, shuffle=shuffle, seed=1)
    drawn = list(supply.epoch(epoch))
    assert len(drawn) == len(supply)
    assert supply.examples == n
    assert all(len(b) <= size for b, _ in drawn)
    assert all(torch.equal(b, -c) for b, c in drawn)
    assert sorted(torch.cat([b for b, _ in drawn]).flatten().tolist()) == list(range(n))


def test_epochs_repeat_from_the_seed_and_differ_from_each_other():
    def order(seed, epoch):
        return torch.cat([b for (b,) in batches(X, 3, shuffle=True, seed=seed).epoch(epoch)]).flatten().tolist()

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_batches_show_how_many_there_are():
    assert repr(batches(X, 3, seed=5)) == "Batches(4 batches of 10 examples, seed=5)"
    endless = data.Batches(0, 0, lambda seed: iter(()), 0)
    assert repr(endless) == "Batches(an unknown number of batches, seed=0)"


def test_without_shuffling_the_order_stays():
    assert torch.equal(torch.cat([b for (b,) in batches(X, 3)]), X)


def test_images_are_binarised_anew_each_epoch_and_again_from_the_seed():
    supply = batches(data.load("digits", binarize="dynamic").train, 100)

    def epoch(number):
        return torch.cat([x for (x,) in supply.epoch(number)])

    assert torch.equal(epoch(0), epoch(0))
    changed = (epoch(0) != epoch(1)).float().mean()
    assert 0.05 < changed < 0.5


def test_labels_of_images_come_as_context():
    digits = data.load("digits", labels=True)
    x, c = next(iter(batches(digits.test, 300, shuffle=True, dtype=torch.float64)))
    assert x.shape == (300, 1, 8, 8)
    assert x.dtype == c.dtype == torch.float64
    assert torch.bincount(c.argmax(1)).tolist() == torch.bincount(digits.test.labels).tolist()


def test_arrays_and_tuples():
    (x, c), *_ = batches((X.double().numpy(), np.arange(10)), 4)
    assert x.dtype == torch.float32
    assert c.dtype == torch.int64
    assert torch.equal(x, X[:4])


@pytest.mark.parametrize("context", [False, True])
def test_data_sets_and_loaders(context):
    dataset = TensorDataset(X, C)
    loader = DataLoader(dataset, batch_size=4)
    for source in (dataset, loader):
        drawn = list(batches(source, 4, has_context=context))
        assert [len(b[0]) for b in drawn] == [4, 4, 2]
        assert torch.equal(torch.cat([b[0] for b in drawn]), X)
        assert all(len(b) == 1 + context for b in drawn)


def test_a_shuffling_loader_repeats_from_the_seed():
    def order(seed, epoch):
        supply = batches(TensorDataset(X), 3, shuffle=True, seed=seed)
        return torch.cat([b for (b,) in supply.epoch(epoch)]).flatten().tolist()

    before = torch.get_rng_state()
    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert torch.equal(before, torch.get_rng_state())


def test_iterable_data_sets():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(X)

    supply = batches(Stream(), 4)
    assert len(supply) == 0
    assert torch.equal(torch.cat([b for (b,) in supply]), X)
    assert torch.equal(torch.cat([b for (b,) in supply.epoch(1)]), X)


def test_loaders_know_their_examples_and_repeat_with_a_generator_of_their_own():
    loader = DataLoader(TensorDataset(X), batch_size=4, shuffle=True, generator=torch.Generator())
    supply = batches(loader, seed=1)
    assert (len(supply), supply.examples) == (3, 10)
    again = batches(loader, seed=1)
    for epoch in (0, 1):
        assert [b.tolist() for (b,) in supply.epoch(epoch)] == [b.tolist() for (b,) in again.epoch(epoch)]


def test_a_loader_that_drops_everything_is_named():
    with pytest.raises(ValueError, match="gives no batch: drop_last=True and fewer examples than its batch_size"):
        batches(DataLoader(TensorDataset(X), batch_size=11, drop_last=True))


def test_batches_pass_through():
    supply = batches(X)
    assert batches(supply) is supply


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (torch.zeros(0, 3), ValueError, "data must hold at least one example; got none"),
        ((), ValueError, "data must hold at least one example; got none"),
        (TensorDataset(torch.zeros(0, 3)), ValueError, "data must hold at least one example; got none"),
        ((X, C[:9]), ValueError, "context 0 must have one row per example: 10; got 9"),
        (torch.tensor(1.0), ValueError, "must have a first dimension that counts the examples"),
        ((X, ["a"] * 10), TypeError, "context 0 must be a tensor, a NumPy array or a table of numbers; got list"),
        (
            "mnist",
            TypeError,
            r"data must be a split of pyro_vae.data.load, .*; got str. Load it first: data.load\('mnist'\).train",
        ),
        (None, TypeError, "got NoneType"),
    ],
)
def test_what_holds_no_data_is_refused(source, error, message):
    with pytest.raises(error, match=message):
        batches(source)


def test_empty_images_are_refused():
    with pytest.raises(ValueError, match="at least one example"):
        batches(data.load("digits").train[:0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be an integer of at least 1; got 0"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        batches(X, **options)
