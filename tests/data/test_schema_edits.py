"""Schemas that a user edits: what cannot be is refused, and what is changed counts."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_vae import build, data, suggest_schema
from pyro_vae.data import BadDataError, Column, Schema, SchemaError
from pyro_vae.data.table_frames import as_frame
from pyro_vae.data.tables import rows_of_frame


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("kind: ordered", "an ordered column needs at least two values, such as values: [low, high]"),
        ("kind: real, whole: 'no'", "whole must be true or false; got 'no'"),
        ("kind: category, values: [x, other], other: 'yes'", "other must be true or false; got 'yes'"),
        ("kind: category, values: [x, y], other: true", "must be 'other'; got ['x', 'y']"),
        ("kind: real, other: true", "must be 'other'; got []"),
        ("kind: category, values: [1, '1', x]", "values must differ, also as text; got [1, '1', 'x']"),
        ("kind: real, dtype: int32", "dtype must be one of float64, int64, .*; got 'int32'"),
        ("kind: real, origin: soon", "origin must be a number; got 'soon'"),
        ("kind: date, origin: 2020-01-31T00:00+01:00", "origin must be a date without a time zone"),
        ("kind: date, origin: 2020-01-31, zone: Europe/Atlantis", "zone must be the time zone of dates"),
        ("kind: real, zone: Europe/Berlin", "zone must be the time zone of dates"),
        ("kind: real, encoding: one_hot", "encoding one_hot is for columns with values"),
        ("kind: date, origin: 2020-01-31, encoding: embedding", "encoding embedding is for columns with values"),
        ("kind: category, values: [x, y], encoding: log", "encoding log is for numbers; a category column has codes"),
        ("kind: real, likelihood: [Normal]", "likelihood must be the name of one, .*; got ['Normal']"),
        ("kind: real, likelihood: {scale: 1}", "likelihood must be the name of one, .*; got {'scale': 1}"),
        ("kind: real, likelihood: Mixed", "likelihood must be the name of one"),
    ],
)
def test_what_cannot_be_is_refused_with_the_name_of_the_column(tmp_path, entries, message):
    (tmp_path / "s.yaml").write_text(f"columns: {{a: {{{entries}}}, b: {{kind: real}}}}", encoding="utf-8")
    for sign in "[{":
        message = message.replace(sign, f"\\{sign}")
    with pytest.raises(SchemaError, match=f"s.yaml: column 'a': .*{message}"):
        Schema.read(tmp_path / "s.yaml")


TOWNS = pd.DataFrame({"town": ["Ulm", "Bonn", "Kiel", "Ulm"] * 10, "x": np.arange(40.0)})


@pytest.mark.parametrize(
    ("likelihood", "message"),
    [
        ({"class": "Categorical", "levels": 2, "upper": 1}, "Categorical is over 2 levels up to 1.* 3 values"),
        ({"class": "Categorical", "levels": 4, "upper": 3}, "Categorical is over 4 levels up to 3"),
        ({"class": "Categorical", "levels": 3, "upper": 1}, "Categorical is over 3 levels up to 1"),
        ("Bernoulli", "Bernoulli is over 2 levels"),
        ("Categoric", "unknown likelihood 'Categoric'"),
    ],
)
def test_a_likelihood_over_other_codes_than_those_of_the_column_is_refused(likelihood, message):
    """With fewer levels, a value had no probability; with more, samples of the others became the last value."""
    schema = suggest_schema(TOWNS)
    edited = schema.with_columns([Column("town", "category", values=("Bonn", "Kiel", "Ulm"), likelihood=likelihood)])
    with pytest.raises(SchemaError, match=f"column 'town': {message}"):
        build(data=TOWNS, schema=edited, latent_dim=2, hidden=(4,))


def test_whole_numbers_with_other_come_back():
    schema = Schema((Column("code", "category", values=(1, 2, "other"), other=True, dtype="int64"),))
    rows = rows_of_frame(pd.DataFrame({"code": [1, 2, 7]}), schema)
    assert as_frame(schema, rows.values).code.tolist() == ["1", "2", "other"]  # Parquet takes no mixture


@pytest.mark.parametrize("mark", [-99.9, "-99.9"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "Float64", "str"])
def test_a_number_is_a_mark_in_each_type_of_column(mark, dtype):
    schema = Schema((Column("a", "real", missing=(mark,)), Column("b", "real")))
    df = pd.DataFrame({"a": [1.0, -99.9, 3.0], "b": 1.0}).astype({"a": dtype})
    assert rows_of_frame(df, schema).values.isnan().tolist() == [[False, False], [True, False], [False, False]]


@pytest.mark.parametrize("form", ["datetime64[ns]", "str", "date"])
def test_a_date_is_a_mark(tmp_path, form):
    (tmp_path / "s.yaml").write_text("columns: {a: {kind: date, origin: 2020-01-01, missing: [9999-12-31]}}")
    schema = Schema.read(tmp_path / "s.yaml")
    dates = pd.Series(np.array(["2020-01-03", "9999-12-31"], "datetime64[s]"))
    df = {"datetime64[ns]": dates, "str": dates.dt.strftime("%Y-%m-%d"), "date": dates.dt.date}[form].to_frame("a")
    np.testing.assert_equal(rows_of_frame(df, schema).values.numpy(), [[2.0], [np.nan]])


@pytest.mark.parametrize("gaps", [False, True])
def test_a_column_that_is_always_true_is_constant(gaps):
    df = pd.DataFrame({"x": np.arange(30.0), "yes": pd.Series([True, None if gaps else True] * 15, dtype="boolean")})
    rows = rows_of_frame(df)
    assert rows.schema["yes"].kind == "constant"
    assert as_frame(rows.schema, rows.values).yes.tolist() == [True] * 30


def test_marks_of_missing_dates_are_found(tmp_path):
    days = pd.date_range("1968-03-01", periods=60).strftime("%Y-%m-%d")
    df = pd.DataFrame({"day": days.where(np.arange(60) % 4 > 0, "?"), "x": np.arange(60) / 7})
    df.to_csv(tmp_path / "a.csv", index=False)
    found = data.load(tmp_path / "a.csv")
    assert found.train.schema["day"].kind == "date"
    assert found.notes == ("'?' in 'day' is missing",)
    assert int(found.everything.values[:, 0].isnan().sum()) == 15


def test_constants_keep_their_time_and_get_their_value_in_the_place_of_marks():
    df = pd.DataFrame({"x": np.arange(30.0), "at": pd.Timestamp("2024-05-05 10:30"), "n": ["5", "?"] * 15})
    df.loc[3, "x"] = np.nan
    rows = rows_of_frame(df)
    assert as_frame(rows.schema, rows.values)["at"].tolist() == df["at"].tolist()
    assert build(data=df, latent_dim=2, hidden=(4,)).impute(df, num_particles=5).n.astype(int).tolist() == [5] * 30


def test_dates_long_before_and_after_us_keep_their_days():
    days = ["0001-01-01", "1582-10-15", "1969-12-31", "2262-04-12", "9999-12-31"]
    df = pd.DataFrame({"a": np.array(days * 5, "datetime64[s]"), "b": np.arange(25.0)})
    rows = rows_of_frame(df)
    epoch = datetime.date(1, 1, 1)
    expected = [(datetime.date.fromisoformat(day) - epoch).days for day in days]
    assert rows.values[:5, 0].tolist() == expected
    assert (
        as_frame(rows.schema, rows.values).a.dt.strftime("%d.%m.%y").tolist() == df.a.dt.strftime("%d.%m.%y").tolist()
    )


def test_dates_that_have_a_time_zone_keep_it_and_are_not_mixed_with_others():
    dates = pd.Timestamp("2024-03-01", tz="Europe/Berlin") + pd.to_timedelta(np.arange(0, 3000, 100), "h")
    df = pd.DataFrame({"seen": dates, "x": 1.0})
    rows = rows_of_frame(df)
    back = as_frame(rows.schema, rows.values)
    assert back.seen.dtype == "datetime64[ns, Europe/Berlin]"
    assert (back.seen == df.seen).all()
    utc = df.assign(seen=df.seen.dt.tz_convert("UTC"))
    assert torch.equal(rows_of_frame(utc, rows.schema).values, rows.values)
    with pytest.raises(BadDataError, match="has no time zone; its schema says that of Europe/Berlin"):
        rows_of_frame(df.assign(seen=df.seen.dt.tz_localize(None)), rows.schema)
    with pytest.raises(BadDataError, match="has the time zone UTC; its schema says none"):
        rows_of_frame(utc, rows_of_frame(df.assign(seen=utc.seen.dt.tz_localize(None))).schema)


def test_categories_of_dates_and_of_intervals():
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(30) % 5, "D")
    df = pd.DataFrame({"day": pd.Categorical(days), "bin": pd.cut(np.arange(30.0), 3), "x": np.arange(30.0)})
    rows = rows_of_frame(df)
    kinds = {column.name: column.kind for column in rows.schema.columns}
    assert (kinds["day"], kinds["bin"]) == ("date", "ordered")
    assert torch.equal(rows_of_frame(df, rows.schema).values, rows.values)
    assert as_frame(rows.schema, rows.values).bin.tolist() == df.bin.astype(str).tolist()


def test_what_a_schema_leaves_open_comes_from_the_data_as_the_schema_reads_them():
    """A column that is left out is no part of x, a mark is a gap, and raw numbers are standardised."""
    df = TOWNS.assign(pay=np.where(TOWNS.x % 5 == 0, -999, 4000 + 70 * TOWNS.x), extra=TOWNS.x**2)
    town = Column("town", "category", values=("Bonn", "Kiel", "Ulm"))
    schema = Schema((Column("extra", "real", "out"), Column("pay", "real", missing=(-999,)), town))
    for of in (df, data.table(df)):
        vae = build(data=of, schema=schema, latent_dim=2, hidden=(4,))
        assert vae.missing
        assert vae.schema.names == ("pay", "town")
        assert 4000 < vae.schema["pay"].loc < 7000
        assert 500 < vae.schema["pay"].scale < 1000
        assert vae.impute(df, num_particles=5, seed=0).pay.min() > 3000
