"""bench and list: the speed of this machine, and the parts that can be swapped."""

from __future__ import annotations

import inspect
import textwrap
from typing import Any

__all__ = ["KINDS", "bench", "list_parts"]

KINDS = {
    "priors": "prior",
    "likelihoods": "likelihood",
    "posteriors": "posterior",
    "mask_likelihoods": "mask_likelihood",
    "nets": "net",
    "objectives": "objective",
    "schedules": "schedule",
    "data": "data",
}
"""What can be listed, and for which option it is."""

_OBJECTIVES = {
    "Trace_ELBO": "recon - kl at samples of z; --objective.num_particles sets their number.",
    "TraceEnum_ELBO": "For discrete codes: sums over them exactly.",
    "TraceMeanField_ELBO": "recon - kl, with the kl in closed form if there is one. Pyro's other ELBOs work too.",
}

_ON_NAMES = (
    "",
    "Write names in any case, with or without underscores: --posterior low_rank_normal. A prior and a posterior",
    "go together if they are over the same values; VampPrior takes those of the posterior. Name your own class",
    "or function by its dotted path: --prior my_module.MyPrior. Later commands on the run name its module again:",
    "pyro-vae evaluate RUN --allow my_module",
)


def bench(hidden: int | None = None, latent_dim: int = 50, batch_size: int = 128, device: str = "auto") -> None:
    """Time a training step on this machine: by Pyro, and as one graph.

    Trains a VAE of binary images of 784 pixels. The two ways take turns, and the ratios are medians over the turns.

    Args:
        hidden: width of the hidden layer of encoder and decoder; by default, first a small network (64 pixels, 64 wide,
            8 latent dimensions, batches of 64) is timed, then one of width 400.
        latent_dim: dimensions of z.
        batch_size: examples per step.
        device: cpu, cuda, cuda:1, ...; auto is a GPU if there is one.
    """
    import torch

    from pyro_vae.argument_checks import at_least
    from pyro_vae.cli import runs
    from pyro_vae.config import build
    from pyro_vae.seeds import seeded
    from pyro_vae.svi.timing import time_steps

    for name, value in (("latent_dim", latent_dim), ("batch_size", batch_size)):
        at_least(name, value, 1)
    device = runs.device(device)
    sizes = [(784, 400 if hidden is None else hidden, latent_dim, batch_size)]
    threads = f", threads: {torch.get_num_threads()}" if device == "cpu" else ""
    print(f"torch {torch.__version__} on {device}{threads}; Trace_ELBO and Adam; medians of 9 turns")
    for pixels, width, latent, batch in [(64, 64, 8, 64), *sizes] if hidden is None else sizes:

        def make(pixels: int = pixels, width: int = width, latent: int = latent) -> Any:
            with seeded(0):
                return build(pixels, latent, hidden=(width,)).to(device)

        with runs.status("compiling and timing") as say, seeded(0):
            say(f"{pixels}-{width}-{latent}")
            timings = time_steps(make, torch.rand(batch, pixels, device=device).bernoulli())
        runs.print_timings(f"{pixels}-{width}-{latent}, batch {batch}", timings)


def _signature(found: type) -> list[inspect.Parameter]:
    """Return the arguments of a class that build does not fill in, with their defaults, without types."""
    filled_in = ("latent_dim", "event_shape", "context_features", "posterior", "net", "in_shape", "out_shape")
    parameters = inspect.signature(found).parameters.values()
    named = [p for p in parameters if p.name not in filled_in and p.kind is not inspect.Parameter.VAR_KEYWORD]
    return [p.replace(annotation=inspect.Parameter.empty) for p in named]


def list_parts(kind: str | None = None) -> None:
    """Show what can be swapped: priors, likelihoods, posteriors, models of the mask, networks, objectives, data.

    Args:
        kind: one kind alone, such as priors.
    """
    from pyro_vae.argument_checks import near_miss
    from pyro_vae.config import KINDS as PARTS

    wanted = None if kind is None else _kind(kind.lower())
    if kind is not None and wanted is None:
        raise ValueError(f"there is nothing to list as {kind!r}; there are {', '.join(KINDS)}{near_miss(kind, KINDS)}")
    for option in PARTS:
        if wanted in (None, option):
            _list_kind(option)
    if wanted in (None, "data"):
        _list_data()
    if wanted != "data":
        print("\n".join(_ON_NAMES))


def _kind(word: str) -> str | None:
    """Return the option that a word of :data:`KINDS` stands for, in the singular too; None for any other word."""
    singular = {**KINDS, **{plural.removesuffix("s"): option for plural, option in KINDS.items()}}
    return singular.get(word)


def _list_kind(option: str) -> None:
    from pyro_vae.config import KINDS as PARTS
    from pyro_vae.parts import Posterior, Prior, words_for

    kind = PARTS[option]
    titles = {
        "mask_likelihood": "--mask_likelihood: models of which values are missing",
        "net": "--nets mlp, gated_mlp, conv, resnet: networks",
        "schedule": "Schedules for weights of an objective",
    }
    print(titles.get(option, f"--{option}"))
    for name, found in kind.classes.items():
        options = [str(p) for p in _signature(found)]
        short = [s for s, of in kind.short.items() if of == name]
        over = found.support if issubclass(found, (Prior, Posterior)) else None
        print(f"  {name}({', '.join(options)})" + "".join(f"  or {s}" for s in short))
        print(f"      {(inspect.getdoc(found) or '').splitlines()[0]}")
        if over is not None:
            print(f"      Over {words_for(over)}.")
    for name, line in _OBJECTIVES.items() if option == "objective" else ():
        print(f"  {name} of pyro.infer\n      {line}")


def _list_data() -> None:
    from pyro_vae import data
    from pyro_vae.cli.words import with_options

    print("--data")
    for name, line in {**data.DESCRIPTIONS, **data.TAKEN}.items():
        print(f"  {name}\n{textwrap.fill(with_options(line), 80, initial_indent=' ' * 6, subsequent_indent=' ' * 6)}")
