"""The schema of a table, completed: the kind and the likelihood of each column, its mean and standard deviation."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_vae.data import Rows
from pyro_vae.data.schema import Column, Kind, Schema, SchemaError
from pyro_vae.registry import ClassOrFunction, Spec
from pyro_vae.resolver import as_mapping, class_name
from pyro_vae.suggestions.rules import LOGARITHM, Suggestion
from pyro_vae.suggestions.support import ends, within_support
from pyro_vae.suggestions.tables import judge_columns, judge_table
from pyro_vae.suggestions.units import class_of, is_location_scale, is_standardized
from pyro_vae.suggestions.values import FEW, Values

__all__ = ["completed", "with_likelihood"]

_KINDS: Mapping[str, Kind] = {
    "Bernoulli": "binary",
    "Normal": "real",
    "StudentT": "real",
    "Laplace": "real",
    **dict.fromkeys(("Categorical", "DiscretizedLogistic"), "ordered"),
    **dict.fromkeys(("Poisson", "NegativeBinomial", "ZeroInflatedNegativeBinomial"), "count"),
    **dict.fromkeys(("Beta", "ContinuousBernoulli", "LogitNormal"), "proportion"),
}
_FAR = 5  # times the standard deviation of a column, beyond which loc or scale of a schema are not its own


def completed(schema: Schema, train: Rows, everything: Rows | None = None) -> Schema:
    """Return a schema in which each column of x has a kind, a likelihood, and the moments of the training rows.

    Columns of the context get a kind and moments. What the schema says already stays.

    Args:
        schema: of the table.
        train: rows to train on, which give means and standard deviations.
        everything: all rows, from which the likelihoods are chosen; by default ``train``.

    Raises:
        SchemaError: if a likelihood is not known, or is over other codes than those of its column; or if an encoder
            and a likelihood would not standardise the same numbers, or numbers are beyond the bounds of the schema.
    """
    for column in schema.data:
        _check_likelihood(column)
    of_train = _numbers(train)
    rows = of_train if everything is None else _numbers(everything)
    columns = schema.data if train.given is None else (*schema.data, *schema.context)
    open_ = [i for i, column in enumerate(columns) if column.kind == "number" and not np.isnan(rows[:, i]).all()]
    suggestions, are_alike = _judged(rows[:, open_], [columns[i].name for i in open_])
    judged = dict(zip(open_, suggestions, strict=True))
    done = []
    for i, column in enumerate(columns):
        numbers = rows[:, open_] if are_alike and i in judged else rows[:, i]
        known = _with_likelihood(_judged_as(column, judged.get(i), numbers), rows[:, i])
        if column.role == "context":
            known = _as_context(column, known)
        else:
            _check_encoding(known)
            _check_bounds(known, rows[:, i])
        # The codes of an ordered column count from 0, its numbers from the least.
        start = int(known.values[0]) if known.kind == "ordered" and column.kind == "number" else 0
        done.append(_with_moments(known, of_train[:, i] - start))
    return schema.with_columns(done)


def _as_context(column: Column, known: Column) -> Column:
    """Return a column of the context, without a likelihood; numbers stay numbers."""
    if column.kind == "number" and known.kind == "ordered":
        known = replace(column, kind="real")
    return replace(known, likelihood=None)


def _check_likelihood(column: Column) -> None:
    """Raise a SchemaError if a likelihood is not known, or is over other codes than a column has."""
    if column.likelihood is None:
        return
    try:
        name = class_of(column.likelihood).__name__
    except ValueError as error:
        raise SchemaError(f"column {column.name!r}: {error}") from error
    spec, n = as_mapping("likelihood", column.likelihood), len(column.values)
    levels = spec.get("levels", n) if _KINDS.get(name) == "ordered" else 2 if name == "Bernoulli" else n
    if column.is_coded and (levels != n or spec.get("upper", n - 1) != n - 1):
        raise SchemaError(
            f"column {column.name!r}: {name} is over {levels} levels up to {spec.get('upper', 1)}, and the column "
            f"has {n} values. Leave its likelihood out, or write {{class: Categorical, levels: {n}, upper: {n - 1}}}"
        )


def _check_bounds(column: Column, numbers: NDArray[np.float64]) -> None:
    """Raise a SchemaError if numbers of a column are beyond the bounds of its draws."""
    if (column.low is None and column.high is None) or np.isnan(numbers).all():
        return
    ends = (float(np.nanmin(numbers)) + float(column.origin), float(np.nanmax(numbers)) + float(column.origin))
    for name, bound, end in (("low", column.low, ends[0]), ("high", column.high, ends[1])):
        if bound is not None and (end < bound if name == "low" else end > bound):
            raise SchemaError(
                f"column {column.name!r}: {name} of the schema is {bound:g}, and the table has {end:g}. Draws would "
                "not be like the rows: change the bound, or leave it out"
            )


def _check_encoding(column: Column) -> None:
    """Raise a SchemaError if loc and scale cannot be those of the likelihood and of the encoder."""
    usual = replace(column, encoding=None).usual_encoding
    likelihood = column.likelihood or "Normal"
    if column.usual_encoding == usual or column.is_coded or not is_location_scale(likelihood):
        return
    raise SchemaError(
        f"column {column.name!r}: the encoding of a {column.kind} column with likelihood {class_name(likelihood)} must "
        f"be {usual}, because both standardise the same numbers; got {column.encoding}. Kind positive takes logarithms"
    )


def with_likelihood(schema: Schema, likelihood: Spec | ClassOrFunction | None) -> Schema:
    """Return a schema whose columns have a given likelihood, or those of a ``Mixed``; None or auto changes nothing.

    Columns of numbers that get a likelihood over real numbers become real.

    Raises:
        SchemaError: if a ``Mixed`` names other columns.
    """
    if not isinstance(likelihood, (str, Mapping, type)) or class_name(likelihood) == "auto":
        return schema
    spec = {name: value for name, value in as_mapping("likelihood", likelihood).items() if name != "net"}
    specs = spec.get("columns", dict.fromkeys(schema.names, spec))
    for names, there, what in ((schema.names, specs, "lacks"), (specs, schema.names, "has too")):
        if odd := [repr(name) for name in names if name not in there]:
            raise SchemaError(f"likelihood.columns must name the columns of the table; it {what} {', '.join(odd[:10])}")
    return schema.with_columns(_given(column, specs[column.name]) for column in schema.data)


def _given(column: Column, spec: Spec) -> Column:
    if isinstance(spec, functools.partial):
        spec = {"class": spec.func, **spec.keywords}
    if column.kind != "number" or not is_location_scale(spec):
        return replace(column, likelihood=spec)
    if not is_standardized(spec):
        return replace(column, likelihood=spec, kind="real")
    given: Any = spec
    kind: Kind = "positive" if given.get("log") else "real"
    return replace(column, likelihood=spec, kind=kind, loc=given.get("loc", 0.0), scale=given.get("scale", 1.0))


def _numbers(rows: Rows) -> NDArray[np.float64]:
    values = np.concatenate([some.double().numpy() for some in rows.stored()])
    return values if rows.given is None else np.concatenate([values, rows.given.double().cpu().numpy()], axis=1)


def _judged(x: NDArray[np.float64], names: list[str]) -> tuple[list[Suggestion], bool]:
    """Return a suggestion for each column of numbers, and whether the columns are alike, as pixels are."""
    if not names:
        return [], False
    v = Values(x, tuple(names))
    first = judge_table(v)[0] if len(names) > 1 else judge_columns(v)[0]
    if _KINDS.get(class_name(first.likelihood), "real") != "real":
        return [first] * len(names), len(names) > 1
    return judge_columns(v), False


def _judged_as(column: Column, suggestion: Suggestion | None, numbers: NDArray[np.float64]) -> Column:
    """Return a column of numbers of the kind that was suggested, which does not leave the support of the numbers."""
    if suggestion is None:
        return replace(column, kind="real") if column.kind == "number" else column
    spec = as_mapping("likelihood", suggestion.likelihood)
    kind: Kind = _KINDS[class_name(spec)]
    if kind == "real":
        kind = "positive" if suggestion.prepare == LOGARITHM else "real"
        if column.likelihood is not None:
            return replace(column, kind=kind)
        likelihood = "Normal" if kind == "positive" else suggestion.likelihood
        return within_support(replace(column, kind=kind, likelihood=likelihood), numbers)
    if kind == "ordered":
        levels = spec["levels"]
        if spec.get("upper", 1) != levels - 1:
            return replace(column, kind="proportion", likelihood=column.likelihood or suggestion.likelihood)
        if column.likelihood is not None:
            return replace(column, kind="ordered", values=tuple(range(levels)))
        least = int(np.nanmin(numbers))  # of ratings from 1 to 5, none is 0
        if levels - least > FEW and numbers.ndim == 1:  # such as ages up to 90; pixels are judged together
            known = replace(column, kind="real", likelihood="Normal")
            return replace(within_support(known, numbers), high=float(levels - 1))
        likelihood = {**spec, "levels": levels - least, "upper": float(levels - least - 1)}
        return replace(column, kind="ordered", values=tuple(range(least, levels)), likelihood=likelihood)
    values = (0, 1) if kind == "binary" else ()
    # A Beta takes long to become narrow, and logits have a center and a spread.
    likelihood = "LogitNormal" if class_name(spec) == "Beta" else suggestion.likelihood
    return replace(column, kind=kind, values=values, likelihood=column.likelihood or likelihood)


def _with_likelihood(column: Column, numbers: NDArray[np.float64]) -> Column:
    """Return a column with the usual likelihood of its kind, and of proportions by whether some are 0 or 1."""
    if column.likelihood is not None:
        return column
    levels = {"levels": len(column.values), "upper": float(max(1, len(column.values) - 1))}
    usual: Mapping[str, Spec] = {
        "binary": "Bernoulli",
        "category": {"class": "Categorical", **levels},
        "ordered": {"class": "DiscretizedLogistic", **levels},
        "count": "NegativeBinomial",
        "proportion": "ContinuousBernoulli" if ends(numbers) else "LogitNormal",
    }
    return replace(column, likelihood=usual.get(column.kind, "Normal"))


def _with_moments(column: Column, numbers: NDArray[np.float64]) -> Column:
    """Return a column with mean and standard deviation of what its encoder and likelihood standardise."""
    there = numbers[~np.isnan(numbers)]
    if column.usual_encoding in ("one_hot", "embedding"):
        return column
    if column.usual_encoding == "log":
        there = np.log(there[there > 0])
    elif column.usual_encoding == "log1p":
        there = np.log1p(there[there > -1])
    if not len(there):
        return column
    loc, scale = float(there.mean()), float(there.std())
    if (column.loc, column.scale) == (0.0, 1.0):
        return replace(column, loc=loc, scale=scale if scale > 0 else 1.0)
    given = column.is_coded or is_standardized(column.likelihood or "Normal")
    if not given and (
        abs(column.loc - loc) > _FAR * max(scale, column.scale) or not scale / _FAR <= column.scale <= scale * _FAR
    ):
        what = "numbers" if column.usual_encoding == "standardize" else "logarithms"
        warnings.warn(
            f"column {column.name!r}: loc {column.loc:.4g} and scale {column.scale:.4g} of the schema are far from the "
            f"mean and the standard deviation of its {what}, {loc:.4g} and {scale:.4g}, so it trains badly. Leave both "
            "out of the schema to take those of the data; after another kind or a mark of missing values they change",
            stacklevel=2,
        )
    return column
