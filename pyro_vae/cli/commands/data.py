"""data and suggest: what is in your data, and which likelihood fits them."""

from __future__ import annotations

import shlex
from typing import Any, Literal

__all__ = ["describe_data", "reading", "suggest_likelihood"]

_MOST_COLUMNS = 30


def reading(
    root: str | None = None,
    size: str | None = None,
    channels: Literal[1, 3] | None = None,
    split: str | None = None,
    group: str | None = None,
    label: str | None = None,
    columns: str | None = None,
    delimiter: str | None = None,
    schema: str | None = None,
    skip_bad: bool = False,
) -> dict[str, Any]:
    """How your own data are read (arguments of pyro_vae.data.load).

    Args:
        root: folder of the data sets with names; by default $PYRO_VAE_DATA, else ~/.cache/pyro_vae.
        size: height and width of the images of a folder, such as 32 or 32x48: each is resized until it covers them,
            and cut around its centre.
        channels: 1 for grey images of a folder, 3 for colour; by default 3 if any has colour.
        split: shares of training, validation and test data; by default 0.8,0.1,0.1. A row or file stays where it was
            when others are added.
        group: column of a table; rows with the same value stay in one split. It is no part of x.
        label: column of a table that holds the labels, numbers or text. It is no part of x.
        columns: columns of a table to train on, such as age,height; by default all that tell something.
        delimiter: character between the columns of a text file.
        schema: file with the schema of a table, as pyro-vae suggest DATA --out schema.yaml writes it; by default the
            table is looked at.
        skip_bad: leave out files that cannot be read and rows without counts, and say which.
    """
    return dict(locals())


def describe_data(data: str, **how: Any) -> None:
    """Show what is in your data: shapes, splits, columns, classes, missing values, and what is left out.

    Args:
        data: your own data, such as photos/ or wine.csv, or a data set with a name.
        how: options of :func:`reading`.
    """
    import torch

    from pyro_vae.cli import datasets
    from pyro_vae.cli.tables import print_table
    from pyro_vae.cli.words import with_options
    from pyro_vae.data import Rows

    found = datasets.read(data, how)
    split = found.train
    print(f"{data}: {split.describe()}")
    for name in ("train", "valid", "test"):
        print(f"  {len(getattr(found, name)):>9,} {split.noun}s in {name}")
    for note in found.notes:
        print(f"note  {with_options(note)}")
    everything = found.everything
    if everything.labels is not None:
        counts = torch.bincount(everything.labels, minlength=everything.classes).tolist()
        names = everything.class_names or tuple(map(str, range(everything.classes)))
        print_table("classes", {"class": names, f"{split.noun}s": [f"{count:,}" for count in counts]})
    if isinstance(everything, Rows) and everything.schema is not None:
        _print_schema(found)
    elif isinstance(everything, Rows) and len(everything.event_shape) == 1:
        _print_columns(everything)


def _print_schema(found: Any) -> None:
    """Print what each column of a table holds."""
    from pyro_vae import suggest_schema
    from pyro_vae.cli.tables import print_table
    from pyro_vae.data.table_frames import as_values
    from pyro_vae.resolver import class_name

    schema = suggest_schema(found)
    values = found.everything.values.double().numpy()
    shown: dict[str, list[str]] = {name: [] for name in ("column", "kind", "likelihood", "values", "missing")}
    for place, column in list(enumerate(schema.data))[:_MOST_COLUMNS]:
        there = as_values(column, values[:, place]).dropna()
        ends = f"{_short(there.min())} to {_short(there.max())}"
        missing = 1 - len(there) / len(values)
        shown["column"].append(column.name)
        shown["kind"].append(column.kind)
        shown["likelihood"].append(class_name(column.likelihood or ""))
        shown["values"].append(", ".join(map(str, column.values)) if column.is_coded else ends)
        shown["missing"].append(f"{missing:.1%}" if missing else "")
    print_table("columns", shown)
    if len(schema.data) > _MOST_COLUMNS:
        print(f"and {len(schema.data) - _MOST_COLUMNS:,} more")


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value).removesuffix(" 00:00:00")


def _print_columns(rows: Any) -> None:
    """Print the range and the missing values of each column."""
    import numpy as np
    import torch

    from pyro_vae.cli.tables import print_table

    values = rows.x(slice(None), torch.float64).numpy()[:, :_MOST_COLUMNS]
    names = (rows.columns or tuple(map(str, range(rows.event_shape[0]))))[:_MOST_COLUMNS]
    quantiles = np.nanquantile(values, [0, 0.5, 1], axis=0)
    shown = [[f"{value:.4g}" for value in of] for of in quantiles]
    missing = [f"{share:.1%}" if share else "" for share in np.isnan(values).mean(0)]
    print_table(
        "columns", {"column": names, "least": shown[0], "median": shown[1], "greatest": shown[2], "missing": missing}
    )
    if rows.event_shape[0] > _MOST_COLUMNS:
        print(f"and {rows.event_shape[0] - _MOST_COLUMNS:,} more")


def suggest_likelihood(data: str, out: str | None = None, **how: Any) -> None:
    """Show which likelihoods fit your data, the best first, and why.

    Args:
        data: your own data, such as photos/ or wine.csv, or a data set with a name.
        out: file for the schema of a table, such as schema.yaml: what each column holds, and its likelihood. Edit it,
            and train with --schema schema.yaml.
        how: options of :func:`reading`.
    """
    from pathlib import Path

    from pyro_vae import suggest, suggest_schema
    from pyro_vae.cli import datasets
    from pyro_vae.cli.tables import wrapped
    from pyro_vae.cli.words import with_options
    from pyro_vae.data import Rows
    from pyro_vae.files import write_text
    from pyro_vae.suggestions import MISSING
    from pyro_vae.suggestions.library import LOG1P

    dataset = datasets.read(data, how)
    for found in suggest(dataset):
        said = with_options(str(found.with_steps([step for step in found.todo if step.what not in (MISSING, LOG1P)])))
        print(wrapped(said, indent=4))
    if out is not None:
        if not isinstance(dataset.train, Rows) or dataset.train.schema is None:
            raise ValueError(f"out is for the schema of a table; {data} holds {dataset.train.noun}s of another kind")
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        write_text(Path(out), suggest_schema(dataset).to_yaml())
        print(out)
    given = [word for name, value in how.items() if value for word in (f"--{name}", str(value))]
    words = shlex.join([data, *("true" if word == "True" else word for word in given)])
    print(f"pyro-vae train --data {words} chooses the first, and prepares the data for it")
