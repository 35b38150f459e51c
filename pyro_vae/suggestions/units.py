"""What a completed schema asks of a VAE: a likelihood in the units of the table, and an encoding of its rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pyro_vae import likelihoods, registry  # known() knows the likelihoods that are imported
from pyro_vae.data.schema import Column, Schema
from pyro_vae.parts import Likelihood, known
from pyro_vae.registry import ClassOrFunction, Spec, find
from pyro_vae.resolver import as_mapping, class_name

__all__ = [
    "class_of",
    "encoding_of",
    "has_units",
    "in_units",
    "is_location_scale",
    "is_standardized",
    "likelihood_of",
]

_WIDEST = 50  # of an embedding
_LEAST_DISPERSION = 0.01


def in_units(likelihood: Spec | ClassOrFunction | None, schema: Schema) -> Spec | ClassOrFunction:
    """Return the likelihood of a VAE over a table, in its units.

    Args:
        likelihood: the user's; None or auto for that of the schema.
        schema: completed, with the user's likelihood.
    """
    if likelihood is not None and not isinstance(likelihood, (str, Mapping, type)):
        return likelihood
    if likelihood is None or class_name(likelihood) == "auto":
        return likelihood_of(schema)
    spec = as_mapping("likelihood", likelihood)
    if issubclass(class_of(spec), likelihoods.Mixed):
        return {**spec, "columns": {column.name: _in_units(column) for column in schema.data}}
    if has_units(spec):
        return _started(spec, schema.data)
    if not is_location_scale(spec) or is_standardized(spec):
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
        return _started(first, schema.data)
    return {"class": "Mixed", "columns": {column.name: _in_units(column) for column in schema.data}}


def is_location_scale(spec: Spec | ClassOrFunction) -> bool:
    """Return True for a likelihood of real numbers, which may be shifted and scaled."""
    found = class_of(spec)
    return issubclass(found, Likelihood) and found.location_scale


def has_units(spec: Spec | ClassOrFunction) -> bool:
    """Return True for a likelihood that takes x as it is, and has arguments with which it starts near x."""
    return issubclass(class_of(spec), (likelihoods.Poisson, likelihoods.NegativeBinomial, likelihoods.LogitNormal))


def class_of(spec: Spec | ClassOrFunction) -> type:
    """Return the class of a likelihood; NoneType for a function."""
    named: Any = spec["class"] if isinstance(spec, Mapping) else spec
    found = find(registry.Kind("likelihood", known(Likelihood)), getattr(named, "func", named))
    return found if isinstance(found, type) else type(None)


def _started(spec: Spec, columns: Sequence[Column]) -> Spec:
    """Return a likelihood that starts near the numbers of columns, if it has arguments for that."""
    given = as_mapping("likelihood", spec)
    return {**given, **_units(given, columns)} if has_units(spec) else spec


def _units(spec: Mapping[str, Any], columns: Sequence[Column]) -> dict[str, Any]:
    """Return arguments with which a likelihood starts near the numbers of columns, less those that it has."""
    if not issubclass(class_of(spec), likelihoods.LogitNormal):
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
    if learned and issubclass(class_of(spec), likelihoods.NegativeBinomial):
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
        return _started(spec, [column])
    if not is_location_scale(spec) or is_standardized(spec):
        return spec
    logarithm = {"log": True} if column.kind == "positive" else {}
    return {"class": "Standardized", "likelihood": spec, "loc": column.loc, "scale": column.scale, **logarithm}


def is_standardized(spec: Spec) -> bool:
    """Return True for a likelihood that standardises x already, as its arguments say."""
    return isinstance(spec, Mapping) and issubclass(class_of(spec), likelihoods.Standardized)


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
