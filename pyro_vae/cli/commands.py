"""The commands, one function each: its arguments are the options, its docstring their help.

Whatever needs torch is imported when a command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path
from typing import Any, Literal

__all__ = ["bench", "check_run", "evaluate", "interpolate", "list_parts", "plot", "reconstruct", "sample", "train"]

# What config.yaml does not record: where files are is of one machine.
_NOT_RECORDED = ("root", "out", "resume")

_STEPS = 2000  # as many as small data get by default; large data get _EPOCHS passes
_EPOCHS = 10

_OBJECTIVES = {
    "Trace_ELBO": "recon - kl at samples of z; --objective.num_particles for more than one.",
    "TraceEnum_ELBO": "For discrete codes, which it sums over exactly.",
    "TraceMeanField_ELBO": "The same with the kl in closed form, where there is one.",
}


def train(
    data: str = "digits",
    root: str | None = None,
    binarize: Literal["auto", "dynamic", "threshold", "none"] = "auto",
    dequantize: bool | Literal["auto"] = "auto",
    labels: bool = False,
    latent_dim: int = 20,
    hidden: int | list[int] = [512, 512],  # noqa: B006  # only read; it shows in --help
    activation: str = "SiLU",
    prior: str | dict[str, Any] = {"class": "StandardNormal"},  # noqa: B006
    likelihood: str | dict[str, Any] = {"class": "Bernoulli"},  # noqa: B006
    posterior: str | dict[str, Any] = {"class": "DiagonalNormal"},  # noqa: B006
    nets: Literal["mlp", "gated_mlp", "conv", "resnet"] = "mlp",
    objective: str | dict[str, Any] = {"class": "auto"},  # noqa: B006
    epochs: int | None = None,
    batch_size: int = 128,
    lr: float = 3e-3,
    schedule: Literal["cosine", "constant"] = "cosine",
    patience: int | None = None,
    engine: Literal["auto", "compiled", "pyro"] = "auto",
    seed: int = 0,
    device: str = "auto",
    dtype: Literal["float32", "float64"] = "float32",
    out: str | None = None,
    resume: str | None = None,
) -> None:
    """Train a VAE; without options, on the embedded digits.

    Prints the test elbo and writes a run folder with the configuration, the weights, the history and pictures.

    Args:
        data: digits (embedded), mnist, fashion_mnist, kmnist, qmnist or emnist.
        root: folder of the data; by default $PYRO_VAE_DATA, else ~/.cache/pyro_vae.
        binarize: make pixels 0 or 1: dynamic (drawn anew each time), threshold, none; auto is dynamic under a
            Bernoulli likelihood and none under any other.
        dequantize: add uniform noise within each grey level, which a density over real pixels needs (on a grid of
            levels it grows without bound); auto does so under likelihoods that are such densities.
        labels: give the labels to the VAE as context (a conditional VAE).
        latent_dim: dimensions of z.
        hidden: widths of the encoder's hidden layers, such as 400 or [512,256]; the decoder has them in reverse.
        activation: of the networks, by its name in torch.nn.
        prior: p(z), a class by name or dotted path, with its arguments as --prior.NAME VALUE. See pyro-vae list. Naming
            a class starts from its defaults.
        likelihood: p(x|z), likewise, such as --likelihood normal --likelihood.scale 0.1; auto looks at the data and
            says why.
        posterior: q(z|x), likewise, such as --posterior iaf.
        nets: mlp, gated_mlp, conv or resnet, for the posterior and the likelihood.
        objective: what is minimised, likewise, such as --objective iwae --objective.particles 50, or --objective beta
            --objective.beta 0.5; a schedule in the place of a weight as '{"class": "linear", "steps": 5000}'. auto is
            Pyro's Trace_ELBO, or TraceEnum_ELBO for discrete codes.
        epochs: passes over the training data; by default 10, and more on small data, to make 2,000 steps.
        batch_size: examples a step.
        lr: highest learning rate.
        schedule: cosine (down to zero) or constant.
        patience: stop after so many epochs without a better validation elbo.
        engine: compiled (a step is one graph, several times faster after about ten seconds of compilation) or pyro
            (pyro.infer.SVI); auto compiles from 3,000 steps on.
        seed: of weights, order, binarisation and noise.
        device: cpu, cuda, cuda:1, ...; auto takes a GPU where there is one.
        dtype: of the weights.
        out: run folder; by default the next free runs/DATA-NUMBER.
        resume: run folder to go on with, with its own configuration and what is given beside it.
    """
    config = {name: value for name, value in locals().items() if name not in _NOT_RECORDED}
    from pyro_vae import load
    from pyro_vae.cli import runs
    from pyro_vae.cli.pictures import draw_run
    from pyro_vae.config import make_objective
    from pyro_vae.distributions import part_name
    from pyro_vae.training import fit

    if resume is not None and out not in (None, resume):
        raise ValueError(f"resume goes on in its own folder, {resume}; leave out={out!r} away")
    runs.choose_likelihood(config, root)
    dataset = runs.load_data(config, root)
    device = runs.device(device)
    vae = runs.new_vae(dataset, config)
    if epochs is None:
        epochs = max(_EPOCHS, math.ceil(_STEPS * batch_size / len(dataset.train)))
    config["epochs"] = epochs
    run = Path(resume or out or runs.free_folder(data))
    print(
        f"{part_name(vae.prior)} prior, {part_name(vae.likelihood)} likelihood, "
        f"{part_name(vae.posterior)} posterior; {sum(p.numel() for p in vae.parameters()):,} parameters on {device}\n"
        f"{data}: {len(dataset.train):,} images of {' x '.join(map(str, dataset.event_shape))} to train on, "
        f"{runs.form(dataset.train)}; {epochs} epochs"
    )
    minimised = make_objective(objective, vae)
    bounds = getattr(minimised, "bounds_log_prob", True)
    history = fit(
        vae,
        dataset.train,
        valid=dataset.valid,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        schedule=schedule,
        objective=minimised,
        patience=patience,
        engine=engine,
        seed=seed,
        device=device,
        out=run,
        resume=resume is not None,
        config=config,
    )
    vae = load(run, device=device)
    kept = f"best epoch {history.best.epoch} of {len(history)}; its weights" if bounds else "the last epoch's weights"
    print(f"{kept} are in {run / 'weights.safetensors'}")
    runs.print_elbo("test", vae, dataset.test, particles=1, kl="sampled", seed=0)
    draw_run(run, vae, dataset)
    print(f"next      pyro-vae evaluate {run}   or in Python: vae = pyro_vae.load({str(run)!r})")


def evaluate(
    run: str,
    split: Literal["train", "valid", "test"] = "test",
    data: str | None = None,
    root: str | None = None,
    particles: int = 1,
    kl: Literal["sampled", "analytic"] = "sampled",
    draws: int = 0,
    n: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Print the elbo of a run and what its codes carry, on test data and in nats an image; with --draws, log p(x) too.

    Writes it to evaluation-SPLIT.json in the run folder.

    Args:
        run: run folder.
        split: train, valid or test.
        data: another data set than the run's own.
        root: folder of the data; by default $PYRO_VAE_DATA, else ~/.cache/pyro_vae.
        particles: draws of z an image.
        kl: sampled, or analytic where it has a closed form.
        draws: of z an image for log p(x) by importance sampling, such as 5000; by default none. On two cores, 5,000
            draws for 10,000 images of MNIST take some minutes.
        n: of how many images log p(x) is wanted; by default of all.
        seed: of the draws and the binarisation.
        device: cpu, cuda, ...
    """
    from pyro_vae.cli import runs

    if draws < 0:
        raise ValueError(f"draws must be at least 1, or 0 for none; got {draws}")
    vae, dataset = runs.open_run(run, data, root, device)
    images = getattr(dataset, split)
    if n is not None and not 1 <= n <= len(images):
        raise ValueError(f"n must be from 1 to {len(images)}, as many as there are images; got {n}")
    found: dict[str, Any] = {"split": split, "seed": seed}
    found["elbo"] = runs.print_elbo(split, vae, images, particles=particles, kl=kl, seed=seed)
    found["codes"] = runs.print_latent_use(vae, images, seed=seed)
    if draws:
        found["log_prob"] = runs.print_log_prob(split, vae, images, draws=draws, n=n, seed=seed)
    if data is None:
        path = Path(run) / f"evaluation-{split}.json"
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"written to {path}")


