"""Mixed precision: networks run in bfloat16 while they train, everything else as usual."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from pyro_vae.parts import child

__all__ = ["check_mixed_precision", "in_mixed_precision"]

_Output = TypeVar("_Output")


@contextmanager
def in_mixed_precision(vae: nn.Module) -> Iterator[None]:
    """Run the networks of a VAE under ``torch.autocast`` in bfloat16 while they are in training mode.

    The networks are the modules called ``net`` in its posterior, prior and likelihood. Their matrix products,
    convolutions and most activations lose precision. Weights stay float32. Outputs become float32 again, so densities
    are float32 (with eight bits, a log-density of 80 would be off by 0.25 nats). Evaluation mode is unchanged.

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
    """Check that a VAE has networks that can run in bfloat16.

    Raises:
        ValueError: if it has none, or their weights are not float32.
    """
    weights = [p for net in _nets(vae) for p in net.parameters()]
    if not weights:
        raise ValueError(
            "mixed_precision runs networks in bfloat16, those called net in the posterior, prior and likelihood; this "
            "VAE has none. Leave mixed_precision out"
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

    def leave(self, net: nn.Module, inputs: tuple[Any, ...], output: _Output) -> _Output | Tensor:
        self.open.pop().__exit__(None, None, None)
        if net.training and isinstance(output, Tensor) and output.dtype is torch.bfloat16:
            return output.float()
        return output


def _device(net: nn.Module) -> str:
    return next((p.device.type for p in net.parameters()), "cpu")
