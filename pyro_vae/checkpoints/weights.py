"""weights.safetensors and last.safetensors: the best weights, and the state from which training goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from pyro_vae.argument_checks import is_finite_number, is_integer
from pyro_vae.files import BEST, LAST, CheckpointError, is_there
from pyro_vae.tensors import TensorFile, check_finite, headers_of, open_tensors, write_tensors

__all__ = ["Last", "check_can_go_on", "last_weights", "names_there", "read_best", "read_last", "write_last"]


class Last(NamedTuple):
    """The state from which training goes on.

    Args:
        weights: the VAE's state.
        optimizer: from the index of each parameter to the optimiser's state for it, tensors and numbers by name.
        objective: the objective's state; empty if it has none.
        progress: the number of the epoch, the number of steps, and the best score.
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
    """Write the state from which training goes on; for the arguments, see :class:`Last`."""
    tensors, numbers = _flat(weights, optimizer["state"], objective)
    write_tensors(run / LAST, tensors, {"progress": json.dumps(progress), "optimizer": json.dumps(numbers)})


def _flat(
    weights: Mapping[str, Tensor], optimizer: Mapping[int, Mapping[str, Any]], objective: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors by their names in the file, and the numbers of the optimiser's state."""
    tensors = {f"weights.{name}": value for name, value in weights.items()}
    tensors |= {f"objective.{name}": value for name, value in objective.items()}
    states = {f"{index}.{key}": value for index, state in optimizer.items() for key, value in state.items()}
    tensors |= {f"optimizer.{name}": value for name, value in states.items() if isinstance(value, Tensor)}
    return tensors, {name: value for name, value in states.items() if not isinstance(value, Tensor)}


def read_last(run: Path, expected: Last | None = None) -> Last:
    """Read what :func:`write_last` wrote.

    Args:
        run: the folder.
        expected: what :func:`write_last` would write now. Names, shapes, dtypes and kinds of numbers are compared with
            it before any tensor is read. None reads the file without a comparison.

    Raises:
        FileNotFoundError: if no epoch was finished.
        ValueError: if the file belongs to another training.
        CheckpointError: if the file is damaged, or holds NaN or infinity.
    """
    path = _path(run)
    with open_tensors(path) as file:
        numbers, progress = _metadata(file, "optimizer"), _metadata(file, "progress")
        if expected is not None:
            built, own_numbers = _flat(*expected[:3])
            _check_progress(path, progress)
            file.check(headers_of(built), _OTHER.format(run))
            _check_numbers(run, numbers, own_numbers)
        tensors = file.read(file.headers)
    if expected is not None:
        check_finite(path, tensors, built)
        _check_values(path, tensors, built, progress)
        found_numbers, built_numbers = (
            {f"optimizer.{name}": n for name, n in of.items()} for of in (numbers, own_numbers)
        )
        _check_values(path, found_numbers, built_numbers, progress)
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


def check_can_go_on(run: Path) -> None:
    """Raise a FileNotFoundError if a run folder has nothing from which a training goes on."""
    _path(run)


def _path(run: Path) -> Path:
    path = run / LAST
    if not is_there(path):
        raise FileNotFoundError(
            f"nothing to go on from in {run}: there is no {LAST}. No epoch was finished, or an estimator saved the "
            "folder, which keeps the best weights alone"
        )
    return path


def last_weights(run: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the last epoch.

    Args:
        run: the folder.
        state: those of the VAE, with which names, shapes and dtypes are compared.
    """
    path = _path(run)
    built = {f"weights.{name}": value for name, value in state.items()}
    with open_tensors(path) as file:
        file.check(headers_of(built), f"the weights in {path} belong to another VAE", within="weights.")
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
    with open_tensors(path) as file:
        file.check(headers_of(state), f"the weights in {path} belong to another model and guide")
        weights = file.read(file.headers)
    check_finite(path, weights, state)
    return weights


def names_there(run: Path, part: str) -> set[str]:
    """Return the names in last.safetensors that belong to ``"weights"``, ``"objective"`` or ``"optimizer"``."""
    with open_tensors(_path(run)) as file:
        tensors = {name.removeprefix(f"{part}.") for name in file.headers if name.startswith(f"{part}.")}
        return tensors | (set(_metadata(file, "optimizer")) if part == "optimizer" else set())


def _metadata(file: TensorFile, name: str) -> dict[str, Any]:
    try:
        found = json.loads(file.metadata[name])
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{file.path} cannot be read: its {name} is missing or not JSON. It is damaged or was cut short"
        ) from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file.path} cannot be read: its {name} must be a mapping")
    return found


def _check_progress(path: Path, progress: Mapping[str, Any]) -> None:
    for name in ("epoch", "steps", "best_score"):
        value = progress.get(name)
        if not (is_finite_number(value) if name == "best_score" else is_integer(value, 1)):
            what = "a finite number" if name == "best_score" else "an integer of at least 1"
            raise CheckpointError(f"{path}: {name} must be {what}; got {str(value)[:100]!r}")


def _check_numbers(run: Path, numbers: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Compare the optimiser's numbers outside tensors: some optimisers count their steps in Python."""
    for name in {**numbers, **own}:
        there, here = (type(n[name]).__name__ if name in n else "not there" for n in (numbers, own))
        if there != here:
            raise ValueError(f"{_OTHER.format(run)}: optimizer.{name} is {there} in the file and {here} here")


def _check_values(
    path: Path, values: Mapping[str, Any], expected: Mapping[str, Any], progress: Mapping[str, Any]
) -> None:
    """Refuse a state of the optimiser that no training leads to.

    Args:
        path: of the file, for errors.
        values: tensors or numbers by name.
        expected: those that the training would write now, by the same names.
        progress: of the training in the file.
    """
    for name, value in values.items():
        key = name.rpartition(".")[2] if name.startswith("optimizer.") else ""
        if isinstance(value, float) and not math.isfinite(value):
            raise CheckpointError(f"{path} holds NaN or infinity in {name}. Train again into another folder")
        if key == "step" and expected[name] == 1 and not 1 <= float(value) <= progress["steps"]:
            raise CheckpointError(
                f"{path}: {name} must be from 1 to {progress['steps']}, the steps taken; got {float(value):g}"
            )
        if key.endswith("_sq") and isinstance(value, Tensor) and (value < 0).any():
            raise CheckpointError(f"{path} holds a negative mean of squares in {name}. Train again into another folder")
