"""The history on disk and in memory."""

from __future__ import annotations

import json

import numpy as np
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


def test_a_history_shows_as_a_table():
    assert repr(History()) == "History(no epoch was finished)"
    two = History(
        [
            Epoch(1, loss=100.0, elbo=-100.0, recon=-90.25, kl=9.75, valid_elbo=-101.125, seconds=0.5),
            Epoch(2, loss=95.0, elbo=-95.0, recon=-85.0, kl=10.0, valid_elbo=None, seconds=0.5),
        ]
    )
    assert repr(two).splitlines() == [
        "epoch     elbo   recon     kl  valid elbo",
        "    1  -100.00  -90.25   9.75     -101.12",
        "    2   -95.00  -85.00  10.00           -",
        "best: epoch 2",
    ]
    assert two._repr_html_().count("<tr>") == 3
    assert "<td>-101.12</td>" in two._repr_html_()


def test_a_long_history_shows_both_ends():
    long = History([Epoch(i, 1.0, -float(i), -1.0, 1.0, None, 0.5) for i in range(1, 31)])
    lines = repr(long).splitlines()
    assert [line.split()[0] for line in lines] == [
        *("epoch", "1", "2", "3", "4", "5", "6", "...", "25", "26", "27", "28", "29", "30", "best:")
    ]
    assert len(repr(History(long[:12])).splitlines()) == 14
    assert long._repr_html_().count("<tr>") == 31


def of_valid_elbos(values):
    return History([Epoch(i, 1.0, -1.0, -1.0, 0.0, float(v), 0.1) for i, v in enumerate(values, 1)])


def test_a_fall_of_the_validation_elbo_is_told_from_its_noise():
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.normal(size=200)
    rise = np.minimum(np.arange(200) / 50, 1.0)
    assert of_valid_elbos(rise + noise).fall_after_best is None
    fall = np.clip((np.arange(200) - 60) / 140, 0, 1)
    assert of_valid_elbos(rise - fall + noise).fall_after_best == pytest.approx(0.94, abs=0.15)
    assert of_valid_elbos([1.0, 0.0]).fall_after_best is None
    assert History().fall_after_best is None
    assert History([Epoch(1, 1.0, -1.0, -1.0, 0.0, None, 0.1)] * 30).fall_after_best is None
