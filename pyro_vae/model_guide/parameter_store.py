"""The names of a program's parameters, and what it puts into Pyro's parameter store."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import pyro
from pyro.nn import PyroModule
from torch import nn

__all__ = ["kept_store", "rename_parameters"]

_COPIES = itertools.count()


def rename_parameters(owner: nn.Module) -> None:
    """Give the parameters of a copied PyroModule new names in Pyro's parameter store.

    With the names of the original, each run would load the original's parameters into the copy.
    """
    tag = f"copy {next(_COPIES)}"
    for module in owner.modules():
        if isinstance(module, PyroModule):
            module._pyro_name = f"{tag}.{module._pyro_name}" if module._pyro_name else tag


@contextlib.contextmanager
def kept_store() -> Iterator[None]:
    """Run the block, then remove from Pyro's parameter store what the block has added."""
    store = pyro.get_param_store()
    before = dict(store.named_parameters())
    try:
        yield
    finally:
        for name, value in [item for item in store.named_parameters() if item[0] not in before]:
            # The store knows a tensor with two names, from two calls of pyro.module, by the last name only.
            store.set_state({"params": {name: value}, "constraints": {}})
            del store[name]
        store.set_state({"params": before, "constraints": {}})
