"""A data set of whatever holds data: all that fit takes, and splits of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pyro_vae.data.array_files import as_labels, as_split
from pyro_vae.data.batches import DataSource
from pyro_vae.data.counts import Counts
from pyro_vae.data.frames import is_frame, is_sparse
from pyro_vae.data.items import Found, as_array, read_dataset, read_loader
from pyro_vae.data.keyed_splits import Keys
from pyro_vae.data.reading import BadDataError, Reading
from pyro_vae.data.rows import Rows
from pyro_vae.data.splits import DataSet, Split
from pyro_vae.data.splitting import SPLITS, assign, keys_of_rows, none_left
from pyro_vae.data.table_keys import as_written, keys_of_table
from pyro_vae.data.tables import columns_of_frame, rows_of_columns

__all__ = ["Convertible", "as_data_set", "in_splits", "keys_of_split"]

Convertible = DataSource | DataSet[Any] | list[Any] | Mapping[str, Any]
"""What holds data: anything that :func:`pyro_vae.fit` takes, x with labels ``(x, y)``, or such data by split."""

_OF_TABLES = ("label", "group", "columns", "schema")

_TAKEN = (
    "a tensor, a NumPy array, a pandas DataFrame, a SciPy sparse matrix, a tuple (x, labels), a torch Dataset, a "
    "DataLoader, a data set of pyro_vae.data.load, or a dictionary of these with train, valid and test"
)


def as_data_set(name: str, value: Convertible, how: Reading) -> DataSet[Any]:
    """Return what holds data as a data set.

    Args:
        name: of the data, for errors.
        value: what holds data.
        how: options; ``split`` counts if ``value`` has no splits of its own.

    Raises:
        BadDataError: if it is something else, or holds what no VAE can take.
    """
    if isinstance(value, DataSet):
        how.check_used(f"{name} has its own splits")
        return value.map(lambda split: replace(split, name=name))
    parts = _own_splits(name, value) or {"train": value}
    if not any(isinstance(part, (Dataset, DataLoader)) for part in parts.values()):  # these say what they use
        how.check_used(f"{name} gives {_word(value)}", "split", *_options_of(parts["train"]))
    found: dict[str, Found] = {}
    for split in (split for split in SPLITS if split in parts):
        found[split] = _examples(name if len(parts) == 1 else f"{name}: {split}", parts[split], how)
        if isinstance(found["train"].x, Rows):
            how = replace(how, schema=found["train"].x.schema)  # the codes are the same in all splits
    return in_splits(name, found, how)


def in_splits(name: str, found: Mapping[str, Found], how: Reading) -> DataSet[Any]:
    """Return a data set of examples; a split that is not there is drawn from those for training, by a hash.

    Args:
        name: of the data.
        found: the examples of ``train``, and perhaps of ``valid`` and ``test``.
        how: has the shares.

    Raises:
        BadDataError: if the splits do not go together, or a split has no example.
    """
    splits = _as_splits(name, found)
    notes = tuple(dict.fromkeys(note for f in found.values() for note in f.notes))
    if how.skip_bad:
        for split, examples in splits.items():
            if isinstance(examples, Counts):
                splits[split], said = examples.without_empty_rows()
                notes += (f"{name}: {said}",) if said else ()
    if len({_form(split) for split in splits.values()}) > 1:
        raise BadDataError(f"{name} must have splits of one form; got {', '.join(map(repr, splits.values()))}")
    if len(splits) == len(SPLITS) and how.split is not None:
        raise ValueError(f"split is for data without splits of their own; {name} has its own")
    lacking = [split for split in SPLITS if split not in splits]
    if not lacking:
        return DataSet(splits["train"], splits["valid"], splits["test"], notes)
    if len(splits) > 1:
        notes += (f"{name} has no split for {' and '.join(lacking)}: a hash draws it from those for training",)
    shares = [share if split in ("train", *lacking) else 0.0 for split, share in zip(SPLITS, how.shares, strict=True)]
    keys = Keys(found["train"].keys or keys_of_split(splits["train"]), how.group)
    try:
        return _drawn(splits, assign(keys, [share / sum(shares) for share in shares]), notes)
    except BadDataError as error:
        raise BadDataError(f"{error}{keys.together()}") from error


def _drawn(splits: Mapping[str, Split], places: Tensor, notes: tuple[str, ...]) -> DataSet[Any]:
    """Return a data set whose splits, but for those that are there besides ``train``, are drawn from ``train``.

    Args:
        splits: those that are there.
        places: of each example of ``train``, the split that it is for.
        notes: for the data set.
    """
    train = splits["train"]
    positions, end, found = [], len(train), dict(splits)
    for i, split in enumerate(SPLITS):
        if split == "train" or split not in splits:
            rows = (places == i).nonzero()[:, 0]
            found[split] = _some(train, rows, split)
        else:
            rows = torch.arange(end, end + len(splits[split]))
            end += len(rows)
        positions.append(rows)
    first, second, third = positions
    return DataSet(found["train"], found["valid"], found["test"], notes, (first, second, third))


def _form(split: Split) -> tuple[Any, ...]:
    columns = split.columns if isinstance(split, Rows) else ()
    return type(split), split.event_shape, columns, split.classes, split.class_names


def keys_of_split(split: Split) -> Iterable[bytes]:
    """Return the bytes of each example, as they are stored; of tables and counts, those that each form of them has."""
    if isinstance(split, Counts):
        return split.keys()
    if isinstance(split, Rows) and split.columns:
        columns, schema = split.columns, split.schema
        pieces = (some.cpu().numpy() for some in split.stored())
        return (k for x in pieces for k in keys_of_table(columns, x if schema is None else as_written(schema, x)))
    return (key for some in split.stored() for key in keys_of_rows(some.cpu().numpy()))


def _some(examples: Split, rows: Tensor, split: str) -> Split:
    if not len(rows):
        raise BadDataError(f"{examples.name}: {none_left(f'{len(examples):,} {examples.noun}s', split)}")
    return examples[rows]


def _own_splits(name: str, value: Convertible) -> dict[str, Any] | None:
    """Return the splits in a mapping or a tuple of three data sets; None if ``value`` is no such thing."""
    if isinstance(value, Mapping):
        parts = dict(value)
        unknown = [key for key in parts if key not in SPLITS]
        if unknown or "train" not in parts:
            raise BadDataError(
                f"{name} gives a dictionary with {', '.join(map(repr, parts)) or 'nothing'}; it must have train, and "
                "may have valid and test"
            )
        return parts
    if not isinstance(value, (tuple, list)) or len(value) != len(SPLITS):
        return None
    whole = all(isinstance(part, (Split, Dataset, DataLoader)) for part in value)
    return dict(zip(SPLITS, value, strict=True)) if whole else None


def _examples(name: str, value: Convertible, how: Reading) -> Found:
    """Return the examples in anything that fit takes."""
    if isinstance(value, Split):
        return Found(value)
    if isinstance(value, DataLoader):
        return read_loader(name, value, how)
    if isinstance(value, Dataset):
        return read_dataset(name, value, how)
    if isinstance(value, (tuple, list)):
        return _pair(name, value, how)
    if isinstance(value, (Tensor, np.ndarray)):
        array = as_array(name, value)
        if array.ndim == 0:
            raise BadDataError(f"{name} must hold at least one example; got a single number")
        return Found(array)
    if is_sparse(value):
        return Found(Counts(value, name=name))
    if is_frame(value):
        rows, keys, notes = rows_of_columns(name, columns_of_frame(value), how)
        return Found(rows, keys=keys, notes=tuple(notes))
    raise BadDataError(f"{name} must be {_TAKEN}; got {_word(value)}")


def _options_of(value: Convertible) -> tuple[str, ...]:
    if isinstance(value, (tuple, list)) and value:
        value = value[0]
    return _OF_TABLES if is_frame(value) else ("skip_bad",) if is_sparse(value) else ()


def _pair(name: str, value: Sequence[Any], how: Reading) -> Found:
    if not value or not (isinstance(value[0], (Tensor, np.ndarray)) or is_sparse(value[0])):
        of = f" of {_word(value[0])}" if value else ""
        raise BadDataError(f"{name} must be {_TAKEN}; got {_word(value)}{of}. torch.stack makes one tensor of many")
    found = _examples(name, value[0], how)
    if len(value) == 1:
        return found
    labels = np.asarray(value[1].cpu() if isinstance(value[1], Tensor) else value[1])
    if len(value) > 2 or labels.ndim != 1 or labels.dtype.kind == "f":
        came = ", ".join(f"{_word(part)} of shape {np.shape(part)}" for part in value[1:])
        raise BadDataError(
            f"{name} may give labels beside x, whole numbers or names of shape (n,); got {came}. Give x alone, or "
            "train from Python: fit(vae, (x, context))"
        )
    return replace(found, labels=labels)


def _as_splits(name: str, found: Mapping[str, Found]) -> dict[str, Split]:
    """Return each part as a split, with the same classes in all."""
    sizes = [len(f.x) for f in found.values()]
    labels = [f.labels for f in found.values() if f.labels is not None]
    if labels and len(labels) < len(found):
        raise BadDataError(f"{name} has labels for {len(labels)} of its {len(found)} splits. Give all, or none")
    for size, of in zip(sizes, labels, strict=False):
        if of.shape != (size,):
            raise BadDataError(f"{name} must have one label per example, ({size},); got shape {of.shape}")
    made: dict[str, Any] = {}
    for split, f in found.items():
        where = name if len(found) == 1 else f"{name}: {split}"
        examples = f.x if isinstance(f.x, Split) else as_split(where, f.x)
        extra = {"columns": f.columns} if f.columns and isinstance(examples, Rows) else {}
        made[split] = replace(examples, name=name, **extra)  # type: ignore[type-var]
    if not labels:
        return made
    names = next((tuple(f.class_names) for f in found.values() if f.class_names), ())
    codes, classes, class_names = _coded(name, np.concatenate(labels), names)
    for (split, examples), of in zip(made.items(), codes.split(sizes), strict=True):
        made[split] = replace(examples, labels=of, classes=classes, class_names=class_names)
    return made


def _coded(name: str, labels: NDArray[Any], names: Sequence[str]) -> tuple[Tensor, int, tuple[str, ...]]:
    """Return labels as codes, the number of classes and their names; a class counts also if no example has it."""
    if names and labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < len(names):
        return torch.from_numpy(labels.astype(np.int64)), len(names), tuple(map(str, names))
    codes, classes, class_names = as_labels(name, labels, len(labels))
    assert codes is not None, "there are labels"
    return codes, classes, class_names


def _word(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
