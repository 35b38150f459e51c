"""What a program belongs to: its modules, and what it puts into Pyro's parameter store."""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Callable, Iterator
from types import CellType
from typing import Any

import pyro
from pyro.nn import PyroModule
from torch import nn

__all__ = ["kept_store", "modules_around", "rename"]

_COPIES = itertools.count()


def modules_around(program: Callable[..., Any]) -> list[nn.Module]:
    """The module that a program is, or is a method of, or those that its object holds or a function finds around it.

    Args:
        program: a model or a guide.
    """
    owner = getattr(program, "__self__", program)
    if isinstance(owner, nn.Module):
        return [owner]
    if inspect.isfunction(program):
        # Variables that have no value yet are left out; inspect.getclosurevars would fail on them.
        cells = [cell.cell_contents for cell in program.__closure__ or () if cell != CellType()]
        around = [*cells, *(program.__globals__.get(name) for name in program.__code__.co_names)]
    else:
        around = list(getattr(owner, "__dict__", {}).values())
    return [m for m in around if isinstance(m, nn.Module)]


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
