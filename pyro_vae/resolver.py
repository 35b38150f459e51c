"""Objects from specs: a class by name and its arguments, as a configuration holds them."""

from __future__ import annotations

import contextlib
import inspect
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import nn

from pyro_vae.argument_checks import near_miss
from pyro_vae.registry import ClassOrFunction, Kind, Spec, find

__all__ = ["Arguments", "as_mapping", "brief", "build_from", "class_name", "translating_errors"]

Arguments = dict[str, Any]

# What constructors raise for arguments of another kind than they take.
_WRONG_ARGUMENTS = (TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError)

# Arguments as older run folders call them, and their present names.
_OLD_NAMES = (
    ("particles", "num_particles"),
    ("particles", "group_size"),
    ("context", "context_features"),
    ("analytic_kl", "kl"),
)


def build_from(
    kind: Kind,
    spec: Spec | ClassOrFunction,
    known: Mapping[str, Any] | None = None,
    complete: Callable[[type, Arguments], None] | None = None,
) -> Any:
    """Return the object that a spec describes.

    Args:
        kind: of the object.
        spec: its class by name, or a mapping with that under ``class`` and its arguments beside it; in Python also the
            class itself, or a function, which is returned as it is.
        known: arguments that are filled in if the constructor has them and the spec does not.
        complete: is called with the class and the arguments of the spec. It may change them: replace inner specs by the
            objects that they describe, or add missing arguments.

    Raises:
        NotAllowedError: for a dotted path into a module that may not be imported.
        ValueError: for a name that is not found, an argument that the constructor does not have, and arguments that it
            does not take.
    """
    arguments = as_mapping(kind.name, spec)
    if "class" not in arguments:
        raise ValueError(f"{kind.name} must name its class under 'class'; got {brief(arguments)}")
    found = find(kind, arguments.pop("class"))
    if not isinstance(found, type):
        if arguments:
            raise ValueError(
                f"{kind.name} {found.__name__} is a function and takes no arguments here; got {brief(arguments)}"
            )
        return found
    parameters = inspect.signature(found).parameters
    _rename_old(arguments, parameters)
    _refuse_unknown(f"{kind.name} {found.__name__}", arguments, parameters, known or {})
    if complete is not None:
        complete(found, arguments)
    filled = {name: value for name, value in (known or {}).items() if name in parameters}
    taken = ", ".join(name for name, p in parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD)
    with translating_errors(f"{kind.name} {found.__name__}({taken})", arguments):
        return found(**{**filled, **arguments})


@contextlib.contextmanager
def translating_errors(what: str, arguments: Arguments) -> Iterator[None]:
    """Run a block that makes ``what``; errors for wrong arguments become a ValueError that shows the arguments."""
    try:
        yield
    except _WRONG_ARGUMENTS as error:
        raise ValueError(f"{what} cannot be made from {brief(arguments)}: {error}") from error


def _rename_old(arguments: Arguments, parameters: Mapping[str, inspect.Parameter]) -> None:
    """Give the arguments of an old run folder their present names."""
    for old, new in _OLD_NAMES:
        if old in arguments and old not in parameters and new in parameters and new not in arguments:
            value = arguments.pop(old)
            arguments[new] = ("analytic" if value else "sampled") if new == "kl" else value


def _refuse_unknown(
    what: str, arguments: Arguments, parameters: Mapping[str, inspect.Parameter], filled: Iterable[str]
) -> None:
    """Raise a ValueError for an argument that is no parameter; it lists the parameters that are not filled in."""
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    unknown = [name for name in arguments if name not in parameters]
    if unknown:
        own = [name for name in parameters if name not in filled]
        raise ValueError(
            f"{what} has no argument {unknown[0]!r}; it has {', '.join(own) or 'none'}{near_miss(unknown[0], own)}"
        )


def as_mapping(what: str, spec: Spec | ClassOrFunction) -> Arguments:
    """Return a spec as a mapping, a copy."""
    if isinstance(spec, Mapping):
        return dict(spec)
    if isinstance(spec, (str, type)) or inspect.isfunction(spec):
        return {"class": spec}
    made = ". A part that is made already goes into VAE(...) itself" if isinstance(spec, nn.Module) else ""
    raise ValueError(f"{what} must be a name, or a mapping with a name under 'class'; got {brief(spec)}{made}")


def class_name(spec: Spec | ClassOrFunction) -> str:
    """Return the name of the class in a spec.

    Example:
        >>> class_name("Bernoulli"), class_name({"class": "Normal", "scale": 0.1})
        ('Bernoulli', 'Normal')
    """
    return str(as_mapping("the class", spec).get("class"))


def brief(value: object) -> str:
    """Return the text of a value, cut short if it is long."""
    short = reprlib.Repr()
    short.maxdict = short.maxlist = short.maxtuple = 20
    short.maxstring = short.maxother = 200
    return short.repr(value)
