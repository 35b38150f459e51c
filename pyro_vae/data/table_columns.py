"""What a column of a table holds: numbers, labels, groups, or something else and what."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_vae.data.frames import EXACT
from pyro_vae.data.reading import BadDataError, import_optional
from pyro_vae.data.splits import may_be_classes

if TYPE_CHECKING:
    import pyarrow

__all__ = [
    "NO_VALUE",
    "NUMBER",
    "ArrowColumn",
    "NotNumbersError",
    "check_commas",
    "counts_rows",
    "group_keys",
    "is_text",
    "label_codes",
    "matches_number",
    "not_numbers",
    "numbers",
]

ArrowColumn: TypeAlias = "pyarrow.Array | pyarrow.ChunkedArray"
"""A column of a table as Arrow has it."""

NO_VALUE = "has no value in any row"
"""What a :class:`NotNumbersError` says of a column without values."""

NUMBER = r"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?"
_THOUSANDS = r"[+-]?[0-9]{1,3}(,[0-9]{3})+([.][0-9]*)?"
_DECIMAL_COMMA = r"[+-]?([0-9]*|[0-9]{1,3}([.][0-9]{3})+),[0-9]+([eE][+-]?[0-9]+)?"


class NotNumbersError(BadDataError):
    """A column cannot be a part of x; the message says what it holds, after "it" or the name of the column."""


def numbers(where: str, column: ArrowColumn) -> NDArray[Any]:
    """Return a column as numbers; NaN where one is missing.

    Args:
        where: the table and the column, for errors.
        column: an Arrow array.

    Returns:
        int64 for whole numbers and booleans of which none is missing, else float32 or float64.

    Raises:
        NotNumbersError: if it holds something else, or whole numbers that float64 rounds.
        BadDataError: if a number is infinite, or written with commas.
    """
    types = import_optional("pyarrow", "tables").types
    if column.null_count == len(column):
        raise NotNumbersError(NO_VALUE)
    if types.is_boolean(column.type):
        column = column.cast("int8")
    if types.is_integer(column.type):
        return _whole(column)
    if types.is_decimal(column.type):
        return _real(where, column.cast("float64"))
    if types.is_floating(column.type):
        return _real(where, column.cast("float32") if types.is_float16(column.type) else column)
    raise not_numbers(where, column)


def _whole(column: ArrowColumn) -> NDArray[Any]:
    compute = import_optional("pyarrow.compute", "tables")
    ends = compute.min_max(column).as_py()
    largest = max((ends["min"], ends["max"]), key=abs)
    if abs(largest) > EXACT:
        raise NotNumbersError(f"has whole numbers beyond 2**53, such as {largest}, which float64 rounds")
    return _to_numpy(column.cast("float64" if column.null_count else "int64"))


def _real(where: str, column: ArrowColumn) -> NDArray[Any]:
    values = _to_numpy(column)
    infinite = np.isinf(values).nonzero()[0]
    if len(infinite):
        raise BadDataError(
            f"{where} has infinite values: {len(infinite):,} of {len(values):,}, the first in row {infinite[0] + 1}. "
            "Remove them, or leave them empty: missing"
        )
    if np.isnan(values).all():
        raise NotNumbersError(NO_VALUE)
    return values


def _to_numpy(column: ArrowColumn) -> NDArray[Any]:
    return np.asarray(column.to_numpy(zero_copy_only=False))


def not_numbers(where: str, column: ArrowColumn) -> NotNumbersError:
    """Return the error for a column that holds no numbers; its message says what the column holds instead.

    Raises:
        BadDataError: if it holds text that is numbers with commas.
    """
    return NotNumbersError(_other_kind(where, column))


def _other_kind(where: str, column: ArrowColumn) -> str:
    types = import_optional("pyarrow", "tables").types
    if types.is_dictionary(column.type):
        return "holds categories"
    if types.is_temporal(column.type):
        return "holds dates or times"
    if not is_text(column.type):
        return f"holds values of the kind {column.type}"
    compute = import_optional("pyarrow.compute", "tables")
    column = compute.utf8_trim_whitespace(column.drop_null())
    check_commas(where, column)
    plain = compute.match_substring_regex(column, f"^{NUMBER}$")
    among = column.filter(compute.invert(plain))
    count = len(column) - len(among)
    if not count:
        return f"is text, such as {_first(among)}"
    if not len(among) and compute.all(compute.match_substring_regex(column, "^[+-]?[0-9]+$")).as_py():
        longest = max((value.as_py() for value in column[:1000]), key=len)
        if len(longest) > 15:
            return f"has whole numbers beyond 2**53, such as {longest[:40]}, which float64 rounds"
    if not len(among):
        return f"is text, though each value is a number, such as {_first(column)}"
    return f"is text: {count:,} of {len(column):,} values are numbers, {_first(among)} is none"


def is_text(kind: pyarrow.DataType) -> bool:
    """Return True if a type of Arrow's is text."""
    types = import_optional("pyarrow", "tables").types
    views = getattr(types, "is_string_view", lambda _: False)
    return types.is_string(kind) or types.is_large_string(kind) or views(kind)


