"""Calls of the three parts of a VAE, and checks of what they return."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator

import pyro
import torch
from pyro import poutine
from pyro.distributions import TorchDistribution
from pyro.nn import PyroModule
from pyro.poutine.runtime import am_i_wrapped, effectful
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from pyro_vae.distributions import as_logs, as_pyro, part_name
from pyro_vae.distributions.parameters import given_arguments, uncompiled
from pyro_vae.parts import Part
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
    "summary",
]

_TAKES = {  # the arguments of each part
    "prior": "*context",
    "likelihood": "z, *context",
    "posterior": "x, *context",
    "mask_likelihood": "x, *context",
}
_ROUNDING = 1e-6  # the log of a point may exceed 0 by this much


@effectful(type="param")
def local_parameter(value: Tensor, **_: object) -> Tensor:
    """A param site like those of ``pyro.param``, for a parameter that lives in a module and not in Pyro's store."""
    return value


def declare(**parts: Part | None) -> None:
    """Show the parts' parameters to the Pyro handlers around this call, such as SVI's; without any, do nothing."""
    if not am_i_wrapped():
        return
    for part, module in parts.items():
        if not isinstance(module, nn.Module):
            continue
        for name, parameter in module.named_parameters(part):
            if parameter.requires_grad:
                # SVI optimises site["value"].unconstrained(). A view carries that attribute, so the parameter itself
                # stays as torch made it and can be pickled.
                value = parameter.view_as(parameter)
                value.unconstrained = weakref.ref(parameter)  # type: ignore[attr-defined]
                local_parameter(value, name=name, constraint=constraints.real)


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Run the block in evaluation mode (no dropout) and without gradients, then restore the mode."""
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in training.items():
            part.training = mode


def check_part(place: str, part: Part) -> None:
    """Raise a TypeError if a prior, likelihood or posterior cannot be called, is a class, or is a distribution."""
    if isinstance(part, Distribution) and not isinstance(part, nn.Module):  # Pyro's distributions can be called
        raise TypeError(
            f"{place} must be a module or a function that returns a distribution; got the distribution "
            f"{type(part).__name__}. Pass a function that returns it: {place}=lambda {_TAKES[place]}: ..."
        )
    if isinstance(part, type) or not callable(part):
        what = f"the class {part.__name__}" if isinstance(part, type) else f"a {type(part).__name__}"
        raise TypeError(
            f"{place} must be a module or a function that returns a distribution; got {what}. Pass an instance, such "
            "as priors.StandardNormal(20)"
        )


@exportable
def call(place: str, part: Part, *inputs: Tensor) -> TorchDistribution:
    """Call a prior, likelihood or posterior and return a Pyro distribution; Pyro's parameter store stays as it is."""
    store = pyro.get_param_store()
    # A PyroModule writes its parameters into the store and reads those of the same names: it gets a store of its own.
    # When that scope ends, its param sites lose what SVI asks of them, so ``declare`` alone shows these parameters.
    has_pyro_module = isinstance(part, nn.Module) and any(isinstance(module, PyroModule) for module in part.modules())
    own_store = store.scope() if has_pyro_module else contextlib.nullcontext()
    own_sites = poutine.block(hide_types=["param"]) if has_pyro_module else contextlib.nullcontext()
    with own_store, own_sites:
        before = set(store.keys())
        distribution = part(*inputs)
        own = {id(p) for p in part.parameters()} if isinstance(part, nn.Module) else set()
        added = [name for name, p in store.named_parameters() if name not in before and id(p) not in own]
        for name in added:
            del store[name]
    if added:
        raise ValueError(
            f"{place} {part_name(part)} keeps the parameter {added[0]!r} in Pyro's parameter store (pyro.param), "
            "where VAEs would share it and nothing would save it. Make it a torch.nn.Parameter of a module"
        )
    return as_pyro(distribution, f"{place} {part_name(part)}")


def over_codes(distribution: TorchDistribution, place: str, part: Part, log_codes: bool) -> TorchDistribution:
    """Return the distribution if it is over vectors z; raise a ValueError if it is not.

    With ``log_codes`` it must be over a simplex. It is then transformed to the logs of points, unless it already is
    over logs.
    """
    if len(distribution.event_shape) != 1:
        raise ValueError(
            f"{place} {part_name(part)} must return a distribution over vectors z; got event shape "
            f"{tuple(distribution.event_shape)} and batch shape {tuple(distribution.batch_shape)}. Declare the last "
            "dimension, and no other, with .to_event(1)"
        )
    if not log_codes:
        return distribution
    over_logs = as_logs(distribution)
    if over_logs is None:
        raise ValueError(
            f"{place} {part_name(part)} is over {distribution.support} and the codes of this VAE are points of a "
            "simplex. Give prior and posterior the same space"
        )
    return over_logs


def points_of(z: Tensor, parts: str) -> Tensor:
    """Return the points of a simplex whose logs are z; raise a ValueError if z cannot be such logs.

    Args:
        z: logs ``(*batch, latent_dim)``.
        parts: names of prior and posterior, for the error.
    """
    # A point itself has elements above 0. NaN passes here and is found in the loss.
    if not holds(~(z > _ROUNDING).any()):
        raise ValueError(
            f"z must hold the logs of points of a simplex, none above 0, as {parts} give them; got "
            f"{z.max().item():.4g}. For points y, pass y.log()"
        )
    return z.exp()


def over_batch(distribution: TorchDistribution, batch_shape: torch.Size, place: str, part: Part) -> TorchDistribution:
    """Return one distribution per example; a single one is expanded to all examples."""
    if distribution.batch_shape == batch_shape:
        return distribution
    if distribution.batch_shape in ((), (1,)):
        return distribution.expand(batch_shape)
    raise ValueError(
        f"{place} {part_name(part)} must return one distribution per example, of batch shape {tuple(batch_shape)}; got "
        f"batch shape {tuple(distribution.batch_shape)} and event shape {tuple(distribution.event_shape)}. Declare "
        "every dimension after the batch with .to_event"
    )


def summary(part: Part) -> str:
    """Return a part in one line: its name, and the arguments of its constructor that it keeps.

    Example:
        >>> from pyro_vae import likelihoods, nets
        >>> summary(likelihoods.Normal(nets.MLP(2, (4,), 3), scale=0.1))
        'Normal(net=MLP, scale=0.1)'
    """
    if not isinstance(part, nn.Module):
        return part_name(part)
    inner = uncompiled(part)
    kept = {**vars(inner), **dict(inner.named_children())}
    return f"{part_name(inner)}({given_arguments(inner, kept)})"
