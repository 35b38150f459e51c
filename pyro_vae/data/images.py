"""Image data sets by name, with fixed splits; pixels stay uint8 in memory."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "DESCRIPTIONS",
    "NAMES",
    "Binarize",
    "DamagedDataError",
    "DataSet",
    "DownloadError",
    "Images",
    "folder",
    "load",
]

Binarize = Literal["dynamic", "threshold"]


class DownloadError(OSError):
    """A data set is not on the disk, and could not be downloaded."""


class DamagedDataError(OSError):
    """The files of a data set exist but cannot be read."""


@dataclass(frozen=True, eq=False)
class Images:
    """One split of an image data set: pixels in memory as uint8, and how they become floats.

    Args:
        pixels: grey levels ``(n, channels, height, width)``, uint8 from 0 to ``levels``.
        labels: class of each image, int64 ``(n,)``.
        classes: how many classes there are.
        levels: the brightest level: 255, or 16 for the embedded digits.
        binarize: ``"dynamic"`` draws each pixel in each batch, 1 with probability level / levels (Burda et al. 2015,
            arXiv 1509.00519); ``"threshold"`` gives 1 if level / levels ≥ 1/2; None keeps the grey value level / levels
            in [0, 1].
        dequantize: add uniform noise within each level, (level + u) / (levels + 1) in (0, 1). A density over the reals
            would otherwise fit a grid (Uria, Murray and Larochelle 2013, arXiv 1306.0186).
        integers: keep the levels as they are, 0 to ``levels``, for likelihoods of counts.
        with_labels: give the one-hot label with each batch as context, for a conditional VAE.
        name: of the data set, as :func:`load` takes it.
    """

    pixels: Tensor
    labels: Tensor
    classes: int
    levels: int = 255
    binarize: Binarize | None = None
    dequantize: bool = False
    with_labels: bool = False
    integers: bool = False
    name: str | None = None

    def __post_init__(self) -> None:
        if self.binarize is not None and self.binarize not in get_args(Binarize):
            raise ValueError(f'binarize must be "dynamic", "threshold" or None; got {self.binarize!r}')
        if self.binarize is not None and self.dequantize:
            raise ValueError("dequantize adds noise to grey values, and binarize leaves none; choose one of the two")
        if self.integers and (self.binarize is not None or self.dequantize):
            raise ValueError("integers keeps the levels as they are; it goes with neither binarize nor dequantize")
        if len(self.pixels) != len(self.labels):
            raise ValueError(f"labels must have one entry per image: {len(self.pixels)}; got {len(self.labels)}")

    def __len__(self) -> int:
        return len(self.pixels)

    def __repr__(self) -> str:
        """Return the name, the number and shape of the images, their values and classes in one line."""
        return f"Images({self._kind}: {len(self):,} images; {self._form})"

    @property
    def _kind(self) -> str:
        return self.name or "unnamed"

    @property
    def _form(self) -> str:
        """The shape of an image, its values and the classes, in words."""
        if self.binarize is not None:
            values = "0 or 1, drawn anew in each batch" if self.binarize == "dynamic" else "0 or 1, by a threshold"
        elif self.integers:
            values = f"integers 0 to {self.levels}"
        else:
            values = f"{self.levels + 1} grey levels in [0, 1]" if not self.dequantize else "dequantised, in (0, 1)"
        context = ", given as context" if self.with_labels else ""
        return f"x {tuple(self.pixels.shape[1:])}, {values}; {self.classes} classes{context}"

    def __getitem__(self, rows: slice | Tensor) -> Images:
        """Return some of the images, by slice or by index."""
        return replace(self, pixels=self.pixels[rows], labels=self.labels[rows])

    def to_x(self, pixels: Tensor, dtype: torch.dtype, generator: torch.Generator | None = None) -> Tensor:
        """Return pixels as the floats that a VAE sees, with the same shape and device."""
        if self.binarize == "threshold":
            return (2 * pixels.int() >= self.levels).to(dtype)
        if self.binarize == "dynamic":
            # level > u for u uniform on {0, ..., levels - 1} has probability level / levels exactly, and drawing
            # bytes takes a third of the time of torch.bernoulli.
            return (pixels > torch.empty_like(pixels).random_(0, self.levels, generator=generator)).to(dtype)
        x = pixels.to(dtype)
        if self.dequantize:
            # Midpoints of 2^15 cells: level + u is exact in float32, so it is never 0 or levels + 1, at which densities
            # over (0, 1) are infinite.
            cells = torch.empty_like(pixels, dtype=torch.int32).random_(0, 2**15, generator=generator)
            return (x + (cells.to(dtype) + 0.5) / 2**15) / (self.levels + 1)
        if self.integers:
            return x
        return x / self.levels

    def to_context(self, labels: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Return the context of a batch with these labels: one-hot ``(batch, classes)``, or nothing."""
        if not self.with_labels:
            return ()
        return (torch.nn.functional.one_hot(labels, self.classes).to(dtype),)


