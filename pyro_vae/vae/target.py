"""The VAE that a target stands for, and counts in the form that its likelihood takes."""

from __future__ import annotations

from pyro_vae.data import DataSource
from pyro_vae.model_guide import Target, model_and_guide, owner_of
from pyro_vae.vae.model import VAE
from pyro_vae.vae.suited import suited_to

__all__ = ["as_vae", "suited", "takes_context"]


def as_vae(target: Target) -> VAE | None:
    """Return the VAE whose model and guide these are; None for programs of the user's own.

    A subclass with a ``model`` or ``guide`` of its own is such a program.
    """
    vae = owner_of(target)
    functions = [getattr(program, "__func__", None) for program in model_and_guide(target)]
    return vae if isinstance(vae, VAE) and functions == [VAE.model, VAE.guide] else None


def takes_context(target: Target) -> bool:
    """Return True if a target is a VAE that is known to take a context."""
    vae = as_vae(target)
    return vae is not None and vae.context_features > 0


def suited(source: DataSource, target: Target) -> DataSource:
    """Return data in the form that a VAE takes; see :func:`suited_to`.

    Data for a model and guide of the user's own stay as they are.
    """
    vae = as_vae(target)
    found: DataSource = source if vae is None else suited_to(vae.likelihood, source, vae.schema)
    return found
