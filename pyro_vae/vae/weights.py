"""A VAE's weights on disk, as safetensors."""

from __future__ import annotations

import os
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import nn

from pyro_vae.files import replacing

__all__ = ["CheckpointError", "load_weights", "save_weights"]


class CheckpointError(ValueError):
    """A file with weights, or another file of a run folder, is damaged or incomplete."""


def save_weights(vae: nn.Module, path: str | os.PathLike[str]) -> None:
    """See :meth:`VAE.save_weights`."""
    with replacing(Path(path)) as partial:
        safetensors.torch.save_model(vae, str(partial))


def load_weights(vae: nn.Module, path: str | os.PathLike[str]) -> None:
    """See :meth:`VAE.load_weights`."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}; a run folder has them in weights.safetensors")
    try:
        weights = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"the weights file {path} cannot be read ({error}): it is damaged or was cut short. "
            "Take a copy of it, or train again"
        ) from error
    state = vae.state_dict()
    mine = {name: tuple(value.shape) for name, value in state.items()}
    theirs = {name: tuple(value.shape) for name, value in weights.items()}
    other = [name for name, shape in theirs.items() if mine.get(name) != shape]
    if other:
        name = other[0]
        raise ValueError(
            f"the weights in {path} belong to another VAE: {name} has shape {theirs[name]} there and "
            f"{mine.get(name, 'no counterpart')} here. Build the VAE as it was when they were saved"
        )
    # A tensor that two modules share is in the file once.
    shared = {state[name].data_ptr() for name in weights}
    missing = [name for name, value in state.items() if name not in weights and value.data_ptr() not in shared]
    if missing:
        raise ValueError(
            f"the weights in {path} belong to another VAE: there is no {missing[0]} in the file. "
            "Build the VAE as it was when they were saved"
        )
    vae.load_state_dict(weights, strict=False)
