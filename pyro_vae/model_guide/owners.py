"""The names of a program's parameters, and what it puts into Pyro's parameter store."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import pyro
from pyro.nn import PyroModule
from torch import nn

__all__ = ["kept_store", "rename"]

_COPIES = itertools.count()


def rename(owner: nn.Module) -> None:
    """Gives the parameters of the PyroModules in a copy names of their own in Pyro's store.

    Under the names of the original, each run would put the original's parameters into the copy.
    """
    tag = f"copy {next(_COPIES)}"
    for module in owner.modules():
        if isinstance(module, PyroModule):
            module._pyro_name = f"{tag}.{module._pyro_name}" if module._pyro_name else tag


@contextlib.contextmanager
def kept_store() -> Iterator[None]:
    """Runs the block and then removes from Pyro's parameter store what it has put there."""
    store = pyro.get_param_store()
    before = dict(store.named_parameters())
    try:
        yield
    finally:
        for name, value in [item for item in store.named_parameters() if item[0] not in before]:
            # A tensor that two calls of pyro.module name goes by the last name alone, and is removed by no other.
            store.set_state({"params": {name: value}, "constraints": {}})
            del store[name]
        store.set_state({"params": before, "constraints": {}})
