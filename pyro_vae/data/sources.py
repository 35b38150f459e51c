"""load(): a data set from a name, a file, a folder or a function."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyro_vae.data import array_files
from pyro_vae.data.images import Binarize, Images
from pyro_vae.data.named import NAMES, load_named
from pyro_vae.data.reading import Reading
from pyro_vae.data.split import DataSet
from pyro_vae.data.splitting import SPLITS

__all__ = ["FILES", "load"]

Reader = Callable[[Path, Reading], DataSet[Any]]

FILES: Mapping[str, Reader] = {
    ".npy": array_files.load_arrays,
    ".npz": array_files.load_arrays,
    ".safetensors": array_files.load_arrays,
}
"""The files that :func:`load` takes: how each is read, by the ending of its name."""


def load(
    source: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    *,
    binarize: Binarize | None = None,
    dequantize: bool = False,
    labels: bool = False,
    integers: bool = False,
    size: str | int | Sequence[int] | None = None,
    channels: int | None = None,
    split: str | Sequence[float] | None = None,
    group: str | None = None,
    label: str | None = None,
    delimiter: str | None = None,
    skip_bad: bool = False,
) -> DataSet[Any]:
    """Return a data set, in three splits, from its name or from your own files.

    Data sets by name have fixed splits:

    - ``digits``: 1,797 handwritten digits of 8 × 8 pixels (scikit-learn; Alpaydin and Kaynak 1998), shuffled once
      with a fixed seed into 1,297 for training, 200 for validation, 300 for test. Needs no network.
    - ``mnist``, ``fashion_mnist``, ``kmnist``: 28 × 28, torchvision's training images but the last 5,000 (55,000), the
      last 5,000, and its 10,000 test images.
    - ``qmnist``: as MNIST, with QMNIST's own 60,000 test images.
    - ``emnist``: the balanced split, 47 classes: 107,800, 5,000 and 18,800.

    Your own data:

    - ``.npy``, ``.npz`` and ``.safetensors`` files of arrays ``(n, ...)``: ``x``, and ``y`` for labels; or ``x_train``,
      ``x_valid`` and ``x_test``.

    Without splits of their own, a hash of each example says where it goes. So an example stays in its split if others
    are added.

    Args:
        source: the name, one of ``pyro_vae.data.NAMES``, or the path.
        root: folder of the data sets by name, in torchvision's layout; by default ``$PYRO_VAE_DATA``, else
            ``~/.cache/pyro_vae``. Files that it lacks are downloaded into it.
        binarize: of images; see :class:`Images`.
        dequantize: of images; see :class:`Images`.
        labels: give the VAE the one-hot labels as context.
        integers: of images; see :class:`Images`.
        size: of images: height and width, such as ``32`` or ``"32x48"``.
        channels: of images: 1 or 3.
        split: shares of training, validation and test data, by default ``(0.8, 0.1, 0.1)``.
        group: column of a table; rows with the same value stay in one split.
        label: column of a table that holds the labels.
        delimiter: character between the columns of a text file.
        skip_bad: leave out files that cannot be read, and say so in the data set's ``notes``.

    Raises:
        ValueError: for an unknown name or option, and for data that cannot be used.
        FileNotFoundError: if there is no such file.
        DamagedDataError: if its files cannot be read.
        DownloadError: if the files are not in the folder and cannot be downloaded.

    Example:
        >>> digits = load("digits", binarize="dynamic")
        >>> digits.event_shape, len(digits.train)
        ((1, 8, 8), 1297)
    """
    how = Reading(size, channels, split, group, label, delimiter, skip_bad)
    found = _read(os.fspath(source), root, how)
    if labels and found.train.labels is None:
        raise ValueError(f"labels: {source} has no labels to give to the VAE. label=COLUMN names those of a table")
    _check_shares(found, how)
    options: dict[str, Any] = {"binarize": binarize, "dequantize": dequantize, "integers": integers}
    if not isinstance(found.train, Images):
        for name, value in options.items():
            if value:
                raise ValueError(f"{name} is for images; {source} holds {found.train.noun}s")
        options = {}
    return found.map(lambda split: replace(split, with_labels=labels, **options))


def _check_shares(found: DataSet[Any], how: Reading) -> None:
    """Raise a ValueError if a split that is to have a share of the examples has none."""
    total = len(found.train) + len(found.valid) + len(found.test)
    for name, share in zip(SPLITS, how.shares, strict=True):
        if share and not len(getattr(found, name)):
            raise ValueError(
                f"{found.train.name}: of {total:,} {found.train.noun}s, none is left for {name}. Give more, or other "
                "shares: split=0.6,0.2,0.2"
            )


def _read(source: str, root: str | os.PathLike[str] | None, how: Reading) -> DataSet[Any]:
    if source in NAMES:
        how.check_used(f"{source} has its own form and splits")
        return load_named(source, root)
    path = Path(source).expanduser()
    if not path.exists():
        raise _no_such_data(source, path)
    reader = FILES.get(path.suffix.lower())
    if path.is_dir() or reader is None:
        what = "a folder" if path.is_dir() else f"a file of another kind ({path.suffix or 'without ending'})"
        raise ValueError(f"{source} is {what}; data.load takes {', '.join(FILES)}")
    return reader(path, how)


def _no_such_data(source: str, path: Path) -> Exception:
    there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    names = difflib.get_close_matches(source.lower(), NAMES, n=1)
    files = difflib.get_close_matches(path.name, there, n=1)
    close = names[0] if names else str(path.parent / files[0]) if files else ""
    hint = f" Did you mean {close!r}?" if close else ""
    if path.suffix or len(path.parts) > 1:
        return FileNotFoundError(f"there is no file or folder {source}.{hint}")
    return ValueError(f"unknown data set {source!r}; there are {', '.join(NAMES)}, and files and folders.{hint}")