@dataclass(frozen=True)
class DataSet:
    """An image data set in its three splits.

    Args:
        train: to train on.
        valid: for early stopping and the choice of hyperparameters.
        test: for the figures that are reported.
    """

    train: Images
    valid: Images
    test: Images

    def __repr__(self) -> str:
        """Return the name, the sizes of the splits, the shape of an image, its values and classes in one line."""
        sizes = ", ".join(f"{len(getattr(self, split)):,} {split}" for split in ("train", "valid", "test"))
        return f"DataSet({self.train._kind}: {sizes}; {self.train._form})"

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one image, ``(channels, height, width)``."""
        return tuple(self.train.pixels.shape[1:])

    @property
    def classes(self) -> int:
        """How many classes the labels have."""
        return self.train.classes

    @property
    def train_and_valid(self) -> Images:
        """The images of ``train`` and ``valid`` together, for a last training, in which nothing is chosen."""
        pixels = torch.cat([self.train.pixels, self.valid.pixels])
        return replace(self.train, pixels=pixels, labels=torch.cat([self.train.labels, self.valid.labels]))


def load(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    binarize: Binarize | None = None,
    dequantize: bool = False,
    labels: bool = False,
    integers: bool = False,
) -> DataSet:
    """Return an image data set by name, in fixed splits.

    - ``digits``: 1,797 handwritten digits of 8 × 8 pixels (scikit-learn; Alpaydin and Kaynak 1998), shuffled once
      with a fixed seed into 1,297 for training, 200 for validation, 300 for test. Needs no network.
    - ``mnist``, ``fashion_mnist``, ``kmnist``: 28 × 28, torchvision's training images but the last 5,000 (55,000), the
      last 5,000, and its 10,000 test images.
    - ``qmnist``: as MNIST, with QMNIST's own 60,000 test images.
    - ``emnist``: the balanced split, 47 classes: 107,800, 5,000 and 18,800.

    Args:
        name: one of ``pyro_vae.data.NAMES``.
        root: folder in torchvision's layout; by default ``$PYRO_VAE_DATA``, else ``~/.cache/pyro_vae``. Files that it
            lacks are downloaded into it.
        binarize: see :class:`Images`.
        dequantize: see :class:`Images`.
        labels: give the VAE the one-hot labels as context.
        integers: see :class:`Images`.

    Raises:
        ValueError: for an unknown name or option.
        DamagedDataError: if its files cannot be read.
        DownloadError: if the files are not in the folder and cannot be downloaded.

    Example:
        >>> digits = load("digits", binarize="dynamic")
        >>> digits.event_shape, len(digits.train)
        ((1, 8, 8), 1297)
    """
    if name not in _LOADERS:
        close = difflib.get_close_matches(str(name).lower(), NAMES, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"unknown data set {name!r}; there are {', '.join(NAMES)}.{hint}")
    train, valid, test, classes, levels = _LOADERS[name](folder(root))

    def images(split: tuple[Tensor, Tensor]) -> Images:
        return Images(*split, classes, levels, binarize, dequantize, labels, integers, name)

    return DataSet(images(train), images(valid), images(test))


class _Pixels(Protocol):
    """A data set of torchvision's, all in memory."""

    data: Tensor
    targets: Tensor


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
        train_set, test_set = _read_or_download(make, root, train), _read_or_download(make, root, test)
        pixels, labels = _pixels_and_labels(train_set)
        cut = len(pixels) - 5000
        classes = int(labels.max()) + 1
        halves = ((pixels[:cut], labels[:cut]), (pixels[cut:], labels[cut:]))
        return *halves, _pixels_and_labels(test_set), classes, 255

    return read


def _read_or_download(make: Callable[..., _Pixels], root: Path, options: dict[str, Any]) -> _Pixels:
    try:
        return make(str(root), download=False, **options)
    except Exception as error:
        if "not found" not in str(error):  # torchvision says so of missing files
            raise DamagedDataError(
                f"the files of {make.__name__} in {root} cannot be read ({error}): they are damaged or incomplete. "
                "Delete them to download them again"
            ) from error
    try:
        return make(str(root), download=True, **options)
    except (OSError, RuntimeError) as error:
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
