"""Tensors on disk, compared with what is expected before they are read."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import torch
from safetensors import SafetensorError
from torch import Tensor

from pyro_vae.files import CheckpointError, check_regular

__all__ = ["Kind", "TensorFile", "check_finite", "kinds_of", "open_tensors"]

_MOST_BYTES_OF_HEADER = 32 * 2**20

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}


class Kind(NamedTuple):
    """What is known of a tensor before it is read."""

    shape: tuple[int, ...]
    dtype: torch.dtype | str


def kinds_of(tensors: Mapping[str, Tensor]) -> dict[str, Kind]:
    """Shapes and dtypes of tensors."""
    return {name: Kind(tuple(value.shape), value.dtype) for name, value in tensors.items()}


class TensorFile:
    """An open file of tensors.

    Args:
        path: of the file.
        file: as safetensors has opened it.
    """

    def __init__(self, path: Path, file: Any) -> None:
        self.path = path
        self._file = file
        self.metadata: dict[str, str] = file.metadata() or {}
        self.kinds: dict[str, Kind] = {}
        for name in file.keys():  # noqa: SIM118  # not a mapping
            slice_ = file.get_slice(name)
            dtype = slice_.get_dtype()
            self.kinds[name] = Kind(tuple(slice_.get_shape()), _DTYPES.get(dtype, dtype))

    @property
    def numbers(self) -> int:
        """How many numbers all tensors have together."""
        return sum(math.prod(kind.shape) for kind in self.kinds.values())

    def check(
        self, expected: Mapping[str, Kind], other: str, *, may_lack: Iterable[str] = (), within: str = ""
    ) -> None:
        """Compares the names, shapes and dtypes with what is expected, before a tensor is read.

        Args:
            expected: shapes and dtypes by name.
            other: what errors begin with, such as ``"the weights in ... belong to another VAE"``.
            may_lack: names that need not be there.
            within: what the names begin with that are looked at.

        Raises:
            ValueError: which names the first tensor that is another, unexpected or missing.
        """
        for name, kind in self.kinds.items():
            if not name.startswith(within):
                continue
            if name not in expected or expected[name].shape != kind.shape:
                here = f"{expected[name].shape}" if name in expected else "no counterpart"
                raise ValueError(f"{other}: {name} has shape {kind.shape} there and {here} here. {_REMEDY}")
            if expected[name].dtype != kind.dtype:
                there, here = (str(k.dtype).removeprefix("torch.") for k in (kind, expected[name]))
                raise ValueError(f"{other}: {name} is {there} there and {here} here, and nothing is cast. {_REMEDY}")
        lacking = set(expected) - set(self.kinds) - set(may_lack)
        if lacking:
            first = next(name for name in expected if name in lacking)
            raise ValueError(f"{other}: there is no {first} in the file. {_REMEDY}")

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """The tensors of these names."""
        return {name: self._file.get_tensor(name) for name in names}


_REMEDY = "Build the VAE, and what trains it, as they were when the file was written"


@contextlib.contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """Opens a file of tensors, of which nothing but the names, shapes and dtypes is read at first.

    Raises:
        FileNotFoundError: where there is none.
        CheckpointError: where it is damaged, a link, or no plain file.
    """
    check_regular(path)
    with contextlib.ExitStack() as stack:
        try:
            with path.open("rb") as start:
                if int.from_bytes(start.read(8), "little") > _MOST_BYTES_OF_HEADER:
                    raise OSError("what should be the size of its header is too large")
            file = TensorFile(path, stack.enter_context(safetensors.safe_open(path, framework="pt")))
        except (SafetensorError, OSError, RuntimeError) as error:
            raise CheckpointError(
                f"{path} cannot be read ({error}): it is damaged or was cut short. Take a copy of it, or train again"
            ) from error
        yield file


def check_finite(path: Path, tensors: Mapping[str, Tensor], built: Mapping[str, Tensor]) -> None:
    """Refuses NaN and infinity in tensors that were read, but where what was built has the same.

    Raises:
        CheckpointError: which names the first tensor that has some.
    """
    for name, value in tensors.items():
        if not value.is_floating_point() or torch.isfinite(value).all():
            continue
        # A constant of a module may be infinite (a mask, say).
        if not (torch.isfinite(value) | (value == built[name].detach().to(value.device))).all():
            raise CheckpointError(
                f"{path} holds NaN or infinity in {name}. Take a copy of an earlier epoch, or train again"
            )
