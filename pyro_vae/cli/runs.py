"""What the commands share: opening runs and printing results."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pyro.infer import RenyiELBO
from rich.console import Console
from torch import Tensor

from pyro_vae import VAE, average_elbo, build, load
from pyro_vae.allocation import limiting_allocation
from pyro_vae.checkpoints import BEST, CONFIG, HISTORY, CheckpointError, read_config
from pyro_vae.cli import datasets
from pyro_vae.cli.options import of_build
from pyro_vae.cli.pictures import first
from pyro_vae.cli.tables import print_table
from pyro_vae.cli.words import of_remedy
from pyro_vae.config import find, make_objective
from pyro_vae.data import DataSet, Images, Rows, Split
from pyro_vae.data.functions import check_allowed
from pyro_vae.distributions import part_name
from pyro_vae.evaluation import bits_per_dim, collapse, importance_sampling
from pyro_vae.objectives import Objective
from pyro_vae.parts import as_posterior, data_of
from pyro_vae.registry import NotAllowedError, allowed
from pyro_vae.resolver import class_name
from pyro_vae.seeds import seeded
from pyro_vae.svi.timing import Timing
from pyro_vae.training import History

if TYPE_CHECKING:
    from pyro_vae.checks import Report

__all__ = [
    "check_names",
    "device",
    "form",
    "free_folder",
    "new_vae",
    "objective",
    "open_run",
    "print_bits",
    "print_codes",
    "print_elbo",
    "print_kept",
    "print_log_prob",
    "print_next",
    "print_plan",
    "print_report",
    "print_timings",
    "status",
]


_EXAMPLES_FOR_CODES = 2000  # each is compared with every other
_TOO_LARGE = "the VAE is too large for the command line. Build it in Python"
_MOST_TENSORS = 20_000  # a flow of 100 transforms makes some 2,000
_MOST_NUMBERS = 2**28  # the largest images of the command line have 28 x 28 pixels


def check_names(options: Mapping[str, Any]) -> None:
    """Raise a ValueError if the options of train name a part that does not exist, or what may not be imported."""
    check_allowed(options["data"])
    for option in ("prior", "likelihood", "posterior", "mask_likelihood", "objective"):
        if options[option] is not None and class_name(options[option]) not in ("auto", "default"):
            find(option, class_name(options[option]))


def new_vae(dataset: DataSet[Any], config: dict[str, Any]) -> VAE:
    """Return the VAE that the options of train describe, with new weights."""
    options = {name: config[name] for name in ("likelihood", "inputs", *(option.name for option in of_build()))}
    with (
        seeded(config["seed"]),
        limiting_allocation(_MOST_NUMBERS, _MOST_TENSORS, _TOO_LARGE),
    ):
        vae = build(
            dataset.event_shape,
            context_features=dataset.train.context_features,
            missing=config.get("missing", False),
            schema=dataset.train.schema if isinstance(dataset.train, Rows) else None,
            **options,
        )
    return vae.to(getattr(torch, config["dtype"]))


def device(name: str) -> str:
    """Return the device that --device names.

    Raises:
        ValueError: if it cannot be used.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}. Try cpu") from error
    return name


def free_folder(data: str) -> Path:
    """Return the first of runs/DATA-1, runs/DATA-2, ... that does not exist."""
    taken = {path.name for path in Path("runs").glob(f"{data}-*")}
    return Path("runs") / next(name for i in range(1, len(taken) + 2) if (name := f"{data}-{i}") not in taken)


def open_run(run: str, data: str | None, root: str | None, on: str) -> tuple[VAE, DataSet[Any]]:
    """Return the VAE of a run, and the data it was trained on or other data in the same form."""
    config = read_config(Path(run))
    name = data or config.get("data")
    if name is not None and not isinstance(name, str):
        raise CheckpointError(f"{run}/{CONFIG}: data must be the name of a data set; got {str(name)[:100]!r}")
    try:
        vae = load(run, device=device(on))
        _known_objective(config, vae)  # refuses it before anything is made of the run
        return vae, datasets.of_run(run, config, data, root)
    except KeyError as error:
        raise CheckpointError(f"{run}/{CONFIG} is not complete: it has no {error}. Was it edited by hand?") from error


def form(split: Split) -> str:
    """Return what the values are and what was done to them, in a few words."""
    if not isinstance(split, Images):
        return split.values_in_words()
    if split.binarize:
        return f"binarised ({split.binarize})"
    scale = "grey" if split.event_shape[0] == 1 else "colour"
    if split.dequantize:
        return f"{scale}, dequantised"
    return f"whole numbers to {split.levels}" if split.integers else f"{scale}, {split.levels + 1} levels"


