"""Run folders: config.yaml, weights.safetensors (the best), last.safetensors (to go on from), history.jsonl."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
import yaml
from safetensors import SafetensorError
from torch import Tensor

from pyro_vae.config import build
from pyro_vae.files import replacing
from pyro_vae.vae import VAE, CheckpointError

__all__ = [
    "BEST",
    "CONFIG",
    "HISTORY",
    "LAST",
    "VAE_OPTIONS",
    "CheckpointError",
    "dump_config",
    "load",
    "read_config",
    "read_last",
    "write_config",
    "write_last",
    "write_tensors",
]

CONFIG, BEST, LAST, HISTORY = "config.yaml", "weights.safetensors", "last.safetensors", "history.jsonl"

# The options of config.yaml from which a VAE is built; the others say how it was trained.
VAE_OPTIONS = (
    "latent_dim",
    "hidden",
    "activation",
    "prior",
    "likelihood",
    "posterior",
    "nets",
    "missing",
    "fill",
)


def load(
    run: str | os.PathLike[str],
    *,
    vae: VAE | None = None,
    weights: Literal["best", "last"] = "best",
    device: torch.device | str = "cpu",
) -> VAE:
    """The VAE of a run folder, with its weights.

    Args:
        run: a folder that ``pyro-vae train`` or ``fit(..., out=...)`` wrote.
        vae: a VAE built as it was for the run, where its parts cannot be found again by name (a lambda, say).
        weights: those of the best epoch, or of the last.
        device: where to put it.

    Raises:
        FileNotFoundError: where there is no such run folder.
        ValueError: where the folder's files are damaged or belong to another VAE, or the parts cannot be built.
    """
    run = Path(run)
    if vae is None:
        config = read_config(run)
        vae = _rebuild(run, config)
    if weights not in ("best", "last"):
        raise ValueError(f'weights must be "best" or "last"; got {weights!r}')
    if weights == "best":
        vae.load_weights(run / BEST)
    else:
        vae.load_state_dict(read_last(run)[0])
    return vae.to(device)


def _rebuild(run: Path, config: dict[str, Any]) -> VAE:
    for part in ("prior", "likelihood", "posterior"):
        reason = config[part].get("unnamed") if isinstance(config.get(part), dict) else None
        if reason:
            raise ValueError(
                f"the {part} of {run} cannot be built from its {CONFIG}: {reason}. Build the VAE in Python as it was "
                "and pass it: load(run, vae=vae)"
            )
    try:
        shapes = config["shapes"]
        options = {name: config[name] for name in VAE_OPTIONS if config.get(name) is not None}
        vae = build(shapes["x"], context=shapes["context"], **options)
        return vae.to(getattr(torch, config["dtype"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{run / CONFIG} is not complete: {error!r}. Was it edited by hand?") from error


def read_config(run: Path) -> dict[str, Any]:
    """The options of a run.

    Raises:
        FileNotFoundError: where the folder or its config.yaml is missing.
        CheckpointError: where config.yaml is no YAML mapping.
    """
    path = run / CONFIG
    if not path.is_file():
        what = "there is no such folder" if not run.is_dir() else f"it has no {CONFIG}"
        raise FileNotFoundError(f"{run} is not a run folder: {what}. Runs are written by pyro-vae train, below runs/")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} must hold options as YAML; got {type(config).__name__}")
    return config


def write_config(run: Path, config: dict[str, Any]) -> None:
    """Writes the options of a run, in their order."""
    with replacing(run / CONFIG) as partial:
        partial.write_text(dump_config(config), encoding="utf-8")


def dump_config(config: dict[str, Any]) -> str:
    """The options of a run as YAML.

    Raises:
        ValueError: where an option is no plain number, text, list or mapping.
    """
    first = "# What this run was made with. "
    if config.get("from") == "python":
        first += "It was started by pyro_vae.fit in Python; pyro_vae.load gives its VAE back.\n"
    else:
        first += "Repeat it: pyro-vae train --config config.yaml\n"
    try:
        return first + yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    except yaml.YAMLError as error:
        raise ValueError(f"config must hold plain numbers, text, lists and mappings: {error}") from error


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes tensors as safetensors; the file appears whole or not at all."""
    cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with replacing(path) as partial:
        partial.write_bytes(safetensors.torch.save(cpu, metadata))


def write_last(
    run: Path,
    weights: dict[str, Tensor],
    optimizer: dict[str, Any],
    objective: dict[str, Tensor],
    progress: dict[str, Any],
) -> None:
    """Writes what training needs to go on: weights, the states of optimiser and objective, and progress (numbers)."""
    tensors = {f"weights.{name}": value for name, value in weights.items()}
    tensors |= {f"objective.{name}": value for name, value in objective.items()}
    numbers: dict[str, Any] = {}
    for index, state in optimizer["state"].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{key}"] = value
            else:
                numbers[f"{index}.{key}"] = value
    write_tensors(run / LAST, tensors, {"progress": json.dumps(progress), "optimizer": json.dumps(numbers)})


def read_last(
    run: Path,
) -> tuple[dict[str, Tensor], dict[int, dict[str, Any]], dict[str, Tensor], dict[str, Any]]:
    """What :func:`write_last` wrote: weights, the optimiser's state by parameter, the objective's state, progress.

    Raises:
        FileNotFoundError: where no epoch has been finished.
        CheckpointError: where the file is damaged.
    """
    path = run / LAST
    if not path.is_file():
        raise FileNotFoundError(f"nothing to go on from in {run}: there is no {LAST}, so no epoch was finished")
    weights: dict[str, Tensor] = {}
    optimizer: dict[int, dict[str, Any]] = {}
    objective: dict[str, Tensor] = {}
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            for name in file.keys():  # noqa: SIM118  # not a mapping
                part, rest = name.split(".", 1)
                if part == "weights":
                    weights[rest] = file.get_tensor(name)
                elif part == "objective":
                    objective[rest] = file.get_tensor(name)
                else:
                    index, key = rest.split(".", 1)
                    optimizer.setdefault(int(index), {})[key] = file.get_tensor(name)
        for name, value in json.loads(metadata["optimizer"]).items():
            index, key = name.split(".", 1)
            optimizer.setdefault(int(index), {})[key] = value
        return weights, optimizer, objective, json.loads(metadata["progress"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}): it is damaged or was cut short. Train again into another folder"
        ) from error
