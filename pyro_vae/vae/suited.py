"""Data in the form that a VAE takes: counts with their library sizes, and tables as its schema says."""

from __future__ import annotations

from dataclasses import replace

from pyro_vae.data import Counts, DataSource
from pyro_vae.data.frames import is_sparse
from pyro_vae.data.schema import Schema
from pyro_vae.parts import Part, as_likelihood
from pyro_vae.vae.tables import as_rows

__all__ = ["suited_to"]


def suited_to(likelihood: Part, source: DataSource, schema: Schema | None = None) -> DataSource:
    """Return counts with their library sizes as context if a likelihood takes them, and without if not.

    For such a likelihood, a sparse matrix of SciPy's becomes :class:`Counts`. With a schema, a table becomes the rows
    that it says. Other data stay as they are.

    Raises:
        BadDataError: if the likelihood takes library sizes, and a row has none because it has no counts; or if a table
            lacks a column of the schema, or has a value that the schema does not know.
    """
    source = as_rows(schema, source)
    takes = as_likelihood(likelihood).own_context > 0  # the log library size
    if takes and is_sparse(source):
        source = Counts(source)
    if not isinstance(source, Counts):
        return source
    counts = replace(source, library=takes)
    if takes:
        counts.log_library  # noqa: B018  # an empty row is found now, not in the middle of a training
    return counts
