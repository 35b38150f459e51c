"""The VAE that a target stands for, and counts in the form that its likelihood takes."""

from __future__ import annotations

from dataclasses import replace

from pyro_vae.data import Counts, DataSource
from pyro_vae.model_guide import Target, model_and_guide, owner_of
from pyro_vae.vae.model import VAE

__all__ = ["as_vae", "suited"]


def as_vae(target: Target) -> VAE | None:
    """Return the VAE whose model and guide these are; None for programs of the user's own.

    A subclass with a ``model`` or ``guide`` of its own is such a program.
    """
    vae = owner_of(target)
    functions = [getattr(program, "__func__", None) for program in model_and_guide(target)]
    return vae if isinstance(vae, VAE) and functions == [VAE.model, VAE.guide] else None


def suited(source: DataSource, target: Target) -> DataSource:
    """Return counts with their library sizes as context if the likelihood of a VAE takes them, and without if not.

    For such a likelihood, a sparse matrix of SciPy's becomes :class:`Counts`. Other data stay as they are, and so do
    counts for a model and guide of the user's own.

    Raises:
        BadDataError: if the likelihood takes library sizes, and a row has none because it has no counts.
    """
    vae = as_vae(target)
    takes = bool(getattr(getattr(vae, "likelihood", None), "library", False))
    if takes and hasattr(source, "tocsr"):  # a sparse matrix of SciPy's
        source = Counts(source)
    if vae is None or not isinstance(source, Counts):
        return source
    counts = replace(source, library=takes)
    if takes:
        counts.log_library  # noqa: B018  # an empty row is found now, not in the middle of a training
    return counts
