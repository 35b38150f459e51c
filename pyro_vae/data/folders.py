"""Folders of images: sub-folders are classes, and train/, valid/ and test/ are splits."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import PIL
import torch

from pyro_vae.data.image_files import ENDINGS, KINDS, as_size
from pyro_vae.data.images import Images, Known
from pyro_vae.data.named import DamagedDataError, folder
from pyro_vae.data.pixels import Files, Pixels, pixels_of
from pyro_vae.data.reading import BadDataError, Reading
from pyro_vae.data.splits import DataSet
from pyro_vae.data.splitting import SPLITS, assign, split_up

__all__ = ["load_folder"]

_SPLIT_NAMES = {"train": 0, "training": 0, "valid": 1, "val": 1, "validation": 1, "test": 2, "testing": 2}
_IGNORED = ("thumbs.db", "desktop.ini", "__macosx")
_FORMAT = 1  # of what is kept; another number decodes anew
_FEW_FILES, _FEW_BYTES = 1000, 2**24  # fewer are decoded within a second, so they are not kept
_NAMED = 10  # files that a message names


class _File(NamedTuple):
    """A file that should hold an image.

    Args:
        path: of the file.
        key: its path from the folder of its split, with slashes; a hash of it decides where the image goes.
        size: in bytes.
        changed: when, in nanoseconds.
        label: the name of its class.
        place: of its split, 0 for train, 1 for valid and 2 for test.
    """

    path: str
    key: str
    size: int
    changed: int
    label: str | None = None
    place: int = 0


@dataclass(frozen=True)
class _Listing:
    """The files of a folder, and what was left out."""

    files: Sequence[_File]
    notes: Sequence[str] = ()


def load_folder(path: Path, how: Reading, root: str | os.PathLike[str] | None = None) -> DataSet[Images]:
    """Return the images in a folder.

    Sub-folders are classes, as in torchvision's ``ImageFolder``; images in the folder itself have no labels. If one is
    called ``train``, then ``train``, ``valid`` (or ``val``) and ``test`` are the splits, and those that are missing are
    taken from ``train``.

    Many images are kept decoded, in ``decoded`` within the folder of the data sets by name, until a file changes.

    Args:
        path: of the folder.
        how: options; of these, ``size``, ``channels`` and ``skip_bad`` count, and ``split`` if a split is missing.
        root: folder of the data sets by name; see :func:`pyro_vae.data.load`.

    Raises:
        DamagedDataError: if files cannot be read as images, and ``how.skip_bad`` is False.
        BadDataError: if there is no image, if they differ in size and ``how.size`` is None, or if it is not clear which
            folders are classes and which are splits.
        ValueError: for an option that cannot be used.
    """
    size = as_size(how.size)
    listing = _labelled_alike(_list(path))
    own = {file.place for file in listing.files}
    all_there = len(own) == len(SPLITS)
    what = (
        f"{path} is a folder of images{' with its own splits' if all_there else ''}, in which sub-folders are classes"
    )
    how.check_used(what, "size", "channels", "skip_bad", *(() if all_there else ("split",)))
    files, order = _placed(listing.files, own, how.shares)
    given = Files(str(path), [file.path for file in files], [file.size for file in files], size, how.channels)

    shares = [1.0 if place in own else share for place, share in enumerate(how.shares)]

    def data_set(pixels: Pixels) -> DataSet[Images]:
        found = _in_order(_data_set(path, files, pixels, shares, listing.notes), order, pixels)
        return replace(found, files=tuple(os.path.relpath(file.path, path) for file in listing.files))

    def fingerprints(pixels: Pixels) -> Mapping[str, str]:
        with suppress(ValueError):  # an empty split, of which data_set() speaks below
            found = data_set(pixels)
            return {name: getattr(found, name).fingerprint() for name in SPLITS}
        return {}

    pixels = pixels_of(given, _where_kept(path, files, given, folder(root)), fingerprints)
    _check_readable(path, files, pixels, how.skip_bad)
    return data_set(pixels)


def _list(path: Path) -> _Listing:
    """Return the files in a folder, with their classes, and their splits if there is a folder ``train``."""
    folders, _ = _entries(path)
    splits: dict[int, list[str]] = {}
    for name in folders:
        if name.lower() in _SPLIT_NAMES:
            splits.setdefault(_SPLIT_NAMES[name.lower()], []).append(name)
    if 0 in splits:
        return _in_splits(path, splits)
    if splits and sum(map(len, splits.values())) == len(folders):
        raise BadDataError(f"{path} has a folder {folders[0]}/ and none to train on. Name that folder train/")
    listing = _in_classes(path)
    if not listing.files:
        raise BadDataError(f"{path} holds no file. Put images into it ({KINDS}), or into a sub-folder per class")
    return listing


def _in_splits(path: Path, splits: Mapping[int, Sequence[str]]) -> _Listing:
    folders, loose = _entries(path)
    for names in splits.values():
        if len(names) > 1:
            raise BadDataError(f"{path} has the folders {' and '.join(names)} for one split. Put them into one")
    others = [name for name in folders if name.lower() not in _SPLIT_NAMES]
    for name in others:
        if any(map(_is_named_as_image, _walk(path / name, name))):
            raise BadDataError(
                f"{path} has images in {name}/, beside train/. If train/ is a split, put them into a split. If it is a "
                "class, put all classes into one folder within a folder train/"
            )
    for file in filter(_is_named_as_image, loose):
        raise BadDataError(f"{path} has images beside train/, such as {_first([file.key])}. Put them into a split")
    found: list[_File] = []
    notes = [_left_out(path, [*others, *(file.key for file in loose)], "beside train/")]
    for place, (name,) in sorted(splits.items()):
        listing = _in_classes(path / name)
        if not listing.files:
            raise BadDataError(f"{path / name} holds no file. Put images into it, or remove it")
        found += (file._replace(place=place) for file in listing.files)
        notes += listing.notes
    return _Listing(found, [note for note in notes if note])


def _in_classes(path: Path) -> _Listing:
    """Return the files of a folder, with the names of its sub-folders as classes; in ImageFolder's order."""
    folders, loose = _entries(path)
    classes = {
        name: sorted(_walk(path / name, name), key=lambda file: file.path.rpartition(os.sep)) for name in folders
    }
    empty = [name for name, files in classes.items() if not files]
    notes = [f"{path}: no file in {_first(empty)}" if empty else ""]
    if len(empty) == len(folders):
        return _Listing(loose, [note for note in notes if note])
    for file in filter(_is_named_as_image, loose):
        raise BadDataError(
            f"{path} has images beside its folders of classes, such as {_first([file.key])}. Put them into a class"
        )
    notes.append(_left_out(path, [file.key for file in loose], "beside the folders of classes"))
    return _Listing([file for files in classes.values() for file in files], [note for note in notes if note])


