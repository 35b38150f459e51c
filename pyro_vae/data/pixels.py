"""Many image files as one array of pixels: decoded once, in parallel, and kept in a file."""

from __future__ import annotations

import io
import itertools
import json
import math
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray

from pyro_vae.data.image_files import Picture, Unreadable, decode, has_colour, size_of
from pyro_vae.data.reading import BadDataError
from pyro_vae.data.splits import Mapped, Store

__all__ = ["Files", "Pixels", "pixels_of"]

_LARGE = 2**30  # bytes; a larger array stays on disk
_HEADER = 128  # bytes before the pixels, in NumPy's format
_FILES_AT_ONCE, _BYTES_AT_ONCE = 64, 2**19  # what a worker decodes before it hands it over
_MOST_WORKERS = 16
_MANY = 1000  # files; decoding more takes so long that processes are worth their start, and a terminal shows progress
_DAY = 24 * 60 * 60  # seconds


@dataclass(frozen=True)
class Files:
    """Image files, and what their images become.

    Args:
        name: of all of them together, for errors.
        paths: in the order of the pixels.
        sizes: of each file, in bytes.
        size: height and width; None if the images all have the same.
        channels: 1 or 3; None for 3 if any image has colour, else 1.
    """

    name: str
    paths: Sequence[str]
    sizes: Sequence[int]
    size: tuple[int, int] | None
    channels: int | None


@dataclass(frozen=True)
class Pixels:
    """The pixels of image files.

    Args:
        store: uint8 ``(n, channels, height, width)``, of the files that could be read, in their order.
        left_out: the index of each file that could not be read, and why.
        several: the indices of the files that hold more images than the first.
        fingerprints: of the splits, by their names; empty if they are not known.
    """

    store: Store
    left_out: Mapping[int, str]
    several: Sequence[int]
    fingerprints: Mapping[str, str] = field(default_factory=dict)


def pixels_of(files: Files, kept: Path | None, fingerprints: Callable[[Pixels], Mapping[str, str]]) -> Pixels:
    """Return the pixels of image files: from the file that keeps them, or decoded anew and then kept.

    Args:
        files: the image files.
        kept: the file that keeps the pixels, as NumPy does, and after them what else is known. Its name starts with
            what is the same for older versions, which are removed, and a hyphen. None keeps nothing.
        fingerprints: gives those of the splits, which are kept too.

    Raises:
        BadDataError: if the images differ in size, and ``files.size`` is None.
        OSError: if there is no space for the pixels.
    """
    known = None if kept is None else _read(kept, len(files.paths))
    return _decode(files, kept, fingerprints) if known is None else known


def _decode(files: Files, kept: Path | None, fingerprints: Callable[[Pixels], Mapping[str, str]]) -> Pixels:
    file = _new_file(kept)
    own = Path(file.name) if isinstance(file.name, str) else None  # a file without a name vanishes by itself
    try:
        with file:
            writer = _Writer(file, files)
            lasting = writer.write()
            pixels = Pixels(_store(file, writer.shape), writer.left_out, writer.several)
            if kept is None or not lasting or not writer.count:
                return pixels
            pixels = replace(pixels, fingerprints=fingerprints(pixels))
            found = {name: value for name, value in vars(pixels).items() if name != "store"}
            file.write(json.dumps(found).encode())
        if own is not None:
            with suppress(OSError):  # without the file, the next start decodes again
                own.replace(kept)
                _remove_older(kept)
        return pixels
    except OSError as error:
        raise OSError(
            f"{files.name}: the decoded pixels cannot be written: {error.strerror or error}. Make space, or name a "
            "folder with space in the environment variable PYRO_VAE_DATA"
        ) from error
    finally:
        if own is not None:
            own.unlink(missing_ok=True)


def _new_file(kept: Path | None) -> IO[bytes]:
    if kept is not None:
        with suppress(OSError):  # a folder that cannot be written keeps nothing
            kept.parent.mkdir(parents=True, exist_ok=True)
            return tempfile.NamedTemporaryFile(dir=kept.parent, prefix=kept.stem, suffix=".partial", delete=False)
    return tempfile.TemporaryFile()


def _remove_older(kept: Path) -> None:
    """Remove what was kept of the same files as they were, and what a process that was killed has left."""
    for other in kept.parent.glob(f"{kept.name.partition('-')[0]}-*"):
        with suppress(OSError):
            left = other.suffix == kept.suffix or other.stat().st_mtime < time.time() - _DAY
            if other != kept and left:
                other.unlink()


