"""evaluate and check: the numbers of a run, and whether they are right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

__all__ = ["check_run", "evaluate"]

_GAP_PARTICLES = 1000
_CHECKED = 64


def evaluate(
    run: str,
    split: Literal["train", "valid", "test"] | None = None,
    data: str | None = None,
    root: str | None = None,
    num_particles: int = 1,
    kl: Literal["sampled", "analytic"] = "sampled",
    importance_particles: int = 0,
    n: int | None = None,
    gaps: int = 0,
    against: str | None = None,
    samples: int = 0,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Print the ELBO of a run and what its codes carry, on test data, in nats per example.

    If codes have collapsed, prints the evidence and what to train with instead. Writes all results to
    evaluation-SPLIT.json in the run folder.

    Args:
        run: run folder.
        split: examples to evaluate on: train, valid or test; by default test, or all of other data.
        data: other data than the run's own, or where these are now; nothing is written then.
        root: folder of the data; by default $PYRO_VAE_DATA, else ~/.cache/pyro_vae.
        num_particles: draws of z per example for the ELBO.
        kl: kl of the ELBO: sampled, or analytic if it has a closed form.
        importance_particles: draws of z per example for log p(x) by importance sampling, such as 5000; 0 leaves
            log p(x) out. On two cores, 5,000 draws for 10,000 images of MNIST take some minutes.
        n: number of examples for log p(x); by default all.
        gaps: number of examples, such as 100, on which log p(x) - ELBO is split into the approximation gap (the family
            of q) and the amortisation gap (the encoder); 0 leaves the gaps out. Searches for the best q of each one.
        against: other data, such as fashion_mnist or new.csv; measures how well scores tell their examples from those
            of the run.
        samples: number of samples, such as 1000, that are compared with the training data to find copies. Those of a
            table are also compared with held-out rows, to see how good they are. 0 leaves the comparison out.
        seed: seed of the draws and the binarisation.
        device: cpu, cuda, cuda:1, ...; auto is a GPU if there is one.
    """
    from pyro_vae.argument_checks import at_least
    from pyro_vae.checkpoints import read_config
    from pyro_vae.cli import datasets, diagnoses, runs
    from pyro_vae.files import write_text

    for name, count in (("importance_particles", importance_particles), ("gaps", gaps), ("samples", samples)):
        at_least(name, count, 0, "0 for none")
    config = read_config(Path(run))
    vae, dataset = runs.open_run(run, data, root, device)
    others = None
    if against is not None:
        _, others = datasets.part_of_run(run, datasets.of_run(run, config, against, root), split, against)
    part, examples = datasets.part_of_run(run, dataset, split, data)
    trained = datasets.trained_on(config, dataset)
    if data is None and split == "valid" and len(trained) > len(dataset.train):
        raise ValueError(f"{run} was trained on the validation data too (validate: false); use --split test")
    is_table = vae.schema is not None
    _check_counts(examples, n, gaps, 0 if is_table else samples)
    if samples:
        _check_held_out(dataset, held_out=data is None and split != "train", gaps=is_table)
    diagnoses.check_wanted(vae, examples, gaps=gaps > 0, others=others, samples=samples)
    found: dict[str, Any] = {"split": part, "seed": seed}
    found["elbo"] = runs.print_elbo(part, vae, examples, num_particles=num_particles, kl=kl, seed=seed)
    found["codes"] = runs.print_codes(run, vae, examples, trained=len(trained), seed=seed)
    if importance_particles:
        found["log_prob"] = runs.print_log_prob(part, vae, examples, num_particles=importance_particles, n=n, seed=seed)
    best = found["log_prob"]["mean"] if importance_particles else found["elbo"]["elbo"]
    found["bits_per_dim"] = runs.print_bits(vae, examples, best)
    found["probe"] = diagnoses.print_probe(vae, dataset, examples, seed=seed)
    if gaps:
        particles = importance_particles or _GAP_PARTICLES
        found["gaps"] = diagnoses.print_gaps(vae, examples, n=gaps, num_particles=particles, seed=seed)
    if others is not None:
        found["out_of_distribution"] = diagnoses.print_outliers(vae, examples, others, seed=seed)
    if samples:
        found |= diagnoses.print_samples(run, vae, trained, examples, n=samples, seed=seed)
    if data is None:
        path = Path(run) / f"evaluation-{part}.json"
        write_text(path, json.dumps(found, indent=1) + "\n")
        print(f"written to {path}")


