"""Tables: judge each column by itself, then all of them together."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from pyro_vae.resolver import class_name
from pyro_vae.suggestions.rules import (
    EXPECTED,
    LOGARITHM,
    SIGMAS,
    Step,
    Suggestion,
    is_bounded,
    judge,
    judge_reals,
    positive_and_skewed,
    reals_over_counts,
)
from pyro_vae.suggestions.values import Values

__all__ = ["judge_columns", "judge_table"]

CLEAR = 10  # Beside columns of reals, whole numbers never below this are rounded reals.
SPAN = 0.75  # Beside columns of reals, a column must span this much of (0, 1) to be a proportion, no measurement.
RARE = 0.2  # With a smaller share of ones, a column of 0 and 1 may be a count that is rarely above 1.

_REALS = {"Normal", "StudentT"}
_KINDS = {
    "Bernoulli": "binary",
    "Normal": "Normal",
    "StudentT": "StudentT",
    **dict.fromkeys(("Categorical", "DiscretizedLogistic"), "levels"),
    **dict.fromkeys(("Poisson", "NegativeBinomial", "ZeroInflatedNegativeBinomial"), "counts"),
    **dict.fromkeys(("Beta", "ContinuousBernoulli"), "unit"),
}


def judge_columns(v: Values) -> list[Suggestion]:
    """Judge each column by itself, and then beside the others; suggest one likelihood for each."""
    columns = _columns(v)
    first = [_judge_column(column) for column in columns]
    first = [judge_reals(c)[0] if _is_rounded(c, s) else s for c, s in zip(columns, first, strict=True)]
    if any(class_name(s.likelihood) in _REALS and c.low < c.high for c, s in zip(columns, first, strict=True)):
        first = [judge_reals(c)[0] if _is_measured(c, s) else s for c, s in zip(columns, first, strict=True)]
    kinds = {_KINDS[class_name(s.likelihood)] for _, s in _settled(columns, first)}
    heavy = [s for _, s in _settled(columns, first) if class_name(s.likelihood) == "StudentT"]
    if kinds == _REALS and 2 * len(heavy) >= len(_settled(columns, first)):
        first = [replace(s, likelihood="StudentT") for s in first]
    return first


def judge_table(v: Values) -> list[Suggestion]:
    """Judge each column by itself; suggest one likelihood if all columns are of one kind, else Mixed."""
    columns, first = _columns(v), judge_columns(v)
    settled = _settled(columns, first)
    kinds = {_KINDS[class_name(s.likelihood)] for _, s in settled}
    alike = len(kinds) <= 1 and not kinds & {"levels", *_REALS} and not any(s.prepare for s in first)
    codes = any(c.low == 0 and c.high == 1 and class_name(s.likelihood) == "Bernoulli" for c, s in settled)
    at_top = [c.high == v.high for c in columns if c.low < c.high]
    one_range = "levels" in kinds and not codes and 2 * sum(at_top) >= len(at_top)  # as pixels have
    pooled = judge(v) if alike or one_range else []
    if alike or (pooled and _KINDS.get(class_name(pooled[0].likelihood)) == "levels"):
        return pooled
    skewed = all(s.prepare == LOGARITHM for s in first)
    return [*_together(v.names, first), *(positive_and_skewed(v) if skewed else [])]


def _columns(v: Values) -> list[Values]:
    return [replace(v, x=v.x[:, j : j + 1], names=(name,)) for j, name in enumerate(v.names)]


def _settled(columns: list[Values], first: list[Suggestion]) -> list[tuple[Values, Suggestion]]:
    """Return the columns whose kind shows, with their suggestions."""
    return [(c, s) for c, s in zip(columns, first, strict=True) if not _is_rare(c)]


def _judge_column(v: Values) -> Suggestion:
    if v.low == v.high and v.low not in (0, 1):
        return Suggestion("Normal", f"always {v.low:.4g}", "Drop what never varies")
    return judge(v)[0]


def _is_measured(v: Values, first: Suggestion) -> bool:
    """Return True if an apparent proportion or count beside columns of reals is a measurement."""
    kind = _KINDS[class_name(first.likelihood)]
    return (kind == "unit" and v.high - v.low < SPAN) or (kind in ("counts", "levels") and v.low >= CLEAR)


def _is_rounded(v: Values, first: Suggestion) -> bool:
    """Return True if apparent counts are rounded reals, such as ages of adults.

    They are far from 0. They vary less than a Poisson's, or a normal or log-normal fits them better than counts do.
    """
    kind = _KINDS[class_name(first.likelihood)]
    if kind not in ("counts", "levels") or v.low < CLEAR or v.levels:
        return False
    return not is_bounded(v) if kind == "levels" else reals_over_counts(v) > SIGMAS**2 / 2


def _is_rare(v: Values) -> bool:
    """Return True if a column of 0 and 1 fits any kind: it never varies, or counts above 1 are too rare to show."""
    n = (~np.isnan(v.x)).sum()
    p = v.count(1) / n
    no_more = v.low == 0 and v.high == 1 and n * (1 - math.exp(-p) * (1 + p)) < EXPECTED
    return v.low == v.high or (no_more and p < RARE)


def _together(names: tuple[str, ...], first: list[Suggestion]) -> list[Suggestion]:
    """Suggest one likelihood of reals if all columns have the same, else Mixed."""
    todo: dict[str, list[str]] = {}
    examples: dict[str, str] = {}
    for name, suggestion in zip(names, first, strict=True):
        examples.setdefault(class_name(suggestion.likelihood), f"{name} ({suggestion.reason})")
        todo.setdefault(suggestion.prepare, []).append(name)
    steps = [
        Step(what, "the columns" if len(of) == len(names) else f"({', '.join(of)})")
        for what, of in todo.items()
        if what
    ]
    *others, last = examples.values()
    such = f"{', '.join(others)} and {last}" if others else last
    if len(examples) == 1 and not _REALS.isdisjoint(examples):
        alike = ("Normal", "StudentT") if "Normal" in examples else ("StudentT", "Laplace")
        return [Suggestion(name, f"columns of reals, such as {such}").with_steps(steps) for name in alike]
    spec = {"class": "Mixed", "columns": {n: s.likelihood for n, s in zip(names, first, strict=True)}}
    return [Suggestion(spec, f"columns of different kinds, such as {such}").with_steps(steps)]
