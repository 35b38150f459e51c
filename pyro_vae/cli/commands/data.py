"""data and suggest: what is in your data, and which likelihood fits them."""

from __future__ import annotations

import shlex
from typing import Any, Literal

__all__ = ["describe_data", "reading", "suggest_likelihood"]


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
        columns: columns of a table to train on, such as age,height; by default all but row numbers, constants and
            the like.
        delimiter: character between the columns of a text file.
        schema: file with the schema of a table, as pyro-vae suggest DATA --out schema.yaml writes it; by default it is
            made from the table.
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
    from pyro_vae.cli.columns import print_columns, print_schema
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
        print_schema(found)
    elif isinstance(everything, Rows) and len(everything.event_shape) == 1:
        print_columns(everything)


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
        print(f"written to {out}: edit what you know better")
        how["schema"] = out
    given = [word for name, value in how.items() if value for word in (f"--{name}", str(value))]
    words = shlex.join([data, *("true" if word == "True" else word for word in given)])
    print(f"pyro-vae train --data {words} {'takes it' if out else 'chooses the first, and prepares the data for it'}")