def matches_number(texts: Iterable[str]) -> bool:
    """Return True if each text is a number."""
    return all(re.fullmatch(NUMBER, text) for text in texts)


def _first(column: ArrowColumn) -> str:
    return repr(column[0].as_py()[:40])


def check_commas(where: str, column: ArrowColumn) -> None:
    """Raise a BadDataError if all values of a column of text are numbers, some of them with commas.

    Args:
        where: the table and the column, for errors.
        column: its texts without spaces around them, each at least once; none is missing.
    """
    compute = import_optional("pyarrow.compute", "tables")
    found = compute.match_substring_regex(column, f"^({NUMBER}|{_THOUSANDS}|{_DECIMAL_COMMA})$")
    if not compute.all(found).as_py():
        return
    with_comma = column.filter(compute.match_substring(column, ","))
    if not len(with_comma):
        return
    if compute.all(compute.match_substring_regex(with_comma, f"^{_THOUSANDS}$")).as_py():
        what, remedy = "commas between its thousands", "Write 1234 for 1,234; pandas.read_csv(..., thousands=',')"
    else:
        what, remedy = "decimal commas", "Write 3.5 for 3,5; pandas.read_csv(..., decimal=',')"
    raise BadDataError(f"{where} has {what}, as in {_first(with_comma)}. {remedy} reads it, for data.table")


def counts_rows(column: ArrowColumn) -> bool:
    """Return True if a column counts its rows, from 0 or from 1."""
    types = import_optional("pyarrow", "tables").types
    if not types.is_integer(column.type) or column.null_count or not len(column):
        return False
    values = _to_numpy(column)
    return values[0] in (0, 1) and bool((values == np.arange(len(values)) + values[0]).all())


def label_codes(where: str, column: ArrowColumn) -> tuple[Tensor, int, tuple[str, ...]]:
    """Return the class of each row as a code from 0, how many classes there are, and their names.

    The names are empty if the labels are 0, 1, 2, ... themselves.

    Args:
        where: the table and the column, for errors.
        column: an Arrow array of whole numbers, text, booleans or categories.

    Raises:
        BadDataError: if a label is missing, or labels are no classes.
    """
    values, codes = _distinct(where, column, "label")
    n = len(codes)
    if not may_be_classes(len(values), n):
        raise BadDataError(
            f"{where} has {len(values):,} different values in {n:,} rows, such as {values[0]!r}: too many for labels, "
            "which name a few classes"
        )
    try:
        order = sorted(range(len(values)), key=values.__getitem__)
    except TypeError:
        order = sorted(range(len(values)), key=lambda i: str(values[i]))
    place = np.empty(len(values), np.int64)
    place[order] = np.arange(len(values))
    names = [values[i] for i in order]
    plain = all(type(value) is int for value in values) and names == list(range(len(names)))
    return torch.from_numpy(place[codes]), len(names), () if plain else tuple(map(str, names))


def group_keys(where: str, column: ArrowColumn) -> Iterable[bytes]:
    """Return the key of each row's group: its value as text, so that 3 and 3.0 are one group.

    Raises:
        BadDataError: if the group of a row is missing.
    """
    values, codes = _distinct(where, column, "group")
    keys = [str(value).encode() for value in values]
    return [keys[code] for code in codes]


def _distinct(where: str, column: ArrowColumn, what: str) -> tuple[list[Any], NDArray[np.int64]]:
    """Return the different values of a column, whole numbers as int, and which of them each row has."""
    arrow = import_optional("pyarrow", "tables")
    types = arrow.types
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_floating(column.type):
        column = arrow.array(_to_numpy(column), from_pandas=True)  # NaN is missing
    if column.null_count:
        row = _to_numpy(column.is_null()).argmax() + 1
        raise BadDataError(
            f"{where} is empty in {column.null_count:,} of {len(column):,} rows, the first of them row {row}. Give "
            f"each row its {what}, or remove it"
        )
    if types.is_nested(column.type):
        raise BadDataError(f"{where} has values of the kind {column.type}; a {what} is a number or text")
    if isinstance(column, arrow.ChunkedArray):
        column = column.combine_chunks()
    coded = column.dictionary_encode()
    if isinstance(coded, arrow.ChunkedArray):
        coded = coded.combine_chunks()
    values = [int(v) if isinstance(v, float) and v.is_integer() else v for v in coded.dictionary.to_pylist()]
    return values, _to_numpy(coded.indices).astype(np.int64)
