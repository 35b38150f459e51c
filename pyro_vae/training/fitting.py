"""fit(): trains a VAE with pyro.infer.SVI, epoch by epoch."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyro
import torch
from pyro.infer import ELBO, ReweightedWakeSleep, TraceEnum_ELBO

from pyro_vae import checkpoints
from pyro_vae.argument_checks import at_least, finite_number
from pyro_vae.bound import elbo_terms
from pyro_vae.compatibility import check_objective
from pyro_vae.config import make_objective
from pyro_vae.data import Batches, Images, batches, without_single_examples
from pyro_vae.description import describe, describe_objective
from pyro_vae.objectives import Objective
from pyro_vae.parts import as_prior, child
from pyro_vae.seeds import derive, seeded
from pyro_vae.training.first_batch import needs_two, warn_of_scale
from pyro_vae.training.history import Epoch, History
from pyro_vae.training.optimizer import Schedule, adamw
from pyro_vae.training.precision import check_mixed_precision, in_mixed_precision
from pyro_vae.training.progress import report
from pyro_vae.training.run import Run, TrainingDivergedError, TrainingInterrupted
from pyro_vae.vae import VAE, evaluating

__all__ = ["TrainingDivergedError", "TrainingInterrupted", "fit"]

Engine = Literal["auto", "compiled", "pyro"]
Optimizer = Callable[..., torch.optim.Optimizer]

# What each stream of randomness is derived from, so that none repeats another; run.py has two more.
_TRAIN_DATA, _VALID_DATA, _CALLBACK = 1, 2, 5
_SECONDS_BETWEEN_WRITES = 10.0
_VALID_BATCH = 1000
_STEPS_WORTH_COMPILING = 3000


def fit(
    vae: VAE,
    train: Any,
    *,
    valid: Any = None,
    epochs: int = 10,
    batch_size: int = 128,
    lr: float = 3e-3,
    schedule: Schedule = "cosine",
    optimizer: Optimizer | None = None,
    objective: ELBO | None = None,
    patience: int | None = None,
    engine: Engine = "auto",
    mixed_precision: bool = False,
    has_context: bool = False,
    seed: int = 0,
    device: torch.device | str | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    config: dict[str, Any] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> History:
    """Trains ``vae`` with SVI and leaves it with the best weights found.

    The best are those of the highest validation elbo; without validation data, or with an objective that does not bound
    log p(x), such as ``BetaELBO(0.5)``, the last. Pyro's parameter store and the generators of torch, NumPy
    (``np.random``) and Python (``random``) are left as they were, and the same seed, machine and thread count give the
    same bits, also where data sets or transforms draw from those generators. A last batch of one example is merged into
    the batch before where a BatchNorm could not train on it. A prior with ``start_from(x)`` that has not started
    yet (``VampPrior``, ``Exemplar``) gets examples from ``train`` first.

    Args:
        vae: the VAE, trained in place.
        train: data to train on: anything that :func:`pyro_vae.data.batches` takes.
        valid: data to validate on after each epoch, likewise; binarised in the same way each time.
        epochs: passes over the training data, at least 1.
        batch_size: examples a step (a DataLoader keeps its own).
        lr: the highest learning rate, above 0.
        schedule: of the learning rate: ``"cosine"``, down to zero at the end, and ``"constant"``, both with a linear
            rise over the first 200 steps, or the first epoch if that is shorter; or ``"staircase"``, down to a tenth in
            the eight stairs of Burda et al. 2015 (arXiv 1509.00519), each three times as long as the one before.
        optimizer: makes a torch optimiser from parameters and ``lr=``; ``torch.optim.AdamW`` by default.
        objective: any of :mod:`pyro_vae.objectives`, or a Pyro ELBO; by default ``Trace_ELBO()``, or
            ``TraceEnum_ELBO(max_plate_nesting=1)`` for discrete codes. Schedules begin anew with each training.
        patience: stop after so many epochs in a row without a better validation elbo; None never does.
        engine: ``"compiled"`` runs each step as one graph (:class:`pyro_vae.CompiledSVI`), which is compared with
            Pyro now and then, ``"pyro"`` by ``pyro.infer.SVI``; ``"auto"`` compiles where the training has at least
            3,000 steps, which pays for the compilation.
        mixed_precision: run the networks in bfloat16 while they train, all else, validation too, in float32:
            faster on CPUs that have instructions for it (AMX); on a GPU nothing was measured. It may cost accuracy:
            0.5 nats of log p(x) in the one long training compared (docs/performance.md).
        has_context: whether what a Dataset or DataLoader yields after x is context for the VAE.
        seed: of order, binarisation and noise; an integer ≥ 0.
        device: where to train, such as ``"cuda"``; by default where the VAE's parameters are.
        out: run folder to write: config.yaml, weights.safetensors (the best), last.safetensors, history.jsonl.
        resume: go on with the training in ``out``, with the same data and options.
        progress: show a progress bar, or lines where there is no terminal.
        config: what config.yaml shall hold; by default a description of the VAE and these options.
        on_epoch: called with each finished epoch; what it changes in the VAE is kept, also over ``resume``.

    Returns:
        The history, an :class:`Epoch` an epoch.

    Raises:
        ValueError: for arguments out of range, and data that the VAE refuses.
        FileExistsError: where ``out`` holds a run and ``resume`` is not set.
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
    epochs, batch_size = at_least(1, "epochs", epochs), at_least(1, "batch_size", batch_size)
    patience = None if patience is None else at_least(1, "patience", patience)
    lr, seed = float(lr), int(seed) if isinstance(seed, np.integer) else seed
    _check_options(train, valid, lr, schedule, optimizer, objective, patience, engine, resume, out)
    optimizer = optimizer or adamw
    objective = objective if objective is not None else make_objective("auto", vae)
    if isinstance(objective, TraceEnum_ELBO) and math.isinf(objective.max_plate_nesting):
        objective.max_plate_nesting = 1  # the plate "data", as Pyro would find out by a run of its own
    if device is not None:
        vae.to(device)
    parameters = [p for p in vae.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("the VAE has no parameters to train: its prior, likelihood and posterior hold none")
    if mixed_precision:
        check_mixed_precision(vae)
    where: dict[str, Any] = {"device": parameters[0].device, "dtype": parameters[0].dtype, "has_context": has_context}
    train_batches = batches(train, batch_size, shuffle=True, seed=derive(seed, _TRAIN_DATA), **where)
    valid_batches = None if valid is None else batches(valid, _VALID_BATCH, seed=derive(seed, _VALID_DATA), **where)
    with seeded(derive(seed)):  # data sets may draw, from whatever generator
        start_from_data(vae, train_batches)
        x, *c = _check_first_batches(vae, objective, train_batches, valid_batches, seed)
        warn_of_scale(vae, x, *c)
        if why := needs_two(vae, x, *c):
            train_batches = without_single_examples(train_batches, why)
            next(iter(train_batches))  # a single example is refused now
    shapes = {"x": list(x.shape[1:]), "context": sum(int(t[0].numel()) for t in c)}
    folder = _open_folder(out, resume)
    options: dict[str, Any] = {
        "objective": describe_objective(objective),
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "schedule": schedule,
        "patience": patience,
        "mixed_precision": mixed_precision,
        "seed": seed,
    }
    run = Run(
        vae=vae,
        train=train_batches,
        valid=valid_batches,
        objective=objective,
        optimizer=optimizer(parameters, lr=lr),
        lr=lr,
        schedule=schedule,
        epochs=epochs,
        seed=seed,
        compiled=engine == "compiled" or (engine == "auto" and len(train_batches) * epochs >= _STEPS_WORTH_COMPILING),
    )
    if folder is not None:
        described = {"from": "python", **_describe(vae, train), **options, **_unusual(optimizer, has_context)}
        dtype = str(parameters[0].dtype).removeprefix("torch.")
        run.config = {**(config or described), "dtype": dtype, "shapes": shapes}
        checkpoints.dump_config(run.config)  # what cannot be written is said before the training, not after
        if resume:
            _check_unchanged(folder, options)
            run.restore(folder)
    with seeded(derive(seed)), in_mixed_precision(vae) if mixed_precision else nullcontext():
        return _train(run, folder, patience, progress, on_epoch)


def _train(
    run: Run,
    folder: Path | None,
    patience: int | None,
    progress: bool,
    on_epoch: Callable[[Epoch], None] | None,
) -> History:
    mode = run.vae.training
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
                    with seeded(derive(run.seed, _CALLBACK, number)):  # the same also in a resumed training
                        on_epoch(record)
                    run.remember()  # what it changed (a temperature, say), so that a resumed training goes on from it
        if run.best is not None:
            run.vae.load_state_dict(run.best)
    except BaseException as error:
        # Whatever it was (bad data in the middle, the user's own callback), no half-finished epoch is left behind.
        run.vae.load_state_dict(run.last.weights)
        if isinstance(error, KeyboardInterrupt):
            raise _interrupted(run, folder) from None
        if isinstance(error, TrainingDivergedError):
            raise TrainingDivergedError(f"{error} {_what_is_left(run, folder)}") from None
        raise
    finally:
        run.vae.train(mode)
        if folder is not None:
            run.save(folder)
    return run.history


def _what_is_left(run: Run, folder: Path | None) -> str:
    start = " (the start)" if run.last.epoch == 0 else ""
    kept = f" The last good checkpoint is {folder / checkpoints.LAST}." if folder and run.last.epoch else ""
    return f"The VAE has the weights of epoch {run.last.epoch}{start} again.{kept} Try a smaller lr than {run.lr:g}"


def _interrupted(run: Run, folder: Path | None) -> TrainingInterrupted:
    if run.last.epoch == 0:
        return TrainingInterrupted("stopped before the first epoch was finished; nothing was kept")
    kept = f"stopped; epoch {run.last.epoch} of {run.epochs} is kept"
    if folder is None:
        advice = "Give fit(..., out=folder) to be able to go on from there"
        return TrainingInterrupted(f"{kept} in the VAE", advice=advice)
    advice = f'Go on with the same fit(..., out="{folder}", resume=True)'
    return TrainingInterrupted(f"{kept} in {folder}", folder, advice)


def _unusual(optimizer: Any, has_context: bool) -> dict[str, Any]:
    """Return the arguments of fit, if they were used, that have no place among the other options of config.yaml."""
    made_by = getattr(optimizer, "__qualname__", repr(optimizer))
    return ({} if optimizer is adamw else {"optimizer": made_by}) | ({"has_context": True} if has_context else {})


def _check_unchanged(folder: Path, options: dict[str, Any]) -> None:
    if not (folder / checkpoints.LAST).is_file():
        return  # nothing to go on from, as restore will say
    before = checkpoints.read_config(folder)
    for name in ("batch_size", "lr", "schedule", "seed"):
        if name in before and before[name] != options[name]:
            raise ValueError(
                f"the run in {folder} was trained with {name} = {before[name]}; got {options[name]}. Go on with "
                "the same, or train into another folder"
            )


def _check_options(
    train: Any,
    valid: Any,
    lr: float,
    schedule: str,
    optimizer: Any,
    objective: Any,
    patience: int | None,
    engine: str,
    resume: bool,
    out: Any,
) -> None:
    for name, source in (("train", train), ("valid", valid)):
        if isinstance(source, Batches):
            raise TypeError(
                f"{name} must be the data themselves, not batches of them: fit makes its own, with its batch_size, "
                "seed and order"
            )
    finite_number("lr", lr, above=0)
    if schedule not in get_args(Schedule):
        raise ValueError(f'schedule must be "cosine", "constant" or "staircase"; got {schedule!r}')
    if engine not in ("auto", "compiled", "pyro"):
        raise ValueError(f'engine must be "auto", "compiled" or "pyro"; got {engine!r}')
    if objective is not None and not isinstance(objective, ELBO):
        raise TypeError(f"objective must be a Pyro ELBO, such as Trace_ELBO(); got {objective!r}")
    if isinstance(objective, ReweightedWakeSleep) or type(objective).__name__.startswith("Jit"):
        raise TypeError(
            f"fit cannot minimise {type(objective).__name__}: it needs one loss, and parameters in Pyro's store for "
            "the Jit classes. Trace_ELBO() is the usual objective"
        )
    if isinstance(optimizer, pyro.optim.PyroOptim):
        raise TypeError(
            "optimizer must make a torch optimiser from parameters and lr=, such as torch.optim.Adam or "
            f"functools.partial(torch.optim.SGD, momentum=0.9); got {type(optimizer).__name__}. For an optimiser of "
            "Pyro's, use SVI(vae.model, vae.guide, optim, loss) yourself"
        )
    if patience is not None and isinstance(objective, Objective) and not objective.bounds_log_prob:
        raise ValueError(
            f"patience looks at the validation elbo, and {type(objective).__name__} as given does not train that. "
            "Leave it out"
        )
    if resume and out is None:
        raise ValueError("resume needs out=, the folder of the run to go on with")


def start_from_data(vae: VAE, train: Batches) -> None:
    """Gives priors that start from examples of the data as many as they want."""
    starters = [prior for prior in map(as_prior, vae.modules()) if prior.wanted_examples()]
    if not starters:
        return
    rows: list[tuple[torch.Tensor, ...]] = []
    for batch in train:
        rows.append(batch)
        if sum(len(b[0]) for b in rows) >= max(prior.wanted_examples() for prior in starters):
            break
    if not rows:
        return  # as the check of the first batches will say
    x, *context = (torch.cat(parts) for parts in zip(*rows, strict=True))
    for prior in starters:
        prior.start_from(vae.encoder_input(x), *context)


def _check_first_batches(
    vae: VAE, objective: ELBO, train: Batches, valid: Batches | None, seed: int
) -> tuple[torch.Tensor, ...]:
    """Runs the bound once over each kind of data: what does not fit is refused here, before anything is written.

    Returns:
        The first batch to train on.
    """
    batch: tuple[torch.Tensor, ...] = ()
    for name, supply in (("train", train), ("valid", valid)):
        if supply is None:
            continue
        first = next(iter(supply), None)
        if first is None:
            raise ValueError(f"{name} must hold at least one example; got none")
        x, *c = first
        with evaluating(vae), seeded(derive(seed)), pyro.get_param_store().scope():
            elbo_terms(vae, x, *c, kl="sampled")
            check_objective(vae, objective, x, *c)
        batch = batch or first
    return batch


def _open_folder(out: str | os.PathLike[str] | None, resume: bool) -> Path | None:
    if out is None:
        return None
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"out must be a folder; {folder} is a file")
    if not resume and folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty. Choose another out, or go on with its run: resume=True")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _describe(vae: VAE, train: Any) -> dict[str, Any]:
    """Return the VAE and its data as options of config.yaml, as far as they have names."""
    config: dict[str, Any] = {"data": None}
    if isinstance(train, Images):
        config = {
            "data": train.name,
            "binarize": train.binarize or "none",
            "dequantize": train.dequantize,
            "labels": train.with_labels,
        }
    seen: dict[int, str] = {}
    for part in ("posterior", "prior", "likelihood"):
        thing = getattr(vae, part)
        given = vae.posterior if part == "prior" else None
        mine = {id(m) for m in _modules(thing)}
        if _is_argument_of(thing, given):
            mine -= {id(m) for m in _modules(given)}
        shared = next((seen[m] for m in mine if m in seen), None)
        seen |= dict.fromkeys(mine, part)
        try:
            if shared:
                raise ValueError(f"it shares a module with the {shared}")
            config[part] = describe(thing, given)
        except ValueError as error:
            config[part] = {"unnamed": str(error)}
    config |= {"missing": vae.missing, "fill": vae.fill} if vae.missing else {}
    return config


def _modules(thing: Any) -> list[torch.nn.Module]:
    return list(thing.modules()) if isinstance(thing, torch.nn.Module) else []


def _is_argument_of(prior: Any, posterior: Any) -> bool:
    """Whether the prior is made from the posterior, as ``build`` will make it again."""
    return any(child(m, "posterior") is posterior for m in _modules(prior)) and posterior is not None
