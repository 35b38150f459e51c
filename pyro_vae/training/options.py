"""The options of a training, checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pyro
import torch
from pyro.infer import ELBO, ReweightedWakeSleep

from pyro_vae.argument_checks import at_least, finite_number, one_of
from pyro_vae.config import find
from pyro_vae.data import Batches, DataSet, DataSource
from pyro_vae.data.frames import column_names, is_frame
from pyro_vae.objectives import Objective
from pyro_vae.training.optimizer import Schedule, adamw

__all__ = ["Engine", "MakeOptimizer", "Options", "check_objective_alone", "check_sources", "usual_epochs"]

Engine = Literal["auto", "compiled", "pyro"]
MakeOptimizer = Callable[..., torch.optim.Optimizer]

_STEPS_WORTH_COMPILING = 3000
_STEPS = 2000  # the least number of steps by default, on small data; large data get _EPOCHS passes
_EPOCHS = 10
_MADE = (pyro.optim.PyroOptim, torch.optim.Optimizer)  # optimisers that have their parameters already


def usual_epochs(examples: int, batch_size: int) -> int:
    """Return the number of epochs by default: at least 10 passes over the data, and at least 2,000 steps.

    Args:
        examples: how many there are to train on, 0 if unknown.
        batch_size: of a step.

    Example:
        >>> usual_epochs(55_000, 128), usual_epochs(1297, 128), usual_epochs(20, 128)
        (10, 198, 2000)
    """
    if not examples:
        return _EPOCHS
    return max(_EPOCHS, math.ceil(_STEPS * min(1.0, batch_size / examples)))


@dataclass
class Options:
    """How to train; the arguments are those of :func:`pyro_vae.fit`.

    Raises:
        ValueError: if one is out of range.
        TypeError: if ``optimizer`` does not make an optimiser of torch's.
    """

    epochs: int | None
    batch_size: int
    lr: float
    schedule: Schedule
    optimizer: MakeOptimizer | None
    patience: int | None
    engine: Engine
    mixed_precision: bool
    has_context: bool
    seed: int

    def __post_init__(self) -> None:
        self.epochs = None if self.epochs is None else at_least("epochs", self.epochs, 1)
        self.batch_size = at_least("batch_size", self.batch_size, 1)
        self.patience = None if self.patience is None else at_least("patience", self.patience, 1)
        self.seed = at_least("seed", self.seed, 0)
        self.lr = finite_number("lr", self.lr, above=0, why="such as 1e-3")
        one_of("schedule", self.schedule, *get_args(Schedule))
        one_of("engine", self.engine, *get_args(Engine))
        self._check_optimizer()

    def _check_optimizer(self) -> None:
        if self.optimizer is None or (callable(self.optimizer) and not isinstance(self.optimizer, _MADE)):
            return
        remedy = ""
        if isinstance(self.optimizer, pyro.optim.PyroOptim):
            remedy = ". For an optimiser of Pyro's, use SVI(vae.model, vae.guide, optim, loss) yourself"
        elif isinstance(self.optimizer, torch.optim.Optimizer):
            remedy = ". Pass its class, without parameters"
        elif isinstance(self.optimizer, str):
            remedy = _class_named(self.optimizer)
        got = repr(self.optimizer) if isinstance(self.optimizer, str) else type(self.optimizer).__name__
        raise TypeError(
            "optimizer must make a torch optimiser from parameters and lr=, such as torch.optim.Adam or "
            f"functools.partial(torch.optim.SGD, momentum=0.9); got {got}{remedy}"
        )

    def make_optimizer(self, parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
        """Return the optimiser of these parameters."""
        return (self.optimizer or adamw)(parameters, lr=self.lr)

    def compiles(self, steps: int) -> bool:
        """Return True if a training of so many steps runs each as one graph."""
        return self.engine == "compiled" or (self.engine == "auto" and steps >= _STEPS_WORTH_COMPILING)

    def recorded(self) -> dict[str, Any]:
        """Return the options that config.yaml holds for any training."""
        names = ("epochs", "batch_size", "lr", "schedule", "patience", "mixed_precision", "seed")
        return {name: getattr(self, name) for name in names}

    def unusual(self) -> dict[str, Any]:
        """Return the options, if they were used, that have no place among the other options of config.yaml."""
        found: dict[str, Any] = {}
        if self.optimizer is not None and self.optimizer is not adamw:
            found["optimizer"] = getattr(self.optimizer, "__qualname__", repr(self.optimizer))
        return found | ({"has_context": True} if self.has_context else {})


def _class_named(name: str) -> str:
    """Return the class of torch.optim that a name means, as the end of an error."""
    found = {known.lower(): known for known in torch.optim.__all__}.get(name.lower())
    return f". Give the class: torch.optim.{found}" if found else ""


def check_sources(train: DataSource, valid: DataSource | None) -> None:
    """Refuse batches, a data set with its three splits, and two tables whose columns differ."""
    for name, source in (("train", train), ("valid", valid)):
        if isinstance(source, DataSet):
            raise TypeError(
                f"{name} must be one split; got a DataSet, which has three. Give two of them: fit(vae, digits.train, "
                "valid=digits.valid) for a data set digits"
            )
        if isinstance(source, Batches):
            raise TypeError(
                f"{name} must be the data themselves, not batches of them: fit makes its own, with its batch_size, "
                "seed and order"
            )
    if is_frame(train) and is_frame(valid) and column_names(train) != column_names(valid):
        raise ValueError("valid must have the columns of train, in the same order: valid[list(train.columns)]")


def _made(objective: object) -> str:
    """Return how to make an objective of a class or a name; empty for anything else."""
    if isinstance(objective, type) and issubclass(objective, ELBO):
        return f". Call it: {objective.__name__}()"
    if not isinstance(objective, str):
        return ""
    try:
        found = find("objective", objective)
    except ValueError:
        return ". The classes are in pyro_vae.objectives and pyro.infer, such as objectives.IWAE(num_particles=5)"
    home = "pyro_vae.objectives" if found.__module__.startswith("pyro_vae.") else "pyro.infer"
    return f". Make it: {home}.{found.__name__}(), or pyro_vae.config.make_objective({objective!r}, vae)"


def check_objective_alone(objective: ELBO | None, patience: int | None) -> None:
    """Raise an error if fit cannot minimise an objective, whatever it trains.

    Raises:
        TypeError: if it is no Pyro ELBO, or one without a single loss.
        ValueError: if ``patience`` is given and the objective does not train the validation elbo.
    """
    if objective is not None and not isinstance(objective, ELBO):
        raise TypeError(f"objective must be a Pyro ELBO, such as Trace_ELBO(); got {objective!r}{_made(objective)}")
    if isinstance(objective, ReweightedWakeSleep) or type(objective).__name__.startswith("Jit"):
        raise TypeError(
            f"fit cannot minimise {type(objective).__name__}: it needs one loss, and parameters in Pyro's store for "
            "the Jit classes. Trace_ELBO() is the usual objective"
        )
    if patience is not None and isinstance(objective, Objective) and not objective.bounds_log_prob:
        raise ValueError(
            f"patience looks at the validation elbo, and {type(objective).__name__} as given does not train that. "
            "Leave it out"
        )
