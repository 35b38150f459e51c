"""What every kind of data has: splits of examples with labels, and the three splits of a data set."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

__all__ = ["DataSet", "Mapped", "Split", "Store", "labels_of_both", "may_be_classes", "read_rows", "rows_of_both"]

_BYTES_AT_ONCE = 2**24
_FEW = 20  # classes, however few examples there are


class Mapped:
    """Rows of an array on disk. Indexing chooses rows; :meth:`read` reads them.

    Args:
        array: on disk, such as a ``numpy.memmap``.
        rows: the rows that count, in order; by default all.
    """

    def __init__(self, array: np.ndarray[Any, Any], rows: Tensor | None = None) -> None:
        self.array = array
        self.rows = torch.arange(len(array)) if rows is None else rows
        self.shape = torch.Size((len(self.rows), *array.shape[1:]))
        self.dtype = torch.from_numpy(np.empty(0, array.dtype.newbyteorder("="))).dtype
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: slice | Tensor) -> Mapped:
        """Return some of the rows, which stay on disk."""
        return Mapped(self.array, self.rows[rows])

    def read(self, rows: slice | Tensor) -> Tensor:
        """Return some of the rows as a tensor in memory."""
        found = self.array[self.rows[rows].cpu().numpy()]
        return torch.from_numpy(found.astype(found.dtype.newbyteorder("="), copy=False))


Store = Tensor | Mapped
"""Data in memory or on disk, one row per example."""


def read_rows(store: Store, rows: slice | Tensor) -> Tensor:
    """Return some of the rows, in memory."""
    return store.read(rows) if isinstance(store, Mapped) else store[rows]


class Split(ABC):
    """Some examples of a data set: x, and the label of each if there are labels."""

    noun: ClassVar[str] = "row"
    """What an example is called, in the singular."""

    labels: Tensor | None
    """The class of each example, int64 ``(n,)``; None if there are no labels."""

    classes: int
    """How many classes there are; 0 if there are no labels."""

    class_names: tuple[str, ...]
    """The names of the classes; empty if they have none but their numbers."""

    with_labels: bool
    """True if the VAE gets the one-hot label as context."""

    name: str | None
    """Of the data set, as :func:`pyro_vae.data.load` takes it."""

    origin: Mapping[str, Any] | None
    """What :func:`pyro_vae.data.load` read it from, and its options, by the names of the command line; else None."""

    @property
    @abstractmethod
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one example of x."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, rows: slice | Tensor) -> Self:
        """Return some of the examples, by slice or by index."""

    @abstractmethod
    def to(self, device: torch.device | str | None) -> Self:
        """Return the same examples on a device; what is on disk stays there."""

    @abstractmethod
    def x(self, rows: slice | Tensor, dtype: torch.dtype, generator: torch.Generator | None = None) -> Tensor:
        """Return x of some examples, as a VAE sees it."""

    @abstractmethod
    def followed_by(self, other: Self) -> Self:
        """Return these examples and then those of another split of the same data set."""

    @abstractmethod
    def _stored(self, rows: slice) -> Tensor:
        """Return some examples as they are stored."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the batches come from."""

    @property
    def has_missing(self) -> bool:
        """True if x has missing values, which are NaN."""
        return False

    @property
    def context_features(self) -> int:
        """How many numbers the context has for each example."""
        return self.classes if self.with_labels else 0

    def context(self, rows: slice | Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Return the context of some examples: the one-hot label ``(n, classes)``, or nothing."""
        if not self.with_labels or self.labels is None:
            return ()
        return (one_hot(self.labels[rows], self.classes).to(dtype),)

    def with_classes(self, classes: int, class_names: tuple[str, ...]) -> Self:
        """Return the same examples with labels of other data: their number of classes, and their codes for the names.

        Raises:
            ValueError: if there is a label that the others lack.
        """
        if self.labels is None:
            return self
        here = self.class_names or tuple(map(str, range(self.classes)))
        there = class_names or tuple(map(str, range(classes)))
        strange = [here[code] for code in self.labels.unique().tolist() if here[code] not in there]
        if strange:
            raise ValueError(
                f"{self.name} has labels that the training data lack: {', '.join(strange[:10])}. They have "
                f"{', '.join(there[:20])}"
            )
        codes = torch.tensor([there.index(name) if name in there else -1 for name in here], device=self.labels.device)
        changed: dict[str, Any] = {"labels": codes[self.labels], "classes": classes, "class_names": class_names}
        return replace(self, **changed)  # type: ignore[type-var]

    def to_units(self, x: Tensor) -> Tensor:
        """Return x of a VAE in the units of the data: undoes the standardisation, if there is one."""
        return x

    def describe(self) -> str:
        """Return the shape of an example, its values and the classes, in words."""
        classes = f"; {self.classes} classes" if self.classes else ""
        context = ", given as context" if self.with_labels else ""
        return f"x {self.event_shape}, {self.values_in_words()}{classes}{context}"

    @abstractmethod
    def values_in_words(self) -> str:
        """Return what numbers x has, in words."""

    def __repr__(self) -> str:
        """Return the name, the number and shape of the examples, their values and classes in one line."""
        counted = f"{len(self):,} {self.noun}{'' if len(self) == 1 else 's'}"
        return f"{type(self).__name__}({self.name or 'unnamed'}: {counted}; {self.describe()})"

    def fingerprint(self) -> str:
        """Return a number that changes if any value, shape or label does, in hexadecimal."""
        found = hashlib.blake2b(str((type(self).__name__, len(self), self.event_shape)).encode(), digest_size=16)
        for some in self.stored():
            found.update(np.ascontiguousarray(some.cpu().numpy()).view(np.uint8).data)
        if self.labels is not None:
            found.update(np.ascontiguousarray(self.labels.cpu().numpy()).data)
        return found.hexdigest()

    def stored(self) -> Iterator[Tensor]:
        """Yield the data as they are stored, some examples at a time."""
        at_once = max(1, _BYTES_AT_ONCE // (8 * max(1, math.prod(self.event_shape))))
        return (self._stored(slice(start, start + at_once)) for start in range(0, len(self), at_once))


def may_be_classes(different: int, examples: int) -> bool:
    """Return True if a column with so many different values may hold classes: at most 20, or one per two examples."""
    return different <= max(_FEW, examples // 2)


def labels_of_both(first: Split, second: Split) -> Tensor | None:
    """Return the labels of two splits, one after the other."""
    if first.labels is None or second.labels is None:
        return None
    return torch.cat([first.labels, second.labels])


def rows_of_both(first: Store, second: Store) -> Store:
    """Return the rows of two splits of one data set, one after the other."""
    if isinstance(first, Mapped) and isinstance(second, Mapped):
        return Mapped(first.array, torch.cat([first.rows, second.rows]))
    return torch.cat([read_rows(first, slice(None)), read_rows(second, slice(None))])


S = TypeVar("S", bound=Split, covariant=True)


@dataclass(frozen=True)
class DataSet(Generic[S]):
    """A data set in its three splits.

    Args:
        train: to train on.
        valid: for early stopping and the choice of hyperparameters.
        test: for the figures that are reported.
        notes: what was left out of a source, and why: one sentence each.
        positions: where in its source each example of the three splits stood; None if they come one after the other.
        files: of a folder: the path of each file from there, by its position; empty for other sources.
    """

    train: S
    valid: S
    test: S
    notes: tuple[str, ...] = ()
    positions: tuple[Tensor, Tensor, Tensor] | None = None
    files: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return the name, the sizes of the splits, the shape of an example, its values and classes in one line."""
        sizes = ", ".join(f"{len(getattr(self, split)):,} {split}" for split in ("train", "valid", "test"))
        return f"DataSet({self.train.name or 'unnamed'}: {sizes}; {self.train.describe()})"

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one example: of an image ``(channels, height, width)``."""
        return self.train.event_shape

    @property
    def classes(self) -> int:
        """How many classes the labels have; 0 without labels."""
        return self.train.classes

    @property
    def has_missing(self) -> bool:
        """True if a split has missing values."""
        return any(split.has_missing for split in (self.train, self.valid, self.test))

    @property
    def train_and_valid(self) -> S:
        """The examples of ``train`` and ``valid`` together, for a last training, in which nothing is chosen."""
        return self.train.followed_by(self.valid)

    @property
    def everything(self) -> S:
        """The examples of all splits, in the order of their source."""
        found = self.train_and_valid.followed_by(self.test)
        return found if self.positions is None else found[torch.cat(self.positions).argsort()]

    def map(self, change: Callable[[S], S]) -> DataSet[S]:
        """Return the data set with each split changed by a function."""
        return replace(self, train=change(self.train), valid=change(self.valid), test=change(self.test))
