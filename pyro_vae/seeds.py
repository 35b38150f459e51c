"""Seeds: the one place that sets random number generators, and puts them back."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Iterator

import numpy as np
import torch

from pyro_vae.argument_checks import at_least

__all__ = ["derive", "seeded"]


@contextlib.contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Run the block with the generators at ``seed``, and put them back however the block ends.

    These are torch's, NumPy's global one (``np.random``) and Python's (``random``), since the user's code may draw from
    each.

    Args:
        seed: any integer ≥ 0, or None to leave the generators alone.

    Raises:
        ValueError: if the seed is not an integer ≥ 0.

    Example:
        >>> import torch
        >>> from pyro_vae.seeds import seeded
        >>> with seeded(1):
        ...     a = torch.rand(2)
        >>> with seeded(1):
        ...     bool((torch.rand(2) == a).all())
        True
    """
    if seed is None:
        yield
        return
    seed = at_least("seed", seed, 0)
    # Forking a CUDA generator would start CUDA, so leave it alone if nobody has used it.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=list(devices)), _python_and_numpy(seed):
        if devices or _has_devices():
            torch.manual_seed(seed)
        else:
            torch.default_generator.manual_seed(seed)
        yield


@functools.cache
def _has_devices() -> bool:
    """True if a generator of an accelerator may have to be set.

    ``torch.manual_seed`` keeps the seed for devices that nobody has used yet, with the text of the whole stack for each
    kind of device. That takes most of the time of a block, and is for nothing where there are none.
    """
    return torch.accelerator.device_count() > 0


@contextlib.contextmanager
def _python_and_numpy(seed: int) -> Iterator[None]:
    python = random.getstate()
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002  which the user's code may draw from
    mine = np.random.get_bit_generator()  # type: ignore[attr-defined]
    if not isinstance(mine, np.random.MT19937):  # only this kind can be seeded again
        np.random.set_bit_generator(np.random.MT19937())  # type: ignore[attr-defined]
    try:
        random.seed(int(seed))
        np.random.seed(int(seed) % 2**32)  # noqa: NPY002
        yield
    finally:
        np.random.set_bit_generator(mine)  # type: ignore[attr-defined]
        np.random.set_state(numpy)  # noqa: NPY002
        random.setstate(python)


def derive(seed: int, *keys: int) -> int:
    """Return a seed for a stream of random numbers, independent of other streams.

    Args:
        seed: of the whole run, an integer ≥ 0.
        keys: integers ≥ 0 that name the stream, such as its number and the epoch.

    Raises:
        ValueError: if ``seed`` is negative or not an integer.

    Example:
        >>> derive(0, 1) != derive(0, 2)
        True
    """
    return int(np.random.SeedSequence(at_least("seed", seed, 0), spawn_key=keys).generate_state(1)[0])