def print_plan(vae: VAE, data: str, split: Split, epochs: int, device: str) -> None:
    """Print what is trained, and on what."""
    found = {part: getattr(vae, part) for part in ("prior", "likelihood", "posterior")}
    found |= {} if vae.mask_likelihood is None else {"model of the mask": vae.mask_likelihood}
    parts = ", ".join(f"{part_name(part)} {place}" for place, part in found.items())
    print(f"{parts}; {sum(p.numel() for p in vae.parameters()):,} parameters on {device}")
    shape, length = " x ".join(map(str, split.event_shape)), f"{epochs} epoch{'s' if epochs > 1 else ''}"
    print(f"{data}: {len(split):,} {split.noun}s of {shape} to train on, {form(split)}; {length}")


def print_kept(run: Path, history: History, best: bool) -> None:
    """Print which weights are kept, and where."""
    kept = f"best epoch {history.best.epoch} of {len(history)}; its weights" if best else "the last epoch's weights"
    print(f"{kept} are in {run / BEST}")
    if best and (fall := history.fall_after_best) is not None:
        print(
            f"the validation elbo then fell by {fall:.2f}: more epochs fit the training data alone. --patience "
            f"{max(10, history.best.epoch // 2)} stops such a training earlier"
        )


def print_next(run: Path) -> None:
    """Print what to do with a run that is trained."""
    modules = [module for module in allowed() or () if not module.endswith(".py")]  # files are for data
    loading = f"{str(run)!r}, allow={modules}" if modules else repr(str(run))
    print(f"next      pyro-vae evaluate {run}{allow_again()}   or in Python: vae = pyro_vae.load({loading})")


def print_elbo(
    split: str, vae: VAE, examples: Split, *, num_particles: int, kl: Literal["sampled", "analytic"], seed: int
) -> dict[str, Any]:
    """Print the ELBO of a split with its terms and standard error, and return them."""
    found = average_elbo(vae, examples, kl=kl, num_particles=num_particles, seed=seed)
    print(
        f"{split} elbo {found.elbo:.2f} ± {found.standard_error:.2f} nats per {examples.noun} "
        f"(recon {found.recon:.2f}, kl {found.kl:.2f}; {found.examples:,} {examples.noun}s)"
    )
    return {"num_particles": num_particles, **asdict(found)}


