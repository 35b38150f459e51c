"""Run folders: config.yaml, weights.safetensors (the best), last.safetensors (to go on from), history.jsonl."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import safetensors.torch
import torch
import yaml
from torch import Tensor

from pyro_vae.allocation import at_most
from pyro_vae.argument_checks import is_finite_number, is_integer
from pyro_vae.config import build, describe
from pyro_vae.files import CheckpointError, NotARunError, is_there, read_yaml, replacing
from pyro_vae.registry import allowing
from pyro_vae.tensors import TensorFile, check_finite, kinds_of, open_tensors
from pyro_vae.vae import VAE

__all__ = [
    "BEST",
    "CONFIG",
    "HISTORY",
    "LAST",
    "VAE_OPTIONS",
    "CheckpointError",
    "Last",
    "dump_config",
    "load",
    "names_there",
    "read_best",
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

_DTYPES = {name: getattr(torch, name) for name in ("float32", "float64", "float16", "bfloat16")}


def load(
    run: str | os.PathLike[str],
    *,
    vae: VAE | None = None,
    weights: Literal["best", "last"] = "best",
    device: torch.device | str = "cpu",
    allow: str | Sequence[str] = (),
) -> VAE:
    """The VAE of a run folder, with its weights.

    A run folder from a stranger is only read: nothing in it is imported or executed, no link in it is followed, and
    its weights must have the names, shapes and dtypes of the VAE that its config.yaml describes. Its parts are this
    library's, modules of :mod:`torch.nn` and flows of Zuko's. Classes of your own are imported where ``allow`` names
    their module.

    Args:
        run: a folder that ``fit(..., out=...)`` wrote.
        vae: a VAE built as it was for the run, where its parts cannot be found again by name (a lambda, say). A warning
            says where its parts have other arguments than config.yaml names.
        weights: those of the best epoch, or of the last.
        device: where to put it.
        allow: modules or packages of your own, such as ``["my_module"]``, from which the run's parts may come.

    Raises:
        FileNotFoundError: where there is no such run folder.
        NotAllowedError: where config.yaml names a class of a module that ``allow`` leaves out.
        ValueError: where the folder's files are damaged or belong to another VAE, or the parts cannot be built.
    """
    run = Path(run)
    if weights not in ("best", "last"):
        raise ValueError(f'weights must be "best" or "last"; got {weights!r}')
    if is_there(run / CONFIG):
        _check_of_vae(run, read_config(run))
    if vae is None:
        with allowing(allow):
            vae = _rebuild(run, read_config(run), BEST if weights == "best" else LAST)
    elif is_there(run / CONFIG):
        _warn_of_other_parts(run, read_config(run), vae)
    if weights == "best":
        vae.load_weights(run / BEST)
    else:
        vae.load_state_dict(_last_weights(run, vae.state_dict()))
    return vae.to(device)


def _check_of_vae(run: Path, config: dict[str, Any]) -> None:
    """Raise a ValueError for the run of a model and guide, of which no VAE is made."""
    if config.get("from") == "python" and "guide" in config:
        raise ValueError(
            f"the run in {run} is of a model and guide of your own, not of a VAE. Read {BEST} with "
            "safetensors.torch.load_file, and load it into your modules; or give the same model and guide to "
            "fit(..., out=run, resume=True)"
        )


def _rebuild(run: Path, config: dict[str, Any], weights: str) -> VAE:
    for part in ("prior", "likelihood", "posterior"):
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
    with at_most(*_limits(run / weights), why):
        vae = build(shapes["x"], context_features=shapes["context"], **options)
        return vae.to(_DTYPES[config["dtype"]])


def _warn_of_other_parts(run: Path, config: dict[str, Any], vae: VAE) -> None:
    """Warns where a part has another argument than the run's: its weights fit, but the numbers are another VAE's."""
    for name in ("prior", "likelihood", "posterior"):
        try:
            there = describe(getattr(vae, name), given=vae.posterior)
        except ValueError:  # a part that has no name
            continue
        difference = _difference(name, config.get(name), there)
        if difference:
            warnings.warn(
                f"{difference} in {run / CONFIG}, so what comes out is of another VAE than was trained. Build it as it "
                "was",
                stacklevel=3,
            )
            return


def _difference(name: str, recorded: Any, there: Any) -> str | None:
    """The first argument that both describe and that differs, in words."""
    if isinstance(recorded, dict) and isinstance(there, dict):
        both = (_difference(f"{name}.{key}", recorded[key], there[key]) for key in recorded if key in there)
        return next((found for found in both if found), None)
    if not all(isinstance(value, (int, float, str)) for value in (recorded, there)) or name.endswith(".class"):
        return None
    if isinstance(recorded, str) or isinstance(there, str):
        same = _last_name(recorded) == _last_name(there)
    else:
        same = math.isclose(recorded, there, rel_tol=1e-5)
    return None if same else f"the VAE given has {name} {there}, where it is {recorded}"


def _last_name(value: Any) -> str:
    """ReLU of torch.nn.ReLU, in lower case."""
    return str(value).rpartition(".")[2].lower()


def _limits(path: Path) -> tuple[int, int]:
    """How many numbers and tensors a VAE with these weights may be made of, what it is made through included."""
    if not is_there(path):
        raise FileNotFoundError(f"no weights at {path}; they were not saved, or not copied")
    with open_tensors(path) as file:
        return 2**25 + 8 * file.numbers, 1000 + 10 * len(file.kinds)


def read_config(run: Path) -> dict[str, Any]:
    """The options of a run.

    Raises:
        NotARunError: if the folder or its config.yaml is missing.
        CheckpointError: where config.yaml is no YAML mapping, or an option is not of its kind.
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


