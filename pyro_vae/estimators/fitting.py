"""A VAE trained as the parameters of an estimator say."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from sklearn.utils import check_random_state

from pyro_vae.argument_checks import finite_number, true_or_false
from pyro_vae.checkpoints import CONFIG, DATA, HISTORY, SCHEMA
from pyro_vae.config import build
from pyro_vae.data import Rows
from pyro_vae.data.schema import Schema
from pyro_vae.data.tables import rows_of_frame
from pyro_vae.estimators.forms import Form
from pyro_vae.files import read_text
from pyro_vae.seeds import derive, seeded
from pyro_vae.training import History, fit
from pyro_vae.vae import VAE

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["OF_BUILD", "OF_FIT", "Training", "seed_from", "trained"]

OF_BUILD = ("latent_dim", "hidden", "prior", "likelihood", "posterior", "mask_likelihood", "missing")
"""The parameters of estimators that are arguments of :func:`pyro_vae.build`."""

OF_FIT = ("epochs", "batch_size", "lr", "patience", "device")
"""The parameters of estimators that are arguments of :func:`pyro_vae.fit`."""

_WEIGHTS, _ROWS = 0, 1  # streams of random numbers


class Training(NamedTuple):
    """A VAE, and how it was trained.

    Args:
        vae: with its best weights.
        history: the epochs.
        files: the text of the files of its run folder, by their names.
    """

    vae: VAE
    history: History
    files: dict[str, str]


def trained(parameters: Mapping[str, Any], frame: pd.DataFrame, form: Form, seed: int) -> Training:
    """Return a VAE that was trained on a DataFrame.

    Args:
        parameters: of an estimator; those of ``OF_BUILD`` and ``OF_FIT``, ``schema``, ``validation_fraction`` and
            ``verbose`` count.
        frame: the table, with the names of the schema.
        form: of X.
        seed: of the weights, of which rows are left out to validate on, and of the training.
    """
    given: Schema | None = parameters["schema"]
    if given is not None and not isinstance(given, Schema):
        raise TypeError(f"schema must be a Schema, such as suggest_schema returns; got {type(given).__name__}")
    if given is not None and given.context:
        names = ", ".join(repr(column.name) for column in given.context)
        raise ValueError(
            f"schema gives the role context to {names}, and X of scikit-learn's estimators is data alone. Make them "
            "data, or train with pyro_vae.build and fit"
        )
    verbose = true_or_false("verbose", parameters["verbose"])
    rows = rows_of_frame(frame, given)
    if given is None and rows.schema is not None:
        rows = replace(rows, schema=form.of_schema(rows.schema))
    train, valid = _parts(rows, parameters["validation_fraction"], seed)
    options = {name: parameters[name] for name in OF_BUILD if name in parameters}
    options["missing"] = true_or_false("missing", options["missing"]) or rows.has_missing
    with seeded(derive(seed, _WEIGHTS)):
        # The options may be those of a run folder from a stranger, so no module is imported for them.
        vae = build(data=train, allow=(), **options)
    of_fit = {name: parameters[name] for name in OF_FIT}
    with tempfile.TemporaryDirectory() as folder:
        history = fit(vae, train, valid=valid, seed=seed, progress=verbose, out=folder, **of_fit)
        files = {name: read_text(Path(folder) / name) for name in (CONFIG, DATA, SCHEMA, HISTORY)}
    return Training(vae, history, files)


def seed_from(random_state: int | np.random.RandomState | None) -> int:
    """Return a seed from an integer, a RandomState, which draws it, or None for NumPy's own."""
    return int(check_random_state(random_state).randint(2**31 - 1))


def _parts(rows: Rows, fraction: float, seed: int) -> tuple[Rows, Rows | None]:
    """Return the rows to train on, and those to validate on; None if the fraction is 0."""
    fraction = finite_number("validation_fraction", fraction)
    if not 0 <= fraction < 1:
        raise ValueError(f"validation_fraction must be at least 0 and less than 1; got {fraction:g}")
    count = math.ceil(fraction * len(rows))
    if not count:
        return rows, None
    if count == len(rows):
        raise ValueError(f"validation_fraction={fraction:g} leaves none of {len(rows)} rows to train on")
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(derive(seed, _ROWS)))
    return rows[order[count:]], rows[order[:count]]
