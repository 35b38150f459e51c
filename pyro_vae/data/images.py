"""Images in memory or on disk; pixels stay uint8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self, get_args

import torch
from torch import Tensor

from pyro_vae.data.splits import Split, Store, labels_of_both, read_rows, rows_of_both

__all__ = ["Binarize", "Images", "Known"]

Binarize = Literal["dynamic", "threshold"]


@dataclass(frozen=True, eq=False)
class Known:
    """The fingerprint of images whose pixels and labels have not changed since it was computed."""

    pixels: Store
    version: int
    labels: Tensor | None
    fingerprint: str

    @classmethod
    def of(cls, images: Images, fingerprint: str) -> Known:
        """Return what is known of some images."""
        return cls(images.pixels, _version(images.pixels), images.labels, fingerprint)

    def holds_for(self, images: Images) -> bool:
        """Return True for these very pixels and labels, with no change in place."""
        same = images.pixels is self.pixels and images.labels is self.labels
        return same and _version(images.pixels) == self.version


def _version(store: Store) -> int:
    return store._version if isinstance(store, Tensor) else 0  # what is on disk is only read


@dataclass(frozen=True, eq=False, repr=False)
class Images(Split):
    """One split of an image data set: pixels as uint8, and how they become floats.

    Args:
        pixels: levels ``(n, channels, height, width)``, uint8 from 0 to ``levels``.
        labels: class of each image, int64 ``(n,)``; None without labels.
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
        class_names: names of the classes; empty if they have none but their numbers.
        known: the fingerprint, if it was computed before.
        origin: what :func:`pyro_vae.data.load` read it from, and with which options; it records them.
    """

    pixels: Store
    labels: Tensor | None = None
    classes: int = 0
    levels: int = 255
    binarize: Binarize | None = None
    dequantize: bool = False
    with_labels: bool = False
    integers: bool = False
    name: str | None = None
    class_names: tuple[str, ...] = ()
    known: Known | None = None
    origin: Mapping[str, Any] | None = None

    noun: ClassVar[str] = "image"

    def __post_init__(self) -> None:
        if self.binarize is not None and self.binarize not in get_args(Binarize):
            raise ValueError(f'binarize must be "dynamic", "threshold" or None; got {self.binarize!r}')
        if self.binarize is not None and self.dequantize:
            raise ValueError("dequantize adds noise to grey values, and binarize leaves none; choose one of the two")
        if self.integers and (self.binarize is not None or self.dequantize):
            raise ValueError("integers keeps the levels as they are; it goes with neither binarize nor dequantize")
        if self.labels is not None and len(self.pixels) != len(self.labels):
            raise ValueError(f"labels must have one entry per image: {len(self.pixels)}; got {len(self.labels)}")

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: slice | Tensor) -> Self:
        """Return some of the images, by slice or by index."""
        labels = None if self.labels is None else self.labels[rows]
        return replace(self, pixels=self.pixels[rows], labels=labels)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one image, ``(channels, height, width)``."""
        return tuple(self.pixels.shape[1:])

    @property
    def device(self) -> torch.device:
        """Where the pixels are."""
        return self.pixels.device

    def to(self, device: torch.device | str | None) -> Self:
        """Return the same images on a device; what is on disk stays there."""
        pixels = self.pixels.to(device) if isinstance(self.pixels, Tensor) else self.pixels
        labels = None if self.labels is None else self.labels.to(pixels.device)
        return replace(self, pixels=pixels, labels=labels)

    def x(self, rows: slice | Tensor, dtype: torch.dtype, generator: torch.Generator | None = None) -> Tensor:
        """Return some of the images as the floats that a VAE sees."""
        return self.to_x(read_rows(self.pixels, rows), dtype, generator)

    def followed_by(self, other: Self) -> Self:
        """Return these images and then those of another split of the same data set."""
        return replace(self, pixels=rows_of_both(self.pixels, other.pixels), labels=labels_of_both(self, other))

    def fingerprint(self) -> str:
        """Return a number that changes if any pixel, shape or label does, in hexadecimal."""
        return self.known.fingerprint if self.known and self.known.holds_for(self) else super().fingerprint()

    def _stored(self, rows: slice) -> Tensor:
        return read_rows(self.pixels, rows)

    def values_in_words(self) -> str:
        """Return what numbers x has, in words."""
        if self.binarize is not None:
            return "0 or 1, drawn anew in each batch" if self.binarize == "dynamic" else "0 or 1, by a threshold"
        if self.integers:
            return f"integers 0 to {self.levels}"
        return "dequantised, in (0, 1)" if self.dequantize else f"{self.levels + 1} {self._scale} levels in [0, 1]"

    @property
    def _scale(self) -> str:
        return "grey" if self.event_shape[0] == 1 else "colour"

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
