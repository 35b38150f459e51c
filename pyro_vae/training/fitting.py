"""fit(): trains a VAE, or any Pyro model and guide, with pyro.infer.SVI, epoch by epoch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from pyro.infer import ELBO
from torch.utils.data import DataLoader

from pyro_vae import checkpoints
from pyro_vae.data import Batches, DataSource, batches
from pyro_vae.data.batches import dtype_and_device
from pyro_vae.model_guide import Target
from pyro_vae.seeds import derive, seeded
from pyro_vae.training.history import Epoch, History
from pyro_vae.training.optimizer import Schedule
from pyro_vae.training.options import (
    Engine,
    MakeOptimizer,
    Options,
    check_objective_alone,
    check_sources,
    usual_epochs,
)
from pyro_vae.training.precision import in_mixed_precision
from pyro_vae.training.preparation import prepare
from pyro_vae.training.progress import report
from pyro_vae.training.record import (
    check_known,
    check_same_data,
    check_unchanged,
    describe_data,
    describe_training,
    open_folder,
)
from pyro_vae.training.run import Run, TrainingDivergedError
from pyro_vae.training.streams import CALLBACK, TRAIN_DATA, VALID_DATA
from pyro_vae.training.trainee import Trainee
from pyro_vae.vae import suited, takes_context

__all__ = ["TrainingInterrupted", "fit"]

_SECONDS_BETWEEN_WRITES = 10.0
_VALID_BATCH = 1000


class TrainingInterrupted(KeyboardInterrupt):  # an interrupt is no error
    """Training was stopped by Ctrl-C; the last finished epoch is kept.

    Args:
        found: which epoch is kept, in the VAE or a folder.
        folder: the run folder that keeps it; None if no folder does.
        advice: what to do to go on.
    """

    def __init__(self, found: str, folder: Path | None = None, advice: str = "") -> None:
        super().__init__(found, folder, advice)
        self.found, self.folder, self.advice = found, folder, advice

    def __str__(self) -> str:
        """Return what is kept and how to go on."""
        return f"{self.found}. {self.advice}" if self.advice else self.found


def fit(
    vae: Target,
    train: DataSource,
    *,
    valid: DataSource | None = None,
    epochs: int | None = None,
    batch_size: int = 128,
    lr: float = 3e-3,
    schedule: Schedule = "cosine",
    optimizer: MakeOptimizer | None = None,
    objective: ELBO | None = None,
    patience: int | None = None,
    engine: Engine = "auto",
    mixed_precision: bool = False,
    has_context: bool | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    config: dict[str, Any] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> History:
    """Train a VAE, or any Pyro model and guide, with SVI, and leave it with the best weights found.

    The best weights are those of the highest validation elbo. Without validation data, or with an objective that is no
    bound on log p(x), such as ``BetaELBO(0.5)``, they are the last ones. The generators of torch, NumPy
    (``np.random``) and Python (``random``) are left as they were. The same seed, machine and thread count give the same
    bits, even if data sets or transforms draw from those generators. If a BatchNorm could not train on a last batch of
    one example, this example is merged into the batch before. A prior with ``start_from(x)`` that has not started yet
    (``VampPrior``, ``Exemplar``) first gets examples from ``train``.

    Of a model and guide, those parameters are trained that ``SVI`` trains: those of PyroModules and of ``pyro.module``,
    which stay in the modules, and those of ``pyro.param``, which stay in Pyro's parameter store. Nothing else in the
    store changes.

    Args:
        vae: the VAE, trained in place; or another object with a ``model`` and a ``guide``, or the pair
            ``(model, guide)`` of functions of ``(x, *context)``.
        train: data to train on: anything that :func:`pyro_vae.data.batches` takes. Integer labels given as context
            become one-hot, by the ``context_features`` of the VAE.
        valid: data to validate on after each epoch, likewise; binarised in the same way each time. All sites of a model
            and guide must then be in one plate over the examples.
        epochs: passes over the training data, at least 1; by default 10, and more on small data, to make 2,000 steps.
            With ``resume``, those of the run by default.
        batch_size: examples per step (a DataLoader keeps its own).
        lr: the highest learning rate, above 0.
        schedule: of the learning rate: ``"cosine"``, down to zero at the end, and ``"constant"``, both with a linear
            rise over the first 200 steps, or the first epoch if that is shorter; or ``"staircase"``, down to a tenth in
            the eight stairs of Burda et al. 2015 (arXiv 1509.00519), each three times as long as the one before.
        optimizer: makes a torch optimiser from parameters and ``lr=``; ``torch.optim.AdamW`` by default.
        objective: any of :mod:`pyro_vae.objectives`, or a Pyro ELBO; by default ``Trace_ELBO()``, or ``TraceEnum_ELBO``
            for discrete codes. Schedules begin anew with each training.
        patience: stop after this many epochs in a row without a better validation elbo; None never does.
        engine: ``"compiled"`` runs each step as one graph (:class:`pyro_vae.CompiledSVI`), which is compared with
            Pyro now and then; ``"pyro"`` uses ``pyro.infer.SVI``; ``"auto"`` compiles if the training has at least
            3,000 steps, which pays for the compilation.
        mixed_precision: run a VAE's networks in bfloat16 while they train, and all else, validation too, in float32:
            faster on CPUs that have instructions for it (AMX); on a GPU nothing was measured. It may cost accuracy:
            0.5 nats of log p(x) in the one long training compared (docs/performance.md).
        has_context: True if what a Dataset or DataLoader yields after x is context; by default, True for a VAE with
            ``context_features``.
        seed: of order, binarisation and noise; an integer ≥ 0.
        device: where to train, such as ``"cuda"``; by default where the parameters are.
        out: run folder to write: config.yaml, weights.safetensors (the best), last.safetensors, history.jsonl.
        resume: go on with the training in ``out``, with the same data and options.
        progress: show a progress bar, or lines if there is no terminal.
        config: what config.yaml holds; by default a description of the VAE and these options.
        on_epoch: called with each finished epoch; its changes to the VAE are kept, even over ``resume``.

    Returns:
        The history, one :class:`Epoch` per epoch.

    Raises:
        TypeError: if ``vae`` has no model and guide, or an argument is of another kind.
        ValueError: for arguments out of range, for data that the VAE refuses, and if a model and guide use parameters
            that SVI does not train.
        FileExistsError: if ``out`` holds a run and ``resume`` is not set.
        TrainingDivergedError: at the first NaN or infinity in the loss; the VAE has the last epoch's weights again.
        TrainingInterrupted: on Ctrl-C; the VAE has the last finished epoch's weights.

    Example:
        >>> from pyro_vae import build, data
        >>> digits = data.load("digits", binarize="dynamic")
        >>> vae = build(digits.event_shape, latent_dim=2, hidden=(64,))
        >>> history = fit(vae, digits.train, valid=digits.valid, epochs=2, progress=False)
        >>> history[-1].epoch
        2
    """
    if has_context is None:
        has_context = takes_context(vae)
    options = Options(epochs, batch_size, lr, schedule, optimizer, patience, engine, mixed_precision, has_context, seed)
    check_sources(train, valid)
    check_objective_alone(objective, options.patience)
    train, valid = suited(train, vae), None if valid is None else suited(valid, vae)
    trainee = Trainee(vae)
    trainee.to(device)
    check_known(train, missing=trainee.vae is not None and trainee.vae.missing)
    dtype, place = dtype_and_device(trainee.module, train)
    like: dict[str, Any] = {"dtype": dtype, "device": place, "has_context": has_context}
    train_batches = batches(train, options.batch_size, shuffle=True, seed=derive(seed, TRAIN_DATA), **like)
    valid_batches = None if valid is None else batches(valid, _VALID_BATCH, seed=derive(seed, VALID_DATA), **like)
    with seeded(derive(seed)):  # since data sets may draw from any generator
        ready = prepare(trainee, train_batches, valid_batches, objective, options)
    folder = open_folder(out, resume)
    options.epochs = options.epochs or _usual_length(train, ready.train, options, folder if resume else None)
    compiled = options.compiles(len(ready.train) * options.epochs)
    run = Run(trainee, ready.train, valid_batches, ready.objective, options, compiled)
    if folder is not None:
        described = config or describe_training(trainee, train, run.objective, options)
        dtype_name = str(trainee.parameters[0].dtype).removeprefix("torch.")
        run.config = {**described, "dtype": dtype_name, "shapes": ready.shapes}
        checkpoints.dump_config(run.config)  # an error comes before the training, not after
        run.data = describe_data(train)
        if resume:
            check_unchanged(folder, options)
            check_same_data(folder, run.data)  # first: with other data, the VAE is often another too
            run.restore(folder)
    mixed = in_mixed_precision(trainee.module) if mixed_precision else nullcontext()
    with seeded(derive(seed)), mixed, trainee.modes_kept():
        return _train(run, folder, options.patience, progress, on_epoch)


def _usual_length(source: DataSource, train: Batches, options: Options, folder: Path | None) -> int:
    """Return the number of epochs by default: of the run in a folder, if there is one, else by the number of steps."""
    if folder is not None and (folder / checkpoints.CONFIG).is_file():
        recorded = checkpoints.read_config(folder).get("epochs")
        if recorded is not None:
            return int(recorded)
    if isinstance(source, DataLoader) or not train.examples:
        return usual_epochs(len(train), 1)
    return usual_epochs(train.examples, options.batch_size)


def _train(
    run: Run,
    folder: Path | None,
    patience: int | None,
    progress: bool,
    on_epoch: Callable[[Epoch], None] | None,
) -> History:
    run.trainee.publish()
    written = time.monotonic()
    try:
        with report(run.epochs, len(run.train), run.last.epoch, progress) as reporter:
            run.compile(reporter)
            for number in range(run.last.epoch + 1, run.epochs + 1):
                if patience is not None and run.history and run.last.epoch - run.history.best.epoch >= patience:
                    break
                record = run.epoch(number, reporter)
                reporter.epoch(record)
                if folder is not None and time.monotonic() - written > _SECONDS_BETWEEN_WRITES:
                    run.save(folder)
                    written = time.monotonic()
                if on_epoch is not None:
                    with seeded(derive(run.seed, CALLBACK, number)):  # a resumed training draws the same
                        on_epoch(record)
                    run.remember()  # its changes, such as a temperature, are those that a resumed training goes on from
        if run.best is not None:
            run.trainee.load_state_dict(run.best)
    except BaseException as error:
        # No half-finished epoch is left behind, whatever the error: bad data, say, or one in the user's callback.
        run.trainee.load_state_dict(run.last.weights)
        if isinstance(error, KeyboardInterrupt):
            raise _interrupted(run, folder) from None
        if isinstance(error, TrainingDivergedError):
            raise TrainingDivergedError(f"{error} {_what_is_left(run, folder)}") from None
        raise
    finally:
        if folder is not None:
            run.save(folder)
    return run.history


def _what_is_left(run: Run, folder: Path | None) -> str:
    start = " (the start)" if run.last.epoch == 0 else ""
    kept = f" The last good checkpoint is {folder / checkpoints.LAST}." if folder and run.last.epoch else ""
    whose = run.trainee.name
    return (
        f"{whose[0].upper()}{whose[1:]} has the weights of epoch {run.last.epoch}{start} again.{kept} Try a smaller lr "
        f"than {run.lr:g}"
    )


def _interrupted(run: Run, folder: Path | None) -> TrainingInterrupted:
    if run.last.epoch == 0:
        return TrainingInterrupted("stopped before the first epoch was finished; nothing was kept")
    kept = f"stopped; epoch {run.last.epoch} of {run.epochs} is kept"
    if folder is None:
        advice = "Give fit(..., out=folder) to be able to go on from there"
        return TrainingInterrupted(f"{kept} in {run.trainee.name}", advice=advice)
    advice = f'Go on with the same fit(..., out="{folder}", resume=True)'
    return TrainingInterrupted(f"{kept} in {folder}", folder, advice)
