"""A training in progress: its state, an epoch, and saving and restoring."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pyro.infer import ELBO, SVI
from torch import Tensor

from pyro_vae import checkpoints
from pyro_vae.bound import NotANumberError, average_elbo
from pyro_vae.data import Batches
from pyro_vae.data.description import Description
from pyro_vae.objectives import Objective
from pyro_vae.seeds import derive, seeded
from pyro_vae.svi import CompiledSVI
from pyro_vae.svi.optimizer import SharedOptim
from pyro_vae.tensors import write_tensors
from pyro_vae.training.history import Epoch, History
from pyro_vae.training.optimizer import learning_rate, states_after_a_step
from pyro_vae.training.options import Options
from pyro_vae.training.progress import Reporter
from pyro_vae.training.step_terms import StepTerms
from pyro_vae.training.streams import TRAIN_NOISE, VALID_NOISE
from pyro_vae.training.trainee import Trainee
from pyro_vae.vae import evaluating
from pyro_vae.value_checks import without_validation

__all__ = ["Run", "Snapshot", "TrainingDivergedError"]

_WARMUP_STEPS = 200  # or one epoch if that is shorter


class TrainingDivergedError(RuntimeError):
    """The loss or the weights became NaN or infinite."""


@dataclass(frozen=True)
class Snapshot:
    """A copy of the state after a finished epoch.

    Args:
        epoch: its number, 0 for the start.
        steps: taken so far.
        weights: parameters and buffers by name.
        optimizer: the optimiser's state.
        objective: the objective's state; empty if it has none.
    """

    epoch: int
    steps: int
    weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    objective: dict[str, Tensor]


@dataclass(eq=False)
class Run:
    """Everything that an epoch of training needs, made ready.

    Args:
        trainee: what is trained.
        train: batches to train on.
        valid: batches to validate on.
        objective: what SVI minimises.
        options: the other arguments of :func:`pyro_vae.fit`.
        compiled: True if each step runs as one graph.
    """

    trainee: Trainee
    train: Batches
    valid: Batches | None
    objective: ELBO
    options: Options
    compiled: bool = False

    def __post_init__(self) -> None:
        self.lr, self.seed = self.options.lr, self.options.seed
        self.epochs: int = self.options.epochs or 1
        self.optimizer = self.options.make_optimizer(self.trainee.parameters)
        if isinstance(self.objective, Objective):
            self.objective.reset()
        self.terms = StepTerms()
        model, guide = self.terms.watch(self.trainee.model, self.trainee.guide, self.objective)
        self.svi: SVI
        if self.compiled:
            self.svi = CompiledSVI(model, guide, self.optimizer, self.objective, also=self.terms.take)
        else:
            self.svi = SVI(model, guide, SharedOptim(self.optimizer), loss=self.objective)
        self.config: dict[str, Any] = {}
        self.data: Description | None = None
        self.steps = 0
        self.history = History()
        self.best: dict[str, Tensor] | None = None
        self.best_score = -math.inf
        self.last = self._snapshot(0)

    @property
    def keeps_last(self) -> bool:
        """True if the last weights are kept, since the objective is no bound on log p(x), which the elbo measures."""
        return isinstance(self.objective, Objective) and not self.objective.bounds_log_prob

    def _step_terms(self) -> Tensor:
        noted = self.svi.noted if isinstance(self.svi, CompiledSVI) else None
        return self.terms.take() if noted is None else noted

    def compile(self, reporter: Reporter) -> None:
        """Capture and compile the step, so that the first step of a training takes no longer than the others."""
        if not self.compiled:
            return
        reporter.say("compiling the step")
        with self._trial() as batch:
            for _ in range(2):  # one by Pyro, then the first compiled one
                self.svi.step(*batch)

    @contextlib.contextmanager
    def _trial(self) -> Iterator[tuple[Tensor, ...]]:
        """Give a batch for trial steps, and undo them afterwards."""
        batch = next(iter(self.train))
        state = copy.deepcopy(self.optimizer.state_dict())
        of_objective = _state(self.objective)
        with (
            self.trainee.tensors_kept(),
            self.trainee.modes_kept(),
            seeded(derive(self.seed, TRAIN_NOISE)),
            self.trainee.scope(),
            without_validation(),
        ):
            self.trainee.train()
            yield batch
        self.terms.take()
        self.optimizer.load_state_dict(state)
        _load_state(self.objective, of_objective)

    def epoch(self, number: int, reporter: Reporter) -> Epoch:
        """Train one epoch, validate, and keep the weights."""
        start = time.perf_counter()
        loss, recon, kl = self._pass_over_data(number, reporter)
        valid_elbo = None if self.valid is None else self._validate(number, self.valid)
        seconds = round(time.perf_counter() - start, 3)
        record = Epoch(number, loss, recon - kl, recon, kl, valid_elbo, seconds, _terms(self.objective))
        self.history.append(record)
        self.last = self._snapshot(number)
        if self.valid is None or self.keeps_last or record.score > self.best_score:
            self.best, self.best_score = self.last.weights, record.score
        return record

    def _pass_over_data(self, number: int, reporter: Reporter) -> tuple[float, float, float]:
        """Train on all batches; return loss, recon and kl, means over the examples."""
        self.trainee.train()
        loss = examples = 0.0
        sums = torch.zeros(2)
        # The first batch was checked with validation on. Later checks would cost time and find nothing.
        with seeded(derive(self.seed, TRAIN_NOISE, number)), self.trainee.scope(), without_validation():
            for step, batch in enumerate(self.train.epoch(number)):
                self._set_learning_rate(number - 1 + (step / len(self.train) if len(self.train) else 0.0))
                step_loss = self.svi.step(*batch)
                terms = self._step_terms()
                if not math.isfinite(step_loss):
                    self._diverged(f"the loss became {step_loss}", number, step, terms)
                n = batch[0].shape[0]
                self.steps += 1
                examples += n
                loss += step_loss
                sums = sums.to(terms) + n * self.trainee.terms_per_example(n) * terms
                if reporter.wants_terms:
                    reporter.step(number, *(sums / examples).tolist())
                else:
                    reporter.step(number)
        if not examples:
            raise ValueError(f"the training data gave no batch in epoch {number}; an iterator gives its data only once")
        if not all(torch.isfinite(p).all() for p in self.trainee.tensors() if p.requires_grad):
            self._diverged("the weights became NaN or infinite", number, step, terms)
        recon, kl = (sums / examples).tolist()
        return loss / examples, recon, kl

    def _validate(self, number: int, valid: Batches) -> float:
        # The noise is the same after each epoch, so epochs differ by their weights alone.
        try:
            with evaluating(self.trainee.module), self.trainee.scope():
                valid_elbo = average_elbo(self.trainee.target, valid, seed=derive(self.seed, VALID_NOISE)).elbo
        except NotANumberError as error:
            raise TrainingDivergedError(f"the validation elbo became NaN after epoch {number}: {error}.") from error
        if not math.isfinite(valid_elbo):
            raise TrainingDivergedError(f"the validation elbo became {valid_elbo} after epoch {number}.")
        return valid_elbo

    def _set_learning_rate(self, epochs_done: float) -> None:
        warmup = min(_WARMUP_STEPS, len(self.train) or _WARMUP_STEPS)
        lr = learning_rate(self.lr, self.options.schedule, self.steps, warmup, epochs_done / self.epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def _diverged(self, what: str, epoch: int, step: int, terms: Tensor) -> None:
        recon, kl = terms.tolist()
        term = "recon" if not math.isfinite(recon) else "kl" if not math.isfinite(kl) else "the gradient"
        raise TrainingDivergedError(
            f"{what} at step {step + 1} of epoch {epoch} (step {self.steps + 1} in all), through {term} "
            f"(recon {recon:g}, kl {kl:g})."
        )

    def _snapshot(self, epoch: int) -> Snapshot:
        return Snapshot(
            epoch,
            self.steps,
            _copy(self.trainee.state_dict()),
            copy.deepcopy(self.optimizer.state_dict()),
            _state(self.objective),
        )

    def remember(self) -> None:
        """Take the weights as they are now for those of the last epoch."""
        self.last = self._snapshot(self.last.epoch)

    def save(self, folder: Path) -> None:
        """Write all files of a run folder; nothing before the first epoch."""
        if self.best is None:
            return
        checkpoints.write_config(folder, self.config)
        if self.data is not None:
            checkpoints.write_description(folder, self.data)
        if self.trainee.vae is not None and self.trainee.vae.schema is not None:
            checkpoints.write_schema(folder, self.trainee.vae.schema)
        write_tensors(folder / checkpoints.BEST, self.best)
        progress = {"epoch": self.last.epoch, "steps": self.last.steps, "best_score": self.best_score}
        checkpoints.write_last(folder, self.last.weights, self.last.optimizer, self.last.objective, progress)
        History(self.history[: self.last.epoch]).write(folder / checkpoints.HISTORY)

    def restore(self, folder: Path) -> None:
        """Go on with the training in a folder."""
        if _state(self.objective).keys() != checkpoints.names_there(folder, "objective"):
            raise ValueError(
                f"the run in {folder} was trained with another objective than {type(self.objective).__name__}; go on "
                "with the same, or train into another folder"
            )
        states = self._expected_states(folder)
        expected = checkpoints.Last(self.trainee.state_dict(), states, _state(self.objective), {})
        last = checkpoints.read_last(folder, expected)
        progress = last.progress
        if progress["epoch"] > self.epochs:
            raise ValueError(
                f"the run in {folder} has finished {progress['epoch']} epochs already; to go on, ask for more epochs "
                f"than that, not {self.epochs}"
            )
        history = History.read(folder / checkpoints.HISTORY)[: progress["epoch"]]
        if [record.epoch for record in history] != list(range(1, progress["epoch"] + 1)):
            raise checkpoints.CheckpointError(
                f"{folder / checkpoints.HISTORY} must hold epochs 1 to {progress['epoch']}, as {checkpoints.LAST} says"
            )
        # Before anything changes, since the file may belong to another training.
        best = self._best(folder)
        self.trainee.load_state_dict(last.weights)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": last.optimizer, "param_groups": groups})
        _load_state(self.objective, last.objective)
        self.best = best
        self.best_score, self.steps = progress["best_score"], progress["steps"]
        self.history = History(history)
        self.last = self._snapshot(progress["epoch"])

    def _best(self, folder: Path) -> dict[str, Tensor]:
        """Return the best weights in a folder, which must be those of this training."""
        vae = self.trainee.vae
        if vae is None:
            return checkpoints.read_best(folder, self.trainee.state_dict())
        device = self.trainee.parameters[0].device
        return _copy(checkpoints.load(folder, vae=copy.deepcopy(vae), device=device).state_dict())

    def _expected_states(self, folder: Path) -> dict[int, dict[str, Any]]:
        """Return the state that the optimiser has for each parameter that a gradient reaches."""
        states = states_after_a_step(self.optimizer)
        there = {name.partition(".")[0] for name in checkpoints.names_there(folder, "optimizer")}
        if all(str(index) in there for index in states):
            return states
        with self._trial() as batch:
            self.svi.step(*batch)
            reached = self.optimizer.state_dict()["state"].keys()
        return {index: state for index, state in states.items() if str(index) in there or index in reached}


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}


def _terms(objective: ELBO) -> dict[str, float]:
    """Return the objective's terms at its last step, without recon and kl."""
    terms = objective.terms if isinstance(objective, Objective) else {}
    return {name: value.item() for name, value in terms.items() if name not in ("recon", "kl")}


def _state(objective: ELBO) -> dict[str, Tensor]:
    return objective.state_dict() if isinstance(objective, Objective) else {}


def _load_state(objective: ELBO, state: dict[str, Tensor]) -> None:
    if isinstance(objective, Objective):
        objective.load_state_dict(state)
