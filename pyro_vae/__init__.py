"""Variational autoencoders as Pyro models and guides."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyro_vae import (
        checks,
        closed_forms,
        data,
        evaluation,
        likelihoods,
        mask_likelihoods,
        nets,
        objectives,
        plots,
        posteriors,
        priors,
        svi,
        training,
    )
    from pyro_vae.bound import ElboEstimate, ElboTerms, average_elbo, elbo, elbo_terms
    from pyro_vae.checkpoints import load
    from pyro_vae.checks import check
    from pyro_vae.config import build
    from pyro_vae.estimators import VAEImputer, VAETransformer
    from pyro_vae.files import CheckpointError
    from pyro_vae.parts import Likelihood, MaskLikelihood, Posterior, Prior
    from pyro_vae.suggestions import Suggestion, suggest, suggest_schema
    from pyro_vae.svi import CompiledSVI
    from pyro_vae.training import History, TrainingDivergedError, TrainingInterrupted, fit
    from pyro_vae.vae import VAE

# Each public name and the module that has it; "" for a module itself. They are imported on first use, because
# `pyro-vae --help` must not wait for torch.
_HOMES = {
    **dict.fromkeys(("checks", "closed_forms", "data", "evaluation", "likelihoods", "mask_likelihoods", "nets"), ""),
    **dict.fromkeys(("objectives", "plots", "posteriors", "priors", "svi", "training"), ""),
    **dict.fromkeys(("Likelihood", "MaskLikelihood", "Posterior", "Prior"), "parts"),
    "VAE": "vae",
    **dict.fromkeys(("VAEImputer", "VAETransformer"), "estimators"),
    **dict.fromkeys(("ElboEstimate", "ElboTerms", "average_elbo", "elbo", "elbo_terms"), "bound"),
    **dict.fromkeys(("History", "TrainingDivergedError", "TrainingInterrupted", "fit"), "training"),
    **dict.fromkeys(("Suggestion", "suggest", "suggest_schema"), "suggestions"),
    "CheckpointError": "files",
    "CompiledSVI": "svi",
    "build": "config",
    "check": "checks",
    "load": "checkpoints",
}

__version__ = "0.1.0"
__all__ = [
    "VAE",
    "CheckpointError",
    "CompiledSVI",
    "ElboEstimate",
    "ElboTerms",
    "History",
    "Likelihood",
    "MaskLikelihood",
    "Posterior",
    "Prior",
    "Suggestion",
    "TrainingDivergedError",
    "TrainingInterrupted",
    "VAEImputer",
    "VAETransformer",
    "average_elbo",
    "build",
    "check",
    "checks",
    "closed_forms",
    "data",
    "elbo",
    "elbo_terms",
    "evaluation",
    "fit",
    "likelihoods",
    "load",
    "mask_likelihoods",
    "nets",
    "objectives",
    "plots",
    "posteriors",
    "priors",
    "suggest",
    "suggest_schema",
    "svi",
    "training",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pyro_vae' has no attribute {name!r}")
    module = importlib.import_module(f"pyro_vae.{_HOMES[name] or name}")
    value = getattr(module, name) if _HOMES[name] else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__doc__", "__version__"]
