"""config.yaml of a run folder: the options that a run was made with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from pyro_vae.argument_checks import is_finite_number, is_integer
from pyro_vae.files import CONFIG, CheckpointError, Plain, is_there, read_yaml, write_text

__all__ = ["DTYPES", "NotARunError", "dump_config", "read_config", "write_config"]

DTYPES = {name: getattr(torch, name) for name in ("float32", "float64", "float16", "bfloat16")}


class NotARunError(FileNotFoundError):
    """A folder that is missing or holds no run.

    Args:
        found: the folder, and what it lacks.
    """

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.found = found

    def __str__(self) -> str:
        """Return the message, with the call that writes a run folder."""
        return f"{self.found}. fit(..., out=folder) writes one"


def read_config(run: Path) -> dict[str, Any]:
    """Return the options of a run.

    Raises:
        NotARunError: if the folder or its config.yaml is missing.
        CheckpointError: if config.yaml is not a YAML mapping, or an option has a value of the wrong kind.
    """
    path = run / CONFIG
    if not run.is_dir() or not is_there(path):
        what = "there is no such folder" if not run.is_dir() else f"it has no {CONFIG}"
        raise NotARunError(f"{run} is not a run folder: {what}")
    config = read_yaml(path)
    for name, (fits, what) in _OPTIONS.items():
        if config.get(name) is not None and not fits(config[name]):
            raise CheckpointError(f"{path}: {name} must be {what}; got {str(config[name])[:100]!r}")
    return config


def _is_whole(least: int) -> Callable[[Plain], bool]:
    return lambda value: is_integer(value, least)


def _is_shape(value: Plain) -> bool:
    return all(map(_is_whole(1), value if isinstance(value, list) else [value]))


# The options that a VAE is built from or a run is evaluated with: a test of the value, and its words in errors.
_OPTIONS: dict[str, tuple[Callable[[Plain], bool], str]] = {
    **dict.fromkeys(("latent_dim", "epochs", "batch_size"), (_is_whole(1), "an integer of at least 1")),
    "seed": (_is_whole(0), "an integer of at least 0"),
    "hidden": (_is_shape, "an integer of at least 1, or a list of them"),
    **dict.fromkeys(("activation", "nets", "inputs"), (lambda value: isinstance(value, str), "a name")),
    **dict.fromkeys(
        ("prior", "likelihood", "posterior", "mask_likelihood", "objective"),
        (lambda value: isinstance(value, (str, dict)), "a name, or a mapping with a name under class"),
    ),
    **dict.fromkeys(("missing", "labels", "validate"), (lambda value: isinstance(value, bool), "true or false")),
    **dict.fromkeys(("fill", "lr"), (is_finite_number, "a number")),
    "dtype": (lambda value: isinstance(value, str) and value in DTYPES, f"one of {', '.join(DTYPES)}"),
    "shapes": (
        lambda value: (
            isinstance(value, dict) and _is_shape(value.get("x", 1)) and _is_whole(0)(value.get("context", 0))
        ),
        "the shape of x and the number of context features",
    ),
}


def write_config(run: Path, config: dict[str, Any]) -> None:
    """Write the options of a run, in their order."""
    write_text(run / CONFIG, dump_config(config))


def dump_config(config: dict[str, Any]) -> str:
    """Return the options of a run as YAML.

    Raises:
        ValueError: if an option is not a plain number, text, list or mapping.
    """
    first = "# What this run was made with; pyro_vae.load gives its VAE back.\n"
    try:
        return first + yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    except yaml.YAMLError as error:
        raise ValueError(f"config must hold plain numbers, text, lists and mappings: {error}") from error