def check_run(
    run: str,
    n: int = 64,
    split: Literal["train", "valid", "test"] = "test",
    only: str | None = None,
    why: bool = True,
    seed: int = 0,
    root: str | None = None,
    out: str | None = None,
) -> None:
    """Cross-check a run: its ELBO, densities and gradients against closed forms, Pyro's losses and each other.

    Prints a line for each comparison, with why it must hold; writes the report as JSON and the rank histograms of
    simulation-based calibration; ends with exit code 1 where a line failed.

    Args:
        run: run folder.
        n: how many images to check on.
        split: train, valid or test.
        only: lines to look at, such as trace-elbo,evidence; by default all.
        why: say under each line why it must hold.
        seed: of all draws.
        root: folder of the data; by default $PYRO_VAE_DATA, else ~/.cache/pyro_vae.
        out: the report's file; by default checks.json in the run folder, which only a whole report is written to.
    """
    from pyro_vae.checks import check as cross_check
    from pyro_vae.cli import runs
    from pyro_vae.cli.pictures import draw_ranks, first

    path = Path(out) if out else Path(run) / "checks.json"
    if out and not path.parent.is_dir():
        raise FileNotFoundError(f"out: there is no folder {path.parent} to write {path.name} into")
    vae, dataset = runs.open_run(run, None, root, "cpu")
    x, *context = first(getattr(dataset, split), n, vae)
    objective, importance_samples = runs.objective(run, vae)
    with runs.status("checking") as say:
        report = cross_check(
            vae,
            x,
            *context,
            objective=objective,
            importance_samples=importance_samples,
            only=None if only is None else [name.strip() for name in only.split(",")],
            seed=seed,
            progress=say,
        )
    runs.print_report(report, why)
    if out or only is None:
        path.write_text(report.to_json() + "\n", encoding="utf-8")
        written = [path]
        if report.ranks is not None:
            written.append(draw_ranks(report, path.parent if out else path.parent / "figures"))
        print(f"written to {' and '.join(map(str, written))}")
    if not report.passed:
        raise RuntimeError(
            f"{len(report.failures)} of {len(report)} lines failed; mend {report.failures[0].name} first"
        )


