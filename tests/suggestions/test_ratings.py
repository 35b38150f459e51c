"""Ratings and other whole numbers of a few levels: no level that none has."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_vae import build, data, suggest_schema
from pyro_vae.data import BadDataError
from pyro_vae.data.table_frames import as_frame


def ratings(n: int = 600) -> pd.DataFrame:
    z = np.random.default_rng(0).normal(size=n)
    return pd.DataFrame({"stars": np.clip(np.round(3.5 + z), 1, 5).astype(int), "height": z})


def test_ratings_from_1_have_no_rating_0():
    table = data.table(ratings())
    column = suggest_schema(table)["stars"]
    assert (column.kind, column.values) == ("ordered", (1, 2, 3, 4, 5))
    assert column.likelihood == {"class": "Categorical", "levels": 5, "upper": 4.0}
    assert column.loc == pytest.approx(table.train.values[:, 0].double().mean().item() - 1), "of the codes"
    vae = build(data=table, latent_dim=1, hidden=(8,))
    assert set(vae.sample(2000, seed=0)["stars"]) == {1, 2, 3, 4, 5}
    torch.testing.assert_close(
        vae.codes(table.train[:9]), vae.codes(as_frame(table.train.schema, table.train.values[:9]))
    )
    for other in (ratings().assign(stars=0), ratings().assign(stars=2.5)):
        with pytest.raises(BadDataError, match="column 'stars' has .* which its schema does not know; it has 1, 2, 3"):
            vae.codes(data.table(other.assign(height=other.height + 1)).train)


def test_columns_alike_have_the_values_of_all_of_them():
    """None of the first column is 1, as pixels may never be black."""
    rng = np.random.default_rng(0)
    items = pd.DataFrame({"a": rng.integers(2, 6, 300), "b": rng.integers(1, 6, 300), "c": rng.integers(1, 6, 300)})
    assert [column.values for column in suggest_schema(items).data] == [(1, 2, 3, 4, 5)] * 3


def test_many_whole_numbers_up_to_a_bound_are_numbers_that_end_there():
    """As ages that are clipped at 90: a gap then gets their mean, not the most frequent age."""
    z = np.random.default_rng(0).normal(size=900)
    ages = pd.DataFrame({"age": np.clip(np.round(60 + 25 * z), 0, 90).astype(int), "height": z})
    table = data.table(ages)
    column = suggest_schema(table)["age"]
    assert (column.kind, column.likelihood, column.high, column.dtype) == ("real", "Normal", 90.0, "int64")
    torch.manual_seed(0)
    vae = build(data=table, latent_dim=1, hidden=(8,), missing=True)
    drawn = vae.sample(2000, seed=0)["age"]
    assert drawn.max() == 90
    assert drawn.dtype == np.int64
    filled = vae.impute(ages.assign(age=ages.age.where(ages.index > 0).astype("Int64")), seed=0)["age"]
    assert filled[0] == pytest.approx(ages.age.mean(), abs=ages.age.std()), "the untrained mean, not the mode, 90"


def test_many_grey_levels_of_columns_alike_stay_levels():
    pixels = pd.DataFrame(np.random.default_rng(0).integers(0, 256, (300, 40))).add_prefix("pixel")
    assert {(column.kind, len(column.values)) for column in suggest_schema(pixels).data} == {("ordered", 256)}
