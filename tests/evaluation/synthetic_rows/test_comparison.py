"""All measures together: what must hold, and what a generator that copies cannot hide."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pyro_vae.evaluation import synthetic
from pyro_vae.evaluation.synthetic_rows import comparison
from tests.evaluation.synthetic_rows.frames import people

TRAIN, HELD_OUT, FRESH = people(120), people(80, 1), people(100, 2)


@pytest.fixture(scope="module")
def report():
    return synthetic(TRAIN, FRESH, HELD_OUT, target=["weight", "sex"])


def assert_same(found, other):
    for name in ("columns", "pairs", "targets"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(other, name))
    assert (found.discriminator, found.privacy) == (other.discriminator, other.privacy)
    assert (found.copies, found.rows, found.notes) == (other.copies, other.rows, other.notes)


def test_the_order_of_rows_and_columns_changes_nothing(report):
    mixed = [frame.sample(frac=1, random_state=i) for i, frame in enumerate((TRAIN, FRESH, HELD_OUT))]
    assert_same(report, synthetic(*mixed, target=["sex", "weight"]))
    columns = list(TRAIN.columns[::-1])
    found = synthetic(TRAIN[columns], FRESH, HELD_OUT[sorted(columns)], target=["weight", "sex"])
    assert found.columns.index.to_list() == columns
    pd.testing.assert_frame_equal(found.columns.loc[report.columns.index], report.columns)
    pd.testing.assert_frame_equal(found.targets.loc[report.targets.index], report.targets)
    assert (found.discriminator, found.privacy) == (report.discriminator, report.privacy)
    np.testing.assert_allclose(found.to_frame(), report.to_frame(), rtol=1e-12)


def test_rows_of_one_distribution_are_as_good_as_training_rows(report):
    """The privacy and the discriminator are within four of their standard errors of 0.5 (1e-4 for both)."""
    for measured in (report.discriminator, report.privacy):
        assert measured.value == pytest.approx(0.5, abs=4 * measured.standard_error)
    assert report.copies == {"synthetic": 0, "held_out": 0}
    # Two samples of one distribution: no distance exceeds 1.95 √(1 / n + 1 / m) but once in 500 (Kolmogorov).
    assert (report.columns[["synthetic", "training"]] < 1.95 * (1 / 60 + 1 / 60) ** 0.5).all(axis=None)
    assert report.columns.index.to_list() == list(TRAIN.columns)
    assert report.targets.index.to_list() == ["weight", "sex"]
    assert report.rows == {"train": 120, "synthetic": 100, "held_out": 80}
    assert report.notes == ()


def test_copies_look_good_and_are_caught():
    found = synthetic(TRAIN, TRAIN, HELD_OUT, target="sex")
    assert found.columns["synthetic"].equals(found.columns["training"].rename("synthetic"))
    assert (found.targets["synthetic"] == found.targets["training"]).all()
    assert (found.privacy.value, found.copies["synthetic"]) == (1, 1)
    assert found.privacy.value > 0.5 + 5 * found.privacy.standard_error
    assert found.discriminator.value == pytest.approx(0.5, abs=4 * found.discriminator.standard_error)


def test_without_held_out_rows():
    found = synthetic(TRAIN, TRAIN)
    assert found.targets is None
    assert found.privacy is None
    assert found.copies == {"synthetic": 1}
    assert (found.columns["synthetic"] == 0).all()
    assert found.columns["training"].isna().all()
    assert found.pairs["training_difference"].isna().all()
    assert found.discriminator.value < 0.3
    assert found.notes == ("there are no held-out rows: copies of training rows count as good rows",)
    with pytest.raises(ValueError, match="target needs held_out"):
        synthetic(TRAIN, FRESH, target="sex")


def test_a_generator_that_forgets(monkeypatch):
    """It shuffles each column by itself, makes one constant and another all new: each number says so."""
    monkeypatch.setattr(comparison, "_MOST_TARGETS", 2)
    rng = np.random.default_rng(0)
    made = pd.DataFrame({name: rng.permutation(FRESH[name].astype(object)) for name in FRESH}).astype(FRESH.dtypes)
    made = made.assign(children=1, city=pd.Series(["Rome", "Bonn"] * 49 + ["Rome", None], dtype="category"))
    found = synthetic(TRAIN, made, HELD_OUT)
    truth = HELD_OUT["children"]
    assert found.columns.loc["children", "synthetic"] == pytest.approx(max((truth < 1).mean(), (truth > 1).mean()))
    assert found.columns.loc["city", "synthetic"] >= 0.49
    pairs = found.pairs.set_index(["first", "second"])
    assert pairs.loc[("weight", "height"), "real"] > 0.7
    assert abs(pairs.loc[("weight", "height"), "synthetic"]) < 0.4  # 4 / √(80 rows)
    assert pairs.loc[("weight", "children"), "synthetic"] == 0
    assert found.discriminator.value > 0.9
    assert len(found.targets) == 2
    assert found.notes == (
        "'city' has categories in 49.00% of the synthetic rows that no real row has: 'Bonn'",
        "2 of 7 targets are drawn at random; name them with target=",
    )


def test_a_target_of_integers_has_a_note():
    frames = [frame[:40].assign(sex=frame["sex"].map({"f": 0, "m": 1})) for frame in (TRAIN, FRESH, HELD_OUT)]
    assert synthetic(*frames, target="sex").notes == (
        "'sex' has the integers 0, 1 and is predicted as a number; for classes, make it a category in all tables",
    )


def test_held_out_rows_that_are_training_rows_have_a_note():
    assert synthetic(TRAIN[:40], FRESH[:40], TRAIN[:40], target="sex").notes == (
        "100.00% of the held-out rows equal a training row: privacy and copies say little about the generator",
    )


def test_complete_rows_have_a_note_with_a_remedy():
    complete = FRESH.dropna().reset_index(drop=True)
    (note,) = synthetic(TRAIN, complete, HELD_OUT, target="sex").notes
    assert note.startswith("only real rows have gaps in 'weight', ")
    assert ", which the discriminator sees. To compare the values alone, give the synthetic rows the gaps of" in note
    remedy = note.split(": ")[-1].replace("replace=True", "replace=True, random_state=0")
    with_gaps = eval(remedy, {"synthetic": complete, "train": TRAIN})
    assert (with_gaps.isna().any() == TRAIN.isna().any()).all()
    assert with_gaps["height"].equals(complete["height"])


def test_errors():
    with pytest.raises(ValueError, match="target must be a column that is compared; got 'sx'. Did you mean sex?"):
        synthetic(TRAIN, FRESH, HELD_OUT, target="sx")
    with pytest.raises(ValueError, match="seed must be an integer of at least 0"):
        synthetic(TRAIN, FRESH, HELD_OUT, seed=-1)


def test_a_large_table_is_subsampled(monkeypatch):
    for name in ("_MOST_ROWS", "_MOST_ROWS_OF_TREES", "_MOST_SYNTHETIC_ROWS", "_MOST_REAL_ROWS"):
        monkeypatch.setattr(comparison, name, 30)
    found = synthetic(TRAIN, TRAIN, HELD_OUT, target="sex")
    assert found.columns.loc["height", "synthetic"] == found.columns.loc["height", "training"]
    assert found.copies["synthetic"] == 1
    assert found.privacy.value < 1
