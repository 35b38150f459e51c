"""What functions of this library take: a VAE, anything else with a model and a guide, or a pair of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from torch import nn

__all__ = ["HasModelGuide", "Target", "model_and_guide", "owner_of"]


class HasModelGuide(Protocol):
    """An object with a Pyro model and guide, such as a :class:`pyro_vae.VAE`."""

    @property
    def model(self) -> Callable[..., Any]:
        """Samples z from the prior and x from the likelihood, given ``(x, *context)``."""

    @property
    def guide(self) -> Callable[..., Any]:
        """Samples z from the posterior, given ``(x, *context)``."""


Target = HasModelGuide | tuple[Callable[..., Any], Callable[..., Any]]
"""A VAE or another object with a ``model`` and a ``guide``; or the pair ``(model, guide)`` of functions of
``(x, *context)``, bound methods or PyroModules. ``torch.compile(vae)`` stands for the VAE that it wraps."""


def model_and_guide(target: Target) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the model and the guide of a target.

    Args:
        target: a VAE, another object with a ``model`` and a ``guide``, or a pair of callables.

    Raises:
        TypeError: if it is none of these.

    Example:
        >>> from pyro_vae import build
        >>> vae = build(4, 2, hidden=())
        >>> model_and_guide(vae) == model_and_guide((vae.model, vae.guide)) == (vae.model, vae.guide)
        True
    """
    if inspect.isclass(target):
        raise TypeError(f"vae must be an object with a model and a guide; got the class {target.__name__} itself")
    pair = target if isinstance(target, tuple) else (getattr(target, "model", None), getattr(target, "guide", None))
    if len(pair) == 2:
        for program in pair:
            if inspect.isclass(program):
                raise TypeError(f"vae must be a pair of functions or modules; got the class {program.__name__} in it")
        model, guide = pair
        if callable(model) and callable(guide):
            return model, guide
    raise TypeError(
        "vae must have a model and a guide, as pyro_vae.VAE has, or be the pair (model, guide) of functions of x; got "
        f"{_describe(target)}"
    )


def owner_of(target: Target) -> nn.Module | None:
    """Return the module whose methods ``model`` and ``guide`` these are; None for functions and other methods.

    Of ``torch.compile(vae)`` and of the pair ``(vae.model, vae.guide)``, this is the VAE.
    """
    model, guide = model_and_guide(target)
    owner = model.__self__ if inspect.ismethod(model) else None
    if not isinstance(owner, nn.Module):
        return None
    return owner if (getattr(owner, "model", None), getattr(owner, "guide", None)) == (model, guide) else None


def _describe(given: object) -> str:
    """Say what was given in place of a target, and what to do instead."""
    if isinstance(given, nn.Module):
        return (
            f"a {type(given).__name__}, a module without them. Write its prior and likelihood as a Pyro model and its "
            "encoder as a guide"
        )
    if isinstance(given, (str, Path)):
        return f"the text {str(given)!r}. Open a run folder with pyro_vae.load"
    if callable(given):
        return f"one function alone, {getattr(given, '__name__', type(given).__name__)}"
    return f"a {type(given).__name__}"
