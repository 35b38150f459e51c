"""What data say of the VAE to be built: its shapes, missing values and a likelihood that fits."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from pyro_vae.config.names import find
from pyro_vae.data import DataSet, DataSource, Rows, Split
from pyro_vae.data.frames import is_sparse
from pyro_vae.data.gathering import gathered, is_supply
from pyro_vae.data.schema import Schema
from pyro_vae.parts import data_of
from pyro_vae.registry import ClassOrFunction, Spec
from pyro_vae.resolver import as_mapping, class_name
from pyro_vae.suggestions import suggest
from pyro_vae.suggestions.library import as_counts
from pyro_vae.suggestions.schemas import completed, with_likelihood
from pyro_vae.suggestions.whole_tables import as_table
from pyro_vae.vae.tables import as_rows

__all__ = ["Inputs", "Look", "coded", "is_auto", "look_at", "usual_inputs"]

Inputs = Literal["auto", "x", "log1p"]
"""What the first layer of the encoder sees."""

_EXAMPLES = 4000  # of data that come a batch at a time


def is_auto(likelihood: object) -> bool:
    """Return True if the data are to choose the likelihood."""
    return isinstance(likelihood, (str, dict)) and class_name(likelihood) == "auto"


def usual_inputs(likelihood: Spec | ClassOrFunction, data: DataSource | DataSet[Any] | None) -> Inputs:
    """Return what the encoder sees by default: log1p of sparse counts with a likelihood of counts, else x."""
    if data is None or as_counts(data) is None:
        return "x"
    found = find("likelihood", as_mapping("likelihood", likelihood)["class"])
    return "log1p" if data_of(found) == "counts" else "x"


@dataclass(frozen=True)
class Look:
    """What data say.

    Args:
        data: to train on.
        event_shape: of one example.
        missing: True if a value is missing.
        context_features: how many numbers the context has per example.
        table: rows of a table that has a schema: those to train on, and all; None for other data.
    """

    data: DataSource | DataSet[Any]
    event_shape: tuple[int, ...]
    missing: bool
    context_features: int
    table: tuple[Rows, Rows] | None = None

    def schema(self, likelihood: Spec | ClassOrFunction | None) -> Schema | None:
        """Return the completed schema of a table, with a likelihood for all columns if there is one; else None."""
        if self.table is None:
            return None
        train, everything = self.table
        assert train.schema is not None, "as_table sees to it"
        return completed(with_likelihood(train.schema, likelihood), train, everything)

    def likelihood(self, done: Sequence[str]) -> Spec:
        """Return the likelihood that fits best, and warn if the data must be prepared for it.

        Args:
            done: steps of the preparation that need no word.
        """
        first = suggest(self.data)[0]
        steps = [" ".join(filter(None, step)) for step in first.todo if step.what not in done]
        if steps:
            warnings.warn(
                f"likelihood {class_name(first.likelihood)} fits data that are prepared first: {'. '.join(steps)}",
                stacklevel=3,
            )
        return first.likelihood


def coded(schema: Schema, data: DataSource | DataSet[Any]) -> DataSource | DataSet[Any]:
    """Return a table, or its splits, as the rows that a schema says; other data as they are.

    Raises:
        BadDataError: if it lacks a column, or has a value that the schema does not know.
    """
    if isinstance(data, DataSet):
        return data.map(lambda part: coded(schema, part))
    rows = as_rows(schema, data)
    return replace(rows, schema=schema) if isinstance(rows, Rows) else rows


def look_at(data: DataSource | DataSet[Any], event_shape: tuple[int, ...] | None) -> Look:
    """Return what the data say of the VAE.

    Args:
        data: to train on.
        event_shape: what the user says, if anything.

    Raises:
        ValueError: if the data have another event shape, or none.
    """
    table = as_table(data)
    if table is not None and not isinstance(data, (DataSet, Split)):
        data = table[0]  # of a DataFrame
    split = data.train if isinstance(data, DataSet) else data
    if isinstance(split, Split):
        whole = data if isinstance(data, DataSet) else split
        found = Look(data, split.event_shape, whole.has_missing, split.context_features, table)
    else:
        x, *context = gathered(split, most=_EXAMPLES if is_supply(split) or is_sparse(split) else None)
        found = Look(data, tuple(x.shape[1:]), bool(x.isnan().any()), sum(map(_features, context)))
    if not found.event_shape:
        raise ValueError("x must be (n, ...), an example per row; got one number per example. Give x[:, None]")
    if event_shape is not None and event_shape != found.event_shape:
        raise ValueError(f"event_shape must be that of the data, {found.event_shape}; got {event_shape}")
    return found


def _features(context: torch.Tensor) -> int:
    """Return how many numbers a context has per example: of integer labels, one for each class."""
    if context.dim() == 1 and not context.is_floating_point():
        return int(context.max()) + 1
    return context[0].numel()
