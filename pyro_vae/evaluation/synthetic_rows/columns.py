"""How far the distribution of each column of one table is from that of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyro_vae.data.reading import import_optional
from pyro_vae.evaluation.synthetic_rows.tables import Column, Table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compare_columns", "distance", "new_labels"]


def compare_columns(synthetic: Table, real: Table, training: Table | None) -> pd.DataFrame:
    """Return the distance of each column from that of real rows, and the shares of missing values.

    Args:
        synthetic: synthetic rows.
        real: what they are compared with.
        training: training rows that are measured like the synthetic ones; None without held-out rows.
    """
    frame = {
        "kind": [column.kind for column in real.columns],
        "measure": ["total variation" if column.has_labels else "Kolmogorov-Smirnov" for column in real.columns],
        "synthetic": _distances(synthetic, real),
        "training": np.nan if training is None else _distances(training, real),
        "missing_synthetic": np.isnan(synthetic.values).mean(0),
        "missing_training": np.nan if training is None else np.isnan(training.values).mean(0),
        "missing_real": np.isnan(real.values).mean(0),
    }
    return import_optional("pandas", "tables").DataFrame(frame, index=[column.name for column in real.columns])


def _distances(table: Table, real: Table) -> list[float]:
    return [distance(column, table.known(j), real.known(j)) for j, column in enumerate(table.columns)]


def distance(column: Column, values: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Return the distance between the known values of a column in two tables, from 0 (alike) to 1 (nothing in common).

    For numbers and dates it is the Kolmogorov-Smirnov statistic, the largest difference of the two cumulative
    distributions. For booleans and categories it is the total variation, half the sum of the differences of shares.
    """
    if column.has_labels:
        first, second = (np.bincount(v.astype(int), minlength=len(column.labels)) / len(v) for v in (values, reference))
        return float(np.abs(first - second).sum() / 2)
    steps = np.concatenate([values, reference])
    below, reference_below = (np.searchsorted(np.sort(v), steps, side="right") / len(v) for v in (values, reference))
    return float(np.abs(below - reference_below).max())


def new_labels(table: Table, *others: Table) -> list[tuple[str, list[str], float]]:
    """Return the columns with labels that none of the other tables has, these labels, and the share of such rows."""
    found = []
    for j, column in enumerate(table.columns):
        if not column.has_labels:
            continue
        there = np.concatenate([other.known(j) for other in others])
        new = np.setdiff1d(table.known(j), there)
        if len(new):
            share = float(np.isin(table.values[:, j], new).mean())
            found.append((column.name, [str(column.labels[int(code)]) for code in new], share))
    return found
