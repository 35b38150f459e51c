"""The description of a training in the config.yaml of its run folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyro.infer import ELBO

from pyro_vae import checkpoints
from pyro_vae.config import describe, describe_objective
from pyro_vae.data import DataSource, Images, Rows, Split, as_tensor
from pyro_vae.data.description import Description
from pyro_vae.data.frames import column_names, is_frame
from pyro_vae.parts import child
from pyro_vae.training.options import Options
from pyro_vae.training.trainee import Trainee
from pyro_vae.vae import VAE

__all__ = [
    "FolderNotEmptyError",
    "check_folder",
    "check_known",
    "check_same_data",
    "check_unchanged",
    "describe_data",
    "describe_training",
    "open_folder",
]


class FolderNotEmptyError(FileExistsError):
    """The folder for a new run is not empty.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder

    def __str__(self) -> str:
        """Return the folder and the arguments of fit that help."""
        return f"{self.folder} is not empty. Choose another out, or go on with its run: resume=True"


def check_folder(folder: Path, resume: bool) -> None:
    """Raise a FileExistsError if a run folder is a file, or holds something and ``resume`` is not set."""
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"out must be a folder; {folder} is a file")
    if not resume and folder.is_dir() and any(folder.iterdir()):
        raise FolderNotEmptyError(folder)


def open_folder(out: str | os.PathLike[str] | None, resume: bool) -> Path | None:
    """Return the run folder, made if it is not there.

    Raises:
        FileExistsError: if it is a file, or holds something and ``resume`` is not set.
        ValueError: if ``resume`` is set without a folder.
    """
    if out is None:
        if resume:
            raise ValueError("resume needs out=, the folder of the run to go on with")
        return None
    folder = Path(out)
    check_folder(folder, resume)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def describe_training(trainee: Trainee, train: DataSource, objective: ELBO, options: Options) -> dict[str, Any]:
    """Return what config.yaml says of a training that Python code started."""
    of = _describe_programs(trainee) if trainee.vae is None else _describe(trainee.vae)
    used = {"objective": describe_objective(objective), **options.recorded(), **options.unusual()}
    return {"from": "python", **_describe_data(train), **of, **used}


def describe_data(train: DataSource) -> Description | None:
    """Return what data.json says of the data; None if they come from a Dataset or DataLoader."""
    split = _as_split(train)
    return None if split is None else Description.of(split)


def check_known(train: DataSource, missing: bool) -> None:
    """Raise a ValueError if a column of a table, or an element of x, is missing in all examples.

    Args:
        train: the data.
        missing: True if the VAE takes missing values; if not, its own check refuses arrays with NaN.
    """
    split = _as_split(train) if missing or is_frame(train) else None
    if isinstance(split, Rows) and (lacking := split.without_values()) is not None:
        raise ValueError(f"{lacking} of x has no value in any example, only NaN. Leave it out")


def _as_split(train: DataSource) -> Split | None:
    """Return data in memory as a split; None for a Dataset, a DataLoader and a sparse matrix."""
    x = train[0] if isinstance(train, tuple) and train else train
    if isinstance(x, Split):
        return x
    if not (isinstance(x, (torch.Tensor, np.ndarray)) or is_frame(x)):
        return None
    values = as_tensor("x", x)
    names = column_names(x) if is_frame(x) else ()
    return Rows(values, columns=names if values.dim() == 2 and len(names) == values.shape[1] else ())


def check_unchanged(folder: Path, options: Options) -> None:
    """Raise a ValueError if the training in a folder had other options than it goes on with."""
    if not (folder / checkpoints.LAST).is_file():
        return  # nothing to go on from, as restore will say
    before = checkpoints.read_config(folder)
    now = options.recorded()
    for name in ("batch_size", "lr", "schedule", "seed"):
        if name in before and before[name] != now[name]:
            raise ValueError(
                f"the run in {folder} was trained with {name} = {before[name]}; got {now[name]}. Go on with the same, "
                "or train into another folder"
            )


def check_same_data(folder: Path, data: Description | None) -> None:
    """Raise a ValueError if the training in a folder had other data than it goes on with."""
    trained = checkpoints.read_description(folder)
    if trained is None or data is None:
        return
    if trained.fingerprint == data.fingerprint and (trained.loc, trained.scale) != (data.loc, data.scale):
        raise ValueError(
            f"the run in {folder} was trained on the same data with another loc and scale: standardise them with those "
            "of its data.json"
        )
    if trained.fingerprint != data.fingerprint:
        raise ValueError(
            f"the run in {folder} was trained on other data: {trained.examples:,} examples of shape "
            f"{trained.event_shape}; got {data.examples:,} of {data.event_shape}, with other values or in another "
            "order. Go on with the same, or train into another folder"
        )


def _describe_data(train: DataSource) -> dict[str, Any]:
    """Return the options of the command line that read the same data in the same form.

    Data without a name come from a file later on: as they are there.
    """
    described: dict[str, Any] = {"data": None, "labels": False, "standardize": False}
    described |= {"binarize": "none", "dequantize": False}
    if not isinstance(train, Split):
        return described
    described |= {"data": train.name, "labels": train.with_labels, **(train.origin or {})}
    if isinstance(train, Images):
        described |= {"binarize": train.binarize or "none", "dequantize": train.dequantize}
    if isinstance(train, Rows) and train.schema is not None and train.loc is None:
        described["standardize"] = "auto"
    if isinstance(train, Rows) and train.loc is not None and train.scale is not None:
        changed = (train.loc != 0) | (train.scale != 1)
        described["standardize"] = True if changed.all() else "auto" if changed.any() else False
    return described


def _describe_programs(trainee: Trainee) -> dict[str, Any]:
    programs = {"model": trainee.model, "guide": trainee.guide}
    return {name: getattr(program, "__qualname__", type(program).__name__) for name, program in programs.items()}


def _describe(vae: VAE) -> dict[str, Any]:
    """Return the parts of a VAE as options of config.yaml, as far as they have names."""
    config: dict[str, Any] = {}
    seen: dict[int, str] = {}
    for part in ("posterior", "prior", "likelihood", "mask_likelihood"):
        thing = getattr(vae, part)
        if thing is None:
            continue
        given = vae.posterior if part == "prior" else None
        mine = {id(m) for m in _modules(thing)}
        if _is_argument_of(thing, given):
            mine -= {id(m) for m in _modules(given)}
        shared = next((seen[m] for m in mine if m in seen), None)
        seen |= dict.fromkeys(mine, part)
        try:
            if shared:
                raise ValueError(f"it shares a module with the {shared}")
            config[part] = describe(thing, given)
        except ValueError as error:
            config[part] = {"unnamed": str(error)}
    return config | ({"missing": vae.missing, "fill": vae.fill} if vae.missing else {})


def _modules(part: object) -> list[torch.nn.Module]:
    return list(part.modules()) if isinstance(part, torch.nn.Module) else []


def _is_argument_of(prior: object, posterior: object) -> bool:
    """Return True if the prior is made from the posterior, as ``build`` will make it again."""
    return any(child(m, "posterior") is posterior for m in _modules(prior)) and posterior is not None
