"""Files of arrays: .npy, .npz, .safetensors, .h5 and .hdf5."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from pyro_vae.data.arrays import as_tensor, check_array
from pyro_vae.data.hdf5 import ArraysOfHDF5
from pyro_vae.data.images import Images
from pyro_vae.data.keyed_splits import split_by_keys
from pyro_vae.data.named import DamagedDataError
from pyro_vae.data.reading import BadDataError, Reading
from pyro_vae.data.rows import Rows
from pyro_vae.data.splits import DataSet, Mapped, Store, may_be_classes
from pyro_vae.data.splitting import SPLITS, keys_of_rows

__all__ = ["as_labels", "as_split", "load_arrays"]

_X, _LABELS = ("x", "data", "X", "arr_0"), ("y", "labels", "label", "target")
_LARGE = 2**28  # bytes; a larger .npy file stays on disk


def load_arrays(path: Path, how: Reading) -> DataSet[Any]:
    """Return the data set of a file of arrays, each ``(n, ...)``.

    The file holds x alone, or ``x`` and perhaps ``y`` with labels, or ``x_train``, ``x_valid`` and ``x_test``, each
    perhaps with labels in ``y_train`` and so on.

    Args:
        path: of the file, which ends in .npy, .npz, .safetensors, .h5 or .hdf5.
        how: options; of these, ``split`` counts if the file has no splits of its own.

    Raises:
        DamagedDataError: if the file cannot be read.
        BadDataError: if it holds other arrays, or values that no VAE can take.
    """
    arrays = _read(path)
    own = {name: found for name in SPLITS if (found := _first(arrays, [f"{x}_{name}" for x in _X])) is not None}
    if own:
        how.check_used(f"{path} has its own splits")
        return _in_splits(path, arrays, own)
    how.check_used(f"{path} holds arrays", "split")
    name = _first(arrays, _X)
    if name is None:
        if len(arrays) != 1:
            raise BadDataError(
                f"{path} must hold an array x, and y for labels, or x_train, x_valid and x_test; it holds "
                f"{', '.join(arrays) or 'nothing'}"
            )
        name = next(iter(arrays))
    x, labels = arrays[name], _first(arrays, _LABELS)
    notes: list[str] = []
    used: set[str | None]
    if labels is not None and _are_real(arrays[labels]):
        notes.append(f"{path}: {labels!r} holds real numbers, which are no classes, and is left out")
        used, labels = {name, labels}, None
    else:
        used = {name, labels}
    notes += _left_out(path, arrays, used)
    examples = as_split(str(path), x, None if labels is None else arrays[labels])
    _check_few(examples)
    return split_by_keys(examples, keys_of_rows(x), how.shares, notes)


def _read(path: Path) -> Mapping[str, Any]:
    if path.suffix.lower() in (".h5", ".hdf5"):
        return ArraysOfHDF5(path)
    _check_start(path)
    try:
        match path.suffix.lower():
            case ".safetensors":
                found = safetensors.torch.load_file(path)
                return {name: (t.float() if t.dtype == torch.bfloat16 else t).numpy() for name, t in found.items()}
            case ".npy":
                large = path.stat().st_size > _LARGE
                return {"x": np.load(path, mmap_mode="r" if large else None, allow_pickle=False)}
            case _:
                with np.load(path, allow_pickle=False) as file:
                    return dict(file)
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, SafetensorError) as error:
        hint = ". Save plain numbers: arrays of objects are not read" if "allow_pickle" in str(error) else ""
        raise DamagedDataError(f"{path} cannot be read: {error}{hint}") from error


def _check_start(path: Path) -> None:
    """Raise a DamagedDataError if a file does not begin as NumPy writes it."""
    ending = path.suffix.lower()
    with path.open("rb") as file:
        start = file.read(8)
    kinds = {".npy": b"\x93NUMPY", ".npz": b"PK"}
    if not start:
        raise DamagedDataError(f"{path} cannot be read: it is empty")
    if ending in kinds and not start.startswith(kinds[ending]):
        other = next((kind for kind, first in kinds.items() if start.startswith(first)), None)
        hint = f", but one of {other}. Give its name that ending" if other else ""
        raise DamagedDataError(f"{path} cannot be read: it is no {ending} file of NumPy's{hint}")


def _first(arrays: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """Return the first of some names that an array has."""
    return next((name for name in names if name in arrays), None)


def _left_out(path: Path, arrays: Mapping[str, Any], used: Collection[str | None]) -> list[str]:
    """Return a note on the arrays that are not used."""
    others = [repr(name) for name in arrays if name not in used]
    shown = ", ".join(others[:10]) + (f" and {len(others) - 10} more" if len(others) > 10 else "")
    return [f"{path}: left out beside {', '.join(sorted(filter(None, used)))}: {shown}"] if others else []


def _are_real(labels: NDArray[Any]) -> bool:
    """Return True if numbers are no classes, since one has a fraction."""
    known = labels[np.isfinite(labels)] if labels.dtype.kind == "f" else labels[:0]
    return known.dtype.kind == "f" and bool((known != np.floor(known)).any())


def _in_splits(path: Path, arrays: Mapping[str, Any], own: Mapping[str, str]) -> DataSet[Any]:
    """Return the data set of arrays of which each is a split; ``own`` has their names."""
    lacking = [name for name in SPLITS if name not in own]
    if lacking:
        there = next(iter(own.values()))
        raise BadDataError(
            f"{path} has {there} and no {there.rpartition('_')[0]}_{lacking[0]}. Give all three splits, or x alone"
        )
    parts = {name: arrays[found] for name, found in own.items()}
    of = {name: _first(arrays, [f"{y}_{name}" for y in _LABELS]) for name in SPLITS}
    known = [name for name in of.values() if name is not None]
    if known and len(known) < len(SPLITS):
        raise BadDataError(f"{path} has labels for {len(known)} of the three splits. Give all, or none")
    notes = _left_out(path, arrays, {*own.values(), *known})
    if any(_are_real(arrays[name]) for name in known):
        notes.append(f"{path}: {', '.join(map(repr, known))} hold real numbers, which are no classes: left out")
        known = []
    for name, found in zip(SPLITS, known, strict=False):
        _check_one_each(f"{path}: {found}", arrays[found], _length(parts[name]))
    both = np.concatenate([arrays[name] for name in known]) if known else None
    sizes = np.cumsum([_length(parts[name]) for name in SPLITS])
    coded = as_labels(str(path), both, int(sizes[-1]))
    per_split = [None] * 3 if coded[0] is None else torch.tensor_split(coded[0], sizes[:-1].tolist())
    splits = [_split(f"{path}: {own[n]}", parts[n], (of, *coded[1:])) for n, of in zip(SPLITS, per_split, strict=True)]
    _check_few(splits[0])
    forms = dict.fromkeys(f"{split.noun}s of shape {split.event_shape}" for split in splits)
    if len(forms) > 1:
        raise BadDataError(f"{path} must have splits of one shape; got {', '.join(forms)}")
    train, valid, test = (replace(split, name=str(path)) for split in splits)
    return DataSet(train, valid, test, tuple(notes))


def _check_few(split: Images | Rows) -> None:
    """Raise a BadDataError if there are too many labels in a file to be classes."""
    n = len(split)
    if not may_be_classes(split.classes, n):
        raise BadDataError(
            f"{split.name} has {split.classes:,} different labels for {n:,} {split.noun}s: too many for classes. If "
            "they are something else, give them another name than y"
        )


def _length(x: NDArray[Any]) -> int:
    return len(x) if x.ndim else 0


def _check_one_each(name: str, labels: NDArray[Any], n: int) -> None:
    if labels.shape != (n,):
        raise BadDataError(f"{name} must have one label per example, ({n},); got shape {labels.shape}")


Labels = tuple[Tensor | None, int, tuple[str, ...]]


def as_split(name: str, x: np.ndarray[Any, Any], labels: np.ndarray[Any, Any] | None = None) -> Images | Rows:
    """Return arrays as one split: bytes of 2 or 3 dimensions as images, anything else as rows.

    Args:
        name: of the data, for errors.
        x: numbers ``(n, ...)``; stays on disk if it is a ``numpy.memmap``.
        labels: numbers or names ``(n,)``.

    Raises:
        BadDataError: for arrays and labels that cannot be used.
    """
    return _split(name, x, as_labels(name, labels, len(x) if np.ndim(x) else 0))


def _split(name: str, x: np.ndarray[Any, Any], labels: Labels) -> Images | Rows:
    check_array(name, x)
    if x.ndim == 0 or x.size == 0:
        raise BadDataError(f"{name} must hold at least one example; got an array of shape {x.shape}")
    coded, classes, names = labels
    store: Store = Mapped(x) if isinstance(x, np.memmap) else as_tensor(name, x)
    if x.dtype == np.uint8 and x.ndim in (3, 4):
        return Images(_channels_first(name, store), coded, classes, name=name, class_names=names)
    rows = Rows(
        store[:, None] if x.ndim == 1 and isinstance(store, Tensor) else store, coded, classes, names, name=name
    )
    _check_rows(rows)
    return rows


def _channels_first(name: str, pixels: Store) -> Store:
    if len(pixels.shape) == 3:
        return pixels[:, None] if isinstance(pixels, Tensor) else Mapped(pixels.array[:, None], pixels.rows)
    if pixels.shape[1] in (1, 3):
        return pixels
    if pixels.shape[-1] in (1, 3):
        raise BadDataError(
            f"{name} has images with channels last, {tuple(pixels.shape)}. Put them first: numpy.moveaxis(x, -1, 1)"
        )
    raise BadDataError(
        f"{name} must have images with 1 or 3 channels, (n, channels, height, width); got {tuple(pixels.shape)}"
    )


def as_labels(name: str, labels: np.ndarray[Any, Any] | None, n: int) -> Labels:
    """Return labels as codes from 0, how many classes there are, and their names if they are not their numbers.

    Args:
        name: of the data, for errors.
        labels: numbers or names ``(n,)``.
        n: the number of examples.
    """
    if labels is None:
        return None, 0, ()
    labels = np.asarray(labels)
    _check_one_each(name, labels, n)
    values, codes = np.unique(_as_classes(name, labels), return_inverse=True)
    if values.dtype.kind in "iu" and values[0] == 0 and values[-1] == len(values) - 1:
        return torch.from_numpy(codes.astype(np.int64)), len(values), ()
    return torch.from_numpy(codes.astype(np.int64)), len(values), tuple(map(str, values))


def _as_classes(name: str, labels: NDArray[Any]) -> NDArray[Any]:
    """Return labels as whole numbers, text or booleans."""
    what = labels.dtype.kind
    if what == "f":
        if np.isnan(labels).any():
            raise BadDataError(f"{name} lacks the label of {np.isnan(labels).sum():,} examples")
        if np.isinf(labels).any() or _are_real(labels):
            other = next(value for value in labels.tolist() if not float(value).is_integer())
            raise BadDataError(
                f"{name} has labels that are no classes, such as {other:.6g}: give whole numbers or names"
            )
        return labels.astype(np.int64)
    if what == "S":
        try:
            return np.char.decode(labels, "utf-8")
        except UnicodeDecodeError as error:
            raise BadDataError(f"{name} has labels that are no text in UTF-8: {error}") from error
    if what not in "biuUTO":
        raise BadDataError(f"{name} has labels of {labels.dtype}; labels are whole numbers or names")
    return labels


def _check_rows(rows: Rows) -> None:
    """Raise a BadDataError if a value is infinite or an element is missing in every row."""
    if not rows.values.dtype.is_floating_point:
        return
    if any(some.isinf().any() for some in rows.stored()):
        raise BadDataError(f"{rows.name} has infinite values. Remove them, or replace them by NaN: missing")
    if (lacking := rows.without_values()) is not None:
        raise BadDataError(f"{rows.name}: {lacking} has no value in any row, only NaN. Leave it out")
