"""Run folders of estimators."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from pyro_vae import checkpoints
from pyro_vae.argument_checks import is_integer
from pyro_vae.data.schema import Schema
from pyro_vae.estimators.forms import Form
from pyro_vae.files import CheckpointError, is_there, read_text, read_yaml, write_text
from pyro_vae.training import History
from pyro_vae.vae import VAE

__all__ = ["ESTIMATOR", "Saved", "load_run"]

ESTIMATOR = "estimator.yaml"
"""The parameters of an estimator, and how X came to its fit."""

_ENTRIES = ("class", "parameters", "left_out", "labels", "dtype", "with_gaps", "seed")
_DTYPES = ("bool", *(f"{sign}int{bits}" for bits in (8, 16, 32, 64) for sign in ("", "u")), "float32", "float64")


class Saved(BaseEstimator):
    """What estimators with a VAE share: they are fitted once they have one, and it goes into a run folder."""

    vae_: VAE
    history_: History
    _form: Form
    _seed: int
    _files: dict[str, str]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a run folder, which :meth:`load`, :func:`pyro_vae.load` and the commands of ``pyro-vae`` read.

        Args:
            folder: a new folder, or an empty one.

        Raises:
            FileExistsError: if there is something in the folder, or a file in its place.
        """
        check_is_fitted(self)
        run = Path(folder)
        if run.exists() and (not run.is_dir() or any(run.iterdir())):
            raise FileExistsError(f"{run} must be a new or an empty folder")
        run.mkdir(parents=True, exist_ok=True)
        for name, text in self._files.items():
            write_text(run / name, text)
        self.vae_.save_weights(run / checkpoints.BEST)
        parameters = self.get_params(deep=False)
        plain = {name: _plain(value) for name, value in parameters.items() if _is_plain(value)}
        described = {
            "class": type(self).__name__,
            "parameters": plain,
            "left_out": [name for name in parameters if name not in plain],
            "labels": [label if isinstance(label, (str, int)) else str(label) for label in self._form.labels],
            "dtype": self._form.dtype,
            "with_gaps": list(self._form.with_gaps),
            "seed": self._seed,
        }
        write_text(run / ESTIMATOR, yaml.safe_dump(described, sort_keys=False, allow_unicode=True))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "vae_")


E = TypeVar("E", bound=Saved)


def load_run(cls: type[E], folder: str | os.PathLike[str]) -> E:
    """Return a fitted estimator from a run folder, which may come from a stranger and is only read.

    Args:
        cls: its class.
        folder: that :meth:`Saved.save` wrote, or another run on a table, for which X is a DataFrame.

    Raises:
        FileNotFoundError: if there is no such run folder.
        ValueError: if its files are damaged, its run was on no table, or it has another class of estimator.
    """
    run = Path(folder)
    vae = checkpoints.load(run)
    if vae.schema is None:
        raise ValueError(f"{run} has no {checkpoints.SCHEMA}: {cls.__name__}.load needs a run on a table")
    found = _described(run, cls) if is_there(run / ESTIMATOR) else _of_config(run, cls, vae.schema)
    labels = found["labels"]
    lacking = [name for name in vae.schema.names if name not in map(str, labels)]
    if lacking:
        raise CheckpointError(f"{run / ESTIMATOR} has no label {lacking[0]!r}, which {checkpoints.SCHEMA} has")
    estimator = cls(**found["parameters"])
    estimator._form = Form(tuple(labels), found["dtype"], tuple(found["with_gaps"]))
    estimator._seed = found["seed"]
    estimator.n_features_in_ = len(labels)
    if found["dtype"] is None and all(isinstance(label, str) for label in labels):
        estimator.feature_names_in_ = np.array(labels, dtype=object)
    names = (checkpoints.CONFIG, checkpoints.DATA, checkpoints.SCHEMA, checkpoints.HISTORY)
    estimator._files = {name: read_text(run / name) for name in names if is_there(run / name)}
    estimator.vae_, estimator.history_ = vae, History.read(run / checkpoints.HISTORY)
    return estimator


def _described(run: Path, cls: type[Saved]) -> dict[str, Any]:
    """Return what estimator.yaml says, and warn of the parameters that it could not say."""
    path = run / ESTIMATOR
    found = read_yaml(path)
    _check(path, sorted(found) == sorted(_ENTRIES), f"must have the entries {', '.join(_ENTRIES)}")
    if found["class"] != cls.__name__:
        raise ValueError(f"{run} has a {str(found['class'])[:40]}, not a {cls.__name__}: use its load")
    known = cls().get_params(deep=False)
    for entry in ("parameters", "left_out"):
        kind, what = (dict, "a mapping") if entry == "parameters" else (list, "a list")
        _check(path, isinstance(found[entry], kind), f"must have {what} as {entry}")
        odd = [str(name)[:40] for name in found[entry] if name not in known]
        _check(path, not odd, f"has parameters that {cls.__name__} has not: {', '.join(odd[:5])}")
    labels, dtype, seed = found["labels"], found["dtype"], found["seed"]
    right = isinstance(labels, list) and all(type(label) in (str, int) for label in labels)
    _check(path, right and len({*map(str, labels)}) == len(labels), "must have different names or numbers as labels")
    _check(path, dtype is None or dtype in _DTYPES, f"must have one of {', '.join(_DTYPES)} as dtype")
    gaps = found["with_gaps"]
    inside = isinstance(gaps, list) and all(is_integer(place, 0) and place < len(labels) for place in gaps)
    _check(path, inside, "must have places of columns as with_gaps")
    _check(path, is_integer(seed, 0), "must have an integer of at least 0 as seed")
    if found["left_out"]:
        warnings.warn(
            f"{', '.join(found['left_out'])} cannot be written into a run folder, so the next fit "
            f"uses {'its' if len(found['left_out']) == 1 else 'their'} default; the VAE is as it was",
            stacklevel=4,
        )
    plain = found["parameters"].items()
    return found | {"parameters": {name: tuple(v) if isinstance(v, list) else v for name, v in plain}}


def _of_config(run: Path, cls: type[Saved], schema: Schema) -> dict[str, Any]:
    """Return the parameters that a run without estimator.yaml has in config.yaml."""
    config = checkpoints.read_config(run)
    known = cls().get_params(deep=False)
    parameters = {name: value for name, value in config.items() if name in known and name != "schema"}
    parameters = {name: tuple(v) if isinstance(v, list) else v for name, v in parameters.items()}
    labels = [column.name for column in schema.columns]
    known_form = {"labels": labels, "dtype": None, "with_gaps": []}
    return {"parameters": parameters, **known_form, "seed": config.get("seed") or 0}


def _check(path: Path, right: bool, what: str) -> None:
    if not right:
        raise CheckpointError(f"{path} {what}. Was it edited by hand?")


def _is_plain(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and _is_plain(inner) for name, inner in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, np.bool_, np.integer, np.floating))


def _plain(value: Any) -> Any:
    """Return a plain value as YAML has it: lists for tuples, Python's numbers for NumPy's."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value.item() if isinstance(value, np.generic) else value
