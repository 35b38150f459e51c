"""Objectives from names and numbers."""

from __future__ import annotations

from collections.abc import Mapping

from pyro.infer import ELBO

from pyro_vae.compatibility import usual_objective
from pyro_vae.config.names import kind_of
from pyro_vae.registry import ClassOrFunction, Spec, prefix_errors
from pyro_vae.resolver import Arguments, as_mapping, build_from
from pyro_vae.vae import VAE

__all__ = ["make_objective"]


def make_objective(spec: Spec | ClassOrFunction, vae: VAE) -> ELBO:
    """Return an objective by name, such as ``"iwae"`` or ``{"class": "Trace_ELBO", "num_particles": 5}``.

    Args:
        spec: the name of one of :mod:`pyro_vae.objectives` or of Pyro's ELBOs, or a dotted path to your own, which is
            imported as :func:`build` imports one. ``"auto"`` is the usual one: ``TraceEnum_ELBO`` for discrete codes,
            else ``Trace_ELBO``. A schedule takes the place of a weight as a mapping:
            ``{"class": "beta", "beta": {"class": "linear", "steps": 5000}}``.
        vae: the VAE to train.

    Raises:
        NotAllowedError: for a dotted path into a module that may not be imported.
        ValueError: if there is no such objective, or it does not take the arguments.

    Example:
        >>> from pyro_vae import build
        >>> make_objective({"class": "iwae", "num_particles": 5}, build(4, 2)).num_particles
        5
    """
    arguments = as_mapping("objective", spec)
    name = arguments.pop("class", "auto")
    name = usual_objective(vae) if name == "auto" else name
    if name == "TraceEnum_ELBO":
        arguments.setdefault("max_plate_nesting", 1)  # the plate "data"; without it Pyro runs the model once to see
    return build_from(kind_of("objective", name), {"class": name, **arguments}, complete=_make_schedules)


def _make_schedules(found: type, arguments: Arguments) -> None:
    """Replace the spec of a schedule by the schedule."""
    for name, value in arguments.items():
        if isinstance(value, Mapping) and "class" in value:
            with prefix_errors(name):
                arguments[name] = build_from(kind_of("schedule", value), value)
