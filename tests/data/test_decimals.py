"""Numbers come out of a VAE with as many decimals as their column has."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pyro_vae import build, data
from pyro_vae.data import Column, SchemaError
from pyro_vae.data.table_frames import as_values


def prices(n: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "price": np.exp(rng.normal(3, 1, n)).round(2),
            "share": rng.beta(1, 1, n).round(3).clip(0.001, 0.999),
            "far": (1e6 + rng.normal(size=n)).round(1),
            "any": rng.normal(size=n),
        }
    )


def test_draws_and_filled_gaps_have_the_decimals_of_their_columns():
    table = prices()
    gaps = table.mask(np.random.default_rng(1).random(table.shape) < 0.3)
    vae = build(data=gaps, latent_dim=1, hidden=(8,))
    assert [column.decimals for column in vae.schema.columns] == [2, 3, 1, None]
    filled = vae.impute(gaps, seed=0)
    for found in (vae.sample(300, seed=0), filled, vae.reconstruct(gaps)):
        for name, count in {"price": 2, "share": 3, "far": 1}.items():
            assert (found[name].round(count) == found[name]).all()
        assert (found["price"] > 0).all()
        assert found["share"].between(0.001, 0.999).all()
    pd.testing.assert_frame_equal(filled.where(gaps.notna()), gaps, check_exact=True)


def test_what_is_inside_its_support_is_not_rounded_out_of_it():
    near = np.array([1e-9, 0.12345, 1 - 1e-9, np.nan])
    share = as_values(Column("a", "proportion", decimals=2), near)
    np.testing.assert_array_equal(share, [0.01, 0.12, 0.99, np.nan])
    np.testing.assert_array_equal(as_values(Column("a", "positive", decimals=1), near), [0.1, 0.1, 1.0, np.nan])
    np.testing.assert_array_equal(as_values(Column("a", "real", decimals=1), -near), [0.0, -0.1, -1.0, np.nan])


@pytest.mark.parametrize("decimals", [-1, 16, 1.5, True, "2"])
def test_decimals_are_a_whole_number(decimals):
    with pytest.raises(SchemaError, match="column 'a': decimals must be a whole number from 0 to 15; got"):
        Column("a", "real", decimals=decimals)


def test_columns_of_few_rows_have_no_decimals():
    assert data.table(prices(20)).train.schema["price"].decimals is None
