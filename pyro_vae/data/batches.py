"""Batches (x, *context) of tensors, arrays, images, data sets and loaders."""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, SequentialSampler

from pyro_vae.argument_checks import at_least
from pyro_vae.data.arrays import Array, as_tensor, hint, module_dtype_and_device
from pyro_vae.data.frames import SparseRows, is_frame, is_sparse
from pyro_vae.data.splits import DataSet, Split
from pyro_vae.seeds import derive, seeded

__all__ = ["Batches", "DataSource", "batches", "dtype_and_device", "without_single_examples"]

Batch = tuple[Tensor, ...]


class Batches:
    """Batches ``(x, *context)`` of any number of epochs, each given by the seed and the epoch's number.

    Iterating gives epoch 0. :meth:`epoch` gives any other, each shuffled and binarised in its own way. :func:`batches`
    makes them.

    Args:
        length: batches in an epoch, 0 if unknown.
        examples: examples in an epoch, 0 if unknown.
        draw: makes the batches of an epoch from that epoch's seed.
        seed: from which the seeds of the epochs are derived.
        last: examples in the last batch of an epoch, 0 if unknown.
        shuffled: True if the examples come in another order than in the data.
    """

    def __init__(
        self,
        length: int,
        examples: int,
        draw: Callable[[int], Iterator[Batch]],
        seed: int,
        last: int = 0,
        shuffled: bool = False,
    ) -> None:
        self.length = length
        self.examples = examples
        self._draw = draw
        self.seed = seed
        self.last = last
        self.shuffled = shuffled

    def epoch(self, number: int) -> Iterator[Batch]:
        """Return the batches of one epoch."""
        return self._draw(derive(self.seed, number))

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def __repr__(self) -> str:
        """Return the numbers of batches and examples in an epoch, if they are known, and the seed."""
        batches = f"{self.length:,} batches" if self.length else "an unknown number of batches"
        examples = f" of {self.examples:,} examples" if self.examples else ""
        return f"Batches({batches}{examples}, seed={self.seed})"


DataSource = Split | Array | tuple[Array, ...] | Dataset[Any] | DataLoader[Any] | Batches
"""What holds data: see :func:`batches`."""


def batches(
    source: DataSource,
    batch_size: int = 128,
    *,
    shuffle: bool = False,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    has_context: bool = False,
) -> Batches:
    """Return batches ``(x, *context)`` of anything that holds data.

    Data in memory (splits of :func:`load`, tensors, arrays) move to the device once and are batched there by index,
    without a Python loop over rows. The grey levels of :class:`Images` become floats one batch at a time.

    Args:
        source: a split of :func:`load`, such as :class:`Images`; x as a tensor, a NumPy array, a DataFrame of numbers
            (pandas, polars) or a sparse matrix of SciPy's, which becomes dense a batch at a time; a tuple
            ``(x, *context)`` of them; a :class:`torch.utils.data.Dataset`; a :class:`~torch.utils.data.DataLoader`,
            which keeps its own batch size and order (its generator, if it has one, is seeded for each epoch); or
            :class:`Batches`, which are returned as they are.
        batch_size: examples in a batch; the last of an epoch may be smaller.
        shuffle: take another order in each epoch.
        seed: of order and binarisation.
        device: of the batches; by default that of the data.
        dtype: of the floating-point tensors in a batch; by default torch's default dtype.
        has_context: True if what a Dataset or DataLoader yields after x is context. By default it is left out, since
            it often is labels.

    Raises:
        ValueError: if there are no data, or x and context differ in length.
        TypeError: if ``source`` is of another kind, or yields anything but such arrays; says what to give.

    Example:
        >>> supply = batches(torch.rand(10, 3), batch_size=4)
        >>> [x.shape[0] for (x,) in supply]
        [4, 4, 2]
    """
    if isinstance(source, Batches):
        return source
    batch_size = at_least("batch_size", batch_size, 1)
    dtype = dtype or torch.get_default_dtype()
    derive(seed)  # an unusable seed is reported now, not in the first epoch
    if isinstance(source, Split):
        return _of_split(source, batch_size, shuffle, seed, device, dtype)
    if isinstance(source, DataLoader):
        return _of_loader(source, seed, device, dtype, has_context)
    if isinstance(source, Dataset):
        sized = not isinstance(source, IterableDataset)
        _require_examples(len(source) if sized else 1)  # type: ignore[arg-type]
        return _of_loader(DataLoader(source, batch_size, shuffle=shuffle and sized), seed, device, dtype, has_context)
    if isinstance(source, (Tensor, np.ndarray)) or is_frame(source) or is_sparse(source):
        source = (source,)
    if isinstance(source, tuple):
        return _of_arrays(_stored(source, dtype), batch_size, shuffle, seed, device, dtype)
    raise TypeError(
        "data must be a split of pyro_vae.data.load, a tensor, a NumPy array, a table of numbers, a sparse matrix of "
        "SciPy's, a tuple (x, *context) of them, a torch Dataset or a DataLoader; got "
        f"{type(source).__name__}{_remedy(source)}"
    )


