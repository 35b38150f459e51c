"""A VAE's weights on disk, as safetensors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from pyro_vae.files import CheckpointError, is_there, replacing
from pyro_vae.tensors import check_finite, kinds_of, open_tensors

__all__ = ["CheckpointError", "load_weights", "save_weights"]


def save_weights(vae: nn.Module, path: str | os.PathLike[str]) -> None:
    """See :meth:`VAE.save_weights`."""
    with replacing(Path(path)) as partial:
        safetensors.torch.save_model(vae, str(partial))


def load_weights(vae: nn.Module, path: str | os.PathLike[str]) -> None:
    """See :meth:`VAE.load_weights`."""
    path = Path(path)
    if not is_there(path):
        raise FileNotFoundError(f"no weights at {path}; a run folder has them in weights.safetensors")
    state = vae.state_dict()
    with open_tensors(path) as file:
        # A tensor that two modules share may be in the file once.
        there = {state[name].data_ptr() for name in file.kinds if name in state}
        shared = [name for name, value in state.items() if value.data_ptr() in there]
        file.check(kinds_of(state), f"the weights in {path} belong to another VAE", may_lack=shared)
        weights = file.read(file.kinds)
    check_finite(path, weights, state)
    _check_shared(path, weights, state)
    vae.load_state_dict(weights, strict=False)


def _check_shared(path: Path, weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Refuses a file that gives a tensor of two modules two contents, of which one would be lost."""
    first: dict[tuple[int, torch.Size], str] = {}
    for name, value in weights.items():
        if not value.numel():
            continue
        other = first.setdefault((state[name].data_ptr(), value.shape), name)
        if not torch.equal(weights[other], value):
            raise ValueError(
                f"the weights in {path} belong to another VAE: {other} and {name} differ there and are one tensor here"
            )
