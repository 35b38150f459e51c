"""Compare the speed of a step of SVI with Pyro, NumPyro, pythae and PyTorch by hand: a table and a figure.

    python benchmarks/svi.py                                   # all of it
    python benchmarks/svi.py --sizes 64-64-8 --contenders ours JitTrace    # those whose names hold these words

All have the same networks, initial weights, batches and optimiser (Adam, lr 1e-3). Each contender has its own process
(svi/workers.py), is compiled and warmed up, and then takes a block of steps in each round. The order rotates. Figures
are medians over the rounds, and ratios are medians of the ratios within a round, so that other work on the machine
affects all alike. Needs the extra `bench`. A contender that cannot be imported is left out, with the reason.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from svi.machine import machine  # noqa: E402
from svi.sizes import CONTENDERS, SIZES  # noqa: E402
from svi.workers import FailedError, Worker, limit_threads  # noqa: E402


@dataclass
class Row:
    """What was measured of a contender: ms a step in each round, and what it said when it was warm."""

    loss: float | None
    first: float
    note: str
    ms: list[float] = field(default_factory=list)


def measure(size: str, names: list[str], rounds: int, seconds: float) -> tuple[dict[str, Row], dict[str, str]]:
    """The contenders' rows, and why the others have none."""
    workers = {name: Worker("svi.serving:serve", name, size, seconds) for name in names}
    rows, reasons = {}, {}
    for name, worker in workers.items():
        try:
            worker.result()
            rows[name] = Row(**worker.ask("start"))
        except FailedError as error:
            reasons[name] = str(error).strip().splitlines()[-1]
            print(f"{size}: {name} left out: {error}", file=sys.stderr)
    running = list(rows)
    for r in range(rounds):
        at = r % len(running)
        for name in running[at:] + running[:at]:
            rows[name].ms.append(workers[name].ask("run"))
    for worker in workers.values():
        worker.stop()
    return rows, reasons


def ratios(rows: dict[str, Row], name: str) -> np.ndarray:
    """Time against ours (or the first that ran), lower quartile, median and upper quartile over the rounds."""
    base = rows[next(iter(rows))]
    return np.quantile(np.divide(rows[name].ms, base.ms), [0.25, 0.5, 0.75])


def check_losses(size: str, rows: dict[str, Row]) -> None:
    """Contenders that train the same VAE must get to the same loss."""
    losses = {name: row.loss for name, row in rows.items() if row.loss is not None}
    middle = np.median(list(losses.values()))
    for name, loss in losses.items():
        if not abs(loss - middle) < 0.03 * abs(middle):
            print(f"{size}: {name} has a loss of {loss:.2f} where the others have {middle:.2f}", file=sys.stderr)


def table(size: str, rows: dict[str, Row], reasons: dict[str, str]) -> list[str]:
    lines = [f"## {size}", ""]
    lines += [f"| | ms a step | 25-75 % | times {next(iter(rows))} | 25-75 % | first two steps, s | loss, nats |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    notes = []
    for name, row in rows.items():
        low, median, high = np.quantile(row.ms, [0.25, 0.5, 0.75])
        less, ratio, more = ratios(rows, name)
        loss = "" if row.loss is None else f"{row.loss:.2f}"
        spread, of_ratio = f"{low:.2f}-{high:.2f}", f"{less:.2f}-{more:.2f}"
        lines.append(f"| {name} | {median:.2f} | {spread} | {ratio:.2f} | {of_ratio} | {row.first:.1f} | {loss} |")
        notes += [f"{name}: {row.note}"] if row.note else []
    notes += [f"{name} is left out: {reason}" for name, reason in reasons.items()]
    return [*lines, "", *(f"- {note}" for note in notes), *([""] if notes else [])]


def draw(results: dict[str, dict[str, Row]], path: Path) -> None:
    """Dots at the median ratios, on a logarithmic axis, with the lines of the quartiles."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    heights = [len(rows) for rows in results.values()]
    figure, axes = pyplot.subplots(
        len(results), 1, figsize=(9, 1 + sum(0.28 * h + 0.6 for h in heights)), height_ratios=heights,
        squeeze=False, layout="constrained", sharex=True,
    )  # fmt: skip
    for ax, (size, rows) in zip(axes[:, 0], results.items(), strict=True):
        for i, (name, row) in enumerate(rows.items()):
            low, median, high = ratios(rows, name)
            colour = "C1" if name.startswith("ours") else "C7" if row.loss is None else "C0"
            ax.errorbar(median, i, xerr=[[median - low], [high - median]], fmt="o", color=colour, capsize=3)
            text = f" {np.median(row.ms):.2f} ms"
            ax.annotate(text, (high, i), (4, 0), textcoords="offset points", va="center", fontsize=8)
        ax.set(xscale="log", title=size, yticks=range(len(rows)), yticklabels=list(rows))
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.axvline(1, color="C1", linewidth=0.8)
        ax.grid(axis="x", which="both", alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    low, high = axes[-1, 0].get_xlim()
    axes[-1, 0].set(xlim=(low, 1.35 * high), xticks=[t for t in (0.2, 0.5, 1, 2, 3, 5, 10, 20) if low < t < high])
    axes[-1, 0].xaxis.set_major_formatter(ScalarFormatter())
    axes[-1, 0].xaxis.set_minor_formatter(NullFormatter())
    axes[-1, 0].set_xlabel("time of a step against ours: median and quartiles over the rounds")
    figure.savefig(path, dpi=150)


def chosen(what: str, names: dict, words: list[str] | None) -> list[str]:
    """The names that hold one of the words, or are one where it names a thing exactly."""
    found = [n for n in names if words is None or any(w == n or (w not in names and w in n) for w in words)]
    if not found:
        raise SystemExit(f"--{what} {' '.join(words or [])} names none of: {'; '.join(names)}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", help="; ".join(SIZES))
    parser.add_argument("--contenders", nargs="+", help="; ".join(CONTENDERS))
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--seconds", type=float, default=0.3, help="of a block of steps")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "svi.md", help="and a figure beside it, .png")
    options = parser.parse_args()

    asked = chosen("contenders", CONTENDERS, options.contenders)
    limit_threads(options.threads)
    command = " ".join(["python", "benchmarks/svi.py", *sys.argv[1:]])
    head = ["# The speed of a step of SVI", "", f"`{command}`", "", machine(options.threads) + ".", ""]
    head += [f"Medians over {options.rounds} rounds; the losses are means after 300 steps.", ""]
    results, lines = {}, []
    for size in chosen("sizes", SIZES, options.sizes):
        names = [name for name in asked if name in SIZES[size].contenders]
        rows, reasons = measure(size, names, options.rounds, options.seconds)
        if rows:
            results[size] = rows
            check_losses(size, rows)
            lines += table(size, rows, reasons)
            print("\n".join(table(size, rows, reasons)), flush=True)
    options.out.write_text("\n".join([*head, *lines]).rstrip() + "\n", encoding="utf-8")
    draw(results, options.out.with_suffix(".png"))
    print(f"written to {options.out} and {options.out.with_suffix('.png')}")


if __name__ == "__main__":
    main()
