"""The data of a command: read once, prepared for the likelihood, and compared with what a run was trained on."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyro_vae import data as data_sets
from pyro_vae import suggest
from pyro_vae.checkpoints import SCHEMA, read_config, read_description
from pyro_vae.cli.suggested import print_suggestion, with_schema
from pyro_vae.cli.tables import wrapped
from pyro_vae.cli.words import with_options
from pyro_vae.config import find
from pyro_vae.config.from_data import usual_inputs
from pyro_vae.data import Counts, DataSet, Images, Rows, Split
from pyro_vae.data.description import Description
from pyro_vae.data.functions import home_of
from pyro_vae.data.reading import OPTIONS
from pyro_vae.data.sources import whole_path
from pyro_vae.data.splits import read_rows
from pyro_vae.parts import data_of
from pyro_vae.registry import Spec
from pyro_vae.resolver import as_mapping, class_name
from pyro_vae.suggestions.units import is_location_scale, is_standardized

__all__ = [
    "choose_likelihood",
    "load_data",
    "of_run",
    "part",
    "part_of_run",
    "prepared",
    "read",
    "short_name",
    "to_train_on",
    "trained_on",
]

_WITH_SPLITS = ("torchvision:", "hf:")  # data sets of which others say what is for tests


def short_name(data: str) -> str:
    """Return a word for data, for the name of a folder: ``wine`` for ``data/wine.csv``."""
    name = Path(data.rpartition(":")[2] or data).name
    return name.removesuffix(".gz").rpartition(".")[0] or name or "data"


def load_data(config: Mapping[str, Any], root: str | None) -> DataSet[Any]:
    """Return the data that the options of train name, as they are."""
    options = {name: config[name] for name in OPTIONS if config.get(name) is not None}
    return data_sets.load(config["data"], root, labels=config["labels"], **options)


def to_train_on(config: dict[str, Any], root: str | None, resume: str | None) -> DataSet[Any]:
    """Return the data of a training, prepared, with the likelihood chosen in its options; print what was done to them.

    Args:
        config: options of train; the likelihood, the inputs and whether values are missing are set in them.
        root: folder of the data sets with names.
        resume: the run that goes on, whose data are standardised as before; None for a new one.
    """
    raw = load_data(config, root) if resume is None else _to_go_on_with(config, root, resume)
    described = None if resume is None else read_description(Path(resume))
    for note in raw.notes:
        print(wrapped(f"note       {with_options(note)}", indent=11))
    raw = choose_likelihood(config, raw)
    config["missing"] = raw.has_missing
    dataset = prepared(raw, config, described)
    for note in dataset.notes[len(raw.notes) :]:
        print(wrapped(f"note       {with_options(note)}", indent=11))
    return dataset


def _to_go_on_with(config: Mapping[str, Any], root: str | None, run: str) -> DataSet[Any]:
    """Return the data with which the training of a run goes on, as its VAE takes them.

    Raises:
        ValueError: if the run was trained on a table, and they are none, or lack one of its columns.
    """
    schema = Path(run) / SCHEMA
    if not schema.is_file():  # its VAE knows none
        raw = load_data(config, root)
        return raw.map(lambda rows: replace(rows, schema=None)) if isinstance(raw.train, Rows) else raw
    if config["data"] in data_sets.NAMES:
        raise ValueError(f"{run} was trained on a table; {config['data']} holds images. Leave it away")
    try:
        return load_data({**config, "schema": str(schema)}, root)
    except data_sets.NoColumnError as error:
        raise ValueError(f"{run} needs the columns that it was trained on; {error.found}") from error


def read(data: str, how: Mapping[str, Any]) -> DataSet[Any]:
    """Return the data of a command without a run.

    Args:
        data: name or path.
        how: the options of :func:`pyro_vae.cli.commands.data.reading`.
    """
    return load_data({**how, "data": data, "labels": False}, how["root"])


def part(dataset: DataSet[Any], name: str) -> Any:
    """Return a split of a data set by its name, or all examples for ``all``.

    Raises:
        ValueError: if the split has no example.
    """
    found = dataset.everything if name == "all" else getattr(dataset, name)
    if not len(found):
        raise ValueError(f"{dataset.train.name} has no {found.noun}s for {name}: its shares leave none")
    return found


def part_of_run(run: str, dataset: DataSet[Any], split: str | None, data: str | None) -> tuple[str, Any]:
    """Return the examples that a command on a run looks at, and what to call them.

    By default these are the test examples of the run's own data, wherever they are now. Of other data they are all,
    since the VAE has seen none of them, but of data sets with names the test examples.

    Args:
        run: run folder.
        dataset: what :func:`of_run` returned.
        split: the name of a split, if the user gave one.
        data: the other data; None for the run's own.
    """
    if data is None or data in data_sets.NAMES or data.startswith(_WITH_SPLITS):
        chosen = split or "test"
    else:
        chosen = split or ("test" if _is_own(run, dataset, data) else "all")
    return (data or "" if chosen == "all" else chosen), part(dataset, chosen)


def _is_own(run: str, dataset: DataSet[Any], data: str) -> bool:
    """Return True if data are those of a run: in the same place, or with the same training examples elsewhere."""
    config, described = read_config(Path(run)), read_description(Path(run))
    if whole_path(data) == config.get("data"):
        return True
    return described is not None and trained_on(config, dataset).fingerprint() == described.fingerprint


def choose_likelihood(config: dict[str, Any], raw: DataSet[Any]) -> DataSet[Any]:
    """Replace ``auto`` by a likelihood that suits the data, with their grey levels or library sizes if it takes them.

    For counts, replace the inputs ``auto`` too. Return the data, those of a table with the completed schema.
    """
    likelihood = as_mapping("likelihood", config["likelihood"])
    if likelihood["class"] == "default":
        likelihood["class"] = "Bernoulli" if config["data"] in data_sets.NAMES else "auto"
    config["likelihood"] = likelihood
    if isinstance(raw.train, Rows) and raw.train.schema is not None:
        return with_schema(config, raw)
    if class_name(likelihood) == "auto":
        first, *others = suggest(raw.map(lambda split: _formed(split, config)))
        config["likelihood"] = first.likelihood
        print_suggestion(first, others, standardised=config["standardize"] is not False)
    spec = as_mapping("likelihood", config["likelihood"])
    found = find("likelihood", spec["class"])
    takes = inspect.signature(found).parameters if isinstance(found, type) else {}
    if isinstance(raw.train, Images) and "levels" in takes and "levels" not in spec:
        spec["levels"] = raw.train.levels + 1
    if isinstance(raw.train, Counts) and "library" in takes:
        spec.setdefault("library", True)
    config["likelihood"] = spec
    if config["inputs"] == "auto":
        config["inputs"] = usual_inputs(spec, raw)
    return raw


def prepared(raw: DataSet[Any], config: Mapping[str, Any], described: Description | None = None) -> DataSet[Any]:
    """Return data in the form that the likelihood takes: binarised, dequantised, standardised, two values as 0 and 1.

    Args:
        raw: the data as they are.
        config: the options of train, with a likelihood.
        described: the data that a run was trained on, if it is such a run's; gives what they are standardised with.
    """
    formed: DataSet[Any] = raw.map(lambda split: _formed(split, config))
    if not isinstance(formed.train, Rows):
        if config.get("standardize") is True:
            what = "counts" if isinstance(formed.train, Counts) else f"{formed.train.noun}s"
            raise ValueError(f"standardize is for tables and arrays; {formed.train.name} holds {what}")
        return formed
    if described is None and formed.train.schema is not None:
        return formed  # the VAE standardises
    moments, notes = (described.moments, ()) if described is not None else _scaling(formed, config)
    if moments is None:
        return formed
    loc, scale = moments
    scaled = formed.map(lambda split: split.standardised(loc, scale))
    return replace(scaled, notes=(*scaled.notes, *notes))


def _formed(split: Split, config: Mapping[str, Any]) -> Split:
    """Return images in the form that --binarize, --dequantize and the likelihood say; other data as they are."""
    binarize, dequantize = config["binarize"], config["dequantize"]
    if not isinstance(split, Images):
        for name, value in (("binarize", binarize), ("dequantize", dequantize)):
            if value not in ("auto", "none", False):
                raise ValueError(f"{name} is for images; {split.name} holds {split.noun}s")
        if not isinstance(split, Counts):
            return split
        return replace(split, library=bool(as_mapping("likelihood", config["likelihood"]).get("library", False)))
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


def _scaling(dataset: DataSet[Rows], config: Mapping[str, Any]) -> tuple[tuple[Tensor, Tensor] | None, Sequence[str]]:
    """Return what is subtracted from rows and what they are then divided by, or None for nothing; and notes on it.

    Columns of real numbers are standardised; two values for a binary likelihood become 0 and 1. Arrays of more
    dimensions have one number for all elements.
    """
    rows, wanted = dataset.train, config.get("standardize", "auto")
    spec = as_mapping("likelihood", config["likelihood"])
    mixed = isinstance(spec.get("columns"), Mapping)
    specs = list(spec["columns"].values()) if mixed else [spec]
    shape = rows.event_shape if len(rows.event_shape) == 1 else ()
    if mixed and shape != (len(specs),):
        return None, ()  # build will say what is wrong
    chosen = [_is_real(spec) if wanted == "auto" else bool(wanted) for spec in specs]
    standardised = torch.tensor(chosen) if mixed else torch.tensor(chosen[0]).expand(shape)
    loc, scale = rows.moments() if any(chosen) else (torch.zeros(shape), torch.ones(shape))
    loc, scale = torch.where(standardised, loc, 0.0).double(), torch.where(standardised, scale, 1.0).double()
    notes: list[str] = []
    for place, (spec, done) in enumerate(zip(specs, chosen, strict=True)):
        column = place if mixed else None
        if done or _data_of(spec) != "binary" or (two := _two_values(dataset.everything, column)) is None:
            continue
        where = ... if column is None else column
        loc[where], scale[where] = two[0], two[1] - two[0]
        of = f" of {rows.columns[place]!r}" if mixed and rows.columns else ""
        notes.append(f"{two[0]:g} and {two[1]:g}{of} become 0 and 1, for a binary likelihood")
    return ((loc, scale) if any(chosen) or notes else None), notes


def _is_real(spec: Spec) -> bool:
    return is_location_scale(spec) and not is_standardized(as_mapping("likelihood", spec))


def _data_of(spec: Spec) -> str:
    return data_of(find("likelihood", class_name(spec)))


def _two_values(rows: Rows, column: int | None) -> tuple[float, float] | None:
    """Return the two values of which a column, or all data, consist; None if there are others, or they are 0 and 1."""
    seen: set[float] = set()
    for some in rows.stored():
        values = some if column is None else some[:, column]
        seen.update(values[~values.isnan()].unique()[:3].tolist())
        if len(seen) > 2:
            return None
    return None if len(seen) < 2 or seen == {0, 1} else (min(seen), max(seen))


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
    if data is not None and whole and data not in data_sets.NAMES:
        config["split"] = "1,0,0"
    described = read_description(Path(run))
    if (Path(run) / SCHEMA).is_file():
        config["schema"] = str(Path(run) / SCHEMA)
    raw = _load_again(run, config, root, described, given=data is not None)
    if described is not None:
        raw = raw.map(lambda split: _like(run, described, split))
        if data is None:
            _warn_if_changed(run, described, trained_on(config, raw))
    return prepared(raw, config, described)


def _load_again(
    run: str, config: dict[str, Any], root: str | None, described: Description | None, given: bool
) -> DataSet[Any]:
    """Return the data of a run or others: of a table or cells, the columns that the run was trained on."""
    with_names = (*data_sets.TABLES, ".h5ad")
    if described is not None and described.columns and config["data"].lower().endswith(with_names):
        config["columns"] = None if config.get("schema") else described.columns
    labels_named = home_of(config["data"]) is not None or config["data"].startswith("hf:")
    if given and not (config["labels"] and labels_named) and not config["data"].lower().endswith(with_names):
        config |= dict.fromkeys(("group", "label", "columns", "delimiter"))  # for tables; other data need none
    while True:
        try:
            return load_data(config, root)
        except data_sets.NoColumnError as error:
            # Other data need neither groups nor labels, unless the VAE gets the labels.
            if error.option in ("columns", "schema"):
                raise ValueError(f"{run} needs the columns that it was trained on; {error.found}") from error
            if given and error.option == "label" and config["labels"]:
                raise ValueError(f"{run} takes the labels {config['label']!r} beside x; {error.found}") from error
            if not given:
                raise
            config[error.option] = None


def trained_on(config: Mapping[str, Any], dataset: DataSet[Any]) -> Any:
    """Return the examples that a run was trained on."""
    return dataset.train if config.get("validate", True) else dataset.train_and_valid


def _like(run: str, described: Description, split: Split) -> Split:
    """Return examples with the columns and classes of those that a run was trained on.

    Raises:
        ValueError: if they have another shape or lack a column.
    """
    if described.kind == "Counts" and isinstance(split, Rows):
        split = _as_counts(split)
    if described.columns and isinstance(split, Rows) and split.columns and split.columns != described.columns:
        split = split.select(described.columns)
    if split.event_shape != described.event_shape:
        raise ValueError(
            f"{run} was trained on {split.noun}s of shape {described.event_shape}; {split.name} has {split.event_shape}"
        )
    _check_kind(run, described, split)
    if isinstance(split, Counts) and described.columns and split.columns not in ((), described.columns):
        raise ValueError(f"{run} was trained on counts with other columns than {split.name}, or in another order")
    return split.with_classes(described.classes, described.class_names) if split.with_labels else split


def _as_counts(rows: Rows) -> Counts:
    """Return rows of whole numbers as the counts of a run on a sparse matrix.

    Raises:
        BadDataError: if a value is not a count.
    """
    values = read_rows(rows.values, slice(None)).flatten(1)
    same = {name: getattr(rows, name) for name in ("labels", "classes", "class_names", "with_labels", "columns")}
    return Counts(values, name=rows.name, origin=rows.origin, **same)


_KINDS = {"Rows": "rows of numbers", "Images": "images, whose pixels are bytes", "Counts": "sparse counts"}


def _check_kind(run: str, described: Description, split: Split) -> None:
    """Raise a ValueError if data of another kind would come to the VAE on another scale than those of its training."""
    here, there = type(split).__name__, described.kind
    if here == there or there not in _KINDS or here not in _KINDS:
        return
    if isinstance(split, Rows) and all(bool(((some >= 0) & (some <= 1)).all()) for some in split.stored()):
        return  # pixels from 0 to 1, as the VAE takes them
    raise ValueError(
        f"{run} was trained on {_KINDS[there]}; {split.name} holds {_KINDS[here]}. Save them in the form of the others"
    )


def _warn_if_changed(run: str, described: Description, trained: Split) -> None:
    if trained.fingerprint() == described.fingerprint:
        return
    same = len(trained) == described.examples
    now = "with other values or in another order" if same else f"now {len(trained):,}"
    warnings.warn(
        f"{trained.name} has changed since {run} was trained on it: then {described.examples:,} {trained.noun}s to "
        f"train on, {'now the same number, ' if same else ''}{now}",
        stacklevel=3,
    )
