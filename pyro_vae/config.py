"""A VAE from names and numbers, and back: what the command line takes and what config.yaml holds."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
import pyro.infer
import torch
from torch import nn

from pyro_vae import likelihoods, nets, posteriors, priors
from pyro_vae.vae import VAE

__all__ = ["Spec", "build", "describe", "find", "make_objective"]

Spec = str | Mapping[str, Any]
"""A class by name or dotted path, or a mapping with its name under ``class`` and its arguments beside it."""

_ROOMS: dict[str, ModuleType] = {"prior": priors, "likelihood": likelihoods, "posterior": posteriors, "net": nets}


def build(
    event_shape: nets.Shape,
    *,
    latent_dim: int = 20,
    hidden: nets.Shape = (512, 512),
    activation: str = "SiLU",
    prior: Spec = "StandardNormal",
    likelihood: Spec = "Bernoulli",
    posterior: Spec = "DiagonalNormal",
    context: int = 0,
) -> VAE:
    """A VAE for data of a shape, its three distributions given by name.

    Each of the three is a class of its room (``pyro-vae list`` shows them) or a dotted path to your own class or
    function. What its constructor asks for by the names ``latent_dim``, ``event_shape`` and ``net`` is filled in:
    the net is an MLP of the right shapes, unless the mapping says another, such as
    ``{"class": "Bernoulli", "net": {"class": "my_package.MyNet", "width": 64}}``.

    Args:
        event_shape: shape of one example of x.
        latent_dim: dimensions of z.
        hidden: widths of the encoder's hidden layers; the decoder has them in reverse.
        activation: of the networks, by its name in :mod:`torch.nn`.
        prior: p(z | c).
        likelihood: p(x | z, c).
        posterior: q(z | x, c).
        context: number of context features, 0 for an unconditional VAE.

    Raises:
        ValueError: for a name that is not found or an argument that its constructor does not have.

    Example:
        >>> vae = build((1, 8, 8), latent_dim=2, likelihood={"class": "Normal", "scale": 0.1})
        >>> vae.sample(3, seed=0).shape
        torch.Size([3, 1, 8, 8])
    """
    event_shape = nets.as_shape("event_shape", event_shape)
    hidden = nets.as_shape("hidden", hidden) if hidden not in ((), []) else ()
    known = {"latent_dim": latent_dim, "event_shape": event_shape}
    common = {"activation": activation, "context": context}
    encoder = {"in_shape": event_shape, "hidden": hidden, **common}
    decoder = {"in_shape": latent_dim, "hidden": hidden[::-1], **common}
    return VAE(
        prior=_make("prior", prior, known),
        likelihood=_make("likelihood", likelihood, known, decoder, event_shape),
        posterior=_make("posterior", posterior, known, encoder, latent_dim),
    )


def _make(
    room: str, spec: Spec, known: dict[str, Any], net: dict[str, Any] | None = None, for_shape: Any = None
) -> Any:
    """The object that ``spec`` describes, with what is ``known`` filled in where its constructor asks for it."""
    if not isinstance(spec, (str, Mapping)):
        raise ValueError(f"{room} must be a name, or a mapping with a name under 'class'; got {spec!r}")
    arguments: dict[str, Any] = {"class": spec} if isinstance(spec, str) else dict(spec)
    if "class" not in arguments:
        raise ValueError(f"{room} must name its class under 'class'; got {dict(arguments)!r}")
    found = find(room, arguments.pop("class"))
    if not isinstance(found, type):
        if arguments:
            raise ValueError(f"{room} {found.__name__} is a function and takes no arguments here; got {arguments}")
        return found
    parameters = inspect.signature(found).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    unknown = [] if takes_any else [name for name in arguments if name not in parameters]
    if unknown:
        raise ValueError(
            f"{room} {found.__name__} has no argument {unknown[0]!r}; it has {', '.join(parameters) or 'none'}"
        )
    nets_known = {}
    if net is not None and "net" in parameters:
        nets_known = {**net, "out_shape": _net_shape(found, for_shape, arguments)}
        arguments.setdefault("net", "MLP")
    for name, value in arguments.items():
        known_net = bool(nets_known) and name == "net" and not isinstance(value, nn.Module)
        if known_net or (isinstance(value, Mapping) and "class" in value):
            inner = name if name in _ROOMS else "net"
            arguments[name] = _make(inner, value, nets_known if known_net else {})
    filled = {name: value for name, value in known.items() if name in parameters}
    try:
        return found(**{**filled, **arguments})
    except TypeError as error:
        raise ValueError(f"{room} {found.__name__} cannot be made from {arguments}: {error}") from error


def _net_shape(owner: type, for_shape: Any, arguments: dict[str, Any]) -> Any:
    """What the owner's net must give; a class of the user's that does not say gets one parameter an element."""
    if not hasattr(owner, "net_shape"):
        return for_shape
    return owner.net_shape(for_shape, **{name: value for name, value in arguments.items() if name != "net"})


def find(room: str, name: str) -> Any:
    """The class or function of this name in a room, or at this dotted path.

    Raises:
        ValueError: where there is none; names what there is.
    """
    home = _ROOMS[room]
    names = [n for n in home.__all__ if isinstance(getattr(home, n), type)]
    if name in names:
        return getattr(home, name)
    module_name, _, attribute = name.rpartition(".")
    if not module_name:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"unknown {room} {name!r}; there are {', '.join(names)}, and your own by dotted path, such as "
            f"my_module.MyClass.{hint}"
        )
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{room} {name!r} cannot be imported: {error}") from error


def make_objective(spec: Spec) -> Any:
    """A Pyro ELBO by name, such as ``"TraceMeanField_ELBO"`` or ``{"class": "Trace_ELBO", "num_particles": 5}``.

    Raises:
        ValueError: where Pyro has no ELBO of this name, or it does not take the arguments.
    """
    arguments = {"class": spec} if isinstance(spec, str) else dict(spec)
    name = arguments.pop("class", "Trace_ELBO")
    found = getattr(pyro.infer, str(name), None)
    if not (isinstance(found, type) and issubclass(found, pyro.infer.ELBO)):
        elbos = [n for n in pyro.infer.__all__ if n.endswith("ELBO") and not n.startswith("Jit") and n != "ELBO"]
        raise ValueError(f"unknown objective {name!r}; there are {', '.join(elbos)}")
    try:
        return found(**arguments)
    except TypeError as error:
        raise ValueError(f"objective {name} cannot be made from {arguments}: {error}") from error


def describe(thing: Any) -> Any:
    """Names and numbers from which :func:`build` makes the same prior, likelihood, posterior or net again.

    A module is described by its class and its constructor's arguments, which it must keep as attributes of the
    same names (as scikit-learn's estimators do).

    Raises:
        ValueError: where that is not possible: a lambda, a class of a notebook or script, an argument not kept.
    """
    if isinstance(thing, nn.Module):
        cls = type(thing)
        return {"class": _path(cls), **{name: describe(value) for name, value in _arguments(thing).items()}}
    if isinstance(thing, type) or inspect.isfunction(thing):
        return _path(thing)
    if isinstance(thing, np.generic):
        return thing.item()
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
    module, name = thing.__module__, thing.__qualname__
    rooms = tuple(f"{home.__name__}." for home in _ROOMS.values())
    if str(module).startswith((*rooms, "torch.nn.")):
        return name
    if module in (None, "__main__", "builtins") or "<" in name:
        raise ValueError(f"{name} of {module} cannot be found again by name; define it in a module")
    return f"{module}.{name}"
