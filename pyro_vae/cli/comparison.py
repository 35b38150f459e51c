"""Runs side by side: the options in which they differ and their results, as a table, a file and a figure."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console

from pyro_vae import plots
from pyro_vae.checkpoints import HISTORY, read_config
from pyro_vae.cli.options import Value
from pyro_vae.cli.tables import table_of
from pyro_vae.files import CheckpointError, is_there, read_json, replacing
from pyro_vae.training import History

__all__ = ["Row", "print_rows", "read_rows", "varied", "write_rows"]

_LEFT_OUT = ("shapes", "from")  # parts of config.yaml that nobody chose

# The title of each result, its format, and its place in evaluation-SPLIT.json.
_FIGURES = {
    "elbo": ("elbo", ".2f", ("elbo", "elbo")),
    "distortion": ("distortion", ".2f", ("elbo", "recon")),
    "rate": ("rate", ".2f", ("elbo", "kl")),
    "information": ("I(x; z)", ".2f", ("codes", "mutual_information")),
    "active_units": ("active units", "d", ("codes", "active_units")),
    "log_prob": ("log p(x)", ".2f", ("log_prob", "mean")),
    "bits_per_dim": ("bits/dim", ".3f", ("bits_per_dim",)),
}

_LONG = 24  # characters of a cell in a narrow terminal


@dataclass(frozen=True)
class Row:
    """A run and its results.

    Args:
        run: run folder.
        options: options of the run, by dotted names.
        figures: results by the names of ``_FIGURES``, without those that were not evaluated.
        epochs: number of epochs trained.
        minutes: time of these epochs in minutes.
    """

    run: str
    options: dict[str, Any]
    figures: dict[str, float]
    epochs: int
    minutes: float

    def as_dict(self, names: Iterable[str]) -> dict[str, Any]:
        """Return all values under plain names."""
        options = {name: self.options.get(name) for name in names}
        return {"run": self.run, **options, "epochs_trained": self.epochs, "minutes": self.minutes, **self.figures}


def read_rows(runs: Sequence[str], split: str) -> list[Row]:
    """Read run folders.

    Raises:
        NotARunError: for a folder that is not a run.
    """
    return [_read(Path(run), split) for run in runs]


def _read(run: Path, split: str) -> Row:
    config = read_config(run)
    history = History.read(run / HISTORY) if is_there(run / HISTORY) else History()
    path = run / f"evaluation-{split}.json"
    found = read_json(path) if is_there(path) else {}
    figures: dict[str, float] = {}
    for name, (_, form, keys) in _FIGURES.items():
        value = _at(found, keys)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int if form == "d" else (int, float)):
            raise CheckpointError(f"{path}: {'.'.join(keys)} must be a number; got {str(value)[:100]!r}")
        figures[name] = value
    if "distortion" in figures:
        figures["distortion"] = -figures["distortion"]
    minutes = round(sum(epoch.seconds for epoch in history) / 60, 2)
    options = _flat({name: value for name, value in config.items() if name not in _LEFT_OUT})
    return Row(str(run), options, figures, len(history), minutes)


def _at(found: Value, keys: tuple[str, ...]) -> Value:
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested options by dotted names, with a class as its option, and the columns of a table as one option."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        key = prefix.removesuffix(".") if name == "class" and prefix else prefix + name
        nested = isinstance(value, Mapping) and name != "columns"
        flat |= _flat(value, f"{key}.") if nested else {key: value}
    return flat


def varied(rows: Sequence[Row]) -> list[str]:
    """Return the options that differ between rows, in the order of the first row."""
    names = dict.fromkeys(name for row in rows for name in row.options)
    return [name for name in names if len({json.dumps(row.options.get(name)) for row in rows}) > 1]


def print_rows(rows: Sequence[Row], names: Sequence[str], split: str) -> None:
    """Print the runs as a table: the options in which they differ, then the results, in nats per example.

    On a terminal too narrow for all columns, the table goes on below, with the runs again on the left.
    """
    console = Console()
    if not console.is_terminal:
        console.width = 250  # a file has no width to wrap at
    for i, columns in enumerate(_blocks(_columns(rows, names), names, console.width)):
        console.print(*([""] if i else []), table_of(columns), sep="\n")
    missing = [row.run for row in rows if not row.figures]
    if missing:
        print(f"not evaluated on {split} data: {', '.join(missing)}. Run: pyro-vae evaluate RUN --split {split}")
    of_mask = [row.run for row in rows if row.options.get("mask_likelihood") is not None]
    if of_mask and len(of_mask) < len(rows):
        print(f"{', '.join(of_mask)}: elbo and log p(x) are of x and its mask; in the other runs they are of x alone")


def _columns(rows: Sequence[Row], names: Sequence[str]) -> dict[str, list[str]]:
    """Return the cells of each column under its title."""
    columns = {"run": [row.run for row in rows]}
    columns |= {name: [_brief(row.options.get(name)) for row in rows] for name in names}
    if "data" in columns:
        columns["data"] = _last_parts(columns["data"])
    columns["trained"] = [str(row.epochs) for row in rows]
    columns["minutes"] = [f"{row.minutes:.1f}" for row in rows]
    for name, (title, form, _) in _FIGURES.items():
        if any(name in row.figures for row in rows):
            columns[title] = [format(row.figures[name], form) if name in row.figures else "" for row in rows]
    return columns


def _last_parts(paths: Sequence[str]) -> list[str]:
    """Return the last parts of paths, or the whole paths if two that differ have the same last part."""
    last = [path.rpartition("/")[2] for path in paths]
    return last if len(set(last)) == len(set(paths)) else list(paths)


def _blocks(columns: Mapping[str, Sequence[str]], names: Sequence[str], width: int) -> list[dict[str, Sequence[str]]]:
    """Return the columns in as many tables as a width needs, each with the runs as its first column.

    Where one table has too little room, long words lose their start, and options the part of their names before the
    last dot if the rest is a name of its own.
    """
    if _width(columns) <= width:
        return [dict(columns)]
    last = [name.rpartition(".")[2] for name in names]
    short = {
        name: end
        for name, end in zip(names, last, strict=True)
        if last.count(end) == 1 and (end == name or end not in columns)
    }
    left = {short.get(title, title): [_shortened(cell) for cell in cells] for title, cells in columns.items()}
    runs = {"run": left.pop("run")}
    blocks: list[dict[str, Sequence[str]]] = [dict(runs)]
    for title, cells in left.items():
        if len(blocks[-1]) > 1 and _width({**blocks[-1], title: cells}) > width:
            blocks.append(dict(runs))
        blocks[-1][title] = cells
    return blocks


def _width(columns: Mapping[str, Sequence[str]]) -> int:
    """Return the characters that a table takes, with two spaces between its columns."""
    return sum(max(map(cell_len, (title, *cells))) + 2 for title, cells in columns.items()) - 2


def _shortened(text: str) -> str:
    """Return a text or, if it is long, its start; of a path its end, which tells more."""
    if len(text) <= _LONG:
        return text
    return f"…{text[1 - _LONG :]}" if "/" in text else f"{text[: _LONG - 1]}…"


def _brief(value: Value) -> str:
    if isinstance(value, Mapping):  # the likelihoods of the columns of a table
        kinds = Counter(str(of.get("class") if isinstance(of, Mapping) else of) for of in value.values())
        return ", ".join(f"{times} {kind}" for kind, times in kinds.items())
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def write_rows(rows: Sequence[Row], names: Sequence[str], path: Path) -> None:
    """Write the runs as .json or .csv, or draw rate against distortion as .png, and print the path.

    Raises:
        ValueError: for another ending, and for a figure if no run was evaluated.
    """
    if path.suffix == ".png":
        drawn = ("rate", "distortion")
        points = [row for row in rows if all(math.isfinite(row.figures.get(name, math.nan)) for name in drawn)]
        if not points:
            raise ValueError("a figure needs evaluated runs, and there are none. Run: pyro-vae evaluate RUN")
        labels = [", ".join(_brief(row.options.get(n)) for n in names) for row in points]
        rates, distortions = ([row.figures[name] for row in points] for name in drawn)
        title = ", ".join(name.rpartition(".")[2] for name in names)
        plots.rate_distortion(rates, distortions, labels, title).savefig(path)
    elif path.suffix in (".json", ".csv"):
        found = [row.as_dict(names) for row in rows]
        with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            if path.suffix == ".json":
                file.write(json.dumps(found, indent=1) + "\n")
            else:
                fields = dict.fromkeys(name for row in found for name in row)
                writer = csv.DictWriter(file, list(fields))
                writer.writeheader()
                writer.writerows(found)
    else:
        raise ValueError(f"out must end in .png (a figure), .json or .csv; got {str(path)!r}")
    print(f"written to {path}")
