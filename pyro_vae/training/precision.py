"""Mixed precision: the networks in bfloat16 while they train, all else as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from pyro_vae.parts import child

__all__ = ["check_mixed_precision", "in_mixed_precision"]


@contextmanager
def in_mixed_precision(vae: nn.Module) -> Iterator[None]:
    """Runs the networks of a VAE under ``torch.autocast`` in bfloat16 as long as they are in training mode.

    The networks are the modules called ``net`` of its posterior, prior and likelihood. Their matrix products,
    convolutions and most activations are less exact; weights stay float32, and so do the densities, made of outputs
    that are float32 again (eight bits would be 0.25 nats of a log-density of 80). In evaluation mode nothing changes.

    Args:
        vae: the VAE.
    """
    handles: list[Any] = []
    try:
        for net in _nets(vae):
            region = _Autocast()
            handles.append(net.register_forward_pre_hook(region.enter))
            handles.append(net.register_forward_hook(region.leave, always_call=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def check_mixed_precision(vae: nn.Module) -> None:
    """Refuses a VAE that has nothing to run in bfloat16.

    Raises:
        ValueError: for a VAE without networks, and for weights that are not float32.
    """
    weights = [p for net in _nets(vae) for p in net.parameters()]
    if not weights:
        raise ValueError(
            "mixed_precision runs networks in bfloat16, those called net in the posterior, prior and likelihood; this "
            "VAE has none. Leave it out"
        )
    dtype = next((p.dtype for p in weights if p.dtype is not torch.float32), None)
    if dtype is not None:
        raise ValueError(f"mixed_precision needs networks with weights of torch.float32; got {dtype}")


def _nets(vae: nn.Module) -> list[nn.Module]:
    found = (child(m, "net") for m in vae.modules())
    return list({id(net): net for net in found if isinstance(net, nn.Module)}.values())


class _Autocast:
    """Hooks around the forward of one network."""

    def __init__(self) -> None:
        self.open: list[AbstractContextManager[Any]] = []

    def enter(self, net: nn.Module, inputs: tuple[Any, ...]) -> None:
        region = torch.autocast(_device(net), torch.bfloat16) if net.training else nullcontext()
        region.__enter__()
        self.open.append(region)

    def leave(self, net: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        self.open.pop().__exit__(None, None, None)
        lower = net.training and isinstance(output, Tensor) and output.dtype is torch.bfloat16
        return output.float() if lower else output


def _device(net: nn.Module) -> str:
    return next((p.device.type for p in net.parameters()), "cpu")
