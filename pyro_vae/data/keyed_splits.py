"""Splits by keys: examples that are equal, or of one group, stay together, and an error says so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from pyro_vae.data.reading import BadDataError
from pyro_vae.data.splits import DataSet, Split
from pyro_vae.data.splitting import assign, split_up

__all__ = ["Keys", "split_by_keys"]

S = TypeVar("S", bound=Split)

_MANY = 10_000


class Keys:
    """The keys of examples, which are counted as they go by.

    Args:
        keys: one per example; see :func:`assign`.
        group: name of the column that they are; None if each is an example itself.
    """

    def __init__(self, keys: Iterable[bytes], group: str | None = None) -> None:
        self._keys = keys
        self._group = group
        self._all = 0
        self._different: set[int] = set()

    def __iter__(self) -> Iterator[bytes]:
        keys = iter(self._keys)
        for key in keys:
            self._all += 1
            self._different.add(hash(key))
            yield key
            if len(self._different) == _MANY:
                break
        yield from keys

    def together(self) -> str:
        """Return a sentence on the examples that stay together, if that can be why a split is empty."""
        different = len(self._different)
        if different in (self._all, _MANY):
            return ""
        together = "Equal rows" if self._group is None else f"Rows of one {self._group!r}"
        return f". {together} stay together; there are {different:,} that differ"


def split_by_keys(
    examples: S, keys: Iterable[bytes], shares: Sequence[float], notes: Sequence[str] = (), group: str | None = None
) -> DataSet[S]:
    """Return a data set in which examples of one key are in one split.

    Args:
        examples: all of them.
        keys: one per example; see :func:`assign`.
        shares: of the splits.
        notes: what was left out, for :class:`DataSet`.
        group: name of the column that the keys are; None if each is an example itself.

    Raises:
        BadDataError: if a split that is to have a share has no example.
    """
    counted = Keys(keys, group)
    places = assign(counted, shares)
    try:
        return split_up(examples, places, shares, notes)
    except ValueError as error:
        raise BadDataError(f"{error}{counted.together()}") from error
