"""The data that fit() takes, and those that it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from pyro_vae import fit
from tests.conftest import make_context, make_vae, make_x
from tests.training.fitting.conftest import same, train, weights


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        lambda x: x.numpy(),
        lambda x: (x,),
        lambda x: TensorDataset(x, torch.arange(len(x))),
        lambda x: DataLoader(TensorDataset(x, torch.arange(len(x))), batch_size=16, shuffle=True),
    ],
    ids=["tensor", "array", "tuple", "dataset", "loader"],
)
def test_any_kind_of_data_trains(wrap):
    vae = make_vae()
    before = weights(vae)
    history = train(vae, wrap(make_x(n=40)), valid=wrap(make_x(n=20)))
    assert len(history) == 3
    assert not same(before, weights(vae))


def test_context_of_a_loader_is_taken_if_the_vae_has_one():
    dataset = TensorDataset(make_x(n=40), *make_context(4, n=40))
    expected = train(make_vae(context=4), dataset, has_context=True)
    assert [e.loss for e in train(make_vae(context=4), dataset)] == [e.loss for e in expected]
    with pytest.raises(ValueError, match="was built for 4 context features; got 0.*has_context=True"):
        train(make_vae(context=4), dataset, has_context=False)


@pytest.mark.parametrize("place", ["train", "valid"])
def test_bad_data_are_refused_before_anything_is_written(tmp_path, place):
    grey = torch.linspace(0, 0.996, 12, dtype=torch.float64).reshape(2, 2, 3)
    nan = torch.full((2, 2, 3), math.nan, dtype=torch.float64)
    for bad, message in (
        (grey, r"^likelihood Bernoulli needs x in \{0, 1\}; got values in \[0, 0.996\]"),
        (nan, "^x has NaN"),
        (torch.zeros(0, 2, 3), "data must hold at least one example; got none"),
        (torch.zeros(4, 3, 3), r"MLP needs input of shape \(batch, 2, 3\); got \(4, 3, 3\)"),
        ((make_x(n=4), torch.zeros(3, 4)), "context 0 must have one row per example: 4; got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(make_vae(), **{"train": make_x(), "valid": make_x(), place: bad}, out=tmp_path, progress=False)
        assert not list(tmp_path.iterdir())


def test_an_empty_stream_is_refused():
    class Empty(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(())

    with pytest.raises(ValueError, match="valid must hold at least one example; got none"):
        train(make_vae(), valid=Empty())


def test_an_iterator_that_runs_dry_is_named():
    class Once(torch.utils.data.IterableDataset):
        def __init__(self):
            self.rows = iter(make_x(n=20))

        def __iter__(self):
            return self.rows

    with pytest.raises(ValueError, match="gave no batch in epoch 1; an iterator gives its data only once"):
        train(make_vae(), Once(), batch_size=30)
