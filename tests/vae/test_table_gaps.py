"""Gaps of DataFrames filled in: what is there stays as it is, in its type and in its words."""

from __future__ import annotations

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from pyro_vae import build
from pyro_vae.data import Column
from pyro_vae.data.table_gaps import with_values

N = 40
RNG = np.random.default_rng(0)
DAYS = pd.Series(pd.Timestamp("2020-03-01") + pd.to_timedelta(RNG.integers(0, 900, N), "D"))
NUMBERS = pd.Series(RNG.normal(40, 9, N).round(2))
WORDS = pd.Series(RNG.choice(["a", "b", "c"], N))
GAPS = np.arange(N) % 4 == 1

COLUMNS = {
    "float32": NUMBERS.astype("float32"),
    "Float64": NUMBERS.astype("Float64"),
    "Int8": NUMBERS.round().astype("Int8"),
    "UInt16": NUMBERS.round().astype("UInt16"),
    "decimal": NUMBERS.map(lambda x: Decimal(str(x))),
    "boolean": (NUMBERS > 40).astype("boolean"),
    "text": WORDS.astype(object),
    "string": WORDS.astype("string"),
    "categories": WORDS.astype("category"),
    "numbers as categories": NUMBERS.round(-1).astype("category"),
    "intervals": pd.Series(pd.cut(NUMBERS, 3)),
    "dates as categories": (pd.Timestamp("2020-03-01") + pd.to_timedelta(NUMBERS.round(-1), "D")).astype("category"),
    "seconds": DAYS.astype("datetime64[s]"),
    "zone": DAYS.dt.tz_localize("Europe/Berlin"),
    "datetime.date": DAYS.dt.date,
    "text of dates": DAYS.dt.strftime("%Y-%m-%d"),
    "text of times": DAYS.dt.strftime("%Y-%m-%d %H:%M"),
    "arrow": DAYS.dt.date.astype(pd.ArrowDtype(__import__("pyarrow").date32())),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_what_is_there_stays_and_gaps_get_values_of_the_same_type(name):
    df = pd.DataFrame({name: COLUMNS[name].mask(GAPS), "x": NUMBERS}).set_axis(range(5, 5 + N))
    filled = build(data=df, latent_dim=2, hidden=(4,), missing=True).impute(df, num_particles=5, seed=0)
    assert filled.index.equals(df.index)
    if name != "dates as categories":  # which get more of them
        assert filled[name].dtype == df[name].dtype
    assert filled[name].notna().all()
    before, after = df[name][~GAPS].tolist(), filled[name][~GAPS].tolist()
    assert before == after
    assert {type(value) for value in filled[name][GAPS]} == {type(value) for value in filled[name][~GAPS]}
    if name.startswith("text of"):
        assert set(map(len, filled[name])) == {len(before[0])}
        assert pd.to_datetime(filled[name], format="ISO8601").notna().all()


def test_a_category_that_this_series_lacks_is_added_and_leaves_no_gap():
    column = Column("c", "category", values=("a", "b", "c"), dtype="category")
    old = pd.Series(pd.Categorical(["a", None, "b"], ["a", "b"]))
    new = pd.Series(pd.Categorical(["c"] * 3, ["a", "b", "c"]))
    found = with_values(column, old, old.isna().to_numpy(), new)
    assert found.tolist() == ["a", "c", "b"]


@pytest.mark.parametrize(("new", "expected"), [("2", [1, 2, 1]), ("other", ["1", "other", "1"])])
def test_numbers_that_are_categories_stay_numbers_if_no_other_is_among_them(new, expected):
    column = Column("c", "category", values=(1, 2, "other"), other=True, dtype="Int64")
    old = pd.Series([1, None, 1], dtype="Int64")
    known = pd.concat([old, pd.Series([2], dtype="Int64")], ignore_index=True)
    found = with_values(column, known, known.isna().to_numpy(), pd.Series([new] * 4))
    assert found.tolist()[:3] == expected


def test_numbers_that_are_not_whole_are_not_cut_to_the_type_of_a_column():
    old, new = pd.Series([4, -999, 6]), pd.Series([0.0, 3.7, 0.0])
    found = with_values(Column("a", "real", missing=(-999,)), old, (old == -999).to_numpy(), new)
    assert found.tolist() == [4, 3.7, 6]


@pytest.mark.parametrize("labels", [[0, 1], [("p", 1), ("q", 2)], [1.5, "x"]])
def test_columns_without_text_as_names(labels):
    names = pd.MultiIndex.from_tuples(labels) if isinstance(labels[0], tuple) else labels
    df = pd.DataFrame(np.c_[NUMBERS.mask(GAPS), NUMBERS], columns=names)
    filled = build(data=df, latent_dim=2, hidden=(4,), missing=True).impute(df, num_particles=5, seed=0)
    assert filled.columns.equals(df.columns)
    assert filled.notna().all(axis=None)
    assert filled[~GAPS].equals(df[~GAPS])


def test_gaps_in_columns_that_the_schema_leaves_out_stay_with_a_warning():
    df = pd.DataFrame({"a": NUMBERS.mask(GAPS), "b": NUMBERS, "name": [None, *(f"p{i}" for i in range(1, N))]})
    vae = build(data=df, latent_dim=2, hidden=(4,))
    with pytest.warns(UserWarning, match="leaves missing values in 'name': its schema leaves this column out"):
        filled = vae.impute(df, num_particles=5, seed=0)
    assert filled.isna().sum().to_dict() == {"a": 0, "b": 0, "name": 1}


def test_reconstructions_have_the_index_of_their_rows():
    df = pd.DataFrame({"a": NUMBERS, "w": WORDS}).set_axis(pd.date_range("2024-01-01", periods=N))
    assert build(data=df, latent_dim=2, hidden=(4,)).reconstruct(df).index.equals(df.index)


def test_dates_of_python_are_dates_again_and_not_times():
    column = Column("d", "date", dtype="date", origin="2020-01-01")
    old = pd.Series([datetime.date(2020, 1, 2), None])
    new = pd.Series(pd.to_datetime(["2021-01-01", "2020-05-06"]))
    assert with_values(column, old, np.array([False, True]), new).tolist() == [old[0], datetime.date(2020, 5, 6)]
