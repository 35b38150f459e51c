"""Specs of parts, nets and objectives that are built already: the way back of :mod:`pyro_vae.config`."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pyro.infer import ELBO
from torch import nn

from pyro_vae.config.names import KINDS
from pyro_vae.likelihoods import LogitNormal, NegativeBinomial, Poisson, Standardized, ZeroInflatedNegativeBinomial
from pyro_vae.objectives import Objective
from pyro_vae.registry import ClassOrFunction

__all__ = ["describe", "describe_objective"]


def describe_objective(objective: ELBO) -> dict[str, Any]:
    """Return a spec from which :func:`pyro_vae.config.make_objective` makes the same objective again.

    Arguments without a name, such as a schedule that is a lambda, become text for the reader.

    Args:
        objective: an ELBO.
    """
    ours = isinstance(objective, Objective)
    parameters = inspect.signature(type(objective)).parameters.values()
    names = ("num_particles", "vectorize_particles", "alpha")  # of Pyro's
    chosen = [p for p in parameters if (ours or p.name in names) and p.kind is not inspect.Parameter.VAR_KEYWORD]
    changed = {p.name: getattr(objective, p.name, p.default) for p in chosen}
    changed = {
        p.name: changed[p.name] for p in chosen if changed[p.name] is not p.default and changed[p.name] != p.default
    }
    if ours and objective.num_particles > 1 and not objective.vectorize_particles:
        changed["vectorize_particles"] = False
    return {
        "class": _path_or_name(type(objective)),
        **{name: _describe_weight(value) for name, value in changed.items()},
    }


def _describe_weight(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"class": _path_or_name(type(value)), **dataclasses.asdict(value)}
    try:
        described = describe(value)
    except ValueError:  # a schedule of the user's without a name
        return repr(value)
    return {"class": described} if inspect.isfunction(value) else described


def _path_or_name(cls: type) -> str:
    """Return what :func:`_path` does or, for a class of a notebook or script, its name alone."""
    try:
        return _path(cls)
    except ValueError:
        return cls.__name__


def describe(thing: object, given: ClassOrFunction | None = None) -> Any:
    """Return a spec from which :func:`pyro_vae.build` makes the same prior, likelihood, posterior or net again.

    It names the class of a module and the arguments of its constructor. The module must keep these as attributes of the
    same names, as scikit-learn's estimators do.

    Args:
        thing: a part or a net; within it, also a class, function, number, text, list or mapping.
        given: is left out because :func:`pyro_vae.build` fills it in: the VAE's posterior, in its prior.

    Raises:
        ValueError: if there is no such spec: for a lambda, a class of a notebook or script, an argument not kept.
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


_LISTS: Mapping[type, tuple[str, ...]] = {
    Standardized: ("loc", "scale"),
    **dict.fromkeys((Poisson, NegativeBinomial, ZeroInflatedNegativeBinomial), ("scale",)),
    LogitNormal: ("center", "spread"),
}


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
        value = getattr(module, name)
        # It takes lists as well as tensors; a class of the user's may not.
        is_list = name in _LISTS.get(type(module), ()) and isinstance(value, torch.Tensor)
        arguments[name] = value.tolist() if is_list else value
    return arguments


def _path(thing: ClassOrFunction) -> str:
    """Return the name by which :func:`pyro_vae.config.find` finds a class or function."""
    module, name = thing.__module__, thing.__qualname__
    if any(kind.classes.get(name, kind.listed.get(name)) is thing for kind in KINDS.values()):
        return name
    if module in (None, "__main__", "builtins") or "<" in name:
        raise ValueError(f"{name} of {module} cannot be found again by name; define it in a module")
    return f"{module}.{name}"
