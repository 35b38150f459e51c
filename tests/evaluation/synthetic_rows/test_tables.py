"""Frames become numbers, or an error that names the frame and the column."""

from __future__ import annotations

import datetime
import decimal

import numpy as np
import pandas as pd
import pytest

from pyro_vae.evaluation.synthetic_rows.tables import keys_of_rows, read
from tests.evaluation.synthetic_rows.frames import numbers, people

NUMBERS = [0.5, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, None]
WHOLE = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, None]
DAYS = pd.date_range("2020-01-01", periods=12).to_series().where(np.arange(12) < 11).reset_index(drop=True)
WORDS = [*"aabbbcaabbb", None]


@pytest.mark.parametrize(
    ("kind", "series"),
    [
        ("number", pd.Series(NUMBERS)),
        ("number", pd.Series(WHOLE, dtype="Int64")),
        ("number", pd.Series(NUMBERS, dtype="double[pyarrow]")),
        ("number", pd.Series(WHOLE, dtype=object)),
        ("number", pd.Series([decimal.Decimal(1)] * 11 + [None])),
        ("number", pd.Series(pd.arrays.SparseArray([0.0] * 10 + [1.0, np.nan]))),
        ("date", DAYS),
        ("date", DAYS.dt.tz_localize("Europe/Rome")),
        ("date", pd.Series([datetime.date(2020, 1, d) for d in range(1, 12)] + [None])),
        ("boolean", pd.Series([True, False] * 5 + [True, None])),
        ("boolean", pd.Series([True, False] * 5 + [True, None], dtype="boolean")),
        ("category", pd.Series(WORDS)),
        ("category", pd.Series(WORDS, dtype="string")),
        ("category", pd.Series(WORDS, dtype="category")),
        ("category", pd.Series(WHOLE, dtype="category")),
    ],
)
def test_kinds(kind, series):
    tables, notes = read({"train": pd.DataFrame({"x": series}), "synthetic": pd.DataFrame({"x": series})})
    (column,), values = tables["train"].columns, tables["train"].values[:, 0]
    assert (column.kind, notes) == (kind, [])
    assert np.isnan(values).tolist() == [False] * 11 + [True], "rows are in the order of their values, gaps last"
    np.testing.assert_array_equal(tables["synthetic"].values, tables["train"].values)


