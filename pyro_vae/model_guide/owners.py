"""What a program belongs to: its modules, and what it puts into Pyro's parameter store."""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyro
from pyro.nn import PyroModule
from torch import nn

__all__ = ["kept_store", "model_and_guide", "modules_around", "rename"]

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
        cells = [cell.cell_contents for cell in program.__closure__ or () if _has_value(cell)]
        around = [*cells, *(program.__globals__.get(name) for name in program.__code__.co_names)]
    else:
        around = list(getattr(owner, "__dict__", {}).values())
    return [m for m in around if isinstance(m, nn.Module)]


def _has_value(cell: Any) -> bool:
    """Whether a variable that functions share has got a value; ``inspect.getclosurevars`` fails where one has not."""
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def rename(owner: nn.Module) -> None:
    """Gives the parameters of the PyroModules in a copy names of their own in Pyro's store.

    Under the names of the original, each run would put the original's parameters into the copy.
    """
    tag = f"copy {next(_COPIES)}"
    for module in owner.modules():
        if isinstance(module, PyroModule):
            module._pyro_name = f"{tag}.{module._pyro_name}" if module._pyro_name else tag


def model_and_guide(vae: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The two of what has them, or of a pair; a TypeError where it is neither."""
    if isinstance(vae, tuple) and len(vae) == 2 and all(map(callable, vae)):
        return vae
    if inspect.isclass(vae):
        raise TypeError(f"vae must be an object with a model and a guide; got the class {vae.__name__} itself")
    model, guide = getattr(vae, "model", None), getattr(vae, "guide", None)
    if callable(model) and callable(guide):
        return model, guide
    raise TypeError(
        f"vae must have a model and a guide, as pyro_vae.VAE has, or be the pair (model, guide) of functions of x; got "
        f"{_other(vae)}"
    )


def _other(vae: Any) -> str:
    """What was given in the place of a model and a guide, and what to do with it."""
    if isinstance(vae, nn.Module):
        return (
            f"a {type(vae).__name__}, a module without them. Write its prior and likelihood as a Pyro model and its "
            "encoder as a guide"
        )
    if isinstance(vae, (str, Path)):
        return f"the text {str(vae)!r}. Open a run folder with pyro_vae.load"
    if callable(vae):
        return f"one function alone, {getattr(vae, '__name__', type(vae).__name__)}"
    return f"a {type(vae).__name__}"


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