def _read(kept: Path, files: int) -> Pixels | None:
    """Return what a file keeps of so many files; None if there is none, or it is damaged."""
    try:
        with kept.open("rb") as file:
            npy.read_magic(file)
            shape, fortran, dtype = npy.read_array_header_1_0(file)
            if fortran or dtype != np.uint8 or len(shape) != 4 or file.tell() != _HEADER:
                return None
            file.seek(_HEADER + math.prod(shape))
            found = json.loads(file.read())
            left_out = {int(index): reason for index, reason in found["left_out"].items()}
            if shape[0] + len(left_out) != files:
                return None
            return Pixels(_store(file, shape), left_out, found["several"], found["fingerprints"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _store(file: IO[bytes], shape: tuple[int, ...]) -> Store:
    """Return the pixels in a file: a tensor, or rows on disk if it is large."""
    if not math.prod(shape):
        return torch.empty(shape, dtype=torch.uint8)
    if math.prod(shape) > _LARGE:
        return Mapped(np.memmap(file, np.uint8, "r", _HEADER, shape))
    # The system reads pages when they are first used. A change stays in this process.
    return torch.from_numpy(np.memmap(file, np.uint8, "c", _HEADER, shape))


def _header(shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    npy.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


class _Writer:
    """Decodes image files and writes their pixels to a file, in NumPy's format."""

    def __init__(self, file: IO[bytes], files: Files) -> None:
        self.file = file
        self.files = files
        self.channels = files.channels or 1
        self.size: tuple[int, ...] = (0, 0)
        self.count = 0
        self.left_out: dict[int, str] = {}
        self.several: list[int] = []

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.count, self.channels, *self.size)

    def write(self) -> bool:
        """Decode and write; return False if files that could not be read now may be readable later."""
        lasting = True
        self.file.write(bytes(_HEADER))
        for index, decoded in enumerate(_decoded(self.files)):
            if isinstance(decoded, Unreadable):
                self.left_out[index] = decoded.reason
                lasting = lasting and decoded.lasts
                continue
            if decoded.one_of_several:
                self.several.append(index)
            self._add(decoded.pixels)
        self.file.seek(0)
        self.file.write(_header(self.shape))
        self.file.seek(_HEADER + math.prod(self.shape))
        self.file.flush()
        return lasting

    def _add(self, pixels: NDArray[np.uint8]) -> None:
        if not self.count:
            self.size = pixels.shape[1:]
        if pixels.shape[1:] != self.size:
            raise _differing_sizes(self.files)
        if self.files.channels is None and self.channels == 1 and has_colour(pixels):
            self._widen()
        if self.channels == 1:
            pixels = pixels[:1]  # of three equal ones
        self.file.write(pixels.data if len(pixels) == self.channels else pixels.tobytes() * 3)
        self.count += 1

    def _widen(self) -> None:
        """Give three equal channels to what was written with one: the last image first, so that none is overwritten."""
        pixels = math.prod(self.size)
        for row in reversed(range(self.count)):
            self.file.seek(_HEADER + row * pixels)
            grey = self.file.read(pixels)
            self.file.seek(_HEADER + row * 3 * pixels)
            self.file.write(grey * 3)
        self.channels = 3
        self.file.seek(_HEADER + self.count * 3 * pixels)


def _decoded(files: Files) -> Iterator[Picture | Unreadable]:
    """Yield the image of each file, in order; workers decode some files ahead."""
    from rich.console import Console  # slow to import
    from rich.progress import track

    decode_some = partial(_decode_some, size=files.size, channels=files.channels)
    decoded = itertools.chain.from_iterable(_in_order(decode_some, _portions(files), _workers(len(files.paths))))
    console = Console(stderr=True, force_jupyter=False)
    if len(files.paths) < _MANY or not console.is_terminal:
        return iter(decoded)
    words = f"decoding {len(files.paths):,} images"
    return iter(track(decoded, words, len(files.paths), console=console, transient=True))


def _decode_some(paths: list[str], size: tuple[int, int] | None, channels: int | None) -> list[Picture | Unreadable]:
    return [decode(path, size, channels) for path in paths]


def _workers(files: int) -> Executor:
    """Return what decodes so many files.

    PIL lets other threads run while it decodes, but not between: two threads take longer over small images than one.
    Processes do not wait for each other. Only forked ones start at once, and need no guard in the user's script.
    """
    count = min(_MOST_WORKERS, os.cpu_count() or 1)
    can_fork = sys.platform == "linux" and not multiprocessing.current_process().daemon
    if files >= _MANY and count > 1 and can_fork:
        return ProcessPoolExecutor(count, multiprocessing.get_context("fork"), _leave_interrupts_to_the_parent)
    return ThreadPoolExecutor(count, "decoding")


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends the others


def _portions(files: Files) -> Iterator[list[str]]:
    """Yield the paths in lists: of many small files, so that threads seldom wait, and of few large ones."""
    portion: list[str] = []
    total = 0
    for path, size in zip(files.paths, files.sizes, strict=True):
        if portion and (len(portion) == _FILES_AT_ONCE or total + size > _BYTES_AT_ONCE):
            yield portion
            portion, total = [], 0
        portion.append(path)
        total += size
    if portion:
        yield portion


def _in_order(function: Callable[[Any], Any], items: Iterable[Any], workers: Executor) -> Iterator[Any]:
    """Yield the results of a function in order; workers work on a few items ahead.

    Raises:
        RuntimeError: if a process among them was killed.
    """
    ahead = 2 * min(_MOST_WORKERS, os.cpu_count() or 1)
    pending: deque[Future[Any]] = deque()
    with workers as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise RuntimeError("a process that decodes images was killed, perhaps for lack of memory") from error
        finally:
            for future in pending:
                future.cancel()


def _differing_sizes(files: Files) -> BadDataError:
    sizes = list(_in_order(size_of, files.paths, _workers(0)))
    unreadable = [path for path, size in zip(files.paths, sizes, strict=True) if size is None]
    bad = (
        f". Besides, {len(unreadable):,} of the files cannot be read, the first {unreadable[0]}: remove them, or leave "
        "them out with skip_bad=True"
        if unreadable
        else ""
    )
    counted = Counter(size for size in sizes if size is not None)
    common = [f"{n:,} of {height}x{width}" for (height, width), n in counted.most_common(2)]
    more = f" (of {len(counted):,} sizes)" if len(counted) > 2 else ""
    height, width = counted.most_common(1)[0][0]
    example = str(height) if height == width else f"{height}x{width}"
    return BadDataError(
        f"{files.name}: the images differ in size (height x width): {' and '.join(common)}{more}. Make them equal: "
        f'size="{example}" resizes each and cuts it around its centre{bad}'
    )
