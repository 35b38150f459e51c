"""Text files and Parquet files as columns of Arrow's, read strictly: no row is filled or cut, no column renamed."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyro_vae.data.frames import EXACT
from pyro_vae.data.named import DamagedDataError
from pyro_vae.data.reading import BadDataError, import_optional
from pyro_vae.data.table_columns import NUMBER, ArrowColumn

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

__all__ = ["MISSING", "read_parquet", "read_text", "read_words"]

MISSING = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "-nan", "-NaN", "<NA>", "None", "NULL", "null")
"""What stands for a missing value in a text file."""

_CANDIDATES = ",;\t|: "  # delimiters that are looked for
_SAMPLE = 20  # lines, in which a delimiter shows
_ROWS_FOR_ZEROS = 2000  # in which a column of postcodes shows that some start with 0
_MOST_UNPACKED = 2**33  # bytes; a small compressed file can hold any number of them
_LARGE, _PACKED = 2**27, 5000  # bytes of a table, and the times it may be larger than its Parquet file beyond that
_NO_NAMES = (*MISSING, "none", "?", "-", ".")  # what stands in a row, beside numbers
_NO_TEXT = {
    b"PK\x03\x04": "a zip archive, as Excel's .xlsx files are. Save it as CSV in UTF-8",
    b"PAR1": "a Parquet file. Give its name the ending .parquet",
    b"\x1f\x8b": "compressed with gzip. Give its name the ending .gz",
    b"\xff\xfe": "in UTF-16. Save it in UTF-8",
    b"\xfe\xff": "in UTF-16. Save it in UTF-8",
}

Columns = dict[str, ArrowColumn]
"""The columns of a table by name, all of one length."""


def read_text(path: Path, delimiter: str | None) -> tuple[Columns, list[str]]:
    """Return the columns of a text file whose first line has their names, and notes.

    Whole numbers with a zero in front, such as 01234, stay text: they are postcodes and the like.

    Args:
        path: of the file; if its name ends in .gz, it is unpacked.
        delimiter: character between the columns; by default a comma, and a tab for .tsv.

    Raises:
        DamagedDataError: if the file is no text in UTF-8, or a row has too many or too few values.
        BadDataError: if it has no names, no rows, or another delimiter.
        ValueError: if ``delimiter`` is no single character.
    """
    errors = import_optional("pyarrow", "tables").ArrowException
    mark = _delimiter(path, delimiter)
    lines = _check_text(path)
    names, blank, notes = _names(path, mark)
    if lines - blank <= 1:
        raise BadDataError(f"{path} has names of columns and no rows")
    try:
        table = _parsed(path, mark, names, blank, null_values=MISSING, strings_can_be_null=True)
        columns = {name: _trimmed(table[name]) for name in names}
        padded = _padded(path, mark, names, blank)
        types = {name: "string" for name in names if _may_be_rounded(columns[name]) or name in padded}
        if types:
            written = _parsed(path, mark, names, blank, column_types=types, include_columns=list(types))
            texts = {name: _text(written[name]) for name in types}
            columns |= {name: text for name, text in texts.items() if _are_digits(text)}
    except errors as error:
        raise _unreadable(path, mark, len(names), blank, error) from error
    if not table.num_rows:
        raise BadDataError(f"{path} has names of columns and no rows")
    _check_names(path, mark, columns)
    if lines != table.num_rows + 1:
        notes += _check_quotes(path, mark, table.num_rows, blank)
    return columns, notes


def read_words(path: Path, delimiter: str | None) -> Columns:
    """Return the columns of a text file as they are written there, with null where a value is missing.

    Args:
        path: of a file that :func:`read_text` reads.
        delimiter: see there.
    """
    mark = _delimiter(path, delimiter)
    names, blank, _ = _names(path, mark)
    options = {"null_values": MISSING, "strings_can_be_null": True, "column_types": dict.fromkeys(names, "string")}
    table = _parsed(path, mark, names, blank, **options)
    return {name: table[name] for name in names}


def _parsed(path: Path, mark: str, names: list[str], blank: int, **convert: Any) -> pyarrow.Table:
    """Return a text file as Arrow reads it, with options of its ConvertOptions."""
    reader = import_optional("pyarrow.csv", "tables")
    parse = reader.ParseOptions(delimiter=mark, newlines_in_values=True, ignore_empty_lines=len(names) > 1)
    # A block must hold a whole row, and a wide table has long rows.
    read = reader.ReadOptions(block_size=2**24, column_names=names, skip_rows=blank, skip_rows_after_names=1)
    options = reader.ConvertOptions(**convert)
    return reader.read_csv(_stream(path), read_options=read, parse_options=parse, convert_options=options)


def _padded(path: Path, mark: str, names: list[str], blank: int) -> set[str]:
    """Return the columns in which, among the first rows, a zero stands before other digits."""
    with _text_of(path) as lines, suppress(csv.Error):
        rows = csv.reader(itertools.islice(lines, blank + 1, blank + 1 + _ROWS_FOR_ZEROS), delimiter=mark)
        cells = ((name, value) for row in rows for name, value in zip(names, row, strict=False))
        return {name for name, value in cells if value.lstrip()[:1] == "0" and re.fullmatch(r" *0[0-9]+ *", value)}
    return set()


def read_parquet(path: Path) -> tuple[Columns, list[str]]:
    """Return the columns of a Parquet file but an index of pandas', and notes.

    Raises:
        DamagedDataError: if the file cannot be read.
        BadDataError: if it has no rows, or two columns of one name.
    """
    parquet, errors = import_optional("pyarrow.parquet", "tables"), import_optional("pyarrow", "tables").ArrowException
    try:
        with parquet.ParquetFile(str(path)) as file:
            _check_size(path, file.metadata)
            table = file.read()
    except BadDataError:
        raise
    except (errors, OSError, ValueError) as error:
        raise DamagedDataError(f"{path} cannot be read: {error}") from error
    if not table.num_rows:
        raise BadDataError(f"{path} has no rows")
    names = _different(path, table.column_names)
    index = [name for name in names if name in _index(table.schema)]
    notes = [f"{', '.join(map(repr, index))} is left out: the index of the table"] if index else []
    return {name: table[name] for name in names if name not in index}, notes


def _index(schema: pyarrow.Schema) -> list[Any]:
    """Return the columns that were the index of a DataFrame."""
    try:
        return list(schema.pandas_metadata["index_columns"])
    except (ValueError, TypeError, KeyError):  # pandas did not write it, or it is damaged
        return []


def _check_size(path: Path, metadata: pyarrow.parquet.FileMetaData) -> None:
    """Raise a BadDataError if a small file would fill the memory."""
    rows, columns, packed = metadata.num_rows, metadata.num_columns, path.stat().st_size
    if rows * columns * 8 > max(_LARGE, _PACKED * packed):
        raise BadDataError(
            f"{path} has {rows:,} rows of {columns} columns in {packed:,} bytes, which no table packs into"
        )


def _delimiter(path: Path, given: str | None) -> str:
    if given is None:
        return "\t" if ".tsv" in map(str.lower, path.suffixes) else ","
    mark = {"\\t": "\t", "tab": "\t"}.get(given, given)
    if len(mark) != 1 or mark.isalnum() or mark in "\"'\r\n.+-":
        raise ValueError(f"delimiter must be one character, such as ';' or '\\t'; got {given!r}")
    return mark


@contextmanager
def _bytes_of(path: Path) -> Iterator[gzip.GzipFile | io.BufferedReader]:
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            yield file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DamagedDataError(f"{path} cannot be unpacked: {error}") from error


def _check_text(path: Path) -> int:
    """Return the number of lines; raise an error if the file is empty or no text in UTF-8."""
    decoder, line, size, last = codecs.getincrementaldecoder("utf-8")(), 1, 0, b""
    with _bytes_of(path) as file:
        while some := file.read(2**20):
            last = some[-1:]
            if not size and (kind := next((kind for start, kind in _NO_TEXT.items() if some.startswith(start)), None)):
                raise DamagedDataError(f"{path} is no text: it is {kind}")
            size += len(some)
            if b"\0" in some:
                raise DamagedDataError(f"{path} is no text: it has bytes that are zero")
            if size > _MOST_UNPACKED and path.suffix.lower() == ".gz":
                raise DamagedDataError(f"{path} holds more than {_MOST_UNPACKED:,} bytes. Save it as .parquet")
            try:
                decoder.decode(some)
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n")
                raise _not_utf_8(path, line, error) from error
            line += some.count(b"\n")
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise _not_utf_8(path, line, error) from error
    if not size:
        raise DamagedDataError(f"{path} is empty")
    return line - (last == b"\n")


def _not_utf_8(path: Path, line: int, error: UnicodeDecodeError) -> DamagedDataError:
    byte = error.object[error.start : error.start + 1]
    return DamagedDataError(
        f"{path} is not in UTF-8: line {line:,} has the byte {byte.hex()}, {byte.decode('latin-1')!r} in Latin-1. If "
        f"that is right, convert the file: iconv -f latin1 -t utf-8"
    )


@contextmanager
def _text_of(path: Path) -> Iterator[Iterator[str]]:
    with _bytes_of(path) as file:
        yield io.TextIOWrapper(file, "utf-8-sig")


def _stream(path: Path) -> Any:
    """Open a file for Arrow, which goes by the ending of its name in small letters alone."""
    arrow = import_optional("pyarrow", "tables")
    return arrow.input_stream(str(path), compression="gzip" if path.suffix.lower() == ".gz" else None)


def _names(path: Path, mark: str) -> tuple[list[str], int, list[str]]:
    """Return the names in the first line, the number of blank lines before it, and notes on them."""
    with _text_of(path) as lines:
        start = list(itertools.islice(itertools.dropwhile(_is_blank, lines), _SAMPLE))
    with _text_of(path) as lines:
        blank = sum(1 for _ in itertools.takewhile(_is_blank, lines))
    sample = [line for line in start if line.strip()]
    _check_delimiter(path, sample, mark)
    try:
        first = [word.strip() for word in next(csv.reader(sample, delimiter=mark), [])]
    except csv.Error as error:
        raise DamagedDataError(f"{path} cannot be read: {error}") from error
    if not first:
        raise DamagedDataError(f"{path} is empty")
    names = [name or f"Unnamed: {place}" for place, name in enumerate(first)]
    there = [name for name in first if name not in _NO_NAMES]
    if not there or not all(map(_is_number, there)):
        return _different(path, names), blank, []
    if first[0] == "" and _counts(there) and len(there) == len(first) - 1:
        return names, blank, []  # the first column is an index
    if len(there) < len(first) or not _counts(there):
        raise _no_names(path, mark, first)
    return names, blank, [f"the first line, {_shown(mark, first)}, is taken for names of columns"]


def _is_blank(line: str) -> bool:
    return not line.strip()


def _is_number(word: str) -> bool:
    return re.fullmatch(NUMBER, word) is not None


def _counts(names: Sequence[str]) -> bool:
    """Return True if names are whole numbers, each by one above that before."""
    first = names[0]
    return first.isascii() and first.isdigit() and list(names) == [str(int(first) + i) for i in range(len(names))]


def _check_names(path: Path, mark: str, columns: Columns) -> None:
    """Raise a BadDataError if some names are numbers, and another is a value of its own column too: it is a row."""
    numbers = [name for name in columns if _is_number(name)]
    for name, values in columns.items() if numbers else ():
        if name not in numbers and _has(values, name):
            raise _no_names(path, mark, list(columns))


def _has(values: ArrowColumn, name: str) -> bool:
    arrow, compute = import_optional("pyarrow", "tables"), import_optional("pyarrow.compute", "tables")
    return bool(arrow.types.is_string(values.type) and compute.any(compute.equal(values, name)).as_py())


def _no_names(path: Path, mark: str, first: Sequence[str]) -> BadDataError:
    shown = _shown(mark, first)
    return BadDataError(f"{path} has no names of columns: its first line is {shown}. Add a line with names")


def _shown(mark: str, first: Sequence[str]) -> str:
    return repr(mark.join(first[:5]) + ("..." if len(first) > 5 else ""))


def _different(path: Path, names: Sequence[str]) -> list[str]:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise BadDataError(
            f"{path} has two columns of one name: {', '.join(map(repr, twice[:10]))}. Rename one of them"
        )
    return list(names)


def _check_delimiter(path: Path, lines: Sequence[str], mark: str) -> None:
    """Raise a BadDataError if another character divides all lines into as many columns, and this one does not."""
    if _sizes(lines, mark) - {1} and len(_sizes(lines, mark)) == 1:
        return
    for other in _CANDIDATES.replace(mark, ""):
        if len(sizes := _sizes(lines, other)) == 1 and sizes != {1}:
            raise BadDataError(
                f"{path} seems to have {other!r} between its columns, not {mark!r}: its first line is "
                f"{lines[0].strip()[:60]!r}. Give delimiter={other!r}"
            )


def _sizes(lines: Sequence[str], mark: str) -> set[int]:
    """Return how many values the lines have."""
    try:
        return {len(row) for row in csv.reader(lines, delimiter=mark)}
    except csv.Error:  # a value longer than 131,072 characters
        return set()


def _unreadable(path: Path, mark: str, expected: int, blank: int, error: Exception) -> DamagedDataError:
    """Return the error for a file that Arrow refuses: it names the first line with too many or too few values."""
    try:
        with _text_of(path) as lines:
            reader = csv.reader(itertools.islice(lines, blank, None), delimiter=mark)
            for row in reader:
                if row and len(row) != expected:
                    return DamagedDataError(
                        f"{path} has {expected} names of columns, and line {blank + reader.line_num:,} has {len(row)} "
                        f"values: {mark.join(row)[:60]!r}"
                    )
    except csv.Error:
        pass
    return DamagedDataError(f"{path} cannot be read: {error}")


def _check_quotes(path: Path, mark: str, rows: int, before: int) -> list[str]:
    """Return a note if values go over several lines; raise a DamagedDataError if one never ends, or hides rows."""
    found, blank, start = 0, 0, before + 1
    with _text_of(path) as lines:
        reader = csv.reader(itertools.islice(lines, before, None), delimiter=mark, strict=True)
        try:
            for row in reader:
                found, blank, start = found + bool(row), blank + (not row), before + reader.line_num + 1
        except csv.Error as error:
            hint = "Is each quotation mark closed?"
            raise DamagedDataError(f"{path}: the row that starts in line {start:,}: {error}. {hint}") from error
    if not found - 1 <= rows <= found - 1 + blank:
        raise DamagedDataError(f"{path} has {found - 1:,} rows or {rows:,}, depending on what a quotation mark means")
    if reader.line_num == found + blank:
        return []
    return [f"{reader.line_num:,} lines hold {rows:,} rows: values in quotes go over several lines"]


def _trimmed(column: ArrowColumn) -> ArrowColumn:
    """Return a column of text without spaces at the ends; as numbers if they are some then."""
    arrow = import_optional("pyarrow", "tables")
    if not arrow.types.is_string(column.type):
        return column
    different = column.unique()
    without_spaces = _text(different)
    text = column if without_spaces.equals(different) else _text(column)
    for kind in ("int64", "float64"):
        with suppress(arrow.ArrowInvalid):
            without_spaces.cast(kind)
            return text.cast(kind)
    return text


def _text(column: ArrowColumn) -> ArrowColumn:
    """Return text without spaces at the ends, and null where it stands for a missing value."""
    arrow, compute = import_optional("pyarrow", "tables"), import_optional("pyarrow.compute", "tables")
    text = compute.utf8_trim_whitespace(column)
    missing = compute.is_in(text, arrow.array(MISSING))
    return compute.if_else(missing, arrow.scalar(None, arrow.string()), text)


def _may_be_rounded(column: ArrowColumn) -> bool:
    """Return True if real numbers are as large as whole numbers that float64 rounds."""
    arrow, compute = import_optional("pyarrow", "tables"), import_optional("pyarrow.compute", "tables")
    largest = compute.max(compute.abs(column)).as_py() if arrow.types.is_floating(column.type) else None
    return largest is not None and largest > EXACT


def _are_digits(text: ArrowColumn) -> bool:
    """Return True if a column of text has whole numbers alone."""
    compute = import_optional("pyarrow.compute", "tables")
    return bool(compute.all(compute.match_substring_regex(text, "^[+-]?[0-9]+$")).as_py())
