"""evaluate and check: numbers of a run, and whether they are right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

__all__ = ["check_run", "evaluate"]

_GAP_DRAWS = 1000


def evaluate(
    run: str,
    split: Literal["train", "valid", "test"] = "test",
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
    """Print the ELBO of a run and what its codes carry, on test data, in nats per image.

    Says where codes have collapsed, from what that was seen, and what to train with instead. Writes all of it to
    evaluation-SPLIT.json in the run folder.

    Args:
        run: run folder.
        split: train, valid or test.
        data: another data set than the run's own.
        root: folder of the data; by default $PYRO_VAE_DATA, else ~/.cache/pyro_vae.
        num_particles: draws of z an image.
        kl: sampled, or analytic where it has a closed form.
        importance_particles: draws of z per image for log p(x) by importance sampling, such as 5000; by default none.
            On two cores, 5,000 draws for 10,000 images of MNIST take some minutes.
        n: of how many images log p(x) is wanted; by default of all.
        gaps: of how many images log p(x) - elbo is taken apart into what the family of q cannot do and what the encoder
            does not find, such as 100; by default of none. A q of its own is searched for each image.
        against: another data set, such as fashion_mnist: how well scores tell its images from those of the run's.
        samples: how many samples to compare with the training images, to find copies, such as 1000; by default none.
        seed: of the draws and the binarisation.
        device: cpu, cuda, ...
    """
    from pyro_vae.argument_checks import at_least
    from pyro_vae.checkpoints import read_config
    from pyro_vae.cli import diagnoses, runs
    from pyro_vae.files import replacing

    for name, count in (("importance_particles", importance_particles), ("gaps", gaps), ("samples", samples)):
        at_least(0, name, count, "0 for none")
    config = read_config(Path(run))
    others = None if against is None else getattr(runs.load_data({**config, "data": against}, root), split)
    vae, dataset = runs.open_run(run, data, root, device)
    images, trained = getattr(dataset, split), runs.trained_on(config, dataset)
    if data is None and split == "valid" and len(trained) > len(dataset.train):
        raise ValueError(f"{run} was trained on the validation images too (validate: false); use --split test")
    if n is not None and not 1 <= n <= len(images):
        raise ValueError(f"n must be from 1 to {len(images)}, as many as there are images; got {n}")
    if max(gaps, samples) > len(images):
        raise ValueError(f"gaps and samples must be at most {len(images)}, as many as there are images")
    if samples and (data is not None or split == "train"):
        raise ValueError(
            "samples need images of the run's own data that were held out: no --data, and not --split train"
        )
    diagnoses.check_wanted(vae, images, gaps=gaps > 0, others=others, samples=samples > 0)
    found: dict[str, Any] = {"split": split, "seed": seed}
    found["elbo"] = runs.print_elbo(split, vae, images, num_particles=num_particles, kl=kl, seed=seed)
    found["codes"] = runs.print_codes(run, vae, images, trained=len(trained), seed=seed)
    if importance_particles:
        found["log_prob"] = runs.print_log_prob(split, vae, images, num_particles=importance_particles, n=n, seed=seed)
    best = found["log_prob"]["mean"] if importance_particles else found["elbo"]["elbo"]
    found["bits_per_dim"] = runs.print_bits(vae, images, best)
    found["probe"] = diagnoses.print_probe(vae, dataset, images, seed=seed)
    if gaps:
        found["gaps"] = diagnoses.print_gaps(
            vae, images, n=gaps, num_particles=importance_particles or _GAP_DRAWS, seed=seed
        )
    if others is not None:
        found["out_of_distribution"] = diagnoses.print_outliers(vae, images, others, seed=seed)
    if samples:
        found["memorisation"] = diagnoses.print_memorisation(run, vae, trained, images, n=samples, seed=seed)
    if data is None:
        path = Path(run) / f"evaluation-{split}.json"
        with replacing(path) as partial:
            partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"written to {path}")


def check_run(
    run: str,
    n: int = 64,
    split: Literal["train", "valid", "test"] = "test",
    only: str | None = None,
    why: bool = True,
    all: bool = False,
    seed: int = 0,
    root: str | None = None,
    out: str | None = None,
) -> None:
    """Cross-check a run: its ELBO, densities and gradients against closed forms, Pyro's losses and each other.

    Prints what failed, what was not checked and what is noted, and folds the rest; writes the report as JSON and the
    rank histograms of simulation-based calibration. Ends with exit code 0 where no line failed, 1 where one did, 2
    where nothing was checked because the run's model or guide is not supported.

    Args:
        run: run folder.
        n: how many images to check on.
        split: train, valid or test.
        only: names of lines to look at, such as trace-elbo,evidence; by default all. --all true shows the names.
        why: say of each line that is shown in full why it must hold.
        all: print every line, as a table.
        seed: of all draws.
        root: folder of the data; by default $PYRO_VAE_DATA, else ~/.cache/pyro_vae.
        out: the report's file; by default checks.json in the run folder, which only a whole report is written to.
    """
    from pyro_vae.checks import check as cross_check
    from pyro_vae.cli import runs
    from pyro_vae.cli.pictures import draw_ranks, first
    from pyro_vae.files import folder_in, replacing

    path = Path(out) if out else Path(run) / "checks.json"
    if out and not path.parent.is_dir():
        raise FileNotFoundError(f"out: there is no folder {path.parent} to write {path.name} into")
    vae, dataset = runs.open_run(run, None, root, "cpu")
    x, *context = first(getattr(dataset, split), n, vae)
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
        with replacing(path) as partial:
            partial.write_text(report.to_json() + "\n", encoding="utf-8")
        written = [path]
        if report.ranks is not None:
            written.append(draw_ranks(report, path.parent if out else folder_in(path.parent, "figures")))
        print(f"written to {' and '.join(map(str, written))}")
    if report.unsupported:
        raise ValueError(report.summary())  # with exit code 2: nothing was found wrong, and nothing right
    if not report.passed:
        raise RuntimeError(f"{len(report.failures)} of {len(report)} lines failed; fix {report.failures[0].name} first")
