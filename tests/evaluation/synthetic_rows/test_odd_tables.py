"""Tables that have little to say, or strange values: no failure, no warning, and the same numbers as ever."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

from pyro_vae.evaluation import synthetic
from pyro_vae.plots import synthetic_rows

rng = np.random.default_rng(0)
REALS, WORDS = rng.normal(size=(2, 30)), np.array(["a", "b"] * 15, dtype=object)
ODD = {
    "one number": {"x": REALS[0]},
    "labels alone": {"x": WORDS},
    "rows all alike": {"x": np.zeros(30), "y": np.full(30, "a", dtype=object)},
    "one value known": {"x": [1.0, *[np.nan] * 29], "y": REALS[0]},
    "intervals": {"x": pd.cut(REALS[0], 3), "y": REALS[1]},
    "huge": {"x": REALS[0] * 1e300, "y": REALS[1]},
    "tiny": {"x": REALS[0] * 1e-300, "y": REALS[1]},
    "the year 9999": {"x": [datetime.date(9999, 1, 1), *[datetime.date(1800, 1, 1)] * 29], "y": REALS[0]},
    "a category never used": {"x": pd.Categorical(WORDS, categories=["a", "b", "c"]), "y": REALS[0]},
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ODD)
def test_odd_tables(name):
    """No warning, no failure; a table beside itself has no distance, and each score is that of the training rows."""
    frame = pd.DataFrame(ODD[name])
    found = synthetic(frame, frame, frame)
    assert (found.columns["synthetic"] == 0).all()
    assert (found.pairs["difference"] == 0).all()
    assert (found.targets["synthetic"] == found.targets["training"]).all()
    assert found.privacy.value == 0.5
    assert found.copies == {"synthetic": 1, "held_out": 1}
    assert str(found)
    assert found._repr_html_()


def test_a_target_far_from_all_real_rows_is_a_bad_one():
    held_out = pd.DataFrame({"x": REALS[0], "y": REALS[0] + REALS[1]})
    assert synthetic(held_out, held_out * 1e300, held_out, target="y").targets.loc["y", "synthetic"] < -1000


def test_columns_named_by_numbers():
    frames = [pd.DataFrame(np.random.default_rng(i).normal(size=(30, 2))) for i in range(3)]
    assert synthetic(*frames, target=1).targets.index.to_list() == ["1"]
    assert synthetic(*frames, target=[]).targets.empty


@pytest.mark.filterwarnings("error")
def test_the_figure_of_a_table_with_nothing_but_a_column(tmp_path):
    frame = pd.DataFrame(ODD["one number"])
    synthetic_rows(synthetic(frame, frame, frame)).savefig(tmp_path / "f.png")
