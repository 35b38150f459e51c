"""How strongly each two columns of a table depend on each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyro_vae.data.reading import import_optional
from pyro_vae.evaluation.synthetic_rows.tables import Table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MEASURES", "associations", "compare_pairs", "correlation_ratio", "cramers_v"]

MEASURES = ("Spearman", "correlation ratio", "Cramér's V")  # by how many of the two columns have labels
_FEWEST_ROWS = 3


def compare_pairs(
    synthetic: Table, real: Table, training: Table | None, names: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Return the association of each two columns, and how far it is from that in real rows, with notes.

    Args:
        synthetic: synthetic rows.
        real: what they are compared with.
        training: training rows that are measured like the synthetic ones; None without held-out rows.
        names: of the columns, in the order of the result.
    """
    places = {column.name: j for j, column in enumerate(real.columns)}
    constant = [name for name in names if real.is_constant(places[name])]
    tables = {"synthetic": synthetic, "real": real} | ({} if training is None else {"training": training})
    found = {name: associations(table) for name, table in tables.items()}
    rows: list[dict[str, object]] = []
    for first, second in combinations([name for name in names if name not in constant], 2):
        i, j = places[first], places[second]
        labels = real.columns[i].has_labels + real.columns[j].has_labels
        of_tables = {name: values[i, j] for name, values in found.items()}
        rows.append({"first": first, "second": second, "measure": MEASURES[labels], **of_tables})
    titles = ["first", "second", "measure", "real", "synthetic", "training"]
    frame = import_optional("pandas", "tables").DataFrame(rows, columns=titles)
    frame = frame.astype(dict.fromkeys(titles[3:], float))  # of no pairs too
    frame["difference"] = (frame["synthetic"] - frame["real"]).abs()
    frame["training_difference"] = (frame["training"] - frame["real"]).abs()
    notes = [f"{name!r} is in no pair: all its values in the real rows are the same" for name in constant]
    unknown = int(frame["difference"].isna().sum())
    if unknown:
        notes.append(f"the associations of {unknown} pairs are unknown: too few rows have both values")
    return frame, notes


def associations(table: Table) -> NDArray[np.float64]:
    """Return the association of each two columns, ``(columns, columns)``.

    It is 0 if the two are independent, so with a constant column too, and NaN if fewer than three rows have both values
    or each row has a category of its own. Only rows that have both values count.
    """
    found = np.full((len(table.columns),) * 2, np.nan)
    numbers = [j for j, column in enumerate(table.columns) if not column.has_labels]
    found[np.ix_(numbers, numbers)] = _rank_correlations(table.values[:, numbers])
    for i, j in combinations(range(len(table.columns)), 2):
        with_labels = sorted((i, j), key=lambda k: table.columns[k].has_labels)
        first, second = _both(table.values[:, with_labels[0]], table.values[:, with_labels[1]])
        if len(first) < _FEWEST_ROWS:
            found[i, j] = found[j, i] = np.nan
        elif (first == first[0]).all() or (second == second[0]).all():
            found[i, j] = found[j, i] = 0.0
        elif table.columns[with_labels[0]].has_labels:
            found[i, j] = found[j, i] = cramers_v(first, second)
        elif table.columns[with_labels[1]].has_labels:
            found[i, j] = found[j, i] = correlation_ratio(first, second)
    return found


def _both(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    known = ~(np.isnan(first) | np.isnan(second))
    return first[known], second[known]


def _rank_correlations(values: NDArray[np.float64]) -> NDArray[np.float64]:
    pandas = import_optional("pandas", "tables")
    return np.array(pandas.DataFrame(values).corr(method="spearman"))


def cramers_v(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return Cramér's V of two columns of categories, corrected for its bias (Bergsma 2013), from 0 to 1.

    The uncorrected V of independent columns is above 0, the more so the fewer the rows and the more the categories.
    It is NaN if each row has a category of its own.
    """
    from scipy.stats import chi2_contingency
    from scipy.stats.contingency import crosstab

    counts, n = crosstab(first, second).count, len(first)
    chi2 = chi2_contingency(counts, correction=False).statistic
    rows, columns = ((size - (size - 1) ** 2 / (n - 1)) - 1 for size in counts.shape)
    if min(rows, columns) <= 0:
        return float("nan")
    bias = (counts.shape[0] - 1) * (counts.shape[1] - 1) / (n - 1)
    return float(np.sqrt(min(1.0, max(0.0, chi2 / n - bias) / min(rows, columns))))


def correlation_ratio(numbers: NDArray[np.float64], categories: NDArray[np.float64]) -> float:
    """Return the correlation ratio of the ranks of numbers within categories, from 0 to 1.

    Its square is the share of the ranks' variance that the categories explain, corrected for its bias (Kelley's ε²
    of 1935), which is about (categories − 1) / (rows − 1) if they explain nothing. It is NaN if each row has a category
    of its own.
    """
    from scipy.stats import rankdata

    ranks, (_, groups, sizes) = (
        rankdata(numbers),
        np.unique(categories, return_inverse=True, return_counts=True),
    )
    n, k = len(ranks), len(sizes)
    if n <= k:
        return float("nan")
    means = np.bincount(groups, ranks) / sizes
    within, total = ((ranks - means[groups]) ** 2).sum() / (n - k), ((ranks - ranks.mean()) ** 2).sum() / (n - 1)
    return float(np.sqrt(max(0.0, 1 - within / total)))
