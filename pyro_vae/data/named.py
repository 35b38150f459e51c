"""Image data sets by name, with fixed splits."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from pyro_vae.data.images import Images
from pyro_vae.data.splits import DataSet

__all__ = ["DESCRIPTIONS", "NAMES", "DamagedDataError", "DownloadError", "folder", "load_named", "read_or_download"]


class DownloadError(OSError):
    """A data set is not on the disk, and could not be downloaded."""


class DamagedDataError(OSError):
    """The files of a data set exist but cannot be read."""


def load_named(name: str, root: str | os.PathLike[str] | None = None) -> DataSet[Images]:
    """Return an image data set by its name, one of :data:`NAMES`; see :func:`pyro_vae.data.load`."""
    train, valid, test, classes, levels = _LOADERS[name](folder(root))
    first, second, third = (Images(*split, classes, levels, name=name) for split in (train, valid, test))
    return DataSet(first, second, third)


class _Pixels(Protocol):
    """A data set of torchvision's, all in memory."""

    data: Tensor
    targets: Tensor


T = TypeVar("T")
Split = tuple[Tensor, Tensor]
Loaded = tuple[Split, Split, Split, int, int]


def folder(root: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of the data sets: ``root``, else ``$PYRO_VAE_DATA``, else ``~/.cache/pyro_vae``."""
    return Path(root or os.environ.get("PYRO_VAE_DATA") or Path.home() / ".cache" / "pyro_vae").expanduser()


def _digits(root: Path) -> Loaded:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # The file is ordered by writer. Without a shuffle, other people would have written the test digits.
    order = np.random.default_rng(0).permutation(len(bunch.target))
    pixels = torch.from_numpy(bunch.images[order].astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(bunch.target[order].astype(np.int64))
    parts = zip(pixels.split([1297, 200, 300]), labels.split([1297, 200, 300]), strict=True)
    train, valid, test = parts
    return train, valid, test, 10, 16


def _torchvision(class_name: str, train: dict[str, Any], test: dict[str, Any]) -> Callable[[Path], Loaded]:
    def read(root: Path) -> Loaded:
        import torchvision.datasets

        make = getattr(torchvision.datasets, class_name)
        train_set, test_set = read_or_download(make, root, train), read_or_download(make, root, test)
        pixels, labels = _pixels_and_labels(train_set)
        cut = len(pixels) - 5000
        classes = int(labels.max()) + 1
        halves = ((pixels[:cut], labels[:cut]), (pixels[cut:], labels[cut:]))
        return *halves, _pixels_and_labels(test_set), classes, 255

    return read


def read_or_download(make: Callable[..., T], root: Path, options: dict[str, Any]) -> T:
    """Return a data set of torchvision's; its files are downloaded if they are not in ``root``.

    Raises:
        DamagedDataError: if it cannot be made from the files in ``root``.
        DownloadError: if there are none, and they cannot be downloaded.
    """
    try:
        return make(str(root), download=False, **options)
    except Exception as error:
        if "not found" not in str(error) and not isinstance(error, FileNotFoundError):  # of missing files
            raise DamagedDataError(
                f"the files of {make.__name__} in {root} cannot be read ({error}): they are damaged or incomplete. "
                "Delete them to download them again"
            ) from error
    try:
        return make(str(root), download=True, **options)
    except (OSError, RuntimeError, ImportError) as error:
        raise DownloadError(
            f"{make.__name__} is not in {root} and could not be downloaded ({error}). Put its files there in "
            f'torchvision\'s layout, or name their folder with root=... or $PYRO_VAE_DATA. The data set "digits" needs '
            "no files and no network"
        ) from error


def _pixels_and_labels(dataset: _Pixels) -> Split:
    pixels, labels = torch.as_tensor(dataset.data), torch.as_tensor(dataset.targets)
    if type(dataset).__name__ == "EMNIST":
        pixels = pixels.transpose(1, 2)  # its files hold every image transposed
    if labels.dim() == 2:
        labels = labels[:, 0]  # QMNIST's first column is the class
    return pixels.unsqueeze(1).contiguous(), labels.long()


_LOADERS: dict[str, Callable[[Path], Loaded]] = {
    "digits": _digits,
    "mnist": _torchvision("MNIST", {"train": True}, {"train": False}),
    "fashion_mnist": _torchvision("FashionMNIST", {"train": True}, {"train": False}),
    "kmnist": _torchvision("KMNIST", {"train": True}, {"train": False}),
    "qmnist": _torchvision("QMNIST", {"what": "train"}, {"what": "test"}),
    "emnist": _torchvision("EMNIST", {"split": "balanced", "train": True}, {"split": "balanced", "train": False}),
}
NAMES = tuple(_LOADERS)
DESCRIPTIONS = {
    "digits": "1,797 handwritten digits of 8 x 8 pixels, embedded.",
    "mnist": "70,000 handwritten digits of 28 x 28 pixels (LeCun, Cortes and Burges 1998).",
    "fashion_mnist": "70,000 pieces of clothing of 28 x 28 pixels (arXiv 1708.07747).",
    "kmnist": "70,000 cursive Japanese characters of 28 x 28 pixels (arXiv 1812.01718).",
    "qmnist": "MNIST with 60,000 test digits (arXiv 1905.10498).",
    "emnist": "131,600 handwritten letters and digits of 47 classes (arXiv 1702.05373).",
}
