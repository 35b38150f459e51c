"""train: makes a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

__all__ = ["train"]

# Not in config.yaml: each machine has its own folders.
_NOT_RECORDED = ("out", "resume")


def train(
    data: str | None = "digits",
    standardize: bool | Literal["auto"] = "auto",
    binarize: Literal["auto", "dynamic", "threshold", "none"] = "auto",
    dequantize: bool | Literal["auto"] = "auto",
    labels: bool = False,
    validate: bool = True,
    likelihood: str | dict[str, Any] = {"class": "default"},  # noqa: B006  # only read; it shows in --help
    inputs: Literal["auto", "x", "log1p"] = "auto",
    objective: str | dict[str, Any] = {"class": "auto"},  # noqa: B006  # only read; it shows in --help
    epochs: int | None = None,
    device: str = "auto",
    dtype: Literal["float32", "float64"] = "float32",
    out: str | None = None,
    resume: str | None = None,
    **options: Any,
) -> None:
    """Train a VAE; without options, on the embedded digits.

    Prints the ELBO on the test data and writes a run folder with the configuration, the weights, the history and
    pictures.

    Args:
        data: your own data, such as photos/ or wine.csv, or a data set: digits (embedded), mnist, fashion_mnist,
            kmnist, qmnist or emnist. pyro-vae list data shows what else it can be.
        standardize: subtract the mean of a column of a table and divide by its standard deviation. auto does so for
            likelihoods of real numbers. Log-densities of a table stay in its own units; those of an array are then of
            the standardised values.
        binarize: make pixels 0 or 1: dynamic draws them anew each time, threshold cuts at one half, none leaves them
            grey. auto is dynamic for a Bernoulli likelihood, and none for any other.
        dequantize: add uniform noise within each grey level. A density over real pixels needs it: on a grid of levels
            the density grows without bound. auto adds the noise for such likelihoods.
        labels: give the labels to the VAE as context (a conditional VAE).
        validate: hold out the validation data and keep the epoch that is best on them. false trains on them too, as
            published tables do, and keeps the last epoch.
        likelihood: likelihood p(x|z): a class by its name or dotted path; its own arguments follow, as in --likelihood
            normal --likelihood.scale 0.1. auto looks at the data, chooses a likelihood and says why. default is
            Bernoulli for the data sets with names, and auto for your own data.
        inputs: what the encoder sees: x, or for counts log1p, which is log(1 + x). auto is log1p for sparse counts.
        objective: objective to train with: a class by its name or dotted path; its own arguments follow, as in
            --objective iwae --objective.num_particles 50, or --objective beta --objective.beta 0.5. A weight may be
            a schedule: '{"class": "linear", "steps": 5000}'. auto is Pyro's Trace_ELBO, or TraceEnum_ELBO for
            discrete codes.
        epochs: passes over the training data; by default 10, and more on small data, to make 2,000 steps.
        device: cpu, cuda, cuda:1, ...; auto is a GPU if there is one.
        dtype: number type of the weights.
        out: run folder; by default the next free runs/DATA-NUMBER.
        resume: run folder to continue, with its own configuration and the options given here.
        options: how the data are read (pyro_vae.cli.commands.data.reading), and arguments of build and fit
            (pyro_vae.cli.options).
    """
    config = {name: value for name, value in locals().items() if name not in (*_NOT_RECORDED, "options")} | options
    from pyro_vae.checkpoints import check_can_go_on
    from pyro_vae.cli import datasets, runs
    from pyro_vae.cli.options import of_fit
    from pyro_vae.config import make_objective
    from pyro_vae.data.sources import whole_path
    from pyro_vae.training import fit
    from pyro_vae.training.options import usual_epochs

    if resume is not None and out not in (None, resume):
        raise ValueError(f"resume goes on in its own folder, {resume}; leave out={out!r} away")
    if resume is not None:
        check_can_go_on(Path(resume))
    if data is None:
        raise ValueError("the run was trained from Python on data without a name. Name a file with them: --data FILE")
    _check_training(epochs, options, out, resume)
    if resume is not None:
        _check_same_vae(resume, options)
    root = config.pop("root")
    config["data"] = whole_path(data)
    dataset = datasets.to_train_on(config, root, resume)
    validate = validate and len(dataset.valid) > 0
    examples, valid = datasets.trained_on(config, dataset), dataset.valid if validate else None
    device = runs.device(device)
    vae = runs.new_vae(dataset, config)
    config["epochs"] = usual_epochs(len(examples), options["batch_size"]) if epochs is None else epochs
    run = Path(resume or out or runs.free_folder(datasets.short_name(data)))
    runs.print_plan(vae, data, examples, config["epochs"], device)
    minimised = make_objective(objective, vae)
    history = fit(
        vae,
        examples,
        valid=valid,
        epochs=config["epochs"],
        objective=minimised,
        device=device,
        out=run,
        resume=resume is not None,
        config=config,
        **{option.name: options[option.name] for option in of_fit()},
    )
    _finish(run, dataset, history, minimised, validate, device)


def _check_training(epochs: int | None, options: dict[str, Any], out: str | None, resume: str | None) -> None:
    """Raise an error for options of fit that cannot be used, before any data are read."""
    from pyro_vae.cli.options import of_fit
    from pyro_vae.training.options import Options
    from pyro_vae.training.record import check_folder

    Options(epochs, optimizer=None, has_context=False, **{option.name: options[option.name] for option in of_fit()})
    if out is not None:
        check_folder(Path(out), resume is not None)


def _check_same_vae(run: str, options: dict[str, Any]) -> None:
    """Raise a ValueError if the VAE of a run were to go on with other networks or another size of z."""
    from pyro_vae.checkpoints import read_config
    from pyro_vae.cli.options import of_build

    before, usual = read_config(Path(run)), {option.name: option.default for option in of_build()}
    for name in ("latent_dim", "hidden", "activation", "nets"):
        if options[name] == before.get(name, usual[name]):
            continue
        has = f"has {before[name]}" if name in before else "was built in Python"
        raise ValueError(
            f"{name}: {run} {has}, and goes on with the VAE that it has; got {options[name]}. Leave it out"
        )


def _finish(run: Path, dataset: Any, history: Any, minimised: Any, validate: bool, device: str) -> None:
    """Print the ELBO on the test data and what to do next, and draw the pictures of a run."""
    from pyro_vae import load
    from pyro_vae.cli import runs
    from pyro_vae.cli.pictures import draw_run
    from pyro_vae.objectives import Objective

    vae = load(run, device=device)
    chosen = validate and not (isinstance(minimised, Objective) and not minimised.bounds_log_prob)
    runs.print_kept(run, history, best=chosen)
    split = "test" if len(dataset.test) else "train"  # --split may leave nothing to test on
    runs.print_elbo(split, vae, getattr(dataset, split), num_particles=1, kl="sampled", seed=0)
    draw_run(run, vae, dataset)
    runs.print_next(run)
