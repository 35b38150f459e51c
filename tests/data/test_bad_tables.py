"""Bad tables: what each error says, and files from strangers."""

from __future__ import annotations

import gzip
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from pyro_vae import data
from pyro_vae.data import BadDataError, DamagedDataError
from tests.data.test_tables import BASE, PEOPLE, RNG, save_csv, write


def rows(header: str, row: str, n: int = 30) -> str:
    return header + "\n" + (row + "\n") * n


BAD_FILES = {
    "semicolons": (rows("a;b", "1;2"), BadDataError, "seems to have ';' between its columns, not ','.*delimiter=';'"),
    "tabs": (rows("a\tb", "1\t2"), BadDataError, r"delimiter='\\t'"),
    "semicolons and decimal commas": (rows("a;b", "1,5;2,5"), BadDataError, "delimiter=';'"),
    "no names": (rows("5.1,3.5", "4.9,3.0"), BadDataError, "no names of columns: its first line is '5.1,3.5'"),
    "no names, with a gap": (
        rows("5.1,?,3", "4.9,3.0,2"),
        BadDataError,
        "no names of columns: its first line is '5.1,",
    ),
    "no names, with text": (
        "5.1,3.5,setosa\n" + rows("4.9,3.0,virginica", "4.7,3.2,setosa"),
        BadDataError,
        "no names of columns: its first line is '5.1,3.5,setosa'. Add a line with names",
    ),
    "names alone in an open line": ("a,b", BadDataError, "has names of columns and no rows"),
    "twice": (rows("a,b,a", "1,2,3"), BadDataError, "two columns of one name: 'a'. Rename one"),
    "empty": ("", DamagedDataError, "a.csv is empty"),
    "blank lines": ("\n\n", DamagedDataError, "a.csv is empty"),
    "names alone": ("a,b\n", BadDataError, "has names of columns and no rows"),
    "too many": (rows("a,b", "1,2") + "1,2,3\n", DamagedDataError, "2 names .* and line 32 has 3 values: '1,2,3'"),
    "too few": (rows("a,b", "1,2") + "1\n" + rows("1,2", "3,4"), DamagedDataError, "line 32 has 1 values: '1'"),
    "a name too few": (rows("a,b", "x,1,2"), DamagedDataError, "2 names of columns, and line 2 has 3 values"),
    "thousands": (rows("a,b", '"1,234",2'), BadDataError, "column 'a' has commas between its thousands, as in '1,234'"),
    "decimal commas": (rows("a,b", '"1,5",2'), BadDataError, "'a' has decimal commas, as in '1,5'. Write 3.5"),
    "infinite": (rows("a,b", "1,2") + "inf,3\n", BadDataError, "'a' has infinite values: 1 of 31, the first in row 31"),
    "minus infinite": (rows("a,b", "1,2") + "NA,-Infinity\n", BadDataError, "'b' has infinite values"),
    "text": (rows("a,b", "x,y"), BadDataError, "no column that tells something: 'a' is always x; 'b' is"),
    "constant": (rows("a,b", "2,3"), BadDataError, "no column that tells something: 'a' is always 2"),
    "latin-1": (
        rows("a,b", "1,é").encode("latin-1"),
        DamagedDataError,
        "line 2 has the byte e9, 'é' in Latin-1. .*iconv",
    ),
    "utf-16": (rows("a,b", "1,2").encode("utf-16"), DamagedDataError, "no text: it is in UTF-16. Save it in UTF-8"),
    "zeros": (b"a,b\n1,\0\n", DamagedDataError, "no text: it has bytes that are zero"),
    "excel": (b"PK\x03\x04" + bytes(20), DamagedDataError, "a zip archive, as Excel's .xlsx files are"),
    "parquet": (b"PAR1" + bytes(20), DamagedDataError, "a Parquet file. Give its name the ending .parquet"),
    "gzip": (gzip.compress(b"a,b\n1,2\n"), DamagedDataError, "compressed with gzip. Give its name the ending .gz"),
    "an open quote": (
        rows("a,b", "1,x") + '1,"x\n' + rows("1,x", "2,x"),
        DamagedDataError,
        "line 32: .*Is each quotation",
    ),
    "an open quote before much": (
        rows("a,b", "1,x") + '1,"x\n' + rows("1,x", "2,x", 99999),
        DamagedDataError,
        "line 32: ",
    ),
    "text after a quote": (rows("a,b", '1,"x\ny"z'), DamagedDataError, "line 2: .*Is each quotation mark closed"),
    "a long name": ("a" * 200_000 + ",b\n1,2\n", DamagedDataError, "a.csv cannot be read: field larger than"),
    "cut in a letter": ("a,b\n1,é".encode()[:-1], DamagedDataError, "not in UTF-8: line 2 has the byte c3"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_text_files(tmp_path, kind):
    text, error, message = BAD_FILES[kind]
    with pytest.raises(error, match=message):
        data.load(write(tmp_path / "a.csv", text))


def test_line_of_a_bad_byte_beyond_the_first_block(tmp_path):
    text = rows("a,b", "1,2", 700_000).encode() + b"3,\xe9\n"
    with pytest.raises(DamagedDataError, match="line 700,002 has the byte e9"):
        data.load(write(tmp_path / "a.csv", text))


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b[:30] + b"\xff\xff" + b[32:], lambda b: b"a,b\n"]
)
def test_a_damaged_compressed_file(tmp_path, damage):
    packed = gzip.compress(rows("a,b", "1,2", 999).encode() + str(list(RNG.random(500))).encode())
    with pytest.raises(DamagedDataError, match="cannot be unpacked"):
        data.load(write(tmp_path / "a.csv.gz", damage(packed)))


