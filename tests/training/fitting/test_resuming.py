"""A training goes on where it was stopped."""

from __future__ import annotations

import pytest

from pyro_vae import load
from pyro_vae.checkpoints import read_last
from pyro_vae.training import History, fitting
from tests.conftest import make_context, make_vae, make_x
from tests.training.fitting.conftest import records, same, train, weights


@pytest.mark.parametrize("changed", [{"lr": 0.5}, {"batch_size": 8}, {"seed": 9}, {"schedule": "constant"}])
def test_a_training_goes_on_only_with_the_same_options(tmp_path, changed):
    train(make_vae(), out=tmp_path)
    text = (tmp_path / "config.yaml").read_text()
    ((name, value),) = changed.items()
    with pytest.raises(ValueError, match=f"was trained with {name} = .*; got {value}. Go on with the same"):
        train(make_vae(), out=tmp_path, resume=True, epochs=5, **changed)
    assert (tmp_path / "config.yaml").read_text() == text


def test_an_early_stopped_training_stays_stopped(tmp_path):
    options = {"valid": make_x(n=20), "epochs": 200, "lr": 0.3, "schedule": "constant", "patience": 3, "out": tmp_path}
    vae = make_vae()
    history = train(vae, **options)
    assert records(train(make_vae(), **options, resume=True)) == records(history)


class StopError(Exception):
    pass


@pytest.mark.parametrize("stopped_at", [1, 3])
def test_a_resumed_training_gives_the_bits_of_an_unbroken_one(tmp_path, stopped_at):
    options = {"valid": make_x(n=10), "epochs": 5, "seed": 1}
    unbroken, broken = make_vae(), make_vae()
    whole = train(unbroken, **options)

    def stop(record):
        if record.epoch == stopped_at:
            raise StopError

    with pytest.raises(StopError):
        train(broken, **options, out=tmp_path, on_epoch=stop)
    fresh = make_vae(seed=7)
    resumed = train(fresh, **options, out=tmp_path, resume=True)
    assert same(weights(fresh), weights(unbroken))
    assert records(resumed) == records(whole)
    assert same(weights(load(tmp_path)), weights(unbroken))


def test_checkpoints_are_written_while_training_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "_SECONDS_BETWEEN_WRITES", 0.0)
    seen = []
    train(make_vae(), out=tmp_path, on_epoch=lambda r: seen.append(len(History.read(tmp_path / "history.jsonl"))))
    assert seen == [1, 2, 3]


def test_resuming_a_finished_training_changes_nothing(tmp_path):
    vae = make_vae()
    train(vae, out=tmp_path, valid=make_x())
    files = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.name != "last.safetensors"}
    last = read_last(tmp_path)
    other = make_vae(seed=5)
    assert len(train(other, out=tmp_path, valid=make_x(), resume=True)) == 3
    assert same(weights(other), weights(vae))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.name != "last.safetensors"} == files
    again = read_last(tmp_path)
    assert same(again[0], last[0])
    assert again[2] == last[2]
    assert all(same(again[1][i], last[1][i]) for i in last[1])


def test_resuming_what_is_not_there_or_of_another_vae(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing to go on from"):
        train(make_vae(), out=tmp_path, resume=True)
    train(make_vae(), out=tmp_path)
    with pytest.raises(
        ValueError, match="has finished 3 epochs already; to go on, ask for more epochs than that, not 2"
    ):
        train(make_vae(), out=tmp_path, epochs=2, resume=True)
    with pytest.raises(ValueError, match="holds the training of another VAE"):
        train(make_vae("normal_fixed", context=4), (make_x(n=40), *make_context(4, n=40)), out=tmp_path, resume=True)
