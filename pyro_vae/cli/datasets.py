"""The data of a command: read once, prepared for the likelihood, and compared with what a run was trained on."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyro_vae import data as data_sets
from pyro_vae import suggest
from pyro_vae.checkpoints import read_description
from pyro_vae.config import find
from pyro_vae.data import DataSet, Images, Rows, Split
from pyro_vae.data.description import Description
from pyro_vae.parts import data_of
from pyro_vae.resolver import as_mapping, class_name

__all__ = [
    "READING",
    "choose_likelihood",
    "load_data",
    "of_run",
    "part",
    "prepared",
    "read",
    "short_name",
    "trained_on",
    "whole_path",
]

READING = ("size", "channels", "split", "group", "label", "delimiter", "skip_bad")
"""The options of train that say how data are read: arguments of :func:`pyro_vae.data.load`."""


def whole_path(data: str) -> str:
    """Return the name of data that later commands find from any folder."""
    path = Path(data).expanduser()
    return str(path.resolve()) if data not in data_sets.NAMES and path.exists() else data


def short_name(data: str) -> str:
    """Return a word for data, for the name of a folder: ``wine`` for ``data/wine.csv``."""
    return Path(data.rpartition(":")[2] or data).stem or "data"


def load_data(config: Mapping[str, Any], root: str | None) -> DataSet[Any]:
    """Return the data that the options of train name, as they are."""
    options = {name: config[name] for name in READING if config.get(name) is not None}
    return data_sets.load(config["data"], root, labels=config["labels"], **options)


def read(data: str, how: Mapping[str, Any]) -> DataSet[Any]:
    """Return the data of a command without a run.

    Args:
        data: name or path.
        how: the options of :func:`pyro_vae.cli.commands.data.reading`.
    """
    return load_data({**how, "data": data, "labels": False}, how["root"])


def part(dataset: DataSet[Any], name: str) -> Any:
    """Return a split of a data set by its name, or all examples for ``all``."""
    return dataset.everything if name == "all" else getattr(dataset, name)


def choose_likelihood(config: dict[str, Any], raw: DataSet[Any]) -> None:
    """Replace the likelihood ``auto`` by one that suits the data, and add the number of grey levels if it takes one."""
    likelihood = as_mapping("likelihood", config["likelihood"])
    if likelihood["class"] == "default":
        likelihood["class"] = "Bernoulli" if config["data"] in data_sets.NAMES else "auto"
    config["likelihood"] = likelihood
    if class_name(likelihood) == "auto":
        first, *others = suggest(raw.map(lambda split: _formed(split, config)))
        config["likelihood"] = first.likelihood
        print(f"likelihood {first}")
        if others:
            print(f"           also possible: {', '.join(dict.fromkeys(class_name(o.likelihood) for o in others))}")
    spec = as_mapping("likelihood", config["likelihood"])
    found = find("likelihood", spec["class"])
    takes_levels = isinstance(found, type) and "levels" in inspect.signature(found).parameters
    if isinstance(raw.train, Images) and takes_levels and "levels" not in spec:
        spec["levels"] = raw.train.levels + 1
    config["likelihood"] = spec


def prepared(raw: DataSet[Any], config: Mapping[str, Any], described: Description | None = None) -> DataSet[Any]:
    """Return data in the form that the likelihood takes: binarised, dequantised, standardised.

    Args:
        raw: the data as they are.
        config: the options of train, with a likelihood.
        described: the data that a run was trained on, if it is such a run's; gives what they are standardised with.
    """
    formed: DataSet[Any] = raw.map(lambda split: _formed(split, config))
    if not isinstance(formed.train, Rows):
        return formed
    if described is not None:
        moments, columns = described.moments, None
    else:
        columns = _standardised_columns(formed.train, config)
        moments = formed.train.moments() if any(columns) else None
    if moments is None:
        return formed
    loc, scale = moments
    return formed.map(lambda split: split.standardised(loc, scale, columns if len(split.event_shape) == 1 else None))


def _formed(split: Split, config: Mapping[str, Any]) -> Split:
    """Return images in the form that --binarize, --dequantize and the likelihood say; other data as they are."""
    binarize, dequantize = config["binarize"], config["dequantize"]
    if not isinstance(split, Images):
        for name, value in (("binarize", binarize), ("dequantize", dequantize)):
            if value not in ("auto", "none", False):
                raise ValueError(f"{name} is for images; {split.name} holds {split.noun}s")
        return split
    name = class_name(config["likelihood"])
    # The data that suit the likelihood. A user's own that does not say counts as a density over the reals.
    suits = "levels" if name == "auto" else data_of(find("likelihood", name))
    if binarize == "auto":
        binarize = "dynamic" if suits == "binary" else "none"
    if dequantize == "auto":
        dequantize = binarize == "none" and suits == "continuous"
    return replace(
        split,
        binarize=None if binarize == "none" else binarize,
        dequantize=dequantize,
        integers=suits == "counts" and binarize == "none" and not dequantize,
    )


def _standardised_columns(rows: Rows, config: Mapping[str, Any]) -> list[bool]:
    """Return True for each column that is standardised; for arrays of more dimensions, for all elements together."""
    wanted = config.get("standardize", "auto")
    names = rows.columns or tuple(map(str, range(rows.event_shape[0] if len(rows.event_shape) == 1 else 1)))
    if wanted != "auto":
        return [bool(wanted)] * len(names)
    spec = as_mapping("likelihood", config["likelihood"])
    columns = spec.get("columns")
    if isinstance(columns, Mapping):
        return [_may_be_scaled(columns.get(name)) for name in columns]
    return [_may_be_scaled(spec)] * len(names)


def _may_be_scaled(spec: Any) -> bool:
    found = find("likelihood", class_name(spec))
    return bool(getattr(found, "location_scale", False))


def of_run(
    run: str, config: Mapping[str, Any], data: str | None, root: str | None, *, whole: bool = False
) -> DataSet[Any]:
    """Return the data of a run, or others in the same form.

    Args:
        run: run folder.
        config: its configuration.
        data: other data; None for the run's own.
        root: folder of the data sets with names.
        whole: leave other data in one piece, as ``train``.

    Raises:
        ValueError: if they have another shape or other columns than those that the run was trained on, or if the run
            does not name its data.
    """
    named = data or config.get("data")
    if named is None:
        raise ValueError(f"{run} was trained from Python on data without a name. Name a file with them: --data FILE")
    config = {**config, "data": named}
    if data is not None and not config["labels"]:
        config |= {"label": None, "group": None}  # they are no part of x, and may be left out
    if data is not None and whole and data not in data_sets.NAMES:
        config["split"] = "1,0,0"
    described = read_description(Path(run))
    raw = load_data(config, root)
    if described is not None:
        raw = raw.map(lambda split: _like(run, described, split))
        if data is None:
            _warn_if_changed(run, described, trained_on(config, raw))
    return prepared(raw, config, described)


def trained_on(config: Mapping[str, Any], dataset: DataSet[Any]) -> Any:
    """Return the examples that a run was trained on."""
    return dataset.train if config.get("validate", True) else dataset.train_and_valid


def _like(run: str, described: Description, split: Split) -> Split:
    """Return examples with the columns and classes of those that a run was trained on.

    Raises:
        ValueError: if they have another shape or lack a column.
    """
    if described.columns and isinstance(split, Rows) and split.columns and split.columns != described.columns:
        split = split.select(described.columns)
    if split.event_shape != described.event_shape:
        raise ValueError(
            f"{run} was trained on {split.noun}s of shape {described.event_shape}; {split.name} has {split.event_shape}"
        )
    return split.with_classes(described.classes, described.class_names) if split.with_labels else split


def _warn_if_changed(run: str, described: Description, trained: Split) -> None:
    if trained.fingerprint() != described.fingerprint:
        warnings.warn(
            f"{trained.name} has changed since {run} was trained on it: {described.examples:,} {trained.noun}s then, "
            f"{len(trained):,} now, or other values",
            stacklevel=3,
        )
