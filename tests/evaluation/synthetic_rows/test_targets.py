"""Scores of predictions, beside scikit-learn's own."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, r2_score

from pyro_vae.evaluation.synthetic_rows.tables import Column, Table
from pyro_vae.evaluation.synthetic_rows.targets import check_targets, drawn_targets, score_target
from pyro_vae.evaluation.synthetic_rows.trees import classifier, regressor
from tests.evaluation.synthetic_rows.frames import numbers

COLUMNS = (Column("x", "number"), Column("class", "category", ("a", "b", "c")))


def line(n, seed, slope=1.0, noise=0.1):
    """A column, and one that depends on it."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return numbers(np.stack([x, slope * x + noise * rng.normal(size=n)], 1))


def classes(n, seed, shift=0):
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, n, p=[0.7, 0.2, 0.1])
    return Table(COLUMNS, np.stack([rng.normal(size=n) + 3 * labels, (labels + shift) % 3], 1).astype(float))


def test_r2_is_that_of_scikit_learn():
    tables = {"synthetic": line(200, 0, slope=0.5), "train": line(200, 1), "held_out": line(100, 2)}
    found = score_target(tables, "x1", 7)
    assert (found.target, found.measure) == ("x1", "R²")
    x, y = tables["held_out"].values.T
    for name in ("synthetic", "train"):
        model = regressor([COLUMNS[0]], 200, 7).fit(tables[name].values[:, :1], tables[name].values[:, 1])
        score = found.synthetic if name == "synthetic" else found.training
        assert score == pytest.approx(r2_score(y, model.predict(x[:, None])))
    assert found.training > 0.95
    # The slope of a half leaves a quarter of the variance.
    assert found.synthetic == pytest.approx(0.75, abs=0.1)


def test_the_accuracy_is_that_of_scikit_learn():
    tables = {"synthetic": classes(300, 0), "train": classes(300, 1), "held_out": classes(200, 2)}
    found = score_target(tables, "class", 7)
    model = classifier([COLUMNS[0]], 300, 7).fit(tables["train"].values[:, :1], tables["train"].values[:, 1])
    truth, guess = tables["held_out"].values[:, 1], model.predict(tables["held_out"].values[:, :1])
    assert found.measure == "balanced accuracy"
    assert found.training == pytest.approx(balanced_accuracy_score(truth, guess, adjusted=True))
    assert found.synthetic > 0.6


def test_wrong_labels_are_worse_than_a_constant():
    tables = {"synthetic": classes(300, 0, shift=1), "train": classes(300, 1), "held_out": classes(200, 2)}
    assert score_target(tables, "class", 0).synthetic < -0.3


def test_a_single_class_is_as_good_as_a_constant():
    one = Table(COLUMNS, np.stack([np.arange(30.0), np.zeros(30)], 1))
    found = score_target({"synthetic": one, "train": classes(100, 1), "held_out": classes(100, 2)}, "class", 0)
    assert found.synthetic == 0


def test_rows_without_the_target_have_no_part():
    train, held_out = line(100, 0), line(50, 1)
    gaps = numbers(np.concatenate([train.values, [[5.0, np.nan]] * 30]))
    found = score_target({"synthetic": gaps, "train": train, "held_out": held_out}, "x1", 0)
    assert found.synthetic == found.training
    more = numbers(np.concatenate([held_out.values, [[5.0, np.nan]] * 30]))
    assert score_target({"synthetic": gaps, "train": train, "held_out": more}, "x1", 0) == found


def tables_of(values, held_out=None):
    table = numbers(values)
    return {"train": table, "synthetic": table, "held_out": table if held_out is None else numbers(held_out)}


GOOD = np.random.default_rng(0).normal(size=(30, 3))


def test_a_target_that_is_no_column():
    with pytest.raises(ValueError, match="target must be a column that is compared; got 'x11'. Did you mean x1?"):
        check_targets("x11", tables_of(GOOD))
    assert check_targets("x1", tables_of(GOOD)) == ["x1"]
    assert check_targets(["x2", "x0"], tables_of(GOOD)) == ["x2", "x0"]


def test_targets_that_cannot_be_predicted():
    constant, gaps = GOOD.copy(), GOOD.copy()
    constant[:, 1], gaps[5:, 2] = 1, np.nan
    with pytest.raises(ValueError, match="'x1' cannot be predicted: all its values in train are the same"):
        check_targets("x1", tables_of(constant))
    with pytest.raises(ValueError, match="'x1' cannot be predicted: all its values in held_out are the same"):
        check_targets("x1", tables_of(GOOD, constant))
    with pytest.raises(ValueError, match="'x2' cannot be predicted: only 5 of its values in held_out are known"):
        check_targets("x2", tables_of(GOOD, gaps))
    with pytest.raises(ValueError, match="'x0' cannot be predicted: there is no other column to predict it from"):
        check_targets("x0", tables_of(GOOD[:, :1]))
    assert drawn_targets(tables_of(constant), 20, 0) == (
        ["x0", "x2"],
        ["'x1' is no target: all its values in train are the same"],
    )


def test_a_target_of_too_many_classes():
    columns = (COLUMNS[0], Column("class", "category", tuple(range(60))))
    table = Table(columns, np.stack([np.arange(120.0), np.arange(120) % 60], 1))
    tables = dict.fromkeys(("train", "synthetic", "held_out"), table)
    with pytest.raises(ValueError, match="'class' cannot be predicted: it has more than 50 categories"):
        check_targets("class", tables)


def test_some_of_many_targets_are_drawn():
    tables = tables_of(np.random.default_rng(1).normal(size=(20, 9)))
    names, notes = drawn_targets(tables, 4, 0)
    assert len(set(names)) == 4
    assert notes == ["4 of 9 targets are drawn at random; name them with target="]
    assert drawn_targets(tables, 4, 0) == (names, notes)
    assert any(drawn_targets(tables, 4, seed)[0] != names for seed in range(1, 4))
