"""The benchmark of synthetic rows: its halves, and contenders of which one knows what to expect."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("synthetic", ROOT / "benchmarks" / "synthetic.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_halves_have_each_complete_row_once(benchmark):
    table = pd.DataFrame({"x": np.arange(21.0), "y": [None, *"ab" * 10]})
    train, held_out = benchmark.halves(table, seed=3)
    assert (len(train), len(held_out)) == (10, 10)
    assert sorted([*train["x"], *held_out["x"]]) == list(range(1, 21))
    assert not benchmark.halves(table, seed=4)[0].equals(train)
    assert benchmark.halves(table, seed=3)[0].equals(train)


def test_classes_have_names(benchmark):
    assert sorted(benchmark.TABLES["wine"]()["target"].unique()) == ["class_0", "class_1", "class_2"]
    assert benchmark.TABLES["diabetes"]()["target"].dtype == np.float64


def test_copies_and_shuffled_columns(benchmark):
    copies, columns = (benchmark.measure(name, "iris", seed=0) for name in ("copies", "columns"))
    assert copies["columns"] == columns["columns"]
    assert copies["pairs"] < 0.2 < columns["pairs"]
    assert columns["targets"] < 0.2 < copies["targets"]
    assert copies["privacy"] > 0.98  # two flowers of iris are equal, and may be in different halves
    assert columns["discriminator"] > 0.7
    assert benchmark.row("iris", "copies", [copies, copies]).startswith("| iris | copies | 0.")


def test_the_distance_from_the_best_by_hand(benchmark):
    one = {"columns": 0.1, "pairs": 0.2, "targets": 0.75, "discriminator": 0.6, "privacy": 0.4, "seconds": 1.0}
    other = {**one, "privacy": 0.6, "targets": 0.25}
    said = benchmark.distances("VAE", [[one, other], [one, one]])
    assert said == "| distance from the best | VAE | 0.100 | 0.200 | 0.375 | 0.100 | 0.050 | |"


def test_a_vae(benchmark, monkeypatch):
    """After a few steps it is bad, but gives rows that can be compared."""
    monkeypatch.setattr(benchmark, "STEPS", 10)
    found = benchmark.measure("VAE", "iris", seed=0)
    assert all(np.isfinite(value) for value in found.values())
    train, _ = benchmark.halves(benchmark.TABLES["iris"](), seed=0)
    rows = benchmark.by_vae(train, seed=0)
    assert rows.dtypes.equals(train.dtypes)
    assert len(rows) == len(train)