def _check_counts(examples: Any, n: int | None, gaps: int, samples: int) -> None:
    """Raise a ValueError if more examples are asked for than there are."""
    there = f"{len(examples)}, the number of {examples.noun}s"
    if n is not None and not 1 <= n <= len(examples):
        raise ValueError(f"n must be from 1 to {there}; got {n}")
    for name, count in (("gaps", gaps), ("samples", samples)):
        if count > len(examples):
            raise ValueError(f"{name} must be at most {there}; got {count}")


def _check_held_out(dataset: Any, held_out: bool, gaps: bool) -> None:
    """Raise a ValueError if samples cannot be compared with held-out examples; ``gaps`` says if these may have some."""
    if not held_out:
        raise ValueError("samples need held-out examples of the run's own data: no --data, and not --split train")
    if dataset.has_missing and not gaps:
        raise ValueError(f"samples are compared only with complete {dataset.train.noun}s; some values here are missing")


def check_run(
    run: str,
    n: int | None = None,
    data: str | None = None,
    split: Literal["train", "valid", "test"] | None = None,
    only: str | None = None,
    why: bool = True,
    all: bool = False,
    seed: int = 0,
    root: str | None = None,
    out: str | None = None,
) -> None:
    """Cross-check a run: its ELBO, densities and gradients against closed forms, Pyro's losses and each other.

    Prints the lines that failed, were not checked or have a note, and names the rest. Writes the report as JSON and
    the rank histograms of simulation-based calibration. The exit code is 0 if no line failed, 1 if one did, 2 if
    nothing was checked because the model or guide of the run is not supported.

    Args:
        run: run folder.
        n: number of examples to check on; by default 64, or all if there are fewer.
        data: other data than the run's own, or where these are now.
        split: examples to check on: train, valid or test; by default test, or all of other data.
        only: names of the lines to check, such as trace-elbo,evidence; by default all. --all true shows the names.
        why: print why each line must hold, for the lines that are shown in full.
        all: print every line, as a table.
        seed: seed of all draws.
        root: folder of the data; by default $PYRO_VAE_DATA, else ~/.cache/pyro_vae.
        out: file of the report; by default checks.json in the run folder, for a report of all lines only.
    """
    from pyro_vae.checks import check as cross_check
    from pyro_vae.cli import datasets, runs
    from pyro_vae.cli.pictures import draw_ranks, first
    from pyro_vae.files import folder_in, write_text

    path = Path(out) if out else Path(run) / "checks.json"
    if out and not path.parent.is_dir():
        raise FileNotFoundError(f"out: there is no folder {path.parent} to write {path.name} into")
    vae, dataset = runs.open_run(run, data, root, "cpu")
    _, examples = datasets.part_of_run(run, dataset, split, data)
    x, *context = first(examples, min(_CHECKED, len(examples)) if n is None else n, vae)
    objective, importance_particles = runs.objective(run, vae)
    report = cross_check(
        vae,
        x,
        *context,
        objective=objective,
        importance_particles=importance_particles,
        only=None if only is None else [name.strip() for name in only.split(",")],
        seed=seed,
    )
    runs.print_report(report, why, whole=all)
    if out or only is None:
        write_text(path, report.to_json() + "\n")
        written = [path]
        if report.ranks is not None:
            written.append(draw_ranks(report, path.parent if out else folder_in(path.parent, "figures")))
        print(f"written to {' and '.join(map(str, written))}")
    if report.unsupported:
        raise ValueError(report.summary())  # with exit code 2: nothing was found right or wrong
    if not report.passed:
        raise RuntimeError(f"{len(report.failures)} of {len(report)} lines failed; fix {report.failures[0].name} first")