def _left_out(path: Path, names: Sequence[str], where: str) -> str:
    return f"{path}: left out {where}: {_first(names)}" if names else ""


def _first(names: Sequence[str]) -> str:
    """Return the first names, each on one line whatever is in it."""
    shown = [name if name.isprintable() else ascii(name)[1:-1] for name in names[:_NAMED]]
    return ", ".join([*shown, "..."] if len(names) > _NAMED else shown)


def _is_named_as_image(file: _File) -> bool:
    return file.path.lower().endswith(ENDINGS)


def _entries(path: Path, key: str = "") -> tuple[list[str], list[_File]]:
    """Return the sub-folders and the files of a folder, without those that systems hide there, each in order.

    Args:
        path: of the folder.
        key: the same from the folder of the split, with a slash; it starts with the class.
    """
    folders, files, label = [], [], key.partition("/")[0] or None
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name.lower() in _IGNORED:
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                    continue
                try:
                    status = entry.stat()
                    size, changed = status.st_size, status.st_mtime_ns
                except OSError:  # a link to nothing
                    size = changed = 0
                files.append(_File(entry.path, f"{key}{entry.name}", size, changed, label))
    except OSError as error:
        raise DamagedDataError(f"the folder {path} cannot be read: {error.strerror}") from error
    return sorted(folders), sorted(files, key=lambda file: file.path)


def _walk(path: Path, key: str, above: tuple[tuple[int, int], ...] = ()) -> Iterator[_File]:
    """Yield the files in a folder and below it; a link to a folder above is not followed for ever."""
    status = path.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    folders, files = _entries(path, f"{key}/")
    yield from files
    for name in folders:
        yield from _walk(path / name, f"{key}/{name}", (*above, here))


def _labelled_alike(listing: _Listing) -> _Listing:
    """Return the files without labels if a split has none."""
    without = {file.place for file in listing.files if file.label is None}
    if not without or all(file.label is None for file in listing.files):
        return listing
    note = f"{SPLITS[min(without)]}/ has no folders of classes, so the folders of the other splits are no labels"
    return _Listing([file._replace(label=None) for file in listing.files], [*listing.notes, note])


