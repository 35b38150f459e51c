"""Whether synthetic rows are nearer to the rows that the generator was trained on than to other real rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyro_vae.evaluation.synthetic_rows.discriminator import Measured
from pyro_vae.evaluation.synthetic_rows.tables import Table, keys_of_rows

__all__ = ["copies", "nearer_to_train", "shares_of_nearest"]

_ROWS_AT_A_TIME = 250
_ROUNDING = 1e-9  # distances that differ by less are the same


def copies(table: Table, train: Table) -> float:
    """Return the share of rows that equal a training row in all columns, reals in single precision."""
    keys, of_train = keys_of_rows(table, train)
    there = set(of_train)
    return float(np.mean([key in there for key in keys]))


def nearer_to_train(synthetic: Table, train: Table, held_out: Table) -> Measured:
    """Return how much more often a training row is the nearest to a synthetic row than a held-out row is.

    Each synthetic row has its nearest real row among both kinds; a draw is shared. With a and b the average number of
    synthetic rows per training row and per held-out row, the result is a / (a + b): 0.5 if training rows are not
    nearer than others, 1 if the nearest row is always a training row. For as many training as held-out rows it is the
    share of synthetic rows that are nearer to a training row.

    The standard error is that of the share if nothing was memorised. Then the n training and m held-out rows can be
    exchanged, so the share has a known variance over all ways to choose n of the n + m rows, whatever the synthetic
    rows. A binomial error would be too small: all synthetic rows near a real row go the same way.
    """
    shares = shares_of_nearest(synthetic, Table(train.columns, np.concatenate([train.values, held_out.values])))
    n, m = len(train), len(held_out)
    per_train, per_held_out = shares[:n].sum() / n, shares[n:].sum() / m
    # A sum over n of n + m values chosen without replacement has this variance. The slope of a / (a + b) where a = b
    # brings it to the scale of the result.
    variance = n * m / (n + m) / (n + m - 1) * ((shares - shares.mean()) ** 2).sum()
    slope = (n + m) ** 2 / (4 * n * m)
    return Measured(float(per_train / (per_train + per_held_out)), float(slope * np.sqrt(variance)))


def shares_of_nearest(synthetic: Table, real: Table) -> NDArray[np.float64]:
    """Return the share of synthetic rows that each real row is the nearest to, ``(len(real),)``; they sum to 1.

    The distance is a sum over columns: for numbers and dates, the absolute difference in units of the mean absolute
    deviation from the median of all real rows; for labels, 1 if they differ. A missing value counts as the median and 1
    more, or as one more label. Rows at the same distance share the synthetic row.
    """
    from scipy.spatial.distance import cdist

    places, mine = _coordinates(real, real), _coordinates(synthetic, real)
    with_labels = [column.has_labels for column in real.columns]
    labels, my_labels = (np.nan_to_num(t.values[:, with_labels], nan=-1) for t in (real, synthetic))
    shares = np.zeros(len(real))
    for start in range(0, len(synthetic), _ROWS_AT_A_TIME):
        rows = slice(start, start + _ROWS_AT_A_TIME)
        distances = np.zeros((len(mine[rows]), len(real)))
        if places.shape[1]:
            distances = cdist(mine[rows], places, "cityblock")
        if labels.shape[1]:
            distances = distances + labels.shape[1] * cdist(my_labels[rows], labels, "hamming")
        nearest = distances <= distances.min(1, keepdims=True) * (1 + _ROUNDING)
        shares += (nearest / nearest.sum(1, keepdims=True)).sum(0)
    return shares / len(synthetic)


def _coordinates(table: Table, reference: Table) -> NDArray[np.float64]:
    """Return the numbers and dates in units of the reference, and which of them are missing, ``(n, coordinates)``."""
    found = []
    for j, column in enumerate(table.columns):
        if column.has_labels:
            continue
        known = reference.known(j)
        middle = np.median(known) if len(known) else 0.0
        spread = np.abs(known - middle).mean() if len(known) else 0.0
        gaps = np.isnan(table.values[:, j])
        found += [np.where(gaps, 0.0, (table.values[:, j] - middle) / (spread if spread > 0 else 1.0)), gaps]
    return np.stack(found, 1).astype(float) if found else np.empty((len(table), 0))
