"""The names that stand for priors, likelihoods, posteriors, nets, objectives and their schedules."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType

import pyro.infer

from pyro_vae import likelihoods, mask_likelihoods, nets, objectives, posteriors, priors, registry
from pyro_vae.distributions import import_zuko
from pyro_vae.registry import TORCH_NN, TORCH_NN_PATHS, ClassOrFunction, Kind, Spec
from pyro_vae.resolver import as_mapping

__all__ = ["KINDS", "ROOMS", "find", "kind_of"]

ROOMS: Mapping[str, ModuleType] = {
    "prior": priors,
    "likelihood": likelihoods,
    "posterior": posteriors,
    "mask_likelihood": mask_likelihoods,
    "net": nets,
}
"""The modules whose ``__all__`` names the parts of a VAE."""

# Zuko's flows over vectors, which can be a prior or posterior as they are: zuko.flows.NSF.
_ZUKO_FLOWS = ("MAF", "NSF", "NICE", "RealNVP", "NAF", "UNAF", "BPF", "SOSPF", "GF", "CNF", "NCSF", "GMM")

# Pyro's objectives.
_PYROS: Mapping[str, ClassOrFunction] = {
    name: getattr(pyro.infer, name)
    for name in pyro.infer.__all__
    if name.endswith("ELBO") and not name.startswith("Jit") and name != "ELBO"
}


def _is_objective(found: ClassOrFunction) -> bool:
    none = (pyro.infer.ELBO, objectives.Objective)
    return isinstance(found, type) and issubclass(found, pyro.infer.ELBO) and found not in none


def _is_schedule(found: ClassOrFunction) -> bool:
    """True for a function and for a class whose objects can be called, with the number of the step."""
    return inspect.isfunction(found) or (
        isinstance(found, type) and any("__call__" in vars(cls) for cls in found.__mro__)
    )


def _paths(room: ModuleType, classes: Mapping[str, ClassOrFunction]) -> dict[str, ClassOrFunction]:
    return {f"{room.__name__}.{name}": found for name, found in classes.items()}


_OBJECTIVES: dict[str, type] = {name: getattr(objectives, name) for name in objectives.OBJECTIVES}
_SCHEDULES: dict[str, type] = {name: getattr(objectives, name) for name in objectives.SCHEDULES}

# Short names, besides those of the classes in any case, with or without underscores.
_SHORT = {
    "prior": {"vamp": "VampPrior", "mixture": "MixtureOfNormals", "sphere": "UniformOnSphere"},
    "posterior": {
        "normal": "DiagonalNormal",
        "full": "FullNormal",
        "lowrank": "LowRankNormal",
        "iaf": "InverseAutoregressiveFlow",
    },
    "mask_likelihood": {"self": "SelfMasking", "linear": "LinearMasking", "net": "NetMasking"},
    "objective": {
        "beta": "BetaELBO",
        "capacity": "CapacityELBO",
        "info": "InfoVAE",
        "stl": "StickingTheLanding",
        "tc": "BetaTCVAE",
    },
}

# Words of the field for some of these, for the hint in an error.
_USUAL = {
    "prior": {
        **dict.fromkeys(("gaussian", "standardgaussian"), "StandardNormal"),
        **dict.fromkeys(("gmm", "mog", "mixtureofgaussians"), "MixtureOfNormals"),
    },
    "likelihood": {"bce": "Bernoulli", **dict.fromkeys(("gaussian", "mse"), "Normal")},
    "posterior": dict.fromkeys(("gaussian", "diagonal", "meanfield"), "DiagonalNormal"),
}


def _parts(name: str, room: ModuleType) -> Kind:
    classes = {n: found for n in room.__all__ if isinstance(found := getattr(room, n), type)}
    others = {**TORCH_NN, **TORCH_NN_PATHS} if name == "net" else {}
    return Kind(name, classes, _SHORT.get(name, {}), _USUAL.get(name, {}), {**_paths(room, classes), **others})


KINDS: Mapping[str, Kind] = {
    **{name: _parts(name, room) for name, room in ROOMS.items()},
    "objective": Kind(
        "objective",
        _OBJECTIVES,
        _SHORT["objective"],
        listed={**_PYROS, **_paths(pyro.infer, _PYROS), **_paths(objectives, _OBJECTIVES)},
        fits=_is_objective,
        what="a subclass of pyro.infer.ELBO",
        also=f" Pyro's are {', '.join(_PYROS)}.",
    ),
    "schedule": Kind(
        "schedule",
        _SCHEDULES,
        listed=_paths(objectives, _SCHEDULES),
        fits=_is_schedule,
        what="a function of the step, or a class of such",
    ),
}
"""What can be named: priors, likelihoods, posteriors, models of the mask, nets, objectives and schedules."""


def kind_of(name: str, spec: Spec | ClassOrFunction) -> Kind:
    """Return a kind; Zuko, which is slow to import, is on its list only if the spec names a flow of Zuko's.

    Args:
        name: of the kind, a key of :data:`KINDS`.
        spec: the name of a class, or a mapping with that under ``class``.
    """
    kind = KINDS[name]
    path = as_mapping(name, spec).get("class")
    if name in ROOMS and isinstance(path, str) and path.startswith("zuko."):
        kind = replace(kind, listed={**kind.listed, **_zuko_flows()})
    return kind


def _zuko_flows() -> dict[str, ClassOrFunction]:
    """The listed flows of Zuko, by the name in zuko.flows and by that of the module where each is defined."""
    flows = import_zuko().flows
    there = {name: getattr(flows, name) for name in _ZUKO_FLOWS if hasattr(flows, name)}
    return {path: c for name, c in there.items() for path in (f"zuko.flows.{name}", f"{c.__module__}.{name}")}


def find(kind: str, name: str | ClassOrFunction) -> ClassOrFunction:
    """Return the class or function of a name.

    Args:
        kind: ``"prior"``, ``"likelihood"``, ``"posterior"``, ``"mask_likelihood"``, ``"net"``, ``"objective"`` or
            ``"schedule"``.
        name: the name or dotted path; in Python also the class or function itself.

    Raises:
        NotAllowedError: for a dotted path into a module that may not be imported; see
            :func:`pyro_vae.registry.allowing`.
        ValueError: if there is no such name; lists those there are.
    """
    return registry.find(kind_of(kind, name), name)
