"""The first look at the data before a training: parts start from them, and data that do not fit are refused."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from pyro.infer import ELBO, Trace_ELBO, TraceEnum_ELBO
from torch import Tensor

from pyro_vae.bound import target_terms
from pyro_vae.compatibility import check_objective
from pyro_vae.config import make_objective
from pyro_vae.data import Batches, without_single_examples
from pyro_vae.objectives import Objective
from pyro_vae.parts import MaskLikelihood, as_prior
from pyro_vae.seeds import derive, seeded
from pyro_vae.training.first_batch import needs_two, warn_of_scale
from pyro_vae.training.options import Options
from pyro_vae.training.precision import check_mixed_precision
from pyro_vae.training.trainee import Trainee
from pyro_vae.vae import VAE, evaluating

__all__ = ["Ready", "prepare", "start_from_data"]

_FOR_MASKS = 10_000  # examples from which a model of the mask takes means and standard deviations
_NO_PARAMETERS = {
    False: ": its prior, likelihood and posterior hold none",
    True: '. Declare them in the model or guide, as pyro.module("decoder", decoder) and pyro.param do',
}


class Ready(NamedTuple):
    """What a training starts with.

    Args:
        train: batches to train on.
        objective: what SVI minimises.
        shapes: of x, and how many context features there are, for config.yaml.
    """

    train: Batches
    objective: ELBO
    shapes: dict[str, Any]


def prepare(trainee: Trainee, train: Batches, valid: Batches | None, objective: ELBO | None, options: Options) -> Ready:
    """Start parts from the data, find the parameters, and check that data, programs and objective go together.

    Raises:
        ValueError: if they do not.
    """
    vae = next((m for m in trainee.modules.values() if isinstance(m, VAE)), None)
    if vae is not None:  # also of a subclass with programs of its own
        start_from_data(vae, train)
    x, *c = batch = _converted(vae, *_first("train", train))
    trainee.run_once(*batch)
    if not trainee.parameters:
        raise ValueError(f"{trainee.name} has no parameters to train{_NO_PARAMETERS[trainee.vae is None]}")
    if options.mixed_precision:
        check_mixed_precision(trainee.module)
    objective = _objective(trainee, objective)
    _check_first_batches(trainee, objective, batch, None if valid is None else _first("valid", valid), options.seed)
    if trainee.vae is not None:
        warn_of_scale(trainee.vae, x, *c)
    if why := needs_two(trainee, x, *c):
        train = without_single_examples(train, why)
        next(iter(train))  # a single example is refused now
    shared = c if trainee.vae is None else trainee.vae.shared_context(*c)
    return Ready(train, objective, {"x": list(x.shape[1:]), "context": sum(int(t[0].numel()) for t in shared)})


def start_from_data(vae: VAE, train: Batches) -> None:
    """Give the priors that start from examples as many as they want, and some to a model of the mask."""
    starters = [prior for prior in map(as_prior, vae.modules()) if prior.wanted_examples()]
    masking = vae.mask_likelihood if isinstance(vae.mask_likelihood, MaskLikelihood) else None
    wanted = max([_FOR_MASKS * (masking is not None), *(prior.wanted_examples() for prior in starters)])
    if not wanted:
        return
    rows: list[tuple[Tensor, ...]] = []
    for batch in train:
        rows.append(batch)
        if sum(len(b[0]) for b in rows) >= wanted:
            break
    if not rows:
        return  # prepare will say so
    x, *context = _converted(vae, *(torch.cat(parts) for parts in zip(*rows, strict=True)))
    for prior in starters:
        prior.start_from(vae.encoder_input(x), *vae.shared_context(*context))
    if masking is not None:
        masking.start_at(x, ~x.isnan())


def _converted(vae: VAE | None, *batch: Tensor) -> tuple[Tensor, ...]:
    """Return x and context as the parts of a VAE see them, with labels one-hot; of other programs as they are."""
    if vae is None:
        return batch
    x, context = vae.tensors(*batch)
    return x, *context


def _first(name: str, supply: Batches) -> tuple[Tensor, ...]:
    """Return the first batch; raise a ValueError if there is none."""
    batch = next(iter(supply), None)
    if batch is None:
        raise ValueError(f"{name} must hold at least one example; got none")
    return batch


def _objective(trainee: Trainee, objective: ELBO | None) -> ELBO:
    """Return the objective, by default the usual one, with the number of plates that the programs have."""
    if objective is None and trainee.vae is not None:
        objective = make_objective("auto", trainee.vae)
    if objective is None:
        objective = TraceEnum_ELBO() if trainee.enumerates else Trace_ELBO()
    if isinstance(objective, TraceEnum_ELBO) and math.isinf(objective.max_plate_nesting):
        objective.max_plate_nesting = trainee.max_plate_nesting  # Pyro would run the model to find out
    return objective


def _check_first_batches(
    trainee: Trainee, objective: ELBO, train: tuple[Tensor, ...], valid: tuple[Tensor, ...] | None, seed: int
) -> None:
    """Run the bound once on a batch of each kind, so that an error comes before anything is written."""
    for batch in (train, valid):
        if batch is None:
            continue
        x, *c = batch
        with evaluating(trainee.module), seeded(derive(seed)), trainee.scope():
            if trainee.vae is not None or batch is valid:
                target_terms(trainee.target, x, *c, kl="sampled")
            if trainee.vae is not None:
                check_objective(trainee.vae, objective, x, *c)
            elif isinstance(objective, Objective):
                objective.check_on(trainee.model, trainee.guide, x, *c)
