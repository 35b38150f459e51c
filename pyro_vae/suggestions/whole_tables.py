"""Tables with a schema: what suggest says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pyro_vae.data import DataSet, Rows
from pyro_vae.data.frames import is_data_frame
from pyro_vae.data.schema import Column, Schema
from pyro_vae.data.tables import rows_of_frame
from pyro_vae.suggestions.rules import LOGARITHM, MISSING, RECODE, STANDARDISE, Step, Suggestion, judge
from pyro_vae.suggestions.schemas import completed
from pyro_vae.suggestions.tables import judge_table
from pyro_vae.suggestions.units import likelihood_of
from pyro_vae.suggestions.values import Data, read

if TYPE_CHECKING:
    import pandas

__all__ = ["as_table", "suggest_schema", "suggest_table"]

_DONE = (STANDARDISE, LOGARITHM, RECODE)  # what a VAE with a schema does by itself
_KIND_WORDS: Mapping[str, str] = {
    "binary": "two values",
    "category": "categories",
    "ordered": "ordered values",
    "date": "dates",
    "real": "real numbers",
    "positive": "positive, skewed numbers",
    "count": "counts",
    "proportion": "proportions",
}


def as_table(data: Data) -> tuple[Rows, Rows] | None:
    """Return the rows of a table to train on, and all rows; None for data that are no table with a schema."""
    if is_data_frame(data):
        data = rows_of_frame(data)
    train = data.train if isinstance(data, DataSet) else data
    if not isinstance(train, Rows) or train.schema is None:
        return None
    return train, data.everything if isinstance(data, DataSet) else train


def suggest_schema(data: pandas.DataFrame | Data) -> Schema:
    """Return the schema of a table: for each column its kind, likelihood and encoding, from the data.

    Change it with ``schema.with_columns``, or write it with ``to_yaml`` and edit the file, and give it to
    ``build(..., schema=schema)``.

    Args:
        data: a pandas DataFrame, or a table of :func:`pyro_vae.data.load` or :func:`pyro_vae.data.table`. Means and
            standard deviations come from its training rows.

    Raises:
        TypeError: if it is no such table.
        BadDataError: if no column tells something.

    Example:
        >>> import pandas as pd
        >>> people = pd.DataFrame({"height": [1.71, 1.62, 1.83, 1.58], "sex": ["m", "f", "m", "f"]})
        >>> suggest_schema(people)
        Schema(real: height; binary: sex)
    """
    table = as_table(data)
    if table is None:
        raise TypeError(f"data must be a pandas DataFrame or a table of data.load; got {type(data).__name__}")
    train, everything = table
    assert train.schema is not None, "as_table sees to it"
    return completed(train.schema, train, everything)


def suggest_table(train: Rows, everything: Rows) -> tuple[Schema, list[Suggestion]]:
    """Return the completed schema of a table, and the likelihoods that fit it, best first.

    Args:
        train: rows to train on, with a schema.
        everything: all rows.
    """
    assert train.schema is not None, "as_table sees to it"
    schema, plain = completed(train.schema, train, everything), []
    if all(map(_is_number, train.schema.data)):
        values = read(everything, None)
        plain = judge_table(values) if len(values.names) > 1 else judge(values)
    found = _of_schema(schema, plain)
    return schema, [s.with_steps((*s.todo, Step(MISSING))) for s in found] if everything.has_missing else found


def _is_number(column: Column) -> bool:
    """Return True if x has the numbers of a column as they are."""
    return column.kind == "number" or (column.kind == "binary" and column.values == (0, 1))  # True equals 1


def _of_schema(schema: Schema, of_numbers: list[Suggestion]) -> list[Suggestion]:
    """Return likelihoods of a table: that of its schema, and others if all columns are numbers.

    Args:
        schema: completed.
        of_numbers: what the numbers themselves suggest, if all columns are numbers; else empty.
    """
    kinds: dict[str, list[Column]] = {}
    for column in schema.data:
        kinds.setdefault(column.kind, []).append(column)
    if of_numbers:
        first, *others = [s.with_steps([step for step in s.todo if step.what not in _DONE]) for s in of_numbers]
        return [replace(first, likelihood=likelihood_of(schema)), *others]
    such = [f"{columns[0].name} ({_KIND_WORDS[kind]})" for kind, columns in kinds.items()]
    *before, last = such
    named = f"{', '.join(before)} and {last}" if before else last
    return [Suggestion(likelihood_of(schema), f"columns of different kinds, such as {named}")]
