"""Tables: text files, Parquet files and DataFrames, against pandas' own reading; bad files by what the error says."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from pyro_vae import data
from pyro_vae.data import BadDataError

RNG = np.random.default_rng(0)
N = 200


def make_people(n: int = N) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    df = pd.DataFrame(
        {
            "height": rng.normal(170, 10, n).round(1),
            "visits": rng.poisson(3, n).astype(float),
            "smokes": rng.random(n) < 0.3,
            "town": rng.choice(["Ulm", "Bonn", "Köln"], n),
            "born": pd.date_range("1950-01-01", periods=n).astype(str),
        }
    )
    df.loc[rng.random(n) < 0.2, "height"] = np.nan
    df.loc[rng.random(n) < 0.2, "visits"] = np.nan
    return df


PEOPLE = make_people()
X = PEOPLE.assign(town=PEOPLE.town.map({"Bonn": 0, "Köln": 1, "Ulm": 2}), born=range(N)).astype(float).to_numpy()


def write(path, text, encoding="utf-8"):
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def in_file_order(found: data.DataSet, x: np.ndarray) -> np.ndarray:
    """The rows of the three splits, in the order of the rows of x, each of which must be there once."""
    rows = [tuple(row) for row in found.everything.values.double().nan_to_num(nan=-1).tolist()]
    wanted = [tuple(row) for row in np.nan_to_num(x, nan=-1).tolist()]
    assert sorted(rows) == sorted(wanted)
    return rows


def where(found: data.DataSet) -> dict[tuple[float, ...], str]:
    """The split of each row, by its numbers."""
    return {
        tuple(row): name
        for name in ("train", "valid", "test")
        for row in getattr(found, name).values.double().nan_to_num(nan=-1).tolist()
    }


def save_csv(df, path):
    df.to_csv(path, index=False)


SAVE = {
    "people.csv": save_csv,
    "people.CSV": save_csv,
    "people.tsv": lambda df, path: df.to_csv(path, index=False, sep="\t"),
    "people.csv.gz": save_csv,
    "people.parquet": lambda df, path: df.to_parquet(path, index=False),
}


@pytest.mark.parametrize("name", SAVE)
def test_numbers_categories_and_dates_are_x(tmp_path, name):
    SAVE[name](PEOPLE, tmp_path / name)
    found = data.load(tmp_path / name)
    assert found.train.columns == ("height", "visits", "smokes", "town", "born")
    in_file_order(found, X)
    assert found.notes == ()
    assert [column.kind for column in found.train.schema.data] == ["number", "number", "binary", "category", "date"]
    assert found.has_missing
    assert "\n" not in repr(found)
    assert f"{len(found.train)} train" in repr(found)


def test_all_kinds_of_files_give_the_same_splits(tmp_path):
    splits = []
    for name, save in SAVE.items():
        save(PEOPLE, tmp_path / name)
        splits.append(where(data.load(tmp_path / name)))
    splits.append(where(data.table(PEOPLE)))
    assert all(split == splits[0] for split in splits)
    assert set(splits[0].values()) == {"train", "valid", "test"}


def test_a_row_stays_where_it_was_when_others_bring_a_gap_or_a_fraction():
    df = pd.DataFrame({"a": RNG.integers(0, 1000, 300), "b": RNG.integers(0, 9, 300)})
    before = where(data.table(df))
    more = pd.DataFrame({"a": [None, 0.5], "b": [None, 3]})
    after = where(data.table(pd.concat([more, df])))
    assert all(after[row] == split for row, split in before.items())
    shuffled = where(data.table(df.sample(frac=1, random_state=0)))
    assert shuffled == before
    reordered = where(data.table(df[["b", "a"]]))
    assert {row[::-1]: split for row, split in reordered.items()} == before


def test_the_last_bits_do_not_count_for_the_splits():
    df = pd.DataFrame({"a": RNG.normal(size=999) * 10.0 ** RNG.integers(-30, 30, 999)})
    next_to_it = df.assign(a=np.nextafter(df.a, np.inf))  # as pandas before 3 reads some decimals
    splits = []
    for other in (df, next_to_it, df.astype(np.float32)):
        found = data.table(other.assign(place=np.arange(999.0)))
        splits.append([split.values[:, 1].tolist() for split in (found.train, found.valid, found.test)])
    assert splits[0] == splits[1] == splits[2]


@pytest.mark.parametrize("gap", ["", "NA", "NaN", "nan", "None", "null", " ", " NA "])
def test_what_is_missing(tmp_path, gap):
    path = write(tmp_path / "a.csv", "a,b\n" + "".join(f"{i},{i % 7}\n" for i in range(60)) + f"3.5,{gap}\n{gap},9\n")
    found = data.load(path, split=(0.6, 0.2, 0.2)).everything.values
    assert int(found.isnan().sum()) == 2
    assert 3.5 in found[found[:, 1].isnan()]


def test_whole_numbers_stay_exact(tmp_path):
    a = RNG.integers(-(2**53), 2**53, 100)
    pd.DataFrame({"a": a}).to_csv(tmp_path / "a.csv", index=False)
    found = data.load(tmp_path / "a.csv").everything.values
    assert found.dtype == torch.int64
    assert sorted(found[:, 0].tolist()) == sorted(a.tolist())
    assert "whole numbers" in repr(data.load(tmp_path / "a.csv"))


def test_spaces_and_quotes_around_numbers_and_names(tmp_path):
    rows = "".join(f' {i} ,"{i / 2}", {i * 3}\n' for i in range(50))
    found = data.load(write(tmp_path / "a.csv", f"a, b ,c\n{rows} NA,,\n"))
    assert found.train.columns == ("a", "b", "c")
    known = found.everything.values[~found.everything.values.isnan().any(1)]
    assert len(known) == 50
    assert torch.equal(known[:, 1] * 6, known[:, 2])


def test_a_table_of_one_column_keeps_its_gaps(tmp_path):
    text = "a\n" + "".join(f"{i}\n" for i in range(60)) + "\n\n7.5\n"
    found = data.load(write(tmp_path / "a.csv", text)).everything.values
    assert len(found) == 63
    assert int(found.isnan().sum()) == 2
    assert data.load(tmp_path / "a.csv").notes == ("2 of 63 rows have no value in any column of x",)


def test_values_within_quotes_may_have_commas_and_lines(tmp_path):
    text = "a,b\n" + "".join(f'{i},"one, two\nthree"\n' for i in range(60))
    found = data.load(write(tmp_path / "a.csv", text))
    assert sorted(found.everything.values[:, 0].tolist()) == list(range(60))
    assert found.notes[0] == "121 lines hold 60 rows: values in quotes go over several lines"


@pytest.mark.parametrize("end", ["\n", "", "\n\n\n", "\r\n"])
def test_blank_lines_and_the_end_of_the_last_do_not_count(tmp_path, end):
    text = "a,b\n\n" + "".join(f"{i},{i}\n" for i in range(60)) + f"60,60{end}"
    found = data.load(write(tmp_path / "a.csv", text))
    assert (len(found.everything), found.notes) == (61, ())


def test_utf_8_with_a_mark_at_its_start_and_lines_of_windows(tmp_path):
    text = "höhe,b\r\n" + "".join(f"{i},{i}\r\n" for i in range(60))
    assert data.load(write(tmp_path / "a.csv", text, "utf-8-sig")).train.columns == ("höhe", "b")


@pytest.mark.parametrize("values", [["x", "y", "z"], [3, 4, 5], [1.0, 2.0, 7.0], [True, False, True]])
def test_labels_are_numbers_or_text(tmp_path, values):
    df = pd.DataFrame({"height": np.arange(N) / 8, "visits": RNG.integers(0, 9, N)}).assign(
        kind=[values[i % 3] for i in range(N)]
    )
    df.to_csv(tmp_path / "a.csv", index=False)
    names = sorted({str(int(v)) if isinstance(v, float) else str(v) for v in values})
    for found in (data.load(tmp_path / "a.csv", label="kind"), data.table(df, label="kind")):
        assert found.train.columns == ("height", "visits")
        assert (found.classes, found.train.class_names) == (len(names), tuple(names))
        everything = found.everything
        of = {tuple(np.nan_to_num(x, nan=-1)): str(k) for *x, k in df.itertuples(index=False)}
        for x, label in zip(everything.values.double().nan_to_num(nan=-1).tolist(), everything.labels, strict=True):
            assert of[tuple(x)].removesuffix(".0") == everything.class_names[label]


def test_a_column_that_may_hold_labels_is_named():
    frame = pd.DataFrame({"a": np.arange(60.0) % 7, "Label": np.arange(60) % 3, "target": np.arange(60) / 7})
    said = ("'Label' is a column of x like the others. If it holds labels: label='Label'",)
    assert data.table(frame).notes == said  # target has other numbers than whole ones
    assert data.table(frame, label="Label").notes == ()


def test_labels_that_are_codes_need_no_names_and_become_context():
    df = pd.DataFrame({"a": range(90), "k": [i % 3 for i in range(90)]})
    assert data.table(df, label="k").train.class_names == ()
    assert data.table(df.assign(k=df.k.astype("category")), label="k").classes == 3
    assert data.table(df.assign(k=df.k.astype(float)), label="k").train.class_names == ()


def test_groups_stay_together_and_where_they_were(tmp_path):
    df = pd.DataFrame({"a": RNG.normal(size=400), "site": RNG.integers(0, 40, 400)})
    df.to_csv(tmp_path / "a.csv", index=False)
    found = data.load(tmp_path / "a.csv", group="site", split="0.6,0.2,0.2")
    assert found.train.columns == ("a",)
    of = dict(zip(df.a, df.site, strict=True))
    parts = [{of[a] for a in split.values[:, 0].tolist()} for split in (found.train, found.valid, found.test)]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 40
    again = data.table(df.assign(site=df.site.astype(float)), group="site", split=(0.6, 0.2, 0.2))
    text = data.table(df.assign(site=df.site.astype(str)), group="site", split=(0.6, 0.2, 0.2))
    assert where(found) == where(again) == where(text)


def test_columns_are_chosen_in_order_even_if_they_tell_nothing(tmp_path):
    save_csv(PEOPLE.assign(empty=np.nan, same=4.0, age=RNG.random(N)), tmp_path / "a.csv")
    with pytest.raises(BadDataError, match="column 'empty' has no value in any row"):
        data.load(tmp_path / "a.csv", columns="visits,empty")
    found = data.load(tmp_path / "a.csv", columns="smokes, same, age")
    assert found.train.columns == ("smokes", "same", "age")
    assert found.notes == ()
    found = data.load(tmp_path / "a.csv", columns=["town", "height"])
    assert found.train.schema["town"].values == ("Bonn", "Köln", "Ulm")
    with pytest.raises(ValueError, match=r"no column 'vists'. Did you mean 'visits'\?"):
        data.load(tmp_path / "a.csv", columns="vists")
    with pytest.raises(ValueError, match="names of different columns, such as a,b; got 'visits,visits'"):
        data.load(tmp_path / "a.csv", columns="visits,visits")
    with pytest.raises(ValueError, match="columns must be those of x; 'town' is the label, which is no part of x"):
        data.load(tmp_path / "a.csv", columns="visits,town", label="town")


BASE = pd.DataFrame({"a": np.arange(60) / 7, "b": np.arange(60) % 5})


@pytest.mark.parametrize(
    ("column", "note"),
    [
        ([np.nan] * 60, "'c' has no value in any row"),
        ([None] * 60, "'c' has no value in any row"),
        ([3] * 60, "'c' is always 3"),
        ([f"text {i}" for i in range(60)], "'c' has 60 different texts in 60 rows, such as 'text 0'"),
        (["x"] * 60, "'c' is always x"),
        ([2**53 + 1, 2, 3] * 20, "'c' has whole numbers beyond 2**53, such as 9007199254740993, which float64 rounds"),
        ([2**64 + 1, 2, None] * 20, "'c' has whole numbers beyond 2**53, such as 18446744073709551617"),
        ([pd.Timestamp("2020")] * 60, "'c' is always 2020-01-01"),
    ],
)
def test_columns_that_are_left_out(tmp_path, column, note):
    df = BASE.assign(c=column)
    save_csv(df, tmp_path / "a.csv")
    for found in (data.load(tmp_path / "a.csv"), data.table(df)):
        assert found.train.columns == ("a", "b")
        assert found.notes[0].startswith("1 of 3 columns is left out: " + note)


def test_numbers_too_large_to_standardise_are_refused():
    train = data.table(BASE.assign(a=BASE.a * 1e200)).train
    with pytest.raises(ValueError, match="x has values whose squares float64 cannot hold. Scale them"):
        train.moments()


def test_large_real_numbers_are_no_rounded_whole_numbers(tmp_path):
    save_csv(BASE.assign(c=BASE.a * 1e20), tmp_path / "a.csv")
    assert data.load(tmp_path / "a.csv").train.columns == ("a", "b", "c")


def test_what_a_parquet_file_says_of_pandas_is_not_believed(tmp_path):
    for said in (b"no json", b"[1]", b'{"index_columns": 3}', b'{"index_columns": [{"a": 1}, null]}', b"\xff"):
        table = pa.table({"a": np.arange(60.0)}).replace_schema_metadata({b"pandas": said})
        parquet.write_table(table, tmp_path / "a.parquet")
        assert data.load(tmp_path / "a.parquet").train.columns == ("a",)


@pytest.mark.parametrize(
    ("column", "note"),
    [
        ([{"a": 1}, None] * 30, "holds values of the kind struct"),
        ([i * 1j for i in range(60)], "has 60 different texts in 60 rows, such as '0j'"),
    ],
)
def test_columns_of_objects_are_left_out(column, note):
    assert data.table(BASE.assign(c=column)).notes[0].startswith(f"1 of 3 columns is left out: 'c' {note}")


@pytest.mark.parametrize(
    "column",
    [
        pd.array([1, None, 3] * 20, "Int64"),
        pd.array([1.0, None, 3.0] * 20, "Float32"),
        pd.array([True, None, False] * 20, "boolean"),
        pd.array([1, None, 3] * 20, pd.ArrowDtype(pa.int32())),
        np.array([1, None, 3] * 20, object),
        pd.arrays.SparseArray([1.0, np.nan, 3.0] * 20),
        np.array([1, np.nan, 3] * 20, np.float16),
    ],
    ids=lambda c: str(c.dtype),
)
def test_numbers_of_all_kinds_of_pandas(column):
    found = data.table(pd.DataFrame({"a": BASE.a, "c": column})).everything.values
    order = found[:, 0].argsort()
    second = 0.0 if "bool" in str(column.dtype) else 1.0  # the codes of 1 and 3, or of True and False
    expected = torch.tensor([1.0 - second, np.nan, second] * 20, dtype=torch.float64)
    torch.testing.assert_close(found[order, 1], expected, equal_nan=True)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_an_index_is_left_out(tmp_path, name, first):
    df = BASE.set_axis(range(first, 60 + first))
    df.to_csv(tmp_path / "a.csv", index_label=name or None)
    found = data.load(tmp_path / "a.csv")
    assert found.train.columns == ("a", "b")
    assert found.notes == ("1 of 3 columns is left out: 'Unnamed: 0' counts the rows",)
    df.sample(frac=1, random_state=0).to_csv(tmp_path / "a.csv")
    assert data.load(tmp_path / "a.csv").notes == ("1 of 3 columns is left out: 'Unnamed: 0' numbers the rows",)


def test_the_index_of_a_parquet_file_is_left_out(tmp_path):
    BASE.set_axis(range(5, 65)[::-1]).sample(frac=1, random_state=0).to_parquet(tmp_path / "a.parquet")
    found = data.load(tmp_path / "a.parquet")
    assert found.train.columns == ("a", "b")
    assert found.notes == ("'__index_level_0__' is left out: the index of the table",)


TYPES = {
    "decimal": (pa.array([1, None, 3, 4] * 15).cast(pa.decimal128(30, 2)), [1, np.nan, 3, 4]),
    "half": (pa.array(np.array([1, 2.5, 3] * 20, np.float16)), [1, 2.5, 3]),
    "bytes": (pa.array([1, 2, 200] * 20, pa.uint8()), [1, 2, 200]),
    "NaN and null": (pa.array([1.5, None, np.nan, 2, 4] * 12, from_pandas=False), [1.5, np.nan, np.nan, 2, 4]),
    "large": (pa.array([2**63, 1, 2] * 20, pa.uint64()), "whole numbers beyond 2**53, such as 9223372036854775808"),
    "lists": (pa.array([[1], [2], None] * 20), "holds values of the kind list"),
    "times": (pa.array([0, 43200, 86400 * 3] * 20, pa.timestamp("s")), [0, 0.5, 3]),
    "categories": (pa.array(["x", "y", "z"] * 20).dictionary_encode(), [0, 1, 2]),
    "bytes of text": (pa.array([b"x", b"y", b"z"] * 20), "holds values of the kind binary"),
    "long text": (pa.array(["x", "y", "z"] * 20, pa.large_string()), [0, 1, 2]),
}


@pytest.mark.parametrize("kind", TYPES)
def test_all_kinds_of_numbers_in_parquet(tmp_path, kind):
    column, expected = TYPES[kind]
    parquet.write_table(pa.table({"a": np.arange(60.0), "c": column}), tmp_path / "a.parquet", row_group_size=7)
    found = data.load(tmp_path / "a.parquet")
    if isinstance(expected, str):
        assert f"'c' {expected}" in found.notes[0] or f"'c' has {expected}" in found.notes[0]
    else:
        values = found.everything.values
        torch.testing.assert_close(
            values[values[:, 0].argsort(), 1].double(),
            torch.tensor(expected * (60 // len(expected))).double(),
            equal_nan=True,
        )
    if kind in ("categories", "long text", "bytes"):
        label = data.load(tmp_path / "a.parquet", label="c").everything
        names = {"bytes": ("1", "2", "200")}.get(kind, ("x", "y", "z"))
        assert label.class_names == names
        assert label.labels.tolist() == [int(row) % 3 for row in label.values[:, 0]]


def test_a_delimiter_of_ones_own(tmp_path):
    text = "a;b\n" + "".join(f"{i};{i / 2}\n" for i in range(60))
    for delimiter, given in ((";", ";"), ("\t", "\\t"), ("|", "|")):
        write(tmp_path / "a.csv", text.replace(";", delimiter))
        assert data.load(tmp_path / "a.csv", delimiter=given).train.columns == ("a", "b")
    PEOPLE.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="delimiter is for text files; .* is a Parquet file"):
        data.load(tmp_path / "a.parquet", delimiter=";")


def test_a_row_stays_where_it_was_when_others_bring_a_second_value_or_a_first(tmp_path):
    # A column of one value, and one without any, are no part of x until another row brings a value.
    generator = np.random.default_rng(0)
    rows = [f"{a:.4f},2020," for a in generator.normal(size=200)]

    def places(more):
        (tmp_path / "a.csv").write_text("\n".join(["a,year,b", *rows, *more]))
        found = data.load(tmp_path / "a.csv")
        parts = zip(("train", "valid", "test"), (found.train, found.valid, found.test), strict=True)
        return {a: name for name, part in parts for a in part.values[:, 0].tolist()}

    before = places([])
    for more in (["9.5,2021,"], ["9.5,2020,7", "9.6,2020,8"], ["9.5,2021,7", "9.6,2021,8"]):
        after = places(more)
        assert len(after) == len(before) + len(more)
        assert {a: after[a] for a in before} == before


def test_the_choice_of_columns_moves_no_row(tmp_path):
    # A run chooses the columns that it was trained on, of a table that may have others.
    generator = np.random.default_rng(0)
    rows = [f"{a:.4f},{b:.4f},5" for a, b in generator.normal(size=(200, 2))]
    (tmp_path / "a.csv").write_text("\n".join(["a,b,c", *rows]))
    all_columns, chosen = (data.load(tmp_path / "a.csv", columns=columns) for columns in (None, "a"))
    assert torch.equal(chosen.test.values[:, 0], all_columns.test.values[:, 0])


@pytest.mark.parametrize("ending", ["TSV", "Tsv.GZ", "CSV.gz", "csv.GZ"])
def test_endings_in_capitals(tmp_path, ending):
    text = "a,b\n" + "\n".join(f"{i},{i % 7}" for i in range(99))
    content = (text.replace(",", "\t") if "tsv" in ending.lower() else text).encode()
    path = tmp_path / f"x.{ending}"
    path.write_bytes(gzip.compress(content) if ending.lower().endswith("gz") else content)
    assert data.load(path).everything.values.sum() == sum(i + i % 7 for i in range(99))


def test_blank_lines_before_the_names(tmp_path):
    (tmp_path / "a.csv").write_text("\n \n\na,b\n" + "\n".join(f"{i},{i % 7}" for i in range(99)))
    found = data.load(tmp_path / "a.csv")
    assert found.train.columns == ("a", "b")
    assert len(found.everything) == 99


def test_names_that_are_whole_numbers():
    df = pd.DataFrame({0: range(99), 1: [0, 1, 2] * 33, 2: range(99, 0, -1)})
    found = data.table(df, label=1)
    assert (found.train.columns, found.classes) == (("0", "2"), 3)


def test_names_of_columns_may_be_wavelengths_beside_text(tmp_path):
    rows = "\n".join(f"{'ab'[i % 2]},{i},{i * i}" for i in range(99))
    (tmp_path / "a.csv").write_text(f"kind,400.5,401.5\n{rows}")
    assert data.load(tmp_path / "a.csv", label="kind").train.columns == ("400.5", "401.5")