def _remedy(source: object) -> str:
    """Return what to give instead of something that holds no data."""
    if isinstance(source, DataSet):
        return ", which has three splits. Give one of them, such as its train or its test"
    if isinstance(source, str):
        return f". Load it first: data.load({source!r}).train"
    return hint(source)


def dtype_and_device(modules: nn.Module, source: DataSource) -> tuple[torch.dtype | None, torch.device | None]:
    """Return the dtype and device for batches: those of the parameters; without any, a tensor keeps its dtype."""
    dtype, device = module_dtype_and_device(modules)
    x = source[0] if isinstance(source, tuple) and source else source
    if dtype is None and isinstance(x, Tensor) and x.is_floating_point():
        dtype = x.dtype
    return dtype, device


def without_single_examples(supply: Batches, why: str) -> Batches:
    """Return the same batches, with a batch of one example merged into the one before; a warning says so once.

    Args:
        supply: the batches.
        why: the reason why a batch needs two examples, for the warning and the error.

    Raises:
        ValueError: at the first batch, if it has one example.
    """
    said = False

    def draw(epoch_seed: int) -> Iterator[Batch]:
        nonlocal said
        held: Batch | None = None
        for batch in supply._draw(epoch_seed):
            if held is None:
                held = batch
            elif len(batch[0]) == 1 < len(held[0]):
                held = tuple(torch.cat(parts) for parts in zip(held, batch, strict=True))
                if not said:
                    warnings.warn(f"a batch of one example is merged into the batch before it: {why}", stacklevel=2)
                said = True
            else:
                yield _of_two(held, why)
                held = batch
        if held is not None:
            yield _of_two(held, why)

    merges = supply.last == 1 and supply.length > 1
    return Batches(supply.length - merges, supply.examples, draw, supply.seed, supply.last, supply.shuffled)


def _of_two(batch: Batch, why: str) -> Batch:
    if len(batch[0]) == 1:
        raise ValueError(
            f"a batch has one example, with none before it to be merged into: {why}. Give more examples, and a "
            "batch_size of at least 2, or drop_last=True to a DataLoader"
        )
    return batch


def _of_split(
    split: Split, batch_size: int, shuffle: bool, seed: int, device: torch.device | str | None, dtype: torch.dtype
) -> Batches:
    _require_examples(len(split))
    here = split.to(device)

    def draw(epoch_seed: int) -> Iterator[Batch]:
        generator = torch.Generator(here.device).manual_seed(epoch_seed)
        for rows in _rows(len(here), batch_size, shuffle, epoch_seed, here.device):
            x, *context = here.x(rows, dtype, generator), *here.context(rows, dtype)
            yield x.to(device), *(c.to(device) for c in context)

    return _sized(len(here), batch_size, draw, seed, shuffle)


def _of_arrays(
    arrays: Sequence[Tensor | SparseRows],
    batch_size: int,
    shuffle: bool,
    seed: int,
    device: torch.device | str | None,
    dtype: torch.dtype,
) -> Batches:
    _require_examples(len(arrays[0]) if arrays else 0)
    n = len(arrays[0])
    for i, c in enumerate(arrays[1:]):
        if len(c) != n:
            raise ValueError(f"context {i} must have one row per example: {n}; got {len(c)}")
    moved = [t.to(device) if isinstance(t, Tensor) else t for t in arrays]

    def draw(epoch_seed: int) -> Iterator[Batch]:
        for rows in _rows(n, batch_size, shuffle, epoch_seed, moved[0].device):
            yield tuple(t[rows] if isinstance(t, Tensor) else as_tensor(t.name, t[rows], dtype, device) for t in moved)

    return _sized(n, batch_size, draw, seed, shuffle)