def _is_whole(least: int) -> Callable[[Any], bool]:
    return lambda value: is_integer(value, least)


def _is_shape(value: Any) -> bool:
    return all(map(_is_whole(1), value if isinstance(value, list) else [value]))


# What the options are that a VAE is built from, or a run is evaluated by.
_OPTIONS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("latent_dim", "epochs", "batch_size"), (_is_whole(1), "an integer of at least 1")),
    "seed": (_is_whole(0), "an integer of at least 0"),
    "hidden": (_is_shape, "an integer of at least 1, or a list of them"),
    **dict.fromkeys(("activation", "nets"), (lambda value: isinstance(value, str), "a name")),
    **dict.fromkeys(
        ("prior", "likelihood", "posterior", "objective"),
        (lambda value: isinstance(value, (str, dict)), "a name, or a mapping with a name under class"),
    ),
    **dict.fromkeys(("missing", "labels", "validate"), (lambda value: isinstance(value, bool), "true or false")),
    **dict.fromkeys(("fill", "lr"), (is_finite_number, "a number")),
    "dtype": (lambda value: isinstance(value, str) and value in _DTYPES, f"one of {', '.join(_DTYPES)}"),
    "shapes": (
        lambda value: (
            isinstance(value, dict) and _is_shape(value.get("x", 1)) and _is_whole(0)(value.get("context", 0))
        ),
        "the shape of x and the number of context features",
    ),
}


def write_config(run: Path, config: dict[str, Any]) -> None:
    """Writes the options of a run, in their order."""
    with replacing(run / CONFIG) as partial:
        partial.write_text(dump_config(config), encoding="utf-8")


def dump_config(config: dict[str, Any]) -> str:
    """The options of a run as YAML.

    Raises:
        ValueError: where an option is no plain number, text, list or mapping.
    """
    first = "# What this run was made with; pyro_vae.load gives its VAE back.\n"
    try:
        return first + yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    except yaml.YAMLError as error:
        raise ValueError(f"config must hold plain numbers, text, lists and mappings: {error}") from error


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes tensors as safetensors; the file appears whole or not at all."""
    cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with replacing(path) as partial:
        partial.write_bytes(safetensors.torch.save(cpu, metadata))


class Last(NamedTuple):
    """What training needs to go on.

    Args:
        weights: the VAE's state.
        optimizer: the optimiser's state, tensors and numbers by name, of each parameter by its index.
        objective: the objective's state; empty where it has none.
        progress: the number of the epoch, the steps taken, and the best score.
    """

    weights: dict[str, Tensor]
    optimizer: dict[int, dict[str, Any]]
    objective: dict[str, Tensor]
    progress: dict[str, Any]


def write_last(
    run: Path,
    weights: dict[str, Tensor],
    optimizer: dict[str, Any],
    objective: dict[str, Tensor],
    progress: dict[str, Any],
) -> None:
    """Writes what training needs to go on: weights, the states of optimiser and objective, and progress (numbers)."""
    tensors, numbers = _flat(weights, optimizer["state"], objective)
    write_tensors(run / LAST, tensors, {"progress": json.dumps(progress), "optimizer": json.dumps(numbers)})


def _flat(
    weights: Mapping[str, Tensor], optimizer: Mapping[int, Mapping[str, Any]], objective: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors by their names in the file, and the numbers of the optimiser."""
    tensors = {f"weights.{name}": value for name, value in weights.items()}
    tensors |= {f"objective.{name}": value for name, value in objective.items()}
    states = {f"{index}.{key}": value for index, state in optimizer.items() for key, value in state.items()}
    tensors |= {f"optimizer.{name}": value for name, value in states.items() if isinstance(value, Tensor)}
    return tensors, {name: value for name, value in states.items() if not isinstance(value, Tensor)}


