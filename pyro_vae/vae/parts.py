"""How a VAE calls its three parts and looks at what they return."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pyro
import torch
from pyro.nn import PyroModule
from pyro.poutine.runtime import am_i_wrapped, effectful
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from pyro_vae.distributions import as_logs, as_pyro, part_name
from pyro_vae.value_checks import exportable, holds

__all__ = [
    "call",
    "check_part",
    "declare",
    "evaluating",
    "local_parameter",
    "over_batch",
    "over_codes",
    "points_of",
    "repeat",
]

_ROUNDING = 1e-6  # by which the log of a point may exceed 0


@effectful(type="param")
def local_parameter(value: Tensor, **_: Any) -> Tensor:
    """A param site as ``pyro.param`` makes one, but for a parameter that lives in a module and in no store."""
    return value


def declare(**parts: Callable[..., Any]) -> None:
    """Tells the handlers around us (SVI, say) which parameters the parts have; without handlers, does nothing."""
    if not am_i_wrapped():
        return
    for part, module in parts.items():
        if not isinstance(module, nn.Module):
            continue
        for name, parameter in module.named_parameters(part):
            if parameter.requires_grad:
                # What SVI optimises is site["value"].unconstrained(). A view carries that attribute, so
                # that the parameter itself stays as torch made it (and can be pickled).
                value = parameter.view_as(parameter)
                value.unconstrained = weakref.ref(parameter)  # type: ignore[attr-defined]
                local_parameter(value, name=name, constraint=constraints.real)


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Runs the block in evaluation mode (no dropout) and without gradients, then restores the mode."""
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in training.items():
            part.training = mode


def check_part(place: str, part: Callable[..., Any]) -> None:
    """Raises a TypeError where a prior, likelihood or posterior cannot be called, or is a class."""
    if isinstance(part, type) or not callable(part):
        what = f"the class {part.__name__}" if isinstance(part, type) else f"a {type(part).__name__}"
        raise TypeError(
            f"{place} must be a module or a function that returns a distribution; got {what}. Pass an instance, such "
            "as priors.StandardNormal(20)"
        )


@exportable
def call(place: str, part: Callable[..., Any], *inputs: Tensor) -> Any:
    """What a prior, likelihood or posterior returns, as a distribution of Pyro's, with the store kept out of it."""
    store = pyro.get_param_store()
    # A PyroModule writes its parameters into the store and reads those of its namesakes: give it one of its own.
    has_own_way = isinstance(part, nn.Module) and any(isinstance(module, PyroModule) for module in part.modules())
    with store.scope() if has_own_way else contextlib.nullcontext():
        before = set(store.keys())
        distribution = part(*inputs)
        mine = {id(p) for p in part.parameters()} if isinstance(part, nn.Module) else set()
        strangers = [name for name, p in store.named_parameters() if name not in before and id(p) not in mine]
        for name in strangers:
            del store[name]
    if strangers:
        raise ValueError(
            f"{place} {part_name(part)} keeps the parameter {strangers[0]!r} in Pyro's parameter store (pyro.param), "
            "where VAEs would share it and nothing would save it. Make it a torch.nn.Parameter of a module"
        )
    return as_pyro(distribution, f"{place} {part_name(part)}")


def over_codes(distribution: Distribution, place: str, part: Callable[..., Any], log_codes: bool) -> Any:
    """The distribution, if it is one over vectors z; raises a ValueError where it is not.

    With ``log_codes`` it must be over a simplex, and is carried to the logs of its points where it is not over them.
    """
    if len(distribution.event_shape) != 1:
        raise ValueError(
            f"{place} {part_name(part)} must return a distribution over vectors z; got event shape "
            f"{tuple(distribution.event_shape)} and batch shape {tuple(distribution.batch_shape)}. Declare the last "
            "dimension, and no other, with .to_event(1)"
        )
    if not log_codes:
        return distribution
    carried = as_logs(distribution)
    if carried is None:
        raise ValueError(
            f"{place} {part_name(part)} is over {distribution.support} and the codes of this VAE are points of a "
            "simplex. Give prior and posterior the same space"
        )
    return carried


def points_of(z: Tensor, parts: str) -> Tensor:
    """The points of a simplex whose logs are z; raises a ValueError where z must be something else.

    Args:
        z: logs ``(*batch, latent_dim)``.
        parts: what gives logs, for the error.
    """
    # A point itself has elements above 0; NaN goes on, and is found in the loss.
    if not holds(~(z > _ROUNDING).any()):
        raise ValueError(
            f"z must hold the logs of points of a simplex, none above 0, as {parts} give them; got "
            f"{z.max().item():.4g}. For points y, pass y.log()"
        )
    return z.exp()


def over_batch(distribution: Distribution, batch_shape: torch.Size, place: str, part: Callable[..., Any]) -> Any:
    """One distribution an example: as it is, or the same for all."""
    if distribution.batch_shape == batch_shape:
        return distribution
    if distribution.batch_shape in ((), (1,)):
        return distribution.expand(batch_shape)
    raise ValueError(
        f"{place} {part_name(part)} must return one distribution an example, of batch shape {tuple(batch_shape)}; got "
        f"batch shape {tuple(distribution.batch_shape)} and event shape {tuple(distribution.event_shape)}. Declare "
        "every dimension after the batch with .to_event"
    )


def repeat(tensor: Tensor, times: int) -> Tensor:
    """The rows of a tensor so many times over."""
    return tensor if times == 1 else tensor.repeat(times, *(1 for _ in tensor.shape[1:]))
