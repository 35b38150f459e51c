"""Which examples train, which validate and which test: by a hash, so that an example stays where it was."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_vae.data.splits import DataSet, Split

__all__ = ["SPLITS", "as_shares", "assign", "keys_of_rows", "none_left", "split_up"]

SPLITS = ("train", "valid", "test")
_NUMBERS_AT_ONCE = 2**20
S = TypeVar("S", bound=Split)


def as_shares(split: str | Sequence[float]) -> tuple[float, float, float]:
    """Return the shares of training, validation and test data.

    Args:
        split: three numbers, or such a text: ``"0.8,0.1,0.1"``.

    Raises:
        ValueError: if they are no three numbers from 0 that sum to 1, with a first above 0.

    Example:
        >>> as_shares("0.8,0.1,0.1")
        (0.8, 0.1, 0.1)
    """
    words = split.strip("[]() ").split(",") if isinstance(split, str) else split
    try:
        shares = tuple(float(word) for word in words)
    except (TypeError, ValueError):
        shares = ()
    if len(shares) != 3 or not all(0 <= s <= 1 for s in shares) or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise ValueError(
            "split must be the shares of training, validation and test data, which sum to 1, such as 0.8,0.1,0.1; got "
            f"{split!r}"
        )
    if shares[0] == 0:
        raise ValueError(f"split must leave something to train on, such as 0.8,0.1,0.1; got {split!r}")
    return shares[0], shares[1], shares[2]


def assign(keys: Iterable[bytes], shares: Sequence[float]) -> Tensor:
    """Return the split of each example, 0 for train, 1 for valid and 2 for test, int64 ``(n,)``.

    It depends on the example's own key alone, so that it stays when others are added or the order changes.

    Args:
        keys: one per example, such as the name of a file or the bytes of a row.
        shares: of the splits; see :func:`as_shares`.

    Example:
        >>> assign([b"a", b"b", b"a"], (0.5, 0.25, 0.25)).tolist()
        [0, 1, 0]
    """
    hashes = b"".join([hashlib.blake2b(key, digest_size=8).digest() for key in keys])
    uniform = np.frombuffer(hashes, ">u8").astype(np.float64) / 2**64
    ends = np.cumsum(shares)[:-1]
    return torch.from_numpy(np.searchsorted(ends, uniform, side="right").astype(np.int64))


def keys_of_rows(values: NDArray[np.generic]) -> Iterable[bytes]:
    """Return the bytes of each row of numbers, the same for equal numbers of any dtype.

    Args:
        values: numbers ``(n, ...)``, one example per row.
    """
    at_once = max(1, _NUMBERS_AT_ONCE // max(1, math.prod(values.shape[1:])))
    for start in range(0, len(values), at_once):
        some = np.array(values[start : start + at_once], np.float64, order="C")
        numbers = some.reshape(len(some), -1) + 0.0  # -0.0 becomes 0.0
        numbers[np.isnan(numbers)] = np.nan  # one NaN for all
        length = numbers.itemsize * numbers.shape[1]
        yield from numbers.view(f"V{length}").ravel().tolist() if length else [b""] * len(numbers)


def none_left(examples: str, split: str, shares: str = "split=(0.6, 0.2, 0.2)") -> str:
    """Return what is wrong if a split has no example, and what would do.

    Args:
        examples: how many there are of what.
        split: its name.
        shares: an example of the argument that says how many examples each split gets.
    """
    return f"of {examples}, none is left for {split}. Give more, or other shares: {shares}"


def split_up(examples: S, places: Tensor, shares: Sequence[float], notes: Sequence[str] = ()) -> DataSet[S]:
    """Return a data set of the examples of each split.

    Args:
        examples: all of them.
        places: the split of each; see :func:`assign`.
        shares: of the splits; see :func:`as_shares`.
        notes: what was left out, for :class:`DataSet`.

    Raises:
        ValueError: if a split that is to have a share has no example.
    """
    first, second, third = ((places == i).nonzero()[:, 0] for i in range(len(SPLITS)))
    for name, share, rows in zip(SPLITS, shares, (first, second, third), strict=True):
        if share and not len(rows):
            raise ValueError(f"{examples.name}: {none_left(f'{len(examples):,} {examples.noun}s', name)}")
    train, valid, test = (examples[_without_copying(rows)] for rows in (first, second, third))
    return DataSet(train, valid, test, tuple(notes), (first, second, third))


def _without_copying(rows: Tensor) -> Tensor | slice:
    """Return rows that follow one another as a slice, which takes no memory of its own."""
    if not len(rows):
        return slice(0, 0)
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first == len(rows) - 1 else rows