def read_last(run: Path, expected: Last | None = None) -> Last:
    """What :func:`write_last` wrote.

    Args:
        run: the folder.
        expected: what another file would hold now, of which names, shapes, dtypes and kinds of numbers are compared
            before anything is read. None reads the file as it is.

    Raises:
        FileNotFoundError: where no epoch has been finished.
        ValueError: where the file belongs to another training.
        CheckpointError: where the file is damaged, or holds NaN or infinity.
    """
    path = _last(run)
    with open_tensors(path) as file:
        numbers, progress = _metadata(file, "optimizer"), _metadata(file, "progress")
        if expected is not None:
            built, own_numbers = _flat(*expected[:3])
            _check_progress(path, progress)
            file.check(kinds_of(built), _OTHER.format(run))
            _check_numbers(run, numbers, own_numbers)
        tensors = file.read(file.kinds)
    if expected is not None:
        check_finite(path, tensors, built)
        _check_values(path, tensors, built, progress)
        counted, first = ({f"optimizer.{name}": n for name, n in of.items()} for of in (numbers, own_numbers))
        _check_values(path, counted, first, progress)
    found = Last({}, {}, {}, progress)
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        if part == "optimizer":
            numbers[rest] = value
        else:
            {"weights": found.weights, "objective": found.objective}[part][rest] = value
    for name, value in numbers.items():
        index, _, key = name.partition(".")
        found.optimizer.setdefault(int(index), {})[key] = value
    return found


_OTHER = "{} holds the training of another VAE, or by another optimiser or objective"


def _last(run: Path) -> Path:
    path = run / LAST
    if not is_there(path):
        raise FileNotFoundError(f"nothing to go on from in {run}: there is no {LAST}, so no epoch was finished")
    return path


def _last_weights(run: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the last epoch alone."""
    path = _last(run)
    built = {f"weights.{name}": value for name, value in state.items()}
    with open_tensors(path) as file:
        file.check(kinds_of(built), f"the weights in {path} belong to another VAE", within="weights.")
        tensors = file.read(built)
    check_finite(path, tensors, built)
    return {name.removeprefix("weights."): value for name, value in tensors.items()}


def read_best(run: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the best weights of a run.

    Args:
        run: the folder.
        state: tensors of the names, shapes and dtypes that the weights must have.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: if they have others.
        CheckpointError: if the file is damaged, or holds NaN or infinity.
    """
    path = run / BEST
    if not is_there(path):
        raise FileNotFoundError(f"no weights at {path}; they were not saved, or not copied")
    with open_tensors(path) as file:
        file.check(kinds_of(state), f"the weights in {path} belong to another model and guide")
        weights = file.read(file.kinds)
    check_finite(path, weights, state)
    return weights


def names_there(run: Path, part: str) -> set[str]:
    """What the file to go on from holds of a part: ``"weights"``, ``"objective"`` or ``"optimizer"``."""
    with open_tensors(_last(run)) as file:
        tensors = {name.removeprefix(f"{part}.") for name in file.kinds if name.startswith(f"{part}.")}
        return tensors | (set(_metadata(file, "optimizer")) if part == "optimizer" else set())


def _metadata(file: TensorFile, name: str) -> dict[str, Any]:
    try:
        found = json.loads(file.metadata[name])
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{file.path} cannot be read: its {name} is not there, or no JSON. It is damaged or was cut short"
        ) from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file.path} cannot be read: its {name} must be a mapping")
    return found


def _check_progress(path: Path, progress: Mapping[str, Any]) -> None:
    fits = {"epoch": _is_whole(1), "steps": _is_whole(1), "best_score": is_finite_number}
    for name, fit in fits.items():
        if not fit(progress.get(name)):
            what = "a finite number" if name == "best_score" else "an integer of at least 1"
            raise CheckpointError(f"{path}: {name} must be {what}; got {str(progress.get(name))[:100]!r}")


def _check_numbers(run: Path, numbers: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Numbers of the optimiser that are no tensors, such as the steps that some count in Python."""
    for name in {**numbers, **own}:
        there, here = (type(n[name]).__name__ if name in n else "not there" for n in (numbers, own))
        if there != here:
            raise ValueError(f"{_OTHER.format(run)}: optimizer.{name} is {there} in the file and {here} here")


def _check_values(path: Path, values: Mapping[str, Any], first: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
    """Refuses states of the optimiser that no training leaves."""
    for name, value in values.items():
        key = name.rpartition(".")[2] if name.startswith("optimizer.") else ""
        if isinstance(value, float) and not math.isfinite(value):
            raise CheckpointError(f"{path} holds NaN or infinity in {name}. Train again into another folder")
        if key == "step" and first[name] == 1 and not 1 <= float(value) <= progress["steps"]:
            raise CheckpointError(
                f"{path}: {name} must be from 1 to {progress['steps']}, the steps taken; got {float(value):g}"
            )
        if key.endswith("_sq") and isinstance(value, Tensor) and (value < 0).any():
            raise CheckpointError(f"{path} holds a negative mean of squares in {name}. Train again into another folder")
