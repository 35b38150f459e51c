"""Files of run folders: written whole or not at all, read as plain data, and never through a link.

A run folder may come from a stranger. So no link leads out of it, and each file is read up to a limit.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

__all__ = [
    "BEST",
    "CONFIG",
    "HISTORY",
    "LAST",
    "CheckpointError",
    "NotAMappingError",
    "Plain",
    "folder_in",
    "is_there",
    "read_json",
    "read_text",
    "read_yaml",
    "replacing",
    "write_text",
]

Plain = str | int | float | list[Any] | dict[str, Any] | None
"""What YAML and JSON hold."""

CONFIG, BEST, LAST, HISTORY = "config.yaml", "weights.safetensors", "last.safetensors", "history.jsonl"

_MOST_BYTES = 256 * 2**20
_MOST_BYTES_OF_YAML = 2**18  # the parser is slow: more would keep it busy for minutes
_MOST_VALUES, _DEEPEST = 100_000, 30  # of a YAML file: with aliases, a short file can stand for a huge one

# Never open through a link, never wait for the other end of a pipe. Windows has neither flag.
_NO_LINK, _NO_WAIT = getattr(os, "O_NOFOLLOW", 0), getattr(os, "O_NONBLOCK", 0)


class CheckpointError(ValueError):
    """A file of a run folder is damaged, incomplete or not a plain file."""


class NotAMappingError(CheckpointError):
    """A file of YAML holds something else than names with values."""


def is_there(path: Path) -> bool:
    """Return True if there is a plain file at a path, and False if there is nothing.

    Raises:
        CheckpointError: if there is a link, a folder, a pipe or a device.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    if stat.S_ISREG(mode):
        return True
    what = "link" if stat.S_ISLNK(mode) else "folder" if stat.S_ISDIR(mode) else "pipe or device"
    raise CheckpointError(f"{path} is a {what}, which is not followed: it must be a file. Put a copy in its place")


def read_text(path: Path, most: int = _MOST_BYTES) -> str:
    """Return the text of a plain file.

    Args:
        path: of the file.
        most: the most bytes that it may have.

    Raises:
        FileNotFoundError: if there is none.
        CheckpointError: if it is a link, a folder, a pipe or a device, too long, or not text in UTF-8.
    """
    if not is_there(path):
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with open(os.open(path, os.O_RDONLY | _NO_LINK | _NO_WAIT), "rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > most:
        raise CheckpointError(f"{path} cannot be read: it has more than {most:,} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} cannot be read: it is not text in UTF-8 (byte {error.start})") from error


def read_json(path: Path) -> Any:
    """Return the contents of a plain file of JSON; raises the errors of :func:`read_text`."""
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: it is not JSON. Write it anew, or remove it") from error


class _Loader(yaml.SafeLoader):
    """Reads numbers, text, lists and mappings; dates stay text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(path: Path, what: str = "options") -> dict[str, Any]:
    """Return the mapping of text, numbers, lists and mappings that a plain file holds as YAML.

    Errors do not show the contents of a file that is not YAML: it may be the wrong file, with secrets in it.

    Args:
        path: of the file.
        what: the file must hold, for errors.

    Raises:
        FileNotFoundError: if there is none.
        CheckpointError: if it is not a plain file or not YAML, or holds anything else.
    """
    text = read_text(path, _MOST_BYTES_OF_YAML)
    try:
        # A subclass of the safe loader, which makes no objects.
        options = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise CheckpointError(f"{path} cannot be read: it is not plain YAML{where}") from error
    if not isinstance(options, dict):
        raise NotAMappingError(f"{path} must hold {what} as YAML; got {type(options).__name__}")
    _check_plain(path, options)
    return options


def _check_plain(path: Path, options: Plain) -> None:
    """Refuse a value that is not text, a number, a list or a mapping, and more values than a configuration needs."""
    values = 0
    pending = [(options, 0)]
    while pending:
        value, depth = pending.pop()
        values += 1
        if values > _MOST_VALUES or depth > _DEEPEST:
            raise CheckpointError(
                f"{path} holds more than {_MOST_VALUES:,} values, or more than {_DEEPEST} within each other"
            )
        if isinstance(value, dict):
            if not all(isinstance(name, str) for name in value):
                raise CheckpointError(f"{path} must have text for the names of options")
            pending += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, list):
            pending += [(inner, depth + 1) for inner in value]
        elif value is not None and not isinstance(value, (bool, int, float, str)):
            raise CheckpointError(f"{path} must hold text, numbers, lists and mappings; got a {type(value).__name__}")


def folder_in(run: Path, name: str) -> Path:
    """Return a folder within a run folder, and make it if there is none.

    Raises:
        CheckpointError: if it is a link or a file.
    """
    folder = run / name
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        what = "link" if folder.is_symlink() else "file"
        raise CheckpointError(f"{folder} is a {what}, into which nothing is written. Remove it")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to; when the block ends without an error, the file takes the place of ``path``.

    The block writes to a new file, whatever lay there before. A link at ``path`` is replaced, not followed.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "a.txt"
        >>> with replacing(target) as partial:
        ...     _ = partial.write_text("whole")
        >>> target.read_text()
        'whole'
    """
    partial = path.with_name(path.name + ".partial")
    if partial.is_dir() and not partial.is_symlink():
        raise FileExistsError(f"{partial} is a folder, and a file must be written there. Remove it")
    partial.unlink(missing_ok=True)
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o666))
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8; it appears whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
