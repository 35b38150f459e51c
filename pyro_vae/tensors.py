"""Tensors on disk, as safetensors. Names, shapes, dtypes and sizes are compared before a tensor is read."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pyro_vae.files import CheckpointError, is_there, replacing

__all__ = [
    "Header",
    "TensorFile",
    "check_finite",
    "headers_of",
    "load_weights",
    "open_tensors",
    "save_weights",
    "write_tensors",
]

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


class Header(NamedTuple):
    """Shape and dtype of a tensor, known before it is read."""

    shape: tuple[int, ...]
    dtype: torch.dtype | str


def headers_of(tensors: Mapping[str, Tensor]) -> dict[str, Header]:
    """Return the shapes and dtypes of tensors."""
    return {name: Header(tuple(value.shape), value.dtype) for name, value in tensors.items()}


class TensorFile:
    """An open file of tensors.

    Args:
        path: of the file.
        file: the same, opened by safetensors.
    """

    def __init__(self, path: Path, file: safe_open) -> None:
        self.path = path
        self._file = file
        self.metadata: dict[str, str] = file.metadata() or {}
        self.headers: dict[str, Header] = {}
        for name in file.keys():  # noqa: SIM118  # not a mapping
            slice_ = file.get_slice(name)
            dtype = slice_.get_dtype()
            self.headers[name] = Header(tuple(slice_.get_shape()), _DTYPES.get(dtype, dtype))

    @property
    def numbers(self) -> int:
        """The total number of elements of all tensors."""
        return sum(math.prod(header.shape) for header in self.headers.values())

    def check(
        self, expected: Mapping[str, Header], other: str, *, may_lack: Iterable[str] = (), within: str = ""
    ) -> None:
        """Compare names, shapes and dtypes with the expected ones, before a tensor is read.

        Args:
            expected: shapes and dtypes by name.
            other: the first words of errors, such as ``"the weights in ... belong to another VAE"``.
            may_lack: names that may be missing.
            within: a prefix; names without it are left out of the comparison.

        Raises:
            ValueError: if they differ; names the first tensor that differs, is missing or is unexpected.
        """
        for name, header in self.headers.items():
            if not name.startswith(within):
                continue
            if name not in expected or expected[name].shape != header.shape:
                here = f"{expected[name].shape}" if name in expected else "no counterpart"
                raise ValueError(f"{other}: {name} has shape {header.shape} there and {here} here. {_REMEDY}")
            if expected[name].dtype != header.dtype:
                there, here = (str(h.dtype).removeprefix("torch.") for h in (header, expected[name]))
                raise ValueError(f"{other}: {name} is {there} there and {here} here, and nothing is cast. {_REMEDY}")
        lacking = set(expected) - set(self.headers) - set(may_lack)
        if lacking:
            first = next(name for name in expected if name in lacking)
            raise ValueError(f"{other}: there is no {first} in the file. {_REMEDY}")

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Return the tensors of these names."""
        return {name: self._file.get_tensor(name) for name in names}


_REMEDY = "Build the VAE, its objective and its optimiser as they were when the file was written"


@contextlib.contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """Open a file of tensors; at first only names, shapes and dtypes are read.

    Raises:
        FileNotFoundError: if there is none.
        CheckpointError: if it is damaged, a link, or not a plain file.
    """
    if not is_there(path):
        raise FileNotFoundError(f"no weights at {path}; they were not saved, or not copied")
    with contextlib.ExitStack() as stack:
        try:
            with path.open("rb") as start:
                if int.from_bytes(start.read(8), "little") > _MOST_BYTES_OF_HEADER:
                    raise OSError("the size of its header is too large")
            file = TensorFile(path, stack.enter_context(safe_open(path, framework="pt")))
        except (SafetensorError, OSError, RuntimeError) as error:
            raise CheckpointError(
                f"{path} cannot be read ({error}): it is damaged or was cut short. Take a copy of it, or train again"
            ) from error
        yield file


def check_finite(path: Path, tensors: Mapping[str, Tensor], built: Mapping[str, Tensor]) -> None:
    """Refuse NaN and infinity in tensors that were read.

    Args:
        path: of their file, for the error.
        tensors: those that were read.
        built: those they replace. Where these are infinite, as a constant mask may be, the others may be too.

    Raises:
        CheckpointError: if there are any; names the first tensor.
    """
    for name, value in tensors.items():
        if not value.is_floating_point() or torch.isfinite(value).all():
            continue
        if not (torch.isfinite(value) | (value == built[name].detach().to(value.device))).all():
            raise CheckpointError(
                f"{path} holds NaN or infinity in {name}. Take a copy of an earlier epoch, or train again"
            )


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors; the file appears whole or not at all."""
    cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with replacing(path) as partial:
        partial.write_bytes(safetensors.torch.save(cpu, metadata))


def save_weights(module: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write the weights of a VAE; a tensor that two of its modules share is written once."""
    with replacing(Path(path)) as partial:
        safetensors.torch.save_model(module, str(partial))


def load_weights(module: nn.Module, path: str | os.PathLike[str]) -> None:
    """Read weights of :func:`save_weights` or :func:`write_tensors` into a VAE.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if the file is damaged, or holds NaN or infinity.
        ValueError: if the weights belong to another VAE.
    """
    path = Path(path)
    state = module.state_dict()
    with open_tensors(path) as file:
        # A tensor that two modules share may be in the file once.
        there = {state[name].data_ptr() for name in file.headers if name in state}
        shared = [name for name, value in state.items() if value.data_ptr() in there]
        file.check(headers_of(state), f"the weights in {path} belong to another VAE", may_lack=shared)
        weights = file.read(file.headers)
    check_finite(path, weights, state)
    _check_shared(path, weights, state)
    module.load_state_dict(weights, strict=False)


def _check_shared(path: Path, weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Refuse a file in which a tensor that two modules share has two contents: one would be lost."""
    first: dict[tuple[int, torch.Size], str] = {}
    for name, value in weights.items():
        if not value.numel():
            continue
        other = first.setdefault((state[name].data_ptr(), value.shape), name)
        if not torch.equal(weights[other], value):
            raise ValueError(
                f"the weights in {path} belong to another VAE: {other} and {name} differ there and are one tensor here"
            )
