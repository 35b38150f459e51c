"""Tables for a VAE that knows their schema: DataFrames as x, and x as DataFrames."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import Independent

from pyro_vae.data import Rows
from pyro_vae.data.frames import column_names, has_columns, is_data_frame
from pyro_vae.data.schema import Column, Schema
from pyro_vae.data.table_frames import as_frame
from pyro_vae.data.table_gaps import with_values
from pyro_vae.data.tables import rows_of_frame
from pyro_vae.distributions.columns import Columns, without_mask
from pyro_vae.distributions.observed import fill_missing

__all__ = ["as_rows", "averaged", "filled_in", "is_table", "most_probable", "most_voted", "with_index"]


def is_table(x: object) -> bool:
    """Return True for a DataFrame, and for rows of a table."""
    return has_columns(x) or (isinstance(x, Rows) and x.schema is not None)


def as_rows(schema: Schema | None, source: Any) -> Any:
    """Return a table as the rows that a schema says; other data, and all without a schema, as they are.

    Raises:
        BadDataError: if it lacks a column, or has a value that the schema does not know.
    """
    if schema is None:
        return source
    if isinstance(source, tuple) and source:
        x = as_rows(schema, source[0])
        return source if x is source[0] else (x.values, *source[1:])
    if has_columns(source):
        return rows_of_frame(source, schema)
    if isinstance(source, Rows) and source.schema is not None and not _coded_alike(source.schema, schema):
        return _recoded(source, source.schema, schema)
    return source


def _recoded(rows: Rows, before: Schema, schema: Schema) -> Rows:
    """Return rows with the numbers of another schema."""
    values = torch.cat(list(rows.stored()))
    if before.names == schema.names:
        starts = [_start(*pair) for pair in zip(before.data, schema.data, strict=True)]
        if None not in starts:
            coded = values - torch.tensor(starts, dtype=values.dtype)
            changed = [i for i, start in enumerate(starts) if start]
            tops = coded.new_tensor([len(schema.data[i].values) - 1 for i in changed])
            if not ((coded[:, changed] < 0) | (coded[:, changed] > tops)).any():
                return replace(rows, values=coded, schema=schema)
    found = rows_of_frame(as_frame(before, values), schema)  # refuses by name what the schema does not know
    return replace(rows, values=found.values, columns=found.columns, schema=schema)


def _start(one: Column, other: Column) -> int | None:
    """Return what is subtracted from numbers to get codes of 1, 2, 3, ..., say; None if more than that changes."""
    if _coding(one) == _coding(other):
        return 0
    if one.is_coded or not other.is_coded or one.origin or not isinstance(other.values[0], int):
        return None
    start = int(other.values[0])
    return start if other.values == tuple(range(start, start + len(other.values))) else None


def filled_in(schema: Schema, x: Any, filled: Tensor) -> Any:
    """Return a table with its missing values replaced; a DataFrame keeps what it has, and its other columns.

    In a column that is constant, its value replaces them. Whole numbers that pandas holds as real ones because of gaps
    become integers.

    Args:
        schema: of the table.
        x: a DataFrame, or rows of a table.
        filled: x without missing values, ``(n, columns)``.
    """
    new = as_frame(schema, filled)
    if not has_columns(x):
        return new
    old: Any = x
    found = old.copy()
    labels = dict(zip(column_names(x), old.columns, strict=True))
    missing = dict(zip(schema.names, as_rows(schema, x).values.isnan().numpy().T, strict=True))
    for column in schema.columns:
        if column.kind == "constant" and column.values and column.name in labels:
            missing[column.name] = old[labels[column.name]].isna().to_numpy()
        if column.name not in missing:
            continue
        label = labels[column.name]
        if missing[column.name].any() or (column.dtype in ("int64", "Int64") and old[label].dtype.kind == "f"):
            found[label] = with_values(column, old[label], missing[column.name], new[column.name])
    return found


def with_index(frame: Any, x: object) -> Any:
    """Return a table of the VAE with the index of the DataFrame that its rows are of, if x is one."""
    return frame.set_axis(x.index) if is_data_frame(x) else frame


def _coded_alike(one: Schema, other: Schema) -> bool:
    """Return True if x holds the same numbers by two schemas."""
    return [_coding(c) for c in one.data] == [_coding(c) for c in other.data]


def _coding(column: Any) -> tuple[Any, ...]:
    values = column.values if column.is_coded else ()
    # 0 and 1 as codes of 0 and 1 are the numbers themselves.
    return column.name, () if values == tuple(range(len(values))) else values, column.origin


def most_probable(schema: Schema, likelihood: TorchDistribution, weights: Tensor | None = None) -> Tensor:
    """Return the mean of each number, and the most probable code of each binary, category or ordered column.

    Args:
        schema: of the table.
        likelihood: p(x | z), with batch shape ``(batch,)``, or ``(particles, batch)`` with weights.
        weights: of the particles, ``(particles, batch)``, which sum to 1.

    Returns:
        ``(batch, columns)``.
    """
    likelihood = without_mask(likelihood)  # that of missing values counts too
    shape = likelihood.batch_shape if weights is None else weights.shape  # all particles may be in one dimension
    found = averaged(likelihood.mean.unflatten(0, shape), weights)
    coded = [i for i, column in enumerate(schema.data) if column.is_coded]
    if not coded:
        return found
    sizes = torch.tensor([len(schema.data[i].values) for i in coded], device=found.device)
    probs = []
    for code in range(int(sizes.max())):
        value = found.new_zeros((*likelihood.batch_shape, len(schema.data)))
        value[..., coded] = torch.minimum(sizes - 1, torch.full_like(sizes, code)).to(found.dtype)
        known = _fill_numbers(schema, likelihood, value)
        log_probs = element_log_probs(likelihood, known)[..., coded]
        probs.append(averaged(torch.where(code < sizes, log_probs.exp(), 0.0).unflatten(0, shape), weights))
    found = found.clone()
    found[..., coded] = torch.stack(probs).argmax(0).to(found.dtype)
    return found


def most_voted(schema: Schema, drawn: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of each number over draws, and the code with the most weight of each column that is coded.

    Args:
        schema: of the table.
        drawn: draws of x, ``(particles, batch, columns)``.
        weights: of the particles, ``(particles, batch)``, which sum to 1.
    """
    found = averaged(drawn, weights)
    for place, column in enumerate(schema.data):
        if column.is_coded:
            codes = torch.arange(len(column.values), device=drawn.device)
            votes = averaged((drawn[..., place, None] == codes).to(weights.dtype), weights)
            found[..., place] = votes.argmax(-1).to(found.dtype)
    return found


def averaged(values: Tensor, weights: Tensor | None) -> Tensor:
    """Return the weighted mean of values ``(particles, batch, ...)``, or the values themselves without weights."""
    return values if weights is None else torch.einsum("pb,pb...->b...", weights, values)


def _fill_numbers(schema: Schema, likelihood: TorchDistribution, value: Tensor) -> Tensor:
    """Return x with a number of its support in each column that is not coded."""
    coded = torch.tensor([column.is_coded for column in schema.data], device=value.device)
    return fill_missing(likelihood, value, coded.expand(value.shape))


def element_log_probs(likelihood: TorchDistribution, x: Tensor) -> Tensor:
    """Return log p of each column by itself, ``(*batch_shape, columns)``, of a product over the columns."""
    if isinstance(likelihood, Columns):
        return torch.stack(list(likelihood.factor_log_probs(x).values()), -1)
    inner: Any = likelihood
    while not isinstance(inner, Independent):
        inner = inner.base
    return inner.base_dist.log_prob(x)
