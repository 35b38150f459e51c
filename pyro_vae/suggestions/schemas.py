"""The schema of a table, completed: the kind and the likelihood of each column, its mean and standard deviation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_vae.data import DataSet, Rows
from pyro_vae.data.schema import CODED, Column, Kind, Schema
from pyro_vae.data.tables import rows_of_columns, columns_of_frame
from pyro_vae.data.frames import is_frame
from pyro_vae.data.reading import Reading
from pyro_vae.registry import Spec
from pyro_vae.resolver import as_mapping, class_name
from pyro_vae.suggestions.rules import LOGARITHM, Suggestion
from pyro_vae.suggestions.tables import judge_columns
from pyro_vae.suggestions.values import Values

__all__ = ["completed", "encoding_of", "likelihood_of", "standardised"]

_KINDS: Mapping[str, Kind] = {
    "Bernoulli": "binary",
    "Normal": "real",
    "StudentT": "real",
    "Laplace": "real",
    **dict.fromkeys(("Categorical", "DiscretizedLogistic"), "ordered"),
    **dict.fromkeys(("Poisson", "NegativeBinomial", "ZeroInflatedNegativeBinomial"), "count"),
    **dict.fromkeys(("Beta", "ContinuousBernoulli", "LogitNormal"), "proportion"),
}
_LOCATION_SCALE = ("Normal", "StudentT", "Laplace")
_WIDEST = 50  # of an embedding


def completed(schema: Schema, train: Rows, everything: Rows | None = None) -> Schema:
    """Return a schema in which each column of x has a kind, a likelihood, and the moments of the training rows.

    What it says already stays.

    Args:
        schema: of the table.
        train: rows to train on, which give means and standard deviations.
        everything: all rows, from which the likelihoods are chosen; by default ``train``.
    """
    of_train = _numbers(train)
    rows = of_train if everything is None else _numbers(everything)
    open_ = [i for i, column in enumerate(schema.data) if column.kind == "number" and not np.isnan(rows[:, i]).all()]
    judged = dict(zip(open_, _judged(rows[:, open_], [schema.data[i].name for i in open_]), strict=True))
    done = [
        _with_moments(_with_likelihood(_judged_as(column, rows[:, i], judged.get(i))), of_train[:, i])
        for i, column in enumerate(schema.data)
    ]
    return schema.with_columns(done)


def _numbers(rows: Rows) -> NDArray[np.float64]:
    return np.concatenate([some.double().numpy() for some in rows.stored()])


def _judged(x: NDArray[np.float64], names: list[str]) -> list[Suggestion]:
    return judge_columns(Values(x, tuple(names))) if names else []


def _judged_as(column: Column, numbers: NDArray[np.float64], suggestion: Suggestion | None) -> Column:
    """Return a column of numbers of the kind that was suggested."""
    if suggestion is None:
        return replace(column, kind="real") if column.kind == "number" else column
    spec = as_mapping("likelihood", suggestion.likelihood)
    kind = _KINDS[class_name(spec)]
    if kind == "real" and suggestion.prepare == LOGARITHM:
        return replace(column, kind="positive", likelihood=column.likelihood or "Normal")
    if kind == "ordered":
        if not column.whole:  # levels of a proportion, such as k / 4
            return replace(column, kind="proportion" if spec.get("upper", 1) == 1 else "real")
        return replace(column, kind="ordered", values=tuple(range(int(np.nanmax(numbers)) + 1)))
    if kind == "binary":
        return replace(column, kind="binary", values=(0, 1)) if column.whole else replace(column, kind="proportion")
    return replace(column, kind=kind, likelihood=column.likelihood or suggestion.likelihood)


def _with_likelihood(column: Column) -> Column:
    """Return a column with the usual likelihood of its kind, if it has none."""
    if column.likelihood is not None:
        return column
    levels = {"levels": len(column.values), "upper": float(max(1, len(column.values) - 1))}
    usual: Mapping[str, Spec] = {
        "binary": "Bernoulli",
        "category": {"class": "Categorical", **levels},
        "ordered": {"class": "DiscretizedLogistic", **levels},
        "count": "NegativeBinomial",
        "proportion": "Beta",
    }
    return replace(column, likelihood=usual.get(column.kind, "Normal"))


def _with_moments(column: Column, numbers: NDArray[np.float64]) -> Column:
    """Return a column with mean and standard deviation of what its encoder and likelihood standardise."""
    there = numbers[~np.isnan(numbers)]
    if column.usual_encoding == "log":
        there = np.log(there[there > 0])
    elif column.usual_encoding == "log1p":
        there = np.log1p(there[there > -1])
    if (column.loc, column.scale) != (0.0, 1.0) or not len(there):
        return column
    scale = float(there.std())
    return replace(column, loc=float(there.mean()), scale=scale if scale > 0 else 1.0)


def likelihood_of(schema: Schema) -> Spec:
    """Return the likelihood of a completed schema, in the units of the table."""
    specs = {column.name: standardised(column.likelihood or "Normal", column) for column in schema.data}
    if all(spec == "Bernoulli" for spec in specs.values()):
        return "Bernoulli"
    return {"class": "Mixed", "columns": specs}


def standardised(spec: Spec, column: Column) -> Spec:
    """Return the likelihood of a column in its own units: one of real numbers is over standardised ones."""
    inner = as_mapping("likelihood", spec)
    if class_name(inner) not in _LOCATION_SCALE:
        return spec
    logarithm = {"log": True} if column.kind == "positive" else {}
    return {"class": "Standardized", "likelihood": spec, "loc": column.loc, "scale": column.scale, **logarithm}


def encoding_of(schema: Schema, missing: bool) -> dict[str, Any]:
    """Return what an encoder's first layer sees of a row, as the argument ``encoding`` of its net."""
    return {"class": "TableEncoding", "columns": [_encoded(column) for column in schema.data], "missing": missing}


def _encoded(column: Column) -> dict[str, Any]:
    values = len(column.values)
    match column.usual_encoding:
        case "one_hot":
            return {"as": "one_hot", "values": values}
        case "embedding":
            return {"as": "embedding", "values": values, "width": min(_WIDEST, round(1.6 * values**0.56))}
        case "standardize":
            return {"as": "number", "loc": column.loc, "scale": column.scale}
        case logarithm:
            return {"as": "number", "log": logarithm, "loc": column.loc, "scale": column.scale}