def print_codes(run: str, vae: VAE, examples: Split, *, trained: int, seed: int) -> dict[str, Any]:
    """Print what the codes of the first examples carry and whether they have collapsed, and return it.

    Prints nothing for codes without a density. ``trained`` is the number of training examples; the length of the
    warm-up that is proposed depends on it.
    """
    n = min(len(examples), _EXAMPLES_FOR_CODES)
    if as_posterior(vae.posterior).is_point or n < 2:
        return {}
    x, *context = first(examples, n, vae, seed)
    config = read_config(Path(run))
    objective = _known_objective(config, vae)
    steps = len(History.read(Path(run) / HISTORY)) * -(-trained // config["batch_size"])
    found = collapse(vae, x, *context, objective=objective, steps=steps, seed=seed)
    use = found.use
    active = "" if use.active_units is None else f"active units {use.active_units} of {use.size}; "
    print(
        f"{active}kl {use.kl:.2f} ± {use.kl_standard_error:.2f} = I(x; z) {use.mutual_information:.2f} ± "
        f"{use.mutual_information_standard_error:.2f} + KL(q(z) || p(z)) {use.marginal_kl:.2f} ± "
        f"{use.marginal_kl_standard_error:.2f} (estimated from {n:,} {examples.noun}s)"
    )
    if found:
        print(f"{found.kind} collapse:")
        print("".join(f"  {line}\n" for line in found.evidence), end="")
        print("".join(f"  try {of_remedy(remedy)}\n" for remedy in found.remedies), end="")
    plain = {name: v.tolist() if isinstance(v, Tensor) else v for name, v in vars(use).items()}
    return {"examples": n, "active_units": use.active_units, **plain, "collapse": found.kind, "swapped": found.swapped}


def print_bits(vae: VAE, examples: Split, log_prob: float) -> float | None:
    """Print a bound on -log p(x) of images in bits per dimension, and return it.

    Prints nothing for other data, and for a density of values without dequantisation: it does not bound the
    probability of a level.
    """
    if not isinstance(examples, Images):
        return None
    discrete = data_of(vae.likelihood) != "continuous"
    if not (discrete or examples.dequantize):
        return None
    bits = bits_per_dim(log_prob, math.prod(examples.event_shape), 1 if discrete else examples.levels + 1)
    print(f"at most {bits:.3f} bits per pixel")
    return bits


def print_log_prob(
    split: str, vae: VAE, examples: Split, *, num_particles: int, n: int | None, seed: int
) -> dict[str, Any]:
    """Print log p(x) of a split by importance sampling, with its errors and how far to trust its weights."""
    n = n or len(examples)
    x, *context = first(examples, n, vae, seed)
    found = importance_sampling(vae, x, *context, num_particles=num_particles, progress=True, seed=seed)
    spread = f" ± {found.data_standard_error:.2f}" if n > 1 else ""
    size = found.effective_sample_size.double()
    doubt = "; more where k is above 0.7" if found.heavy_tailed else ""
    noun = examples.noun
    print(
        f"{split} log p(x) {found.mean:.2f}{spread} nats per {noun} ({n:,} {noun}s, {num_particles:,} particles)\n"
        f"error of the draws: ± {found.mean_standard_error:.3f}, bias about {found.mean_bias:.3f}{doubt}\n"
        f"effective sample size: median {size.median():.0f}, below {size.quantile(0.1):.1f} for a tenth of the {noun}s"
    )
    shape = found.pareto_k.double()
    told = shape[~shape.isnan()]
    tails = None
    if len(told):
        tails = {"median": told.median().item(), "worst": told.max().item(), "share_above_0.7": found.heavy_tailed}
        print(
            f"Pareto k̂ of the weights: median {tails['median']:.2f}, worst {tails['worst']:.2f}, above 0.7 for "
            f"{found.heavy_tailed:.1%} of the {examples.noun}s"
        )
    return {
        "examples": n,
        "num_particles": num_particles,
        "mean": found.mean,
        "standard_error": found.data_standard_error if n > 1 else None,
        "standard_error_of_the_draws": found.mean_standard_error if num_particles > 1 else None,
        "bias_of_the_draws": found.mean_bias if num_particles > 1 else None,
        "median_effective_sample_size": size.median().item(),
        "pareto_k": tails,
    }


def _trained_with(config: Mapping[str, Any], vae: VAE) -> Any:
    """Return the objective that a configuration names; None if it names none."""
    return make_objective(config["objective"], vae) if "objective" in config else None


def _known_objective(config: Mapping[str, Any], vae: VAE) -> Any:
    """Return the objective that a configuration names; None if it names none or one that cannot be made again."""
    try:
        return _trained_with(config, vae)
    except NotAllowedError:
        raise
    except ValueError:  # a user's own from a notebook, for example
        return None


def objective(run: str, vae: VAE) -> tuple[Any, int]:
    """Return the objective of a run and its number of importance samples; None and 1 if it does not bound log p(x)."""
    found = _trained_with(read_config(Path(run)), vae)
    if isinstance(found, Objective):
        samples = found.importance_particles
        return (None, 1) if samples is None else (found, samples)
    if isinstance(found, RenyiELBO):
        return (found, found.num_particles) if found.alpha == 0 else (None, 1)
    return found, 1


@contextlib.contextmanager
def status(doing: str) -> Iterator[Callable[[str], None]]:
    """Show on a terminal what is being done, and with what; elsewhere show nothing."""
    with Console(stderr=True).status(doing) as shown:
        yield lambda what: shown.update(f"{doing} {what}")


def print_report(report: Report, why: bool, whole: bool) -> None:
    """Print a cross-check: the lines that need a look, or all lines as a table with a summary."""
    console = Console()
    if not whole:
        console.print(report.brief(why))
        return
    console.print(report.table(why))
    console.print(report.summary(), highlight=False)


def print_timings(title: str, timings: Sequence[Timing]) -> None:
    """Print the time of a step with quartiles over the turns, and how many times faster it is than the first way."""
    quartiles = [np.quantile(timing.ms, [0.25, 0.5, 0.75]) for timing in timings]
    columns = {
        "": [timing.name for timing in timings],
        "ms per step": [f"{median:.2f}" for _, median, _ in quartiles],
        "25-75 %": [f"{low:.2f}-{high:.2f}" for low, _, high in quartiles],
        "times faster": [f"{timing.faster_than(timings[0]):.1f}" for timing in timings],
        "first two steps": [f"{timing.first:.1f} s" for timing in timings],
    }
    print_table(f"\n{title}", columns)


def allow_again() -> str:
    """Return the --allow options that the next command needs too, with a space before each."""
    return "".join(f" --allow {module}" for module in allowed() or ())
