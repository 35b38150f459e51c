"""How a VAE calls its three parts and looks at what they return."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pyro
import torch
from pyro.nn import PyroModule
from pyro.poutine.runtime import effectful
from torch import Tensor, nn

from pyro_vae.deferred import exportable
from pyro_vae.distributions import as_logs, as_pyro, part_name

__all__ = ["call", "evaluating", "local_parameter", "over_batch", "over_codes", "repeat", "slerp"]


@effectful(type="param")
def local_parameter(value: Tensor, **_: Any) -> Tensor:
    """A param site as ``pyro.param`` makes one, but for a parameter that lives in a module and in no store."""
    return value


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


@exportable
def call(place: str, part: Any, *inputs: Tensor) -> Any:
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


def over_codes(distribution: Any, place: str, part: Any, log_codes: bool) -> Any:
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


def over_batch(distribution: Any, batch_shape: torch.Size, place: str, part: Any) -> Any:
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


def slerp(z0: Tensor, z1: Tensor, t: Tensor) -> Tensor:
    """Great-circle directions and linearly changing lengths; a straight line where the directions agree."""
    r0, r1 = z0.norm(dim=-1, keepdim=True), z1.norm(dim=-1, keepdim=True)
    tiny = torch.finfo(z0.dtype).tiny
    u0, u1 = z0 / r0.clamp_min(tiny), z1 / r1.clamp_min(tiny)
    angle = torch.acos((u0 * u1).sum(-1, keepdim=True).clamp(-1, 1))
    sine = torch.sin(angle)
    curved = (torch.sin((1 - t) * angle) * u0 + torch.sin(t * angle) * u1) / sine.clamp_min(tiny)
    return torch.where(sine > 1e-4, curved * torch.lerp(r0, r1, t), torch.lerp(z0, z1, t))
