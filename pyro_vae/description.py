"""Names and numbers of what was built, as config.yaml holds them: the way back of :mod:`pyro_vae.config`."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from pyro_vae import objectives
from pyro_vae.config import ROOMS
from pyro_vae.registry import TORCH_NN

__all__ = ["describe", "describe_objective"]


def describe_objective(objective: Any) -> dict[str, Any]:
    """Name and numbers from which :func:`pyro_vae.config.make_objective` makes the same objective again.

    Arguments that cannot be written, such as a schedule without a name, become text for the reader.

    Args:
        objective: an ELBO.
    """
    ours = isinstance(objective, objectives.Objective)
    parameters = inspect.signature(type(objective)).parameters.values()
    names = ("num_particles", "vectorize_particles", "alpha")  # of Pyro's
    chosen = [p for p in parameters if (ours or p.name in names) and p.kind is not inspect.Parameter.VAR_KEYWORD]
    changed = {p.name: getattr(objective, p.name, p.default) for p in chosen}
    changed = {
        p.name: changed[p.name] for p in chosen if changed[p.name] is not p.default and changed[p.name] != p.default
    }
    if ours and objective.num_particles > 1 and not objective.vectorize_particles:
        changed["vectorize_particles"] = False
    return {"class": _own_path(type(objective)), **{name: _describe_weight(value) for name, value in changed.items()}}


def _describe_weight(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"class": _own_path(type(value)), **dataclasses.asdict(value)}
    try:
        described = describe(value)
    except ValueError:  # a schedule of the user's own that has no name
        return repr(value)
    return {"class": described} if inspect.isfunction(value) else described


def _own_path(cls: type) -> str:
    """The name of an objective or a schedule of this library's or Pyro's, or the path to one of the user's own."""
    if cls.__module__.startswith((f"{objectives.__name__}.", "pyro.infer.")):
        return cls.__name__
    try:
        return _path(cls)
    except ValueError:  # of a notebook or script, where no other program finds it
        return cls.__name__


def describe(thing: Any, given: Any = None) -> Any:
    """Names and numbers from which :func:`pyro_vae.build` makes the same prior, likelihood, posterior or net again.

    A module is described by its class and its constructor's arguments, which it must keep as attributes of the
    same names (as scikit-learn's estimators do).

    Args:
        thing: what to describe.
        given: what :func:`pyro_vae.build` fills in by itself and is left out: the VAE's posterior, in its prior.

    Raises:
        ValueError: where that is not possible: a lambda, a class of a notebook or script, an argument not kept.
    """
    if isinstance(thing, nn.Module):
        cls = type(thing)
        arguments = {name: value for name, value in _arguments(thing).items() if given is None or value is not given}
        return {"class": _path(cls), **{name: describe(value, given) for name, value in arguments.items()}}
    if isinstance(thing, type) or inspect.isfunction(thing):
        return _path(thing)
    if isinstance(thing, np.generic):
        return thing.item()
    if isinstance(thing, torch.Tensor) and thing.dim() == 0:
        return thing.item()
    if isinstance(thing, Mapping):
        return {str(name): describe(value) for name, value in thing.items()}
    if isinstance(thing, (tuple, list, torch.Size)):
        return [describe(value) for value in thing]
    if thing is None or isinstance(thing, (bool, int, float, str)):
        return thing
    raise ValueError(f"a {type(thing).__name__} cannot be written to a configuration")


def _arguments(module: nn.Module) -> dict[str, Any]:
    arguments = {}
    for name, parameter in inspect.signature(type(module)).parameters.items():
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            raise ValueError(f"{type(module).__name__} takes *{name}, which cannot be written to a configuration")
        if not hasattr(module, name):
            raise ValueError(
                f"{type(module).__name__} does not keep its constructor's argument {name!r} as an attribute; "
                f"add self.{name} = {name}"
            )
        arguments[name] = getattr(module, name)
    return arguments


def _path(thing: Any) -> str:
    """The name by which :func:`pyro_vae.config.find` gives this class or function back."""
    module, name = thing.__module__, thing.__qualname__
    if TORCH_NN.get(name) is thing or any(getattr(room, name, None) is thing for room in ROOMS.values()):
        return name
    if module in (None, "__main__", "builtins") or "<" in name:
        raise ValueError(f"{name} of {module} cannot be found again by name; define it in a module")
    return f"{module}.{name}"
