"""How well a model that was trained on synthetic rows predicts real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyro_vae.argument_checks import near_miss
from pyro_vae.evaluation.synthetic_rows.tables import Table
from pyro_vae.evaluation.synthetic_rows.trees import classifier, fitted, regressor, with_few_labels

__all__ = ["Score", "check_targets", "drawn_targets", "score_target"]

_FEWEST_ROWS = 10
_FURTHEST = 1e12  # in units of the real rows
_MOST_CLASSES = 50  # each costs a tree a round


@dataclass(frozen=True)
class Score:
    """How well one column is predicted from the others, on real rows that no model has seen.

    Args:
        target: the column.
        measure: "R²", or "balanced accuracy" from 0 (chance) to 1.
        synthetic: the score of a model trained on synthetic rows.
        training: the score of the same model trained on as many training rows.
    """

    target: str
    measure: str
    synthetic: float
    training: float


def check_targets(target: str | Sequence[str], tables: Mapping[str, Table]) -> list[str]:
    """Return the targets as a list.

    Raises:
        ValueError: if one is no column, or cannot be predicted.
    """
    names = tables["train"].names
    several = isinstance(target, Sequence) and not isinstance(target, str)
    targets = [str(name) for name in (target if several else [target])]
    for name in targets:
        if name not in names:
            raise ValueError(f"target must be a column that is compared; got {name!r}{near_miss(name, names)}")
        problem = _problem(names.index(name), tables)
        if problem:
            raise ValueError(f"target {name!r} cannot be predicted: {problem}")
    return targets


def drawn_targets(tables: Mapping[str, Table], most: int, seed: int) -> tuple[list[str], list[str]]:
    """Return the columns that can be predicted, ``most`` of them drawn at random if there are more, and notes."""
    names, notes = [], []
    for index, column in enumerate(tables["train"].columns):
        problem = _problem(index, tables)
        if problem:
            notes.append(f"{column.name!r} is no target: {problem}")
        else:
            names.append(column.name)
    if len(names) > most:
        notes.append(f"{most} of {len(names)} targets are drawn at random; name them with target=")
        chosen = np.random.default_rng(seed).choice(len(names), most, replace=False)
        names = [names[i] for i in sorted(chosen)]
    return names, notes


def _problem(index: int, tables: Mapping[str, Table]) -> str:
    """Return why a column is no target; nothing if it is one."""
    if len(tables["train"].columns) < 2:
        return "there is no other column to predict it from"
    for name, table in tables.items():
        known = table.known(index)
        if len(known) < _FEWEST_ROWS:
            return f"only {len(known)} of its values in {name} are known"
    for name in ("train", "held_out"):
        if tables[name].is_constant(index):
            return f"all its values in {name} are the same"
    column = tables["train"].columns[index]
    if column.has_labels and len(np.unique(tables["train"].known(index))) > _MOST_CLASSES:
        return f"it has more than {_MOST_CLASSES} categories"
    return ""


def score_target(tables: Mapping[str, Table], target: str, seed: int) -> Score:
    """Return the score of a target by scikit-learn's boosted trees.

    Args:
        tables: named train, synthetic and held_out, of which all rows are used.
        target: the name of a column.
        seed: of the fits.
    """
    index = tables["train"].names.index(target)
    synthetic, train = (_score(tables[name], tables["held_out"], index, seed) for name in ("synthetic", "train"))
    is_class = tables["train"].columns[index].has_labels
    return Score(target, "balanced accuracy" if is_class else "R²", synthetic, train)


def _score(train: Table, test: Table, index: int, seed: int) -> float:
    """Return the score on the test rows of a model for a column, which is trained on other rows."""
    (x, y), (test_x, test_y) = _features(train, index), _features(test, index)
    others = [column for j, column in enumerate(train.columns) if j != index]
    if not train.columns[index].has_labels:
        # The trees compute in single precision, so give them numbers around 1.
        middle = np.median(test_y)
        unit = np.abs(test_y - middle).max()
        truth, targets = (test_y - middle) / unit, np.clip((y - middle) / unit, -_FURTHEST, _FURTHEST)
        predicted = fitted(regressor(others, len(y), seed), x, targets).predict(test_x)
        return float(1 - ((truth - predicted) ** 2).mean() / truth.var())
    if (y == y[0]).all():  # scikit-learn fits no classifier to one class
        predicted = np.full(len(test_y), y[0])
    else:
        predicted = fitted(classifier(others, len(y), seed), x, y).predict(test_x)
    classes = np.unique(test_y)
    recall = np.mean([(predicted[test_y == c] == c).mean() for c in classes])
    return float((recall - 1 / len(classes)) / (1 - 1 / len(classes)))


def _features(table: Table, index: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the other columns and the column itself, of the rows in which it is known."""
    known = ~np.isnan(table.values[:, index])
    others = [column for j, column in enumerate(table.columns) if j != index]
    x = with_few_labels(others, np.delete(table.values, index, 1))
    return x[known], table.values[known, index]
