"""Examples out of Datasets and DataLoaders, read once into memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pyro_vae.data.arrays import check_array
from pyro_vae.data.image_files import as_size, has_colour, levels_of
from pyro_vae.data.reading import BadDataError, Reading
from pyro_vae.data.splits import Split
from pyro_vae.seeds import seeded

__all__ = ["Found", "as_array", "as_numbers", "length", "parts_of_item", "read_dataset", "read_loader", "stack"]


@dataclass(frozen=True)
class Found:
    """Examples as they came.

    Args:
        x: numbers ``(n, ...)``, or a split that is made already.
        labels: numbers or names ``(n,)``; None if there are none.
        class_names: names of the classes, in order, if the labels are their numbers.
        columns: names of the columns of a table.
        keys: one per example, which say where it goes; by default the bytes of its numbers.
        notes: what was left out, in sentences.
    """

    x: NDArray[Any] | Split
    labels: NDArray[Any] | None = None
    class_names: Sequence[str] = ()
    columns: tuple[str, ...] = ()
    keys: Sequence[bytes] | None = None
    notes: tuple[str, ...] = ()


def read_dataset(name: str, dataset: Dataset[Any], how: Reading) -> Found:
    """Return the examples of a Dataset, which yields x, or x and a label.

    Args:
        name: of the data, for errors.
        dataset: with a length; x are numbers of one shape, or pictures as PIL has them.
        how: ``size`` and ``channels`` of pictures.

    Raises:
        BadDataError: if it has no length, or yields something else.
    """
    n = length(name, dataset)
    others: list[Any] = []

    def examples() -> Iterator[Any]:
        for i in range(n):
            x, *rest = parts_of_item(name, dataset[i])
            if i == 0:
                picture = ("size", "channels") if isinstance(x, Image.Image) else ()
                how.check_used(f"{name} is a Dataset of {type(x).__name__}s", "split", *picture)
            others.append(rest[0] if rest else None)
            yield x

    with seeded(0):  # what is drawn at random is the same the next time
        x = stack(name, n, examples(), how)
    labels, notes = _labels(name, others)
    classes = getattr(dataset, "classes", ())
    return Found(x, labels, classes if isinstance(classes, (list, tuple)) else (), notes=notes)


def read_loader(name: str, loader: DataLoader[Any], how: Reading) -> Found:
    """Return the examples of a DataLoader, which yields batches of x, or of x and labels.

    Raises:
        BadDataError: if it has no length, or yields something else.
    """
    how.check_used(f"{name} is a DataLoader", "split")
    length(name, loader)
    if loader.generator is not None:
        loader.generator.manual_seed(0)
    with seeded(0):
        batches = [parts_of_item(name, batch) for batch in loader]
    x = [as_array(name, batch[0]) for batch in batches]
    shapes = {some.shape[1:] for some in x}
    if len(shapes) > 1:
        raise BadDataError(f"{name} must have examples of one shape; got {', '.join(map(str, sorted(shapes)))}")
    rest = [batch[1] if len(batch) > 1 else [None] * len(batch[0]) for batch in batches]
    labels, notes = _labels(name, [value for some in rest for value in some])
    left_out = length(name, loader.dataset) - sum(map(len, x)) if loader.drop_last else 0
    if left_out:
        notes += (f"{name}: the DataLoader leaves out {left_out:,} examples: drop_last=True",)
    return Found(np.concatenate(x), labels, notes=notes)


def length(name: str, source: Any) -> int:
    """Return how many examples or batches a Dataset or DataLoader has."""
    try:
        n = len(source)
    except TypeError as error:
        raise BadDataError(
            f"{name} is a {type(source).__name__} without a length, which may never end. Give one with a length, or "
            "its examples as a tensor"
        ) from error
    if n == 0:
        raise BadDataError(f"{name} must hold at least one example; got none")
    return n


def as_array(name: str, value: Any) -> NDArray[Any]:
    """Return a tensor or NumPy array of real numbers as a NumPy array.

    Raises:
        BadDataError: if it is something else.
    """
    try:
        check_array(name, value)
    except TypeError as error:
        raise BadDataError(str(error)) from error
    if isinstance(value, np.ndarray):
        return value
    tensor = value.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def parts_of_item(name: str, item: Any) -> Sequence[Any]:
    """Return an item or batch as a tuple that begins with x."""
    if isinstance(item, Mapping):
        raise BadDataError(
            f"{name} yields a dictionary with {', '.join(map(repr, item))}; it must yield x, or x and a label"
        )
    parts = item if isinstance(item, (tuple, list)) else (item,)
    if not parts:
        raise BadDataError(f"{name} yields an empty {type(item).__name__}; it must yield x, or x and a label")
    return parts


def stack(name: str, n: int, items: Iterable[Any], how: Reading) -> NDArray[Any]:
    """Return x of all examples in one array: numbers of one shape, or pictures as pixels.

    Args:
        name: of the data, for errors.
        n: how many there are.
        items: tensors, arrays or numbers, or pictures as PIL has them.
        how: ``size`` and ``channels`` of pictures.

    Raises:
        BadDataError: if they differ in shape or dtype, or pictures in size while ``size`` is not given.
    """
    values: NDArray[Any] | None = None
    for i, x in enumerate(items):
        picture = isinstance(x, Image.Image)
        some = as_numbers(f"{name}: x of item {i}", x, how)
        if values is None:
            values = np.empty((n, *some.shape), some.dtype)
        if picture and values.ndim == 4 and len(some) != values.shape[1]:  # grey pictures among those in colour
            values, some = _in_colour(values), _in_colour(some[None])[0]
        if some.shape != values.shape[1:] or some.dtype != values.dtype:
            raise _of_another_form(name, i, some, values, picture)
        values[i] = some
    assert values is not None, "length() refuses an empty source"
    return values


def as_numbers(name: str, x: Any, how: Reading | None = None) -> NDArray[Any]:
    """Return x of one example as an array; of a picture, the pixels as uint8 ``(channels, height, width)``."""
    if isinstance(x, Image.Image):
        return _pixels(name, x, how)
    return as_array(name, np.asarray(x) if isinstance(x, (bool, int, float, np.generic)) else x)


def _in_colour(values: NDArray[Any]) -> NDArray[Any]:
    return values if values.shape[1] == 3 else np.repeat(values, 3, axis=1)


def _of_another_form(name: str, i: int, some: NDArray[Any], values: NDArray[Any], picture: bool) -> BadDataError:
    if picture and some.shape != values.shape[1:] and values.ndim == 4:
        first, other = (" x ".join(map(str, of.shape[-2:])) for of in (values, some))
        return BadDataError(
            f"{name} has pictures of several sizes: {first}, and {other} at item {i}. Give one for all, such as size=32"
        )
    return BadDataError(
        f"{name} must have examples of one shape and dtype; item 0 has {values.shape[1:]} of {values.dtype}, item {i} "
        f"has {some.shape} of {some.dtype}"
    )


def _pixels(name: str, picture: Image.Image, how: Reading | None) -> NDArray[np.uint8]:
    """Return a picture as uint8 ``(channels, height, width)``, as folders of images are read."""
    size, channels = (None, None) if how is None else (as_size(how.size), how.channels)
    try:
        levels = levels_of(ImageOps.exif_transpose(picture), size, channels)
    except ValueError as error:
        raise BadDataError(f"{name}: {error}") from error
    if channels == 3 or has_colour(levels):
        return np.broadcast_to(levels, (3, *levels.shape[1:]))
    return levels[:1]


def _labels(name: str, values: Sequence[Any]) -> tuple[NDArray[Any] | None, tuple[str, ...]]:
    """Return what follows x as labels, and a note if it is something else."""
    arrays = (Tensor, np.ndarray, np.generic)
    plain = [v.item() if isinstance(v, arrays) and math.prod(v.shape) == 1 else v for v in values]
    if all(v is None for v in plain):
        return None, ()
    if all(isinstance(v, (int, str)) for v in plain) and len({type(v) is str for v in plain}) == 1:
        return np.asarray(plain), ()
    other = next(v for v in plain if not isinstance(v, (int, str)))
    return None, (f"{name}: what follows x is no label ({type(other).__name__}), and is left out",)
