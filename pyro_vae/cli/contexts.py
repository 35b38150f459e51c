"""The context columns of a table, for samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pyro_vae import VAE
from pyro_vae.cli import runs
from pyro_vae.cli.rows import drawn
from pyro_vae.data import TABLES, Rows
from pyro_vae.data.table_frames import context_as_frame
from pyro_vae.data.tables import frame_of_file

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["context_for_samples", "drawn_context", "with_context"]


def context_for_samples(run: str, vae: VAE, n: int | None, file: str | None, seed: int) -> pd.DataFrame | None:
    """Return the context columns for n samples: those of a file, or of training rows drawn at random.

    Args:
        run: run folder.
        vae: of the run.
        n: the number of samples; None for one per row of the file, or 64.
        file: a table with the context columns; None for those of training rows.
        seed: of the rows that are drawn.

    Returns:
        A DataFrame of n rows; None if the VAE has no context columns.

    Raises:
        ValueError: if a file is given and there are no context columns, or it is no table, or has another number of
            rows than n.
    """
    columns = () if vae.schema is None else vae.schema.context
    if file is None:
        return drawn_context(runs.open_run(run, None, None, "cpu")[1].train, n or 64, seed) if columns else None
    if not columns:
        raise ValueError(f"context: {run} has no columns with the role context in its schema")
    if not file.lower().endswith(TABLES):
        raise ValueError(f"context must be a table ({', '.join(TABLES)}); got {file}")
    if not Path(file).is_file():
        raise ValueError(f"context: there is no file {file}")
    frame = frame_of_file(file)
    if n is not None and n != len(frame):
        raise ValueError(f"context: {file} has {len(frame):,} rows, one for each sample; got n = {n:,}. Leave n out")
    lacking = [column.name for column in columns if column.name not in frame]
    if lacking:
        raise ValueError(f"context: {file} lacks the columns {', '.join(map(repr, lacking))}")
    return frame[[column.name for column in columns]]


def drawn_context(train: Rows, n: int, seed: int) -> pd.DataFrame | None:
    """Return the context columns of n training rows, drawn at random with replacement; None if there are none."""
    given = drawn(train, n, seed).given
    return None if train.schema is None or given is None else context_as_frame(train.schema, given)


def with_context(vae: VAE, samples: pd.DataFrame, context: pd.DataFrame | None) -> pd.DataFrame:
    """Return samples with their context columns, in the order of the schema."""
    if context is None or vae.schema is None:
        return samples
    both = samples.assign(**{name: context[name].to_numpy() for name in context})
    return both[[column.name for column in vae.schema.columns if column.name in both]]
