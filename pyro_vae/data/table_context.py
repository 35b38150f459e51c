"""The context columns of a table as features for networks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pyro_vae.data.reading import BadDataError
from pyro_vae.data.schema import Column, Schema
from pyro_vae.data.table_coding import code
from pyro_vae.data.table_columns import ArrowColumn

__all__ = ["coded_context", "context_features", "encoded_context"]


def context_features(schema: Schema) -> int:
    """Return how many features the context columns of a schema have: one per value of a category, else one each."""
    return sum(len(column.values) if _is_one_hot(column) else 1 for column in schema.context)


def coded_context(name: str, columns: Mapping[str, ArrowColumn], schema: Schema) -> Tensor:
    """Return the numbers and codes of the context columns of a schema, float64 ``(n, columns)``.

    Args:
        name: of the table, for errors.
        columns: Arrow arrays by name, those of the context among them.
        schema: of the table.

    Raises:
        BadDataError: if a value is missing, or the schema does not know it.
    """
    found = [code(f"{name}: column {c.name!r}", c, columns[c.name]).astype(np.float64) for c in schema.context]
    given = torch.from_numpy(np.stack(found, axis=1))
    encoded_context(schema, given)  # says what is missing
    return given


def encoded_context(schema: Schema, given: Tensor) -> Tensor:
    """Return the features of context columns: numbers standardised as the schema says, categories one-hot.

    Args:
        schema: completed.
        given: numbers and codes of its context columns, ``(n, columns)``.

    Returns:
        ``(n, features)``, float64.

    Raises:
        BadDataError: if one is missing, or a logarithm does not exist.
    """
    return torch.cat([_encoded(column, given[:, i].double()) for i, column in enumerate(schema.context)], dim=1)


def _is_one_hot(column: Column) -> bool:
    return column.usual_encoding in ("one_hot", "embedding")


def _encoded(column: Column, numbers: Tensor) -> Tensor:
    if missing := int(numbers.isnan().sum()):
        raise BadDataError(
            f"column {column.name!r} is context, and is missing in {missing:,} of {len(numbers):,} rows. Fill it, "
            "leave these rows out, or make it data (role: data), whose missing values a VAE leaves out"
        )
    if _is_one_hot(column):
        return one_hot(numbers.long(), len(column.values)).double()
    if column.usual_encoding == "log":
        numbers = numbers.log()
    elif column.usual_encoding == "log1p":
        numbers = numbers.log1p()
    if not numbers.isfinite().all():
        raise BadDataError(f"column {column.name!r} is context, and has numbers without a {column.usual_encoding}")
    return ((numbers - column.loc) / column.scale)[:, None]