def _placed(files: Sequence[_File], own: set[int], shares: Sequence[float]) -> tuple[list[_File], list[int]]:
    """Return the files in the order of the splits, and where each stood before.

    Splits that have no folder are taken from train, by their shares.
    """
    taken = [share if place == 0 or place not in own else 0.0 for place, share in enumerate(shares)]
    chosen = assign((os.fsencode(f.key) for f in files), [share / sum(taken) for share in taken]).tolist()
    placed = [
        file if file.place or not place else file._replace(place=place)
        for file, place in zip(files, chosen, strict=True)
    ]
    order = sorted(range(len(placed)), key=lambda index: placed[index].place)
    return [placed[index] for index in order], order


def _in_order(found: DataSet[Images], order: Sequence[int], pixels: Pixels) -> DataSet[Images]:
    """Return a data set that knows where each image stood in the folder."""
    assert found.positions is not None, "split_up gives them"
    stood = torch.tensor([place for index, place in enumerate(order) if index not in pixels.left_out])
    first, second, third = (stood[rows] for rows in found.positions)
    return replace(found, positions=(first, second, third))


def _where_kept(path: Path, files: Sequence[_File], given: Files, root: Path) -> Path | None:
    """Return the file that keeps the pixels: its name changes if a file or an option does. None for few images."""
    if len(files) < _FEW_FILES and sum(given.sizes) < _FEW_BYTES:
        return None
    state = [_FORMAT, PIL.__version__, [(f.place, f.label, f.key, f.size, f.changed) for f in files]]
    parts = ([str(path.resolve()), given.size, given.channels], state)
    names = [hashlib.blake2b(json.dumps(part).encode(), digest_size=12).hexdigest() for part in parts]
    return root / "decoded" / f"{names[0]}-{names[1]}.npy"


def _check_readable(path: Path, files: Sequence[_File], pixels: Pixels, skip_bad: bool) -> None:
    """Raise an error if no file is an image, or if one is none and must not be left out."""
    if len(pixels.left_out) == len(files):
        raise BadDataError(f"{path} holds no image: {_bad(path, files, pixels)} cannot be read as images")
    if pixels.left_out and not skip_bad:
        raise DamagedDataError(
            f"{path}: {_bad(path, files, pixels)} cannot be read as images. Replace or remove them, or leave them out "
            "with skip_bad=True"
        )


def _bad(path: Path, files: Sequence[_File], pixels: Pixels) -> str:
    """Return how many files cannot be read, and the first of them with the reasons."""
    left_out = sorted(pixels.left_out.items())
    named = [f"{os.path.relpath(files[index].path, path)} ({why})" for index, why in left_out]
    return f"{len(named):,} of {len(files):,} files ({_first(named)})"


def _data_set(
    path: Path, files: Sequence[_File], pixels: Pixels, shares: Sequence[float], notes: Sequence[str]
) -> DataSet[Images]:
    notes = list(notes)
    if pixels.left_out:
        notes.append(f"{path}: {_bad(path, files, pixels)} cannot be read as images and are left out")
    if pixels.several:
        notes.append(
            f"{path}: {len(pixels.several):,} files hold several images, of which the first counts, such as "
            f"{_first([os.path.relpath(files[pixels.several[0]].path, path)])}"
        )
    kept = [file for index, file in enumerate(files) if index not in pixels.left_out]
    names = sorted({file.label for file in kept if file.label is not None})
    if len(names) == 1:
        deeper = any("/" in file.key.partition("/")[2] for file in kept)
        hint = f". To make its folders the classes, give {path / names[0]}" if deeper else ""
        notes.append(f"{path} has one folder of images, so they are all of the class {names[0]}{hint}")
    codes = {name: code for code, name in enumerate(names)}
    labels = torch.tensor([codes[file.label] for file in kept if file.label is not None]) if names else None
    images = Images(pixels.store, labels, len(names), name=str(path), class_names=tuple(names))
    lacking = set(names) - {file.label for file in kept if file.place == 0}
    if lacking:
        notes.append(f"{path}: no image to train on is of the class {_first(sorted(lacking))}")
    for name in sorted({file.label for file in files if file.label is not None} - set(names)):
        notes.append(f"{path}: no image of the class {_first([name])} can be read")
    found = split_up(images, torch.tensor([file.place for file in kept]), shares, notes)
    if not pixels.fingerprints:
        return found
    splits = {name: getattr(found, name) for name in SPLITS}
    known = {name: replace(of, known=Known.of(of, pixels.fingerprints[name])) for name, of in splits.items()}
    return replace(found, **known)
