"""The schema of a table, completed: the kind and the likelihood of each column, its mean and standard deviation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_vae import likelihoods, registry  # known() knows the likelihoods that are imported
from pyro_vae.data import Rows
from pyro_vae.data.schema import Column, Kind, Schema, SchemaError
from pyro_vae.parts import Likelihood, known
from pyro_vae.registry import Spec, find
from pyro_vae.resolver import as_mapping, class_name
from pyro_vae.suggestions.rules import LOGARITHM, Suggestion
from pyro_vae.suggestions.support import ends, within_support
from pyro_vae.suggestions.tables import judge_columns, judge_table
from pyro_vae.suggestions.values import Values

__all__ = ["completed", "encoding_of", "in_units", "is_location_scale", "likelihood_of", "with_likelihood"]

_KINDS: Mapping[str, Kind] = {
    "Bernoulli": "binary",
    "Normal": "real",
    "StudentT": "real",
    "Laplace": "real",
    **dict.fromkeys(("Categorical", "DiscretizedLogistic"), "ordered"),
    **dict.fromkeys(("Poisson", "NegativeBinomial", "ZeroInflatedNegativeBinomial"), "count"),
    **dict.fromkeys(("Beta", "ContinuousBernoulli", "LogitNormal"), "proportion"),
}
_WIDEST = 50  # of an embedding
_LEAST_DISPERSION = 0.01


def completed(schema: Schema, train: Rows, everything: Rows | None = None) -> Schema:
    """Return a schema in which each column of x has a kind, a likelihood, and the moments of the training rows.

    What it says already stays.

    Args:
        schema: of the table.
        train: rows to train on, which give means and standard deviations.
        everything: all rows, from which the likelihoods are chosen; by default ``train``.

    Raises:
        SchemaError: if a likelihood is not known, or is over other codes than those of its column.
    """
    for column in schema.data:
        _check_likelihood(column)
    of_train = _numbers(train)
    rows = of_train if everything is None else _numbers(everything)
    open_ = [i for i, column in enumerate(schema.data) if column.kind == "number" and not np.isnan(rows[:, i]).all()]
    judged = dict(zip(open_, _judged(rows[:, open_], [schema.data[i].name for i in open_]), strict=True))
    done = []
    alike = len(open_) > 1 and len(set(map(id, judged.values()))) == 1
    for i, column in enumerate(schema.data):
        values = rows[:, open_] if alike and i in open_ else rows[:, i]
        known = _with_likelihood(_judged_as(column, judged.get(i), values), rows[:, i])
        start = int(known.values[0]) if known.kind == "ordered" and column.kind == "number" else 0
        done.append(_with_moments(known, of_train[:, i] - start))
    return schema.with_columns(done)


def _check_likelihood(column: Column) -> None:
    """Raise a SchemaError if a likelihood is not known, or is over other codes than a column has."""
    if column.likelihood is None:
        return
    try:
        is_location_scale(column.likelihood)
    except ValueError as error:
        raise SchemaError(f"column {column.name!r}: {error}") from error
    spec, n = as_mapping("likelihood", column.likelihood), len(column.values)
    name = class_name(spec)
    levels = spec.get("levels", n) if _KINDS.get(name) == "ordered" else 2 if name == "Bernoulli" else n
    if column.is_coded and (levels != n or spec.get("upper", n - 1) != n - 1):
        raise SchemaError(
            f"column {column.name!r}: {name} is over {levels} levels up to {spec.get('upper', 1)}, and the column "
            f"has {n} values. Leave its likelihood out, or write {{class: Categorical, levels: {n}, upper: {n - 1}}}"
        )


def with_likelihood(schema: Schema, likelihood: Any) -> Schema:
    """Return a schema whose columns have a given likelihood, or those of a ``Mixed``; None or auto changes nothing.

    Columns of numbers that get a likelihood over real numbers become real.

    Raises:
        SchemaError: if a ``Mixed`` names other columns.
    """
    if not isinstance(likelihood, (str, Mapping)) or class_name(likelihood) == "auto":
        return schema
    spec = {name: value for name, value in as_mapping("likelihood", likelihood).items() if name != "net"}
    specs = spec.get("columns", dict.fromkeys(schema.names, spec))
    for names, there, what in ((schema.names, specs, "lacks"), (specs, schema.names, "has too")):
        if odd := [repr(name) for name in names if name not in there]:
            raise SchemaError(f"likelihood.columns must name the columns of the table; it {what} {', '.join(odd[:10])}")
    return schema.with_columns(_given(column, specs[column.name]) for column in schema.data)


def _given(column: Column, spec: Spec) -> Column:
    if column.kind != "number" or not is_location_scale(spec):
        return replace(column, likelihood=spec)
    if not _is_standardized(spec):
        return replace(column, likelihood=spec, kind="real")
    given: Any = spec
    kind: Kind = "positive" if given.get("log") else "real"
    return replace(column, likelihood=spec, kind=kind, loc=given.get("loc", 0.0), scale=given.get("scale", 1.0))


def _numbers(rows: Rows) -> NDArray[np.float64]:
    return np.concatenate([some.double().numpy() for some in rows.stored()])


def _judged(x: NDArray[np.float64], names: list[str]) -> list[Suggestion]:
    """Return a suggestion for each column of numbers: the same for all if they are alike, as pixels are."""
    if not names:
        return []
    v = Values(x, tuple(names))
    first = judge_table(v)[0] if len(names) > 1 else judge_columns(v)[0]
    if _KINDS.get(class_name(first.likelihood), "real") != "real":
        return [first] * len(names)
    return judge_columns(v)


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
    if (column.loc, column.scale) != (0.0, 1.0) or not len(there):
        return column
    scale = float(there.std())
    return replace(column, loc=float(there.mean()), scale=scale if scale > 0 else 1.0)


def in_units(likelihood: Any, schema: Schema) -> Any:
    """Return the likelihood of a VAE over a table, in its units.

    Args:
        likelihood: the user's; None or auto for that of the schema.
        schema: completed, with the user's likelihood.
    """
    if likelihood is not None and not isinstance(likelihood, (str, Mapping)):
        return likelihood
    if likelihood is None or class_name(likelihood) == "auto":
        return likelihood_of(schema)
    spec = as_mapping("likelihood", likelihood)
    if class_name(spec) == "Mixed":
        return {**spec, "columns": {column.name: _in_units(column) for column in schema.data}}
    if has_units(spec):
        return {**spec, **_units(spec, schema.data)}
    if not is_location_scale(spec) or _is_standardized(spec):
        return likelihood
    if "net" not in spec:
        return likelihood_of(schema)
    inner = {name: value for name, value in spec.items() if name != "net"}
    moments = {name: [getattr(column, name) for column in schema.data] for name in ("loc", "scale")}
    return {"class": "Standardized", "likelihood": inner, "net": spec["net"], **moments}


def likelihood_of(schema: Schema) -> Spec:
    """Return the likelihood of a completed schema, in the units of the table.

    It is one likelihood for all columns if they have the same and nothing is standardised, else ``Mixed``.
    """
    first, *others = [column.likelihood or "Normal" for column in schema.data]
    if all(spec == first for spec in others) and not is_location_scale(first):
        return in_units(first, schema)
    return {"class": "Mixed", "columns": {column.name: _in_units(column) for column in schema.data}}


def is_location_scale(spec: Any) -> bool:
    """Return True for a likelihood of real numbers, which may be shifted and scaled."""
    found = _class_of(spec)
    return issubclass(found, Likelihood) and found.location_scale


def has_units(spec: Any) -> bool:
    """Return True for a likelihood that takes x as it is, and has arguments with which it starts near x."""
    return issubclass(_class_of(spec), (likelihoods.Poisson, likelihoods.NegativeBinomial, likelihoods.LogitNormal))


def _class_of(spec: Any) -> type:
    """Return the class of a likelihood; NoneType for a function."""
    named: Any = spec["class"] if isinstance(spec, Mapping) else spec
    found = find(registry.Kind("likelihood", known(Likelihood)), getattr(named, "func", named))
    return found if isinstance(found, type) else type(None)


def _units(spec: Mapping[str, Any], columns: Sequence[Column]) -> dict[str, Any]:
    """Return arguments with which a likelihood starts near the numbers of columns, less those that it has."""
    if not issubclass(_class_of(spec), likelihoods.LogitNormal):
        return _units_of_counts(spec, columns)
    if "center" in spec or "spread" in spec or not all(0 < column.loc < 1 for column in columns):
        return {}
    slopes = [column.loc * (1 - column.loc) for column in columns]  # of the inverse of logit
    center = [math.log(column.loc / (1 - column.loc)) for column in columns]
    spread = [column.scale / slope for column, slope in zip(columns, slopes, strict=True)]
    return {"center": center, "spread": spread} if len(columns) > 1 else {"center": center[0], "spread": spread[0]}


def _units_of_counts(spec: Mapping[str, Any], columns: Sequence[Column]) -> dict[str, Any]:
    """Return arguments with which a likelihood of counts starts near the counts of columns, less those that it has.

    ``scale`` is a typical count of each column. The dispersion is at most that of the logarithms, from which it starts.
    """
    if "scale" in spec or spec.get("library"):
        return {}
    scales = [_typical(column) for column in columns]
    found: dict[str, Any] = {"scale": scales if len(scales) > 1 else scales[0]}
    learned = spec.get("dispersion", "learned") == "learned" and "initial_dispersion" not in spec
    if learned and issubclass(_class_of(spec), likelihoods.NegativeBinomial):
        found["initial_dispersion"] = max(_LEAST_DISPERSION, min(1.0, *(column.scale**2 for column in columns)))
    return found


def _typical(column: Column) -> float:
    """Return a typical number of a column of counts: their mean, or that of their logarithms as a number again."""
    inverse = {"log1p": math.expm1, "log": math.exp}.get(column.usual_encoding, float)
    return found if (found := inverse(column.loc)) > 0 else 1.0


def _in_units(column: Column) -> Spec:
    """Return the likelihood of a column in its own units: reals are standardised, others told of typical numbers."""
    spec = column.likelihood or "Normal"
    if has_units(spec):
        given = as_mapping("likelihood", spec)
        return {**given, **_units(given, [column])}
    if not is_location_scale(spec) or _is_standardized(spec):
        return spec
    logarithm = {"log": True} if column.kind == "positive" else {}
    return {"class": "Standardized", "likelihood": spec, "loc": column.loc, "scale": column.scale, **logarithm}


def _is_standardized(spec: Any) -> bool:
    return isinstance(spec, Mapping) and spec["class"] in ("Standardized", likelihoods.Standardized)


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
