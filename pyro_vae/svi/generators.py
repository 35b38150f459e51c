"""Random number generators: the seeds that a run sets, and the states before it."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator
from types import BuiltinMethodType, FrameType

import numpy as np
import torch
from torch import Tensor

from pyro_vae.svi.refusals import at_user_line

__all__ = ["Generators", "Seeds", "seeds_set"]

_SET = {"manual_seed", "manual_seed_all", "seed", "set_state", "setstate", "graphsafe_set_state"}


class Seeds:
    """Where a run set a seed or a state.

    Attributes:
        line: the first function that did, with the user's line; None if there was none.
    """

    def __init__(self) -> None:
        self.line: str | None = None

    def note(self, _: FrameType, event: str, function: BuiltinMethodType | None) -> None:
        """Record a call that sets a generator; Python calls this for each call, as a profiler."""
        if event != "c_call" or self.line is not None or getattr(function, "__name__", "") not in _SET:
            return
        if function is not None and isinstance(function.__self__, (torch.Generator, random.Random)):
            self.line = at_user_line(function.__name__)


@contextlib.contextmanager
def seeds_set() -> Iterator[Seeds]:
    """Record the first seed that a block sets; nothing if another profiler runs, which this would replace.

    Yields:
        The record.
    """
    seeds = Seeds()
    if sys.getprofile() is not None:
        yield seeds
        return
    sys.setprofile(seeds.note)
    try:
        yield seeds
    finally:
        sys.setprofile(None)


class Generators:
    """The states of PyTorch's, Python's and NumPy's generators now, to compare with and to restore."""

    def __init__(self) -> None:
        # Asking a GPU's generator would start CUDA, so leave it alone if nobody has used it.
        self._devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
        self.of_torch = self._now()
        self._python = random.getstate()
        self._numpy = np.random.get_state()  # noqa: NPY002  the generator that a model may draw from

    def _now(self) -> list[Tensor]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self._devices)]

    def same_torch(self) -> bool:
        """Return True if PyTorch's generators have not moved since."""
        return all(map(torch.equal, self.of_torch, self._now()))

    def same_python(self) -> bool:
        """Return True if Python's and NumPy's generators have not moved since."""
        kind, keys, *rest = self._numpy
        kind_now, keys_now, *rest_now = np.random.get_state()  # noqa: NPY002  as above
        numpy = kind == kind_now and rest == rest_now and bool(np.array_equal(keys, keys_now))
        return numpy and random.getstate() == self._python

    def restore(self) -> None:
        """Restore all states."""
        state, *others = self.of_torch
        torch.set_rng_state(state)
        for device, other in zip(self._devices, others, strict=True):
            torch.cuda.set_rng_state(other, device)
        random.setstate(self._python)
        np.random.set_state(self._numpy)  # noqa: NPY002  as above