def test_values():
    frame = pd.DataFrame({"w": WORDS, "n": NUMBERS, "d": DAYS})
    other = frame.assign(w=["z"] * 12)
    tables, _ = read({"train": frame, "synthetic": other})
    train = tables["train"]
    assert train.names == ["d", "n", "w"]
    assert train.columns[2].labels == ("b", "a", "c", "z"), "the most frequent of the training rows first"
    days = (pd.Timestamp("2020-01-01") - pd.Timestamp("1970-01-01")).days + np.arange(11.0)
    np.testing.assert_allclose(train.values[:-1, 0], days, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(train.values[:-1, 1], NUMBERS[:-1])
    np.testing.assert_array_equal(train.values[:-1, 2], [1, 1, 0, 0, 0, 2, 1, 1, 0, 0, 0])
    assert np.isnan(train.values[-1]).all()
    assert (tables["synthetic"].values[:, 2] == 3).all()


def test_time_zones_are_moments():
    rome = pd.DataFrame({"x": DAYS.dt.tz_localize("Europe/Rome")})
    utc = pd.DataFrame({"x": DAYS.dt.tz_localize("Europe/Rome").dt.tz_convert("UTC")})
    tables, _ = read({"train": rome, "synthetic": utc})
    np.testing.assert_array_equal(tables["train"].values, tables["synthetic"].values)


def test_the_order_of_rows_and_columns_is_forgotten():
    frame = people(50)
    mixed = frame.sample(frac=1, random_state=0)[frame.columns[::-1]].reset_index(drop=True)
    tables, _ = read({"train": frame, "synthetic": mixed})
    np.testing.assert_array_equal(tables["train"].values, tables["synthetic"].values)


def test_identifiers_are_left_out_with_a_note():
    frame = people(30).assign(name=[f"person {i}" for i in range(30)])
    tables, notes = read({"train": frame, "synthetic": frame})
    assert "name" not in tables["train"].names
    assert notes == [
        "'name' is left out: 30 of its 30 values in train are different, as in an identifier. Make it a category to "
        "compare it"
    ]
    as_category = frame.astype({"name": "category"})
    tables, notes = read({"train": as_category, "synthetic": as_category})
    assert "name" in tables["train"].names
    assert not notes
    with pytest.raises(ValueError, match="train has identifiers alone \\('name'\\), and nothing else to compare"):
        read({"train": frame[["name"]], "synthetic": frame[["name"]]})


GOOD = people(20)
WRONG = {
    "a list": ([1, 2], TypeError, "synthetic must be a pandas DataFrame; got list"),
    "few rows": (GOOD[:9], ValueError, "synthetic must have at least 10 rows; got 9"),
    "no rows": (GOOD[:0], ValueError, "synthetic must have at least 10 rows; got 0"),
    "a column less": (
        GOOD.drop(columns="sex"),
        ValueError,
        "synthetic must have the columns of train; it lacks 'sex'. To compare the others, take train[synthetic.columns]",
    ),
    "a column more": (GOOD.assign(age=3), ValueError, "it has 'age' besides"),
    "a misspelt column": (
        GOOD.rename(columns={"height": "heigth"}),
        ValueError,
        "it lacks 'height' and has 'heigth' besides. Did you mean heigth?",
    ),
    "twice": (pd.concat([GOOD, GOOD["sex"]], axis=1), ValueError, "synthetic has two columns named 'sex'"),
    "no value": (GOOD.assign(sex=None), ValueError, "synthetic has no value in 'sex'"),
    "another kind": (
        GOOD.assign(sex=1.0),
        ValueError,
        "'sex' must be of one kind; it is a category in train and a number in synthetic (dtypes object and float64)",
    ),
    "0 and 1 for booleans": (
        GOOD.assign(smokes=1),
        ValueError,
        "'smokes' must be of one kind; it is a boolean in train",
    ),
    "dates as text": (GOOD.astype({"born": str}), ValueError, "'born' must be of one kind; it is a date in train"),
    "a time zone": (
        GOOD.assign(born=GOOD["born"].dt.tz_localize("UTC")),
        ValueError,
        "'born' has a time zone in synthetic alone",
    ),
    "infinity": (GOOD.assign(height=np.inf), ValueError, "'height' of synthetic has infinite values"),
    "lists": (GOOD.assign(sex=[[1]] * 20), ValueError, "'sex' of synthetic must hold numbers, booleans, text, categor"),
    "durations": (GOOD.assign(sex=pd.Timedelta(1)), ValueError, "'sex' of synthetic must hold numbers"),
    "complex": (GOOD.assign(height=1j), ValueError, "'height' of synthetic must hold numbers"),
    "mixed": (GOOD.assign(sex=["f", 1] * 10), ValueError, "got dtype object (mixed-integer), such as 'f'"),
    "huge": (GOOD.assign(children=2**60), ValueError, "'children' of synthetic has integers above 9007199254740992"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_compared_is_refused(name):
    wrong, error, message = WRONG[name]
    with pytest.raises(error) as caught:
        read({"train": GOOD, "synthetic": wrong})
    assert message in str(caught.value).replace("dtypes str and", "dtypes object and")


def test_the_frame_that_is_wrong_is_named():
    with pytest.raises(ValueError, match="held_out has no value in 'city'"):
        read({"train": GOOD, "synthetic": GOOD, "held_out": GOOD.assign(city=None)})
    with pytest.raises(ValueError, match="train must have at least 10 rows; got 3"):
        read({"train": GOOD[:3], "synthetic": GOOD})
    with pytest.raises(ValueError, match="train has no columns"):
        read({"train": GOOD[[]], "synthetic": GOOD[[]]})


def test_keys_of_rows():
    """Reals are equal in single precision, whole numbers exactly; −0 is 0, and a gap is a gap."""
    train = numbers([[0.1, 2.0**30], [0.0, np.nan], [0.5, 3]])
    table = numbers([[np.float32(0.1), 2.0**30], [-0.0, -np.nan], [0.5, 2.0**30 + 1], [0.1001, 2.0**30]])
    of_train, of_table = keys_of_rows(train, table)
    assert len(set(of_train)) == 3
    assert [key in of_train for key in of_table] == [True, True, False, False]