def test_a_compressed_file_may_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("pyro_vae.data.table_files._MOST_UNPACKED", 10_000)
    with pytest.raises(DamagedDataError, match="holds more than 10,000 bytes"):
        data.load(write(tmp_path / "a.csv.gz", gzip.compress(rows("a,b", "1,2", 9999).encode())))


def test_a_parquet_file_that_unpacks_into_far_more_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("pyro_vae.data.table_files._LARGE", 1000)
    monkeypatch.setattr("pyro_vae.data.table_files._PACKED", 100)
    parquet.write_table(pa.table({"a": np.zeros(300_000, np.int8)}), tmp_path / "a.parquet")
    with pytest.raises(BadDataError, match="a.parquet has 300,000 rows of 1 columns in .* bytes"):
        data.load(tmp_path / "a.parquet")


def test_bad_parquet_files(tmp_path):
    with pytest.raises(DamagedDataError, match="a.parquet cannot be read"):
        data.load(write(tmp_path / "a.parquet", b"no"))
    BASE.to_parquet(tmp_path / "b.parquet")
    whole = (tmp_path / "b.parquet").read_bytes()
    with pytest.raises(DamagedDataError, match="c.parquet cannot be read"):
        data.load(write(tmp_path / "c.parquet", whole[: len(whole) // 2] + whole[-200:]))
    BASE[:0].to_parquet(tmp_path / "d.parquet")
    with pytest.raises(BadDataError, match="has no rows"):
        data.load(tmp_path / "d.parquet")


OPTIONS = {
    "no such label": ({"label": "twon"}, "label: the table has no column 'twon'. Did you mean 'town'"),
    "another case": ({"group": "Town"}, "group: the table has no column 'Town'. Did you mean 'town'"),
    "far": ({"label": "qqq"}, "no column 'qqq'. It has 'height', 'visits', 'smokes', 'town', 'born'"),
    "both": ({"label": "town", "group": "town"}, "label and group must be two columns; got 'town' for both"),
    "gaps": (
        {"label": "visits"},
        r"label 'visits' is empty in \d+ of 200 rows, the first of them row \d+. Give each row",
    ),
    "group gaps": ({"group": "visits"}, "group 'visits' is empty in .* Give each row its group, or remove it"),
    "no classes": (
        {"label": "born"},
        "label 'born' has 200 different values in 200 rows, such as '1950-01-01': too many",
    ),
    "few groups": ({"group": "town"}, "none is left for .*Rows of one 'town' stay together; there are 3 that differ"),
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_options_that_do_not_fit_the_table(kind):
    options, message = OPTIONS[kind]
    with pytest.raises(ValueError, match=message):
        data.table(PEOPLE, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimiter": ";;"}, "delimiter must be one character, such as ';'"),
        ({"columns": ""}, "columns: .* has no column ''|columns must be names of different columns, .* got ''"),
        ({"columns": 3}, "columns must be names of columns, such as a,b; got 3"),
        ({"columns": ["height", 2.5]}, "columns must be names of columns"),
        ({"label": 2.5}, "label must be the name of a column; got 2.5"),
        ({"label": True}, "label must be the name of a column; got True"),
        ({"group": ["town"]}, r"group must be the name of a column; got \['town'\]"),
        ({"delimiter": "a"}, "delimiter must be one character"),
        ({"size": 32}, "size is for images; .* is a table"),
        ({"binarize": "dynamic"}, "binarize is for images; .* holds rows"),
        ({"labels": True}, "has no labels .* label=COLUMN names those of a table"),
    ],
)
def test_options_that_are_no_options_of_a_table(tmp_path, options, message):
    save_csv(PEOPLE, tmp_path / "a.csv")
    with pytest.raises(ValueError, match=message):
        data.load(tmp_path / "a.csv", **options)


def test_bad_tables_of_pandas():
    with pytest.raises(BadDataError, match="two columns of one name: 'a'"):
        data.table(pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]))
    with pytest.raises(BadDataError, match="the table has no rows"):
        data.table(BASE[:0])
    with pytest.raises(TypeError, match=r"must be a pandas DataFrame; got Table. Give its to_pandas\(\)"):
        data.table(pa.table({"a": [1]}))
    with pytest.raises(TypeError, match="must be a pandas DataFrame; got ndarray"):
        data.table(np.zeros((3, 2)))
    with pytest.raises(BadDataError, match="column 'a' has infinite values: 1 of 60, the first in row 3"):
        data.table(BASE.assign(a=BASE.a.mask(BASE.index == 2, np.inf)))


def test_without_pyarrow_the_error_says_what_to_install(tmp_path, monkeypatch):
    save_csv(BASE, tmp_path / "a.csv")
    for module in ("pyarrow", "pyarrow.csv"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pyarrow is needed to read this: pip install 'pyro-vae\[tables\]'"):
        data.load(tmp_path / "a.csv")
