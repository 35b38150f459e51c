"""Columns of real numbers that keep to the support of their numbers: above 0, or between 0 and 1."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pyro_vae.data.schema import Column
from pyro_vae.resolver import class_name

__all__ = ["ends", "within_support"]

_NEVER = 5.0  # Standard deviations from the mean, beyond which a normal has one draw in three million.
_SHARE = re.compile(
    r"(?<![a-z])(shares?|proportions?|fractions?|prob|probability|probabilities|rates?|percent|percentage|pct|quota"
    r"|occupancy|utili[sz]ation)(?![a-z])",
    re.IGNORECASE,
)


def within_support(column: Column, numbers: NDArray[np.float64]) -> Column:
    """Return a column that was judged to be real or positive, with a kind or bounds that keep its draws in the support.

    - Numbers inside (0, 1) are proportions, if the name says so, or if a normal as wide as the numbers (after the
      logarithm, if they are positive and skewed) would leave (0, 1).
    - Other real numbers of at least 0 get the bound 0, and if none is above 1 the bound 1, if a normal would exceed it.

    Args:
        column: of a schema, with the kind real or positive and a likelihood.
        numbers: of the column, ``(n,)``; NaN where one is missing.
    """
    there = numbers[~np.isnan(numbers)]
    if not len(there) or there.min() < 0 or column.origin:
        return column
    named = _SHARE.search(column.name) is not None and there.max() <= 1
    of_log = column.kind == "positive"
    y = np.log(there) if of_log else there
    below, above = y.mean() - _NEVER * y.std(), y.mean() + _NEVER * y.std()
    heavy = class_name(column.likelihood or "Normal") == "StudentT"
    low = not of_log and (named or heavy or below < 0)
    high = there.max() <= 1 and (named or heavy or above > (0 if of_log else 1))
    if ends(there) == 0 and (low or high) and there.max() < 1 and (named or not heavy):
        return replace(column, kind="proportion", likelihood="LogitNormal")
    if of_log:
        return column
    return replace(column, low=0.0 if low else None, high=1.0 if high else None)


def ends(numbers: NDArray[np.float64]) -> int:
    """Return how many numbers are 0 or 1 in single precision, as in a VAE."""
    single = numbers.astype(np.float32)
    return int(((single == 0) | (single == 1)).sum())
