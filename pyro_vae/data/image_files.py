"""One image file as an array of grey levels or colours: decoded, upright, on white, and resized."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

__all__ = ["ENDINGS", "KINDS", "Picture", "Unreadable", "as_size", "decode", "has_colour", "levels_of", "size_of"]

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".pbm")
KINDS = "PNG, JPEG, TIFF, BMP, GIF, WebP"

# Only these: other decoders of PIL start programs (EPS) or leave numbers without a white (FITS).
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM")
_PAGED = ("GIF", "TIFF", "WEBP", "PNG")
_MODES_OF_16_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
_GREY_MODES = ("1", "L", "LA")
_BITS, _PHOTOMETRIC = 258, 262  # tags of TIFF: bits of a number; 0 if 0 is white


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    Args:
        pixels: uint8, ``(1, height, width)`` if the file is grey, else ``(3, height, width)``.
        one_of_several: True if the file holds more images, of which this is the first.
    """

    pixels: NDArray[np.uint8]
    one_of_several: bool = False


@dataclass(frozen=True)
class Unreadable:
    """Why a file is no image.

    Args:
        reason: in words.
        lasts: False if the file could not be opened, which may change though the file does not.
    """

    reason: str
    lasts: bool = True


def as_size(size: str | int | Sequence[int] | None) -> tuple[int, int] | None:
    """Return height and width.

    Args:
        size: one number for both, two numbers, or such a text: ``"32"``, ``"32x48"``. None stays None.

    Raises:
        ValueError: if it is anything else, or below 1.

    Example:
        >>> as_size("32x48"), as_size(32)
        ((32, 48), (32, 32))
    """
    if size is None:
        return None
    sides: list[Any] = re.split("[x,]", size.strip("[]() ").lower()) if isinstance(size, str) else list(np.ravel(size))
    try:
        found = [int(side) for side in sides if float(side) == int(side) and 1 <= int(side) < 2**15]
    except (TypeError, ValueError):
        found = []
    if not len(sides) == len(found) in (1, 2):
        raise ValueError(f"size must be the height and width of an image, such as 32 or 32x48; got {size!r}")
    return found[0], found[-1]


def decode(path: str | os.PathLike[str], size: tuple[int, int] | None, channels: int | None) -> Picture | Unreadable:
    """Return an image file as bytes, or why it cannot be read.

    The image is turned as its EXIF orientation says, and alpha is composited on white. 16 bits become 8, rounded.

    Args:
        path: of the file.
        size: height and width: the image is resized until it covers them, antialiased, and cut around its centre, as
            torchvision's ``Resize`` and ``CenterCrop`` do. None keeps its size.
        channels: 1 makes colours grey (ITU-R 601-2 luma); otherwise they stay.
    """
    try:
        if not os.path.isfile(path):
            return Unreadable("no file" if os.path.exists(path) else "a link to nothing", lasts=False)
        with open(path, "rb", buffering=0) as file:
            content = file.read()
        if not content:
            return Unreadable("empty")
        # Bytes, not a path: PIL 13 maps a path, and turns some TIFFs wrongly then.
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            image.load()  # whole: the draft mode of JPEG is faster, and differs by up to thirty levels after the resize
            ImageOps.exif_transpose(image, in_place=True)
            several = image.format in _PAGED and getattr(image, "is_animated", False)
            return Picture(levels_of(image, size, channels), several)
    except UnidentifiedImageError:
        return Unreadable(f"damaged, or not {KINDS}")
    except OSError as error:
        return Unreadable(error.strerror or str(error), lasts=error.errno is None)
    except MemoryError:
        return Unreadable("too large for the memory", lasts=False)
    except Exception as error:  # a damaged file can raise anything in a decoder
        return Unreadable(str(error) or type(error).__name__)


def levels_of(image: Image.Image, size: tuple[int, int] | None, channels: int | None) -> NDArray[np.uint8]:
    """Return an image as uint8 ``(channels, height, width)``, with one channel if it is grey, else with three.

    Args:
        image: upright, in any mode.
        size: see :func:`decode`.
        channels: see :func:`decode`.

    Raises:
        ValueError: if its numbers are not of 8 or 16 bits.
    """
    flat = _on_white(image)
    if channels == 1 and flat.mode != "L":
        flat = flat.convert("L")
    if size is not None:
        flat = _resized(flat, size)
    pixels = np.asarray(flat).reshape(flat.height, flat.width, -1)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def size_of(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Return height and width of the upright image in a file, from its first bytes; None if they do not say."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            # PIL 13 gives the upright size of TIFF.
            turned = image.format != "TIFF" and image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception:  # as in decode()
        return None


def has_colour(pixels: NDArray[np.uint8]) -> bool:
    """Return True if a pixel of an image is not grey."""
    return bool((pixels[1:] != pixels[:-1]).any())


def _on_white(image: Image.Image) -> Image.Image:
    """Return an image in mode L or RGB."""
    if image.mode in _MODES_OF_16_BITS or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _of_16_bits(image)
    if image.mode in ("I", "F"):
        raise ValueError("its numbers are not of 8 or 16 bits, so nothing says which of them is white")
    grey = image.mode in _GREY_MODES
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    mode = "L" if grey else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _of_16_bits(image: Image.Image) -> Image.Image:
    levels = np.asarray(image).astype(np.uint32)
    tags = getattr(image, "tag_v2", {})
    white = 2 ** tags.get(_BITS, (16,))[0] - 1  # 12 bits come as they are
    if tags.get(_PHOTOMETRIC) == 0:  # PIL inverts images of 8 bits, and not these
        levels = white - levels
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        levels[levels == clear] = white
    return Image.fromarray(((levels * 255 + white // 2) // white).astype(np.uint8))


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the middle of an image, scaled to the size; only what is kept is computed."""
    (height, width), (wide, high) = size, image.size
    # The rounding is torchvision's: the longer side is cut to an integer, and the offset rounded.
    if width * high >= height * wide:
        new_width, new_height = width, max(height, int(width * high / wide))
    else:
        new_width, new_height = max(width, int(height * wide / high)), height
    left, top = round((new_width - width) / 2), round((new_height - height) / 2)
    across, down = wide / new_width, high / new_height
    box = (
        left * across,
        top * down,
        min((left + width) * across, float(wide)),
        min((top + height) * down, float(high)),
    )
    return image.resize((width, height), Image.Resampling.BILINEAR, box=box)
