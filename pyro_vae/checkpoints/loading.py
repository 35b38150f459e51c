"""The VAE of a run folder."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from pyro_vae.allocation import limiting_allocation
from pyro_vae.argument_checks import one_of
from pyro_vae.checkpoints.config_file import DTYPES, read_config
from pyro_vae.checkpoints.data_file import SCHEMA, read_description, read_schema
from pyro_vae.checkpoints.weights import last_weights
from pyro_vae.config import build, describe
from pyro_vae.data.schema import Schema
from pyro_vae.files import BEST, CONFIG, LAST, CheckpointError, Plain, is_there
from pyro_vae.registry import allowing
from pyro_vae.tensors import open_tensors
from pyro_vae.vae import VAE

__all__ = ["VAE_OPTIONS", "StandardizedDataWarning", "load"]


class StandardizedDataWarning(UserWarning):
    """The VAE of a run takes standardised data."""


VAE_OPTIONS = (
    "latent_dim",
    "hidden",
    "activation",
    "prior",
    "likelihood",
    "posterior",
    "nets",
    "inputs",
    "missing",
    "fill",
    "mask_likelihood",
)
"""The options of config.yaml from which a VAE is built; the others say how it was trained."""

_PARTS = ("prior", "likelihood", "posterior", "mask_likelihood")


def load(
    run: str | os.PathLike[str],
    *,
    vae: VAE | None = None,
    weights: Literal["best", "last"] = "best",
    device: torch.device | str = "cpu",
    allow: str | Sequence[str] = (),
) -> VAE:
    """Return the VAE of a run folder, with its weights.

    If the run was trained on standardised columns of a table, a warning says where their means and standard deviations
    are.

    A run folder may come from a stranger, so it is only read: nothing in it is imported or executed, no link in it is
    followed, and its weights must have the names, shapes and dtypes of the VAE that its config.yaml describes. Its
    parts may be this library's, modules of :mod:`torch.nn` and flows of Zuko's. Your own classes are imported if
    ``allow`` names their module.

    Args:
        run: a folder that ``fit(..., out=...)`` wrote.
        vae: a VAE built as the run's was, for parts that cannot be found by name, such as a lambda. A warning names
            the first argument of a part that differs from config.yaml.
        weights: those of the ``"best"`` epoch or of the ``"last"``.
        device: of the VAE.
        allow: your own modules or packages, such as ``["my_module"]``, from which the run's parts may come.

    Raises:
        FileNotFoundError: if there is no such run folder.
        NotAllowedError: if config.yaml names a class of a module that ``allow`` leaves out.
        ValueError: if the folder's files are damaged or belong to another VAE, or the parts cannot be built.
    """
    run = Path(run)
    one_of("weights", weights, "best", "last")
    # A VAE that is given needs no config.yaml.
    config = read_config(run) if vae is None or is_there(run / CONFIG) else {}
    _check_of_vae(run, config)
    if vae is None:
        with allowing(allow):
            vae = _rebuild(run, config, BEST if weights == "best" else LAST)
        _warn_of_standardised_data(run)
    else:
        _warn_of_other_parts(run, config, vae)
    if weights == "best":
        vae.load_weights(run / BEST)
    else:
        vae.load_state_dict(last_weights(run, vae.state_dict()))
    return vae.to(device)


def _warn_of_standardised_data(run: Path) -> None:
    described = read_description(run)
    if described is not None and described.moments is not None:
        warnings.warn(
            f"{run} was trained on standardised data: its VAE takes and gives (x - loc) / scale in place of x, with "
            "loc, scale = pyro_vae.checkpoints.read_description(Path(run)).moments",
            StandardizedDataWarning,
            stacklevel=3,
        )


def _check_of_vae(run: Path, config: dict[str, Any]) -> None:
    """Raise a ValueError for the run of a model and guide, from which no VAE is built."""
    if config.get("from") == "python" and "guide" in config:
        raise ValueError(
            f"the run in {run} is of a model and guide of your own, not of a VAE. Read {BEST} with "
            "safetensors.torch.load_file, and load it into your modules; or give the same model and guide to "
            "fit(..., out=run, resume=True)"
        )


def _rebuild(run: Path, config: dict[str, Any], weights: str) -> VAE:
    for part in _PARTS:
        reason = config[part].get("unnamed") if isinstance(config.get(part), dict) else None
        if reason:
            raise ValueError(
                f"the {part} of {run} cannot be built from its {CONFIG}: {str(reason)[:300]!r}. Build the VAE in "
                "Python as it was and pass it: load(run, vae=vae)"
            )
    shapes = config.get("shapes") or {}
    lacking = [f"{name} in shapes" for name in ("x", "context") if name not in shapes]
    lacking += [] if config.get("dtype") else ["dtype"]
    if lacking:
        raise CheckpointError(f"{run / CONFIG} is not complete: there is no {lacking[0]}. Was it edited by hand?")
    options = {name: config[name] for name in VAE_OPTIONS if config.get(name) is not None}
    why = f"as {run / CONFIG} describes it, the VAE is larger than its {weights}. If it is right, load(run, vae=vae)"
    with limiting_allocation(*_limits(run / weights), why):
        vae = build(shapes["x"], context_features=shapes["context"], schema=_schema(run, shapes["x"]), **options)
        return vae.to(DTYPES[config["dtype"]])


def _schema(run: Path, shape: Sequence[int]) -> Schema | None:
    """Return the schema of a run on a table; None if it has none."""
    schema = read_schema(run)
    if schema is not None and [len(schema.data)] != list(shape):
        raise CheckpointError(
            f"{run / SCHEMA} has {len(schema.data)} columns with the role data, and the run has x of shape {shape}. "
            "Was it edited by hand?"
        )
    return schema


def _warn_of_other_parts(run: Path, config: dict[str, Any], vae: VAE) -> None:
    """Warn if a part has another argument than the run's: the weights would fit, but the numbers be another VAE's."""
    for name in _PARTS:
        if getattr(vae, name) is None:
            continue
        try:
            there = describe(getattr(vae, name), given=vae.posterior)
        except ValueError:  # a part that has no name
            continue
        difference = _difference(name, config.get(name), there)
        if difference:
            warnings.warn(
                f"{difference} in {run / CONFIG}, so its numbers are those of another VAE. Build it as it was",
                stacklevel=3,
            )
            return


def _difference(name: str, recorded: Plain, there: Plain) -> str | None:
    """Return the first argument that both have and that differs, in words."""
    if isinstance(recorded, dict) and isinstance(there, dict):
        both = (_difference(f"{name}.{key}", recorded[key], there[key]) for key in recorded if key in there)
        return next((found for found in both if found), None)
    if name.endswith(".class"):
        return None
    if isinstance(recorded, (int, float)) and isinstance(there, (int, float)):
        same = math.isclose(recorded, there, rel_tol=1e-5)
    elif isinstance(recorded, (int, float, str)) and isinstance(there, (int, float, str)):
        same = _last_name(recorded) == _last_name(there)
    else:
        return None
    return None if same else f"the VAE given has {name} {there}; the run has {recorded}"


def _last_name(value: str | float) -> str:
    """Return what follows the last dot, in lower case: relu for torch.nn.ReLU."""
    return str(value).rpartition(".")[2].lower()


def _limits(path: Path) -> tuple[int, int]:
    """Return how many numbers and tensors may be made while a VAE with these weights is built."""
    with open_tensors(path) as file:
        return 2**25 + 8 * file.numbers, 1000 + 10 * len(file.headers)
