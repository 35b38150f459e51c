"""Tables for the tests of synthetic rows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pyro_vae.evaluation.synthetic_rows.tables import Column, Table


def people(n, seed=0):
    """Rows of every kind of column, with gaps: height, weight and sex depend on each other."""
    rng = np.random.default_rng(seed)
    sex = rng.choice(["f", "m"], n)
    height = rng.normal(170, 8, n) + 8 * (sex == "m")
    frame = pd.DataFrame(
        {
            "weight": height - 100 + rng.normal(0, 5, n),
            "height": height,
            "sex": sex,
            "children": rng.poisson(1.5, n),
            "smokes": rng.random(n) < 0.3,
            "city": pd.Categorical(rng.choice(["Bern", "Rome", "Oslo"], n, p=[0.6, 0.3, 0.1])),
            "born": pd.Timestamp("2000-01-01") - pd.to_timedelta(rng.integers(0, 20_000, n), "D"),
        }
    )
    frame.loc[rng.random(n) < 0.2, "weight"] = np.nan
    frame.loc[rng.random(n) < 0.1, "city"] = None
    frame.loc[rng.random(n) < 0.1, "born"] = pd.NaT
    return frame


def numbers(values):
    """A table of numbers."""
    values = np.asarray(values, dtype=float)
    return Table(tuple(Column(f"x{j}", "number") for j in range(values.shape[1])), values)


def normals(n, dims, seed, shift=0.0):
    """A table of independent standard normals, the first of them shifted."""
    values = np.random.default_rng(seed).normal(size=(n, dims))
    values[:, 0] += shift
    return numbers(values)
