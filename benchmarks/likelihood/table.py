"""Published test likelihoods on dynamically binarised MNIST, repeated and beaten: one YAML a row, one table.

    python benchmarks/likelihood/table.py
    python benchmarks/likelihood/table.py benchmarks/likelihood/published/*.yaml

A row is a file of options of ``pyro-vae train``, whose first lines say what it is and which figure was published. It is
trained into runs/likelihood/ROW, going on there if it was stopped, and log p(x) of all 10,000 test images is estimated
by importance sampling with 5,000 draws an image, or as many as the file says. What is done is not done again. The table
is printed, and written to --out. --list trains nothing, and shows the rows that were run, and those that were not.

By default the rows beside this file, each of which takes one to two hours on two cores. Those in parts/ are short, and
show what a part brings; those in published/ have the schedule of the papers, 3,280 passes in batches of 20, and are for
a GPU. --threads 1 trains on one core, so that two commands may share the machine. Reads MNIST from $PYRO_VAE_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from svi.machine import machine  # noqa: E402

from pyro_vae.checkpoints import LAST  # noqa: E402
from pyro_vae.cli import main as pyro_vae  # noqa: E402
from pyro_vae.training import History  # noqa: E402

RUNS = Path("runs/likelihood")
RESULT = "evaluation-test.json"
DRAWS = 5000  # of z a test image, where the row's file says no other number


@dataclass(frozen=True)
class Row:
    """A file of options, and the run made from it."""

    path: Path

    @property
    def name(self) -> str:
        """Of its run."""
        return "-".join(self.path.resolve().relative_to(HERE).with_suffix("").parts)

    @property
    def run(self) -> Path:
        """Its run folder."""
        return RUNS / self.name

    @property
    def result(self) -> dict[str, Any]:
        """What its evaluation found; empty where there was none."""
        path = self.run / RESULT
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    @property
    def said(self) -> list[str]:
        """The comments at the head of the file: what it is, what was published."""
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return [line.removeprefix("#").strip() for line in lines if line.startswith("#")]

    def noted(self, name: str) -> str:
        """What one of the comments says, such as ``published: 86.76``; empty where none does."""
        return next((line.partition(":")[2].strip() for line in self.said if line.startswith(f"{name}:")), "")

    def make(self, device: str) -> None:
        """Trains and evaluates it, unless that is done."""
        draws = int(self.noted("draws") or DRAWS)
        if self.result.get("log_prob", {}).get("num_particles") == draws:
            return
        start = ["--resume", str(self.run)] if (self.run / LAST).is_file() else ["--config", str(self.path)]
        if not self.result and pyro_vae(["train", *start, "--out", str(self.run), "--device", device]):
            sys.exit(f"{self.name} was not trained")
        if pyro_vae(["evaluate", str(self.run), "--importance_particles", str(draws), "--device", device]):
            sys.exit(f"{self.name} was not evaluated")

    def cells(self, beside: Path) -> list[str]:
        """Its line of the table, with a link from a folder."""
        published = self.noted("published")
        cells = [f"[{self.said[0]}]({os.path.relpath(self.path, beside)})"]
        found = self.result
        if "log_prob" not in found:
            return [*cells, "", "", "", "not run", "", published]
        history = History.read(self.run / "history.jsonl")
        minutes = sum(epoch.seconds for epoch in history) / 60
        log_prob = found["log_prob"]
        estimate = f"{-log_prob['mean']:.2f} ± {log_prob['standard_error']:.2f}"
        bound = f"{-found['elbo']['elbo']:.2f}"
        return [*cells, str(len(history)), f"{minutes:.0f}", bound, estimate, f"{log_prob['draws']:,}", published]


def commit() -> str:
    done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or "no commit"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", type=Path, help="files of rows; by default those beside this script")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="(default: %(default)s)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--list", action="store_true", help="train nothing, show all rows")
    parser.add_argument("--out", type=Path, help="Markdown file to write the table to")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    every = sorted(HERE.glob("**/*.yaml"))
    rows = [Row(path) for path in options.rows or (every if options.list else sorted(HERE.glob("*.yaml")))]
    if not options.list:
        for row in rows:
            row.make(options.device)
    command = " ".join(["python", "benchmarks/likelihood/table.py", *map(str, sys.argv[1:])])
    table = [["row", "passes", "minutes", "test -ELBO", "test -log p(x)", "draws", "published"]]
    table += [["---", *["---:"] * 6], *(row.cells(options.out.parent if options.out else ROOT) for row in rows)]
    lines = [
        "# Test likelihoods on dynamically binarised MNIST\n",
        f"`{command}`, commit {commit()}\n",
        f"{machine(options.threads)}.\n",
        "Nats an image over the 10,000 test images, log p(x) by importance sampling with so many draws an image; ± is "
        "the standard error over images. Minutes are those of the training.\n",
        *(f"| {' | '.join(cells)} |" for cells in table),
    ]
    if any("log_prob" not in row.result for row in rows):
        lines.append('\nA row that says "not run" has not been run on this code.')
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
