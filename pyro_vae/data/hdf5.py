"""HDF5 files as arrays by name. Each is read when it is asked for, and nothing that a file links to is followed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyro_vae.data.named import DamagedDataError
from pyro_vae.data.reading import BadDataError, import_optional

if TYPE_CHECKING:
    import h5py

__all__ = ["ArraysOfHDF5", "check_own"]

_LARGE = 2**28  # bytes; larger arrays stay on disk if they lie there in one piece
_MOST = 2**34  # bytes of one array in memory
_PACKED = 1100  # most times that compression makes an array smaller; gzip reaches 1,032 with zeros


class ArraysOfHDF5(Mapping[str, NDArray[Any]]):
    """The arrays at the top of an HDF5 file, by name. A group is listed with a slash at the end.

    A large array that is stored in one piece stays on disk, as a ``numpy.memmap``.

    Args:
        path: of the file.

    Raises:
        DamagedDataError: if the file cannot be read.
        BadDataError: when an array is asked for that is a group, a link or spread over other files, has no numbers or
            text, or is too large for the memory.
        ImportError: if h5py is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._h5py = import_optional("h5py", "hdf5")
        try:
            with self._h5py.File(path, "r") as file:
                groups = {name: file.get(name, getclass=True) is self._h5py.Group for name in self._own(file)}
                self._names = [f"{name}/" if groups.get(name) else name for name in file]
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise DamagedDataError(f"{path} cannot be read: {error}") from error

    def _own(self, file: h5py.File) -> list[str]:
        """Return the names of what is in the file itself, without links."""
        return [name for name in file if isinstance(file.get(name, getlink=True), self._h5py.HardLink)]

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return one array."""
        if name not in self._names:
            raise KeyError(name)
        where = f"{self.path}: {name!r}"
        if name.endswith("/"):
            raise BadDataError(f"{where} is a group. Put the arrays at the top of the file: x, and y for labels")
        try:
            with self._h5py.File(self.path, "r") as file:
                if name not in self._own(file):
                    raise BadDataError(f"{where} is a link, which is not followed. Put the array itself into the file")
                return self._array(where, file[name])
        except BadDataError:
            raise
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, MemoryError) as error:
            raise DamagedDataError(f"{where} cannot be read: {error}") from error

    def _array(self, where: str, found: h5py.Dataset | h5py.Group) -> NDArray[Any]:
        if not isinstance(found, self._h5py.Dataset):
            raise BadDataError(f"{where} is a {type(found).__name__.lower()}; it must be an array")
        _refuse_other_files(where, found)
        if found.shape is None:
            raise BadDataError(f"{where} is empty")
        text = self._h5py.check_string_dtype(found.dtype) is not None
        if not text and found.dtype.kind not in "biuf":
            raise BadDataError(f"{where} must hold numbers or text; got {found.dtype}")
        size = math.prod(found.shape) * found.dtype.itemsize
        offset = found.id.get_offset()
        in_one_piece = offset is not None and found.id.get_storage_size() == size
        if size > _LARGE and in_one_piece and not text:
            return np.memmap(self.path, found.dtype, "r", offset, found.shape)
        if size > _MOST:
            raise BadDataError(
                f"{where} has {size:,} bytes, more than the {_MOST:,} that are read into memory. Save it in one piece "
                "(without chunks or compression), or as .npy: then it stays on disk"
            )
        if size > _LARGE and size > _PACKED * found.id.get_storage_size():
            raise BadDataError(f"{where} claims {size:,} bytes, and the file has {found.id.get_storage_size():,} of it")
        return np.asarray(found.asstr("utf-8")[()] if text else found[()])


def check_own(where: str, file: h5py.File, name: str) -> None:
    """Raise a BadDataError if something at or below a name is a link, lies in other files, or claims too many bytes.

    Args:
        where: the file and the name, for the error.
        file: an open file of h5py's.
        name: of a group or an array; groups that lead to it count too.
    """
    h5py = import_optional("h5py", "hdf5")
    parts = name.split("/")
    names = ["/".join(parts[:i]) for i in range(1, len(parts) + 1)]
    while names:
        path = names.pop(0)
        if not isinstance(file.get(path, getlink=True), h5py.HardLink):
            raise BadDataError(
                f"{where}: {path!r} is a link, which is not followed. Put the array itself into the file"
            )
        found = file[path]
        if isinstance(found, h5py.Group):
            names += [f"{path}/{inner}" for inner in found] if len(path) >= len(name) else []
        elif isinstance(found, h5py.Dataset):
            _check_bytes(f"{where}: {path!r}", found)


def _check_bytes(where: str, found: h5py.Dataset) -> None:
    _refuse_other_files(where, found)
    size, stored = (found.size or 0) * found.dtype.itemsize, found.id.get_storage_size()
    if size > _MOST or (size > _LARGE and size > _PACKED * stored):
        raise BadDataError(f"{where} claims {size:,} bytes, and the file has {stored:,} of it")


def _refuse_other_files(where: str, found: h5py.Dataset) -> None:
    if found.is_virtual or found.external:
        raise BadDataError(f"{where} has its numbers in other files, which are not read. Put them into this one")
