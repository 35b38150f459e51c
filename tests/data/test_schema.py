"""Schemas: what columns hold, codes and back, files, edits, and tables that do not fit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.pandas import column, data_frames, range_indexes

from pyro_vae import data
from pyro_vae.data import BadDataError, Column, Schema, SchemaError
from pyro_vae.data.table_frames import as_frame
from pyro_vae.data.table_kinds import look_at
from pyro_vae.data.tables import rows_of_frame

N = 300


def make_table(n: int = N, gaps: float = 0.2) -> pd.DataFrame:
    """One column of each kind."""
    rng = np.random.default_rng(0)
    df = pd.DataFrame(
        {
            "age": rng.integers(18, 90, n),
            "income": np.exp(rng.normal(8, 1, n)),
            "visits": rng.poisson(2, n),
            "sex": rng.choice(["f", "m"], n),
            "town": rng.choice(["Ulm", "Bonn", "Köln"], n),
            "smokes": rng.random(n) < 0.3,
            "size": pd.Categorical(rng.choice(["S", "M", "L"], n), ["S", "M", "L"], ordered=True),
            "since": pd.Timestamp("2020-03-01") + pd.to_timedelta(rng.integers(0, 900, n), "D"),
            "seen": pd.Timestamp("2020-03-01") + pd.to_timedelta(rng.integers(0, 10**8, n), "s"),
            "share": rng.beta(2, 3, n),
            "stamp": 1.6e9 + rng.normal(0, 1e4, n),
            "code": rng.choice([1, 2], n),
        }
    )
    if gaps:
        df = df.mask(np.random.default_rng(1).random(df.shape) < gaps)
    return df.assign(country="de", id=range(n))


KINDS = {
    **dict.fromkeys(("age", "income", "visits", "share"), "number"),
    **dict.fromkeys(("sex", "smokes", "code"), "binary"),
    **dict.fromkeys(("since", "seen"), "date"),
    "town": "category",
    "size": "ordered",
    "stamp": "real",
    "country": "constant",
    "id": "identifier",
}


@pytest.mark.parametrize("gaps", [0.0, 0.2])
def test_each_kind_of_column_is_found(gaps):
    schema = rows_of_frame(make_table(gaps=gaps)).schema
    assert {column.name: column.kind for column in schema.columns} == KINDS
    assert [column.name for column in schema.of("out")] == ["country", "id"]


@pytest.mark.parametrize("gaps", [0.0, 0.2])
def test_a_table_comes_back_from_its_codes(gaps):
    df = make_table(gaps=gaps)
    rows = rows_of_frame(df)
    back = as_frame(rows.schema, rows.values)
    for name in df.columns.drop("id"):
        given, found = df[name], back[name]
        assert (given.isna() == found.isna()).all()
        there = given.notna()
        if given.dtype.kind == "f":
            np.testing.assert_allclose(found[there], given[there], rtol=1e-12)
        else:
            assert (found[there].astype(object) == given[there].astype(object)).all()
        if not gaps:
            assert found.dtype == given.dtype or given.dtype == "datetime64[us]"


def test_a_file_gives_the_same_codes_as_the_frame(tmp_path):
    df = make_table().astype({"size": str}).replace("nan", np.nan)
    df.to_csv(tmp_path / "a.csv", index=False)
    df.to_parquet(tmp_path / "a.parquet")
    expected = data.table(df)
    for name in ("a.csv", "a.parquet"):
        found = data.load(tmp_path / name)
        np.testing.assert_allclose(found.train.values, expected.train.values, rtol=1e-9)
        assert found.train.schema.names == expected.train.schema.names


def test_rows_stay_in_their_splits_when_others_bring_new_categories_and_earlier_dates():
    df = make_table(gaps=0.0)
    more = df.head(50).assign(
        town="Aachen",
        size="L",
        since=pd.Timestamp("1999-01-01"),
        age=range(100, 150),
        code=1,
        stamp=1.5e9,
        id=range(1000, 1050),
    )
    before, after = data.table(df), data.table(pd.concat([more, df]))

    def places(found):
        frames = {
            name: as_frame(found.train.schema, getattr(found, name).values) for name in ("train", "valid", "test")
        }
        return {(a, i): name for name, f in frames.items() for a, i in zip(f.age, f.income, strict=True)}

    first, second = places(before), places(after)
    assert all(second[row] == name for row, name in first.items())


@given(
    data_frames(
        [
            column("a", elements=st.floats(-1e6, 1e6, allow_nan=False)),
            column("b", elements=st.sampled_from(["x", "y", " z", "1", "1.0", "é"])),
            column("c", elements=st.integers(-(2**40), 2**40)),
            column("d", elements=st.booleans()),
        ],
        index=range_indexes(min_size=30, max_size=60),
    )
)
@settings(max_examples=30, deadline=None)
def test_any_table_comes_back(df):
    try:
        rows = rows_of_frame(df)
    except BadDataError:  # nothing in it varies
        return
    back = as_frame(rows.schema, rows.values)
    for column_ in rows.schema.data:
        given, found = df[column_.name], back[column_.name]
        if given.dtype.kind == "f":
            np.testing.assert_allclose(found, given, rtol=1e-9, atol=1e-9)
        elif given.dtype == object:
            assert (found == given.str.strip()).all()
        else:
            assert (found == given).all()


def test_a_schema_is_yaml_that_comes_back(tmp_path):
    schema = rows_of_frame(make_table()).schema
    (tmp_path / "s.yaml").write_text(schema.to_yaml(), encoding="utf-8")
    assert Schema.read(tmp_path / "s.yaml") == schema
    odd = Schema((Column("yes", "binary", values=("no", "yes")), Column("1: {", "category", values=("null", "~", "1"))))
    assert Schema.from_plain(yaml.safe_load(odd.to_yaml())) == odd


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1", "a schema must have columns"),
        ("columns: {a: {}}", "column 'a' must have a kind"),
        ("columns: {a: {kind: reel}}", "column 'a': kind must be one of number, real, .*; got 'reel'"),
        ("columns: {a: {kind: real, valeus: [1]}}", "column 'a' has no entry 'valeus'. Did you mean 'values'?"),
        ("columns: {a: {kind: category}}", "a category column needs at least two values"),
        ("columns: {a: {kind: binary, values: [1, 2, 3]}}", "a binary column has two values"),
        ("columns: {a: {kind: category, values: [x, x]}}", "values must differ"),
        ("columns: {a: {kind: real, scale: 0}}", "scale must be above 0; got 0"),
        ("columns: {a: {kind: real, loc: .nan}}", "loc must be a number; got nan"),
        ("columns: {a: {kind: date, origin: soon}}", "origin must be a date, such as 2020-01-31; got 'soon'"),
        ("columns: {a: {kind: constant}}", "role must be out"),
        ("columns: {a: {kind: real, role: out}}", "at least one column must have the role data"),
        ("columns: {a: {kind: real, role: x}}", "role must be one of data, context, label, out; got 'x'"),
    ],
)
def test_bad_schemas(tmp_path, text, message):
    (tmp_path / "s.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SchemaError, match=message.replace("?", r"\?").replace("[", r"\[")):
        Schema.read(tmp_path / "s.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"town": "Paris"}, "column 'town' has 'Paris', which its schema does not know; it has 'Bonn', 'Köln', 'Ulm'"),
        ({"income": "much"}, "column 'income' is text, such as 'much'; its schema says number"),
        ({"since": "later"}, "column 'since' must hold dates"),
        ({"smokes": "perhaps"}, "column 'smokes' has 'perhaps'"),
        ({"code": 3}, "column 'code' has 3"),
    ],
)
def test_tables_that_do_not_fit_their_schema(change, message):
    df = make_table()
    schema = rows_of_frame(df).schema
    with pytest.raises(BadDataError, match=message):
        rows_of_frame(df.head(30).assign(**change), schema)
    with pytest.raises(ValueError, match=rf"no column '{next(iter(change))}'"):
        rows_of_frame(df.drop(columns=list(change)), schema)


def test_other_takes_what_is_new():
    df = make_table(gaps=0)
    schema = rows_of_frame(df).schema
    town = Column("town", "category", values=("Bonn", "Köln", "Ulm", "other"), other=True, dtype="str")
    rows = rows_of_frame(df.head(30).assign(town="Paris"), schema.with_columns([town]))
    assert set(as_frame(rows.schema, rows.values).town) == {"other"}


def test_a_category_that_no_row_has_is_not_strange():
    sizes = pd.Categorical(["S", "L", "S", "M"] * 10)
    schema = rows_of_frame(pd.DataFrame({"size": sizes, "n": range(40)})).schema
    others = pd.DataFrame({"size": pd.Categorical([None, "S"], ["huge", "S"]), "n": [1, 2]})
    assert rows_of_frame(others, schema).values[:, 0].tolist()[1] == schema["size"].values.index("S")
    assert rows_of_frame(others, schema).values[0, 0].isnan()


def test_columns_without_values_are_left_out():
    empty = {"text": [""] * 40, "spaces": [" "] * 40, "none": [None] * 40, "date": [pd.NaT] * 40}
    empty["kinds"] = pd.Categorical([None] * 40, ["a", "b", "c"])
    (note,) = data.table(pd.DataFrame({"n": range(40), **empty})).notes
    assert note == "5 of 6 columns are left out: " + "; ".join(f"{c!r} has no value in any row" for c in empty)


def test_marks_of_missing_values(tmp_path):
    df = pd.DataFrame({"a": np.arange(100.0), "b": ["?" if i % 5 == 0 else f"{i / 4}" for i in range(100)]})
    df.to_csv(tmp_path / "a.csv", index=False)
    found = data.load(tmp_path / "a.csv")
    assert found.notes == ("'?' in 'b' is missing",)
    assert found.train.schema["b"].missing == ("?",)
    everything = found.everything.values
    assert int(everything[:, 1].isnan().sum()) == 20
    known = Schema((Column("a", "real", missing=(-999,)), Column("b", "real", missing=("?", "7.0"))))
    rows = rows_of_frame(pd.DataFrame({"a": [1, -999, 3], "b": ["7.0", "2", "?"]}), known)
    assert rows.values.isnan().tolist() == [[False, True], [True, False], [False, True]]


def test_large_numbers_keep_their_last_digits_in_float32():
    df = pd.DataFrame({"stamp": 1_600_000_000 + np.arange(100), "b": np.arange(100) % 7})
    rows = rows_of_frame(df)
    assert as_frame(rows.schema, rows.values.float()).stamp.tolist() == df.stamp.tolist()


@pytest.mark.parametrize("dtype", ["float64", "float32", "Int64", "int64"])
def test_whole_numbers_with_gaps_are_integers(dtype):
    """pandas.read_csv and DataFrame.mask hold them as real numbers."""
    whole = pd.Series(range(20, 60), dtype=dtype)
    numbers = whole.mask(whole > 50) if dtype != "int64" else whole
    rows = rows_of_frame(pd.DataFrame({"x": numbers, "y": np.linspace(0.5, 1.5, 40)}))
    x = torch.full((3, 2), 34.2)
    assert as_frame(rows.schema, x)["x"].dtype == ("Int64" if dtype == "Int64" else "int64")
    x[0] = torch.nan
    found = as_frame(rows.schema, x)["x"]
    assert found.dtype == "Int64"
    assert found.tolist() == [pd.NA, 34, 34]


@pytest.mark.parametrize(
    "numbers",
    [
        [1.0, 2.0, 5.0, 7.0],  # real numbers by choice: nothing is missing
        [1.0, 2.5, 5.0, np.nan],
        [1.0, 2.0, 2.0**60, np.nan],  # beyond what float64 counts
    ],
)
def test_other_real_numbers_stay_real(numbers):
    schema = rows_of_frame(pd.DataFrame({"x": numbers * 10, "y": np.linspace(0, 1, 40)})).schema
    assert schema["x"].dtype == "float64"


@pytest.mark.parametrize(
    ("name", "numbers", "kind"),
    [
        ("patient", range(1, 101), "identifier"),
        ("patient", range(100), "identifier"),
        ("CustomerID", range(900, 700, -2), "identifier"),
        ("customer id", range(900, 700, -2), "identifier"),
        ("patient", range(900, 700, -2), "identifier"),
        ("patient_no", range(900, 700, -2), "identifier"),
        ("patients", range(900, 700, -2), "number"),
        ("patient", [*range(1, 51), *range(1, 51)], "number"),
        ("paid", range(900, 700, -2), "number"),
        ("day", [*range(1, 51), *range(1, 51)], "number"),
        ("day", range(1, 101), "number"),
    ],
)
def test_what_numbers_the_rows_is_left_out(name, numbers, kind):
    frame = pd.DataFrame({name: list(numbers), "x": np.linspace(0, 1, len(numbers))})
    found, *_ = look_at("t", name, pa.array(frame[name]))
    assert found.kind == kind