def sample(run: str, n: int = 64, mean: bool = True, seed: int = 0, out: str | None = None) -> None:
    """Draw images from the model of a run.

    Args:
        run: run folder.
        n: how many.
        mean: show the mean of p(x|z) for each z, not a draw from it.
        seed: of the draws.
        out: a .png picture or a .npy array; by default figures/samples.png in the run folder.
    """
    from pyro_vae import load, plots
    from pyro_vae.cli import runs
    from pyro_vae.cli.pictures import one_of_each

    vae = load(run)
    labels = one_of_each(runs.label_classes(run), n, next(vae.parameters()).dtype)
    x = vae.sample(n, *labels, mean=mean, seed=seed)
    runs.write(x, lambda: plots.samples(x), out, Path(run) / "figures" / "samples.png")


def reconstruct(run: str, n: int = 16, root: str | None = None, out: str | None = None) -> None:
    """Encode and decode the first test images of a run.

    Args:
        run: run folder.
        n: how many.
        root: folder of the data; by default $PYRO_VAE_DATA, else ~/.cache/pyro_vae.
        out: a .png picture or a .npy array; by default figures/reconstructions.png in the run folder.
    """
    from pyro_vae import plots
    from pyro_vae.cli import runs
    from pyro_vae.cli.pictures import first

    vae, dataset = runs.open_run(run, None, root, "cpu")
    x, *context = first(dataset.test, n, vae)
    decoded = vae.reconstruct(x, *context)
    runs.write(decoded, lambda: plots.reconstructions(x, decoded), out, Path(run) / "figures" / "reconstructions.png")


