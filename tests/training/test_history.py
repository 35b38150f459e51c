"""The history on disk and in memory."""

from __future__ import annotations

import json

import pytest

from pyro_vae.training import Epoch, History


def record(epoch, elbo=-1.0, valid=None):
    return Epoch(epoch, -elbo, elbo, elbo + 0.5, 0.5, valid, 0.1)


def test_the_best_epoch_is_that_of_the_highest_validation_bound():
    assert History([record(1, -5, -9.0), record(2, -6, -7.0), record(3, -4, -8.0)]).best.epoch == 2
    assert History([record(1, -5), record(2, -6), record(3, -4)]).best.epoch == 3
    with pytest.raises(ValueError, match="the history is empty"):
        _ = History().best


def test_it_comes_back_from_disk(tmp_path):
    history = History([record(1, -1 / 3), record(2, -0.1, -1e-17)])
    history.write(tmp_path / "h.jsonl")
    assert len((tmp_path / "h.jsonl").read_text().splitlines()) == 2
    assert History.read(tmp_path / "h.jsonl") == history


@pytest.mark.parametrize("line", ["{", "3", '{"epoch": 1}'])
def test_a_damaged_line_is_named(tmp_path, line):
    History([record(1)]).write(tmp_path / "h.jsonl")
    with (tmp_path / "h.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=r"h.jsonl, line 2, is not an epoch"):
        History.read(tmp_path / "h.jsonl")


def test_terms_of_the_objective_are_kept_and_old_files_have_none(tmp_path):
    epoch = Epoch(1, 3.0, -3.0, -2.0, 1.0, None, 0.1, {"beta": 0.5})
    History([epoch]).write(tmp_path / "h.jsonl")
    assert History.read(tmp_path / "h.jsonl") == [epoch]
    line = json.loads((tmp_path / "h.jsonl").read_text())
    del line["terms"]
    (tmp_path / "h.jsonl").write_text(json.dumps(line) + "\n")
    assert History.read(tmp_path / "h.jsonl")[0].terms == {}
