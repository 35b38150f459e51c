"""compare and sweep: many runs side by side."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

__all__ = ["compare", "sweep"]

_FIGURE = "rate_distortion.png"


def compare(
    runs: list[str],
    split: Literal["train", "valid", "test"] = "test",
    sort: Literal["none", "elbo", "log_prob", "rate", "distortion"] = "none",
    out: str | None = None,
) -> None:
    """Set runs side by side: the options in which they differ, and the results of pyro-vae evaluate.

    Args:
        runs: run folders.
        split: evaluation to read: train, valid or test.
        sort: result to sort by, the best first; none keeps the order of the runs.
        out: .json or .csv file for the table, or .png file for a figure of rate against distortion.
    """
    from pyro_vae.checkpoints import CONFIG
    from pyro_vae.cli import comparison

    # runs/* may match files, and folders of runs. A config.yaml that is a link is refused when it is read.
    folders = [run for run in runs if os.path.lexists(Path(run) / CONFIG) or not Path(run).exists()]
    if not folders:
        raise ValueError(f"runs must be run folders; got {', '.join(runs)}")
    left_out = [run for run in runs if run not in folders and Path(run).is_dir()]
    if left_out:
        print(f"left out, because they are not run folders: {', '.join(left_out)}")
    rows = comparison.read_rows(folders, split)
    if sort != "none":
        lower = sort in ("rate", "distortion")
        last = float("inf")
        rows.sort(key=lambda row: row.figures.get(sort, last) if lower else -row.figures.get(sort, -last))
    names = comparison.varied(rows)
    comparison.print_rows(rows, names, split)
    if out is not None:
        comparison.write_rows(rows, names, Path(out))


def sweep(
    out: str,
    vary: list[str],
    together: bool = False,
    workers: int = 1,
    evaluate_on: Literal["train", "valid", "test"] = "valid",
    importance_particles: int = 0,
    *,
    check: Callable[[list[str]], None],
    **options: Any,
) -> None:
    """Train with all combinations of the values of options, and set the runs side by side.

    Writes a run folder for each combination, a table (sweep.csv) and the figure of rate against distortion. After an
    interruption, the same command continues the sweep. With more values, it adds their runs.

    Args:
        out: folder of the sweep.
        vary: options and their values, such as objective.beta=0.5,1,2 seed=0,1.
        together: train with the first value of each option, then with the second of each, and so on.
        workers: number of trainings at a time, each in its own process; they share the cores.
        evaluate_on: data to evaluate on: train, valid or test.
        importance_particles: draws of z per example to estimate log p(x) by importance sampling, such as 5000; by
            default no estimate.
        check: raises a ValueError if a command line cannot be parsed.
        options: options of pyro-vae train.
    """
    from pyro_vae.argument_checks import at_least
    from pyro_vae.cli import comparison, runs
    from pyro_vae.cli.sweeps import Sweep, parse_vary
    from pyro_vae.registry import allowed

    at_least("workers", workers, 1)
    at_least("importance_particles", importance_particles, 0, "0 for none")
    if evaluate_on == "valid" and not options["validate"]:
        raise ValueError("--validate false trains on the validation data too; add --evaluate_on test")
    root = options.pop("root", None)
    runs.check_names(options)
    on = runs.device(options["device"])
    evaluation = {"split": evaluate_on, "importance_particles": importance_particles, "device": on}
    found = Sweep(Path(out), options, parse_vary(vary), together, evaluation, root, allowed() or ())
    for member in found.members:
        check(found.arguments(member))
    found.open()
    finished = sum(found.done(member) for member in found.members)
    print(f"{len(found.members)} trainings, {finished} of them done before, in {out}")
    with runs.status("training") as say:
        for member, seconds in found.run(workers, lambda names: say("   ".join(names))):
            finished += 1
            ended = f"failed: {member.error}" if member.error else f"{seconds:.0f} s"
            print(f"{finished:3} of {len(found.members)}  {member.name}  {ended}", flush=True)
    folders = [str(member.folder) for member in found.members if found.done(member)]
    if folders:
        rows, names = comparison.read_rows(folders, evaluate_on), list(found.vary)
        comparison.print_rows(rows, names, evaluate_on)
        comparison.write_rows(rows, names, Path(out) / "sweep.csv")
        comparison.write_rows(rows, names, Path(out) / _FIGURE)
    failed = [member.name for member in found.members if member.error]
    if failed:
        raise RuntimeError(
            f"{len(failed)} of {len(found.members)} trainings failed: {', '.join(failed)}. What they said is in "
            f"{out}/.logs; the same command tries them again"
        )
