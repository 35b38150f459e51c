"""Files of arrays: .npy, .npz, .safetensors, .h5 and .hdf5."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from pyro_vae.data.arrays import as_tensor, check_array
from pyro_vae.data.hdf5 import ArraysOfHDF5
from pyro_vae.data.images import Images
from pyro_vae.data.named import DamagedDataError
from pyro_vae.data.reading import BadDataError, Reading
from pyro_vae.data.rows import Rows
from pyro_vae.data.splits import DataSet, Mapped, Store
from pyro_vae.data.splitting import SPLITS, assign, keys_of_rows, split_up

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
    parts = {name: found for name in SPLITS if (found := _find(arrays, [f"{x}_{name}" for x in _X])) is not None}
    if parts:
        how.check_used(f"{path} has its own splits")
        return _in_splits(path, arrays, parts)
    how.check_used(f"{path} holds arrays", "split")
    x = _find(arrays, _X)
    if x is None:
        if len(arrays) != 1:
            raise BadDataError(
                f"{path} must hold an array x, and y for labels, or x_train, x_valid and x_test; it holds "
                f"{', '.join(arrays) or 'nothing'}"
            )
        x = next(iter(arrays.values()))
    examples = as_split(str(path), x, _find(arrays, _LABELS))
    return split_up(examples, assign(keys_of_rows(x), how.shares), how.shares)


def _read(path: Path) -> Mapping[str, Any]:
    if path.suffix.lower() in (".h5", ".hdf5"):
        return ArraysOfHDF5(path)
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


def _find(arrays: Mapping[str, Any], names: tuple[str, ...] | list[str]) -> Any:
    return next((arrays[name] for name in names if name in arrays), None)


def _in_splits(path: Path, arrays: Mapping[str, Any], parts: Mapping[str, Any]) -> DataSet[Any]:
    lacking = [f"x_{name}" for name in SPLITS if name not in parts]
    if lacking:
        raise BadDataError(f"{path} has x_{next(iter(parts))} and no {lacking[0]}. Give all three splits, or x alone")
    labels = {name: _find(arrays, [f"{y}_{name}" for y in _LABELS]) for name in SPLITS}
    known = [values for values in labels.values() if values is not None]
    if known and len(known) < len(SPLITS):
        raise BadDataError(f"{path} has labels for {len(known)} of the three splits. Give all, or none")
    both = np.concatenate(known) if known else None
    sizes = np.cumsum([len(parts[name]) for name in SPLITS])[:-1]
    coded = as_labels(str(path), both, sum(len(parts[name]) for name in SPLITS))
    per_split = [None] * 3 if coded[0] is None else torch.tensor_split(coded[0], sizes.tolist())
    splits = [_split(f"{path}: x_{n}", parts[n], (of, *coded[1:])) for n, of in zip(SPLITS, per_split, strict=True)]
    shapes = {split.event_shape for split in splits}
    if len(shapes) > 1:
        raise BadDataError(f"{path} must have splits of one shape; got {', '.join(map(str, shapes))}")
    train, valid, test = (replace(split, name=str(path)) for split in splits)
    return DataSet(train, valid, test)


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
    if labels.shape != (n,):
        raise BadDataError(f"{name} must have one label per example, ({n},); got shape {labels.shape}")
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise BadDataError(f"{name} lacks the label of {np.isnan(labels).sum():,} examples")
    values, codes = np.unique(labels, return_inverse=True)
    if values.dtype.kind in "iu" and values[0] == 0 and values[-1] == len(values) - 1:
        return torch.from_numpy(codes.astype(np.int64)), len(values), ()
    return torch.from_numpy(codes.astype(np.int64)), len(values), tuple(map(str, values))


def _check_rows(rows: Rows) -> None:
    """Raise a BadDataError if a value is infinite or an element is missing in every row."""
    if not rows.values.dtype.is_floating_point:
        return
    if any(some.isinf().any() for some in rows.stored()):
        raise BadDataError(f"{rows.name} has infinite values. Remove them, or replace them by NaN: missing")
    if (lacking := rows.without_values()) is not None:
        raise BadDataError(f"{rows.name}: {lacking} has no value in any row, only NaN. Leave it out")