def _sized(n: int, batch_size: int, draw: Callable[[int], Iterator[Batch]], seed: int, shuffle: bool) -> Batches:
    return Batches(-(-n // batch_size), n, draw, seed, (n - 1) % batch_size + 1, shuffle)


def _rows(
    n: int, batch_size: int, shuffle: bool, seed: int, device: torch.device
) -> Iterator[Tensor] | Iterator[slice]:
    if not shuffle:
        return (slice(start, start + batch_size) for start in range(0, n, batch_size))
    order = torch.randperm(n, generator=torch.Generator().manual_seed(derive(seed, 0))).to(device)
    return iter(order.split(batch_size))


def _of_loader(
    loader: DataLoader[Any], seed: int, device: torch.device | str | None, dtype: torch.dtype, has_context: bool
) -> Batches:
    try:
        length = len(loader)
    except TypeError:  # an IterableDataset does not know
        length = 0
    else:
        if length == 0 and loader.drop_last:
            raise ValueError("the DataLoader gives no batch: drop_last=True and fewer examples than its batch_size")
        _require_examples(length)

    def draw(epoch_seed: int) -> Iterator[Batch]:
        # A loader draws its order with its first batch, from torch's generator or its own.
        if loader.generator is not None:
            loader.generator.manual_seed(epoch_seed)
        with seeded(epoch_seed), _explaining():
            rest = iter(loader)
            first = list(itertools.islice(rest, 1))
        for batch in itertools.chain(first, rest):
            parts = batch if isinstance(batch, (tuple, list)) else (batch,)
            yield tuple(_named(parts if has_context else parts[:1], dtype, device))

    sized = length > 0 and loader.batch_size is not None and not loader.drop_last
    if not sized or loader.batch_size is None:
        return Batches(length, 0, draw, seed, shuffled=_shuffles(loader))
    examples = len(loader.dataset)  # type: ignore[arg-type]
    last = max(0, examples - (length - 1) * loader.batch_size)
    return Batches(length, examples, draw, seed, last, _shuffles(loader))


def _shuffles(loader: DataLoader[Any]) -> bool:
    """Return True unless the batches of a loader are known to come in the order of its examples."""
    if isinstance(loader.dataset, IterableDataset):
        return False  # it has no other order
    sampler = loader.sampler if loader.batch_sampler is None else getattr(loader.batch_sampler, "sampler", None)
    return not isinstance(sampler, SequentialSampler)


def _named(parts: Sequence[Any], dtype: torch.dtype, device: torch.device | str | None = None) -> list[Tensor]:
    """Return x and its context as tensors. Integers stay integers, which take fewer bytes to move and to keep."""
    return [as_tensor(name, part, dtype, device) for name, part in zip(_names(), parts, strict=False)]


def _stored(parts: Sequence[Any], dtype: torch.dtype) -> list[Tensor | SparseRows]:
    """Return x and its context as tensors; sparse matrices stay sparse."""
    named = zip(_names(), parts, strict=False)
    return [SparseRows(name, part) if is_sparse(part) else as_tensor(name, part, dtype) for name, part in named]


def _names() -> Iterator[str]:
    return itertools.chain(["x"], (f"context {i}" for i in itertools.count()))


@contextlib.contextmanager
def _explaining() -> Iterator[None]:
    """Say what to do about a Dataset of pictures that are no arrays yet."""
    try:
        yield
    except TypeError as error:
        if "PIL" not in str(error):
            raise
        raise TypeError(
            "the Dataset gives images of PIL, not tensors. Make it with "
            "transform=torchvision.transforms.ToTensor(), after a Resize if they differ in size"
        ) from error


def _require_examples(n: int) -> None:
    if n == 0:
        raise ValueError("data must hold at least one example; got none")