def interpolate(
    run: str,
    n: int = 8,
    steps: int = 9,
    path: Literal["linear", "spherical"] = "linear",
    root: str | None = None,
    out: str | None = None,
) -> None:
    """Walk through the latent space from one test image to another.

    Args:
        run: run folder.
        n: how many walks.
        steps: images in a walk, both ends included.
        path: linear, or spherical (which keeps the lengths that a normal prior expects).
        root: folder of the data; by default $PYRO_VAE_DATA, else ~/.cache/pyro_vae.
        out: a .png picture or a .npy array; by default figures/interpolations.png in the run folder.
    """
    from pyro_vae import plots
    from pyro_vae.cli import runs
    from pyro_vae.cli.pictures import first

    vae, dataset = runs.open_run(run, None, root, "cpu")
    x, *context = first(dataset.test, 2 * n, vae)
    half = len(x) // 2
    paths = vae.interpolate(x[:half], x[half : 2 * half], steps, *(c[:half] for c in context), path=path)
    runs.write(paths, lambda: plots.interpolations(paths), out, Path(run) / "figures" / "interpolations.png")


def plot(run: str, root: str | None = None) -> None:
    """Draw all pictures of a run: training curves, reconstructions, samples, walks, the latent space.

    Args:
        run: run folder.
        root: folder of the data; by default $PYRO_VAE_DATA, else ~/.cache/pyro_vae.
    """
    from pyro_vae.cli import runs
    from pyro_vae.cli.pictures import draw_run

    vae, dataset = runs.open_run(run, None, root, "cpu")
    draw_run(Path(run), vae, dataset)


def bench(hidden: int | None = None, latent_dim: int = 50, batch_size: int = 128, device: str = "auto") -> None:
    """Time a step of training on this machine: by Pyro, and as one graph.

    A VAE of binary images of 784 pixels; the ways take turns, and ratios are medians over the turns.

    Args:
        hidden: width of the one hidden layer of encoder and decoder; by default a small network (64 pixels, 64 wide, 8
            latent dimensions, batches of 64) is timed, and then one of 400.
        latent_dim: dimensions of z.
        batch_size: examples a step.
        device: cpu, cuda, cuda:1, ...; auto takes a GPU where there is one.
    """
    import torch

    from pyro_vae.cli import runs
    from pyro_vae.config import build
    from pyro_vae.seeds import seeded
    from pyro_vae.svi.timing import time_steps

    for name, value in (("latent_dim", latent_dim), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1; got {value}")
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
    """The arguments of a class that are not filled in, by their names and defaults, without types."""
    filled_in = ("latent_dim", "event_shape", "context", "posterior", "net", "in_shape", "out_shape")
    parameters = inspect.signature(found).parameters.values()
    named = [p for p in parameters if p.name not in filled_in and p.kind is not inspect.Parameter.VAR_KEYWORD]
    return [p.replace(annotation=inspect.Parameter.empty) for p in named]


def list_parts() -> None:
    """Show what can be swapped: priors, likelihoods, posteriors, networks, objectives, data."""
    from pyro_vae import data, likelihoods, nets, objectives, posteriors, priors
    from pyro_vae.config import SHORT_NAMES

    titles = {"net": "--nets mlp, gated_mlp, conv, resnet, made of", "schedule": "Schedules of weights of an objective"}
    for option, room, names in (
        ("prior", priors, priors.__all__),
        ("likelihood", likelihoods, likelihoods.__all__),
        ("posterior", posteriors, posteriors.__all__),
        ("net", nets, nets.__all__),
        ("objective", objectives, objectives.OBJECTIVES),
        ("schedule", objectives, objectives.SCHEDULES),
    ):
        print(titles.get(option, f"--{option}"))
        for name in names:
            found = getattr(room, name)
            if not inspect.isclass(found):
                continue
            options = [str(p) for p in _signature(found)]
            short = [s for s, of in SHORT_NAMES.get(option, {}).items() if of == name]
            over = getattr(found, "space", None)
            print(f"  {name}({', '.join(options)})" + "".join(f"  or {s}" for s in short))
            print(f"      {(inspect.getdoc(found) or '').splitlines()[0]}")
            if isinstance(over, str):
                print(f"      Over {over}.")
        for name, line in _OBJECTIVES.items() if option == "objective" else ():
            print(f"  {name}, of Pyro's, as its other ELBOs\n      {line}")
    print("--data")
    for name, line in data.DESCRIPTIONS.items():
        print(f"  {name}\n      {line}")
    print("\nNames may be written in any case and with underscores: --posterior low_rank_normal. A prior and a")
    print("posterior go together where they are over the same; VampPrior is over what the posterior is over.")
    print("Your own class or function goes in each place by its dotted path: --prior my_module.MyPrior")
