"""Any Pyro model and guide over a batch, taken apart."""

from pyro_vae.programs.owners import kept_store, modules_around
from pyro_vae.programs.sites import check_sites, factors_of, listed, per_example, scale_of, weighs_examples
from pyro_vae.programs.taken_apart import LogTerms, Programs

__all__ = [
    "LogTerms",
    "Programs",
    "check_sites",
    "factors_of",
    "kept_store",
    "listed",
    "modules_around",
    "per_example",
    "scale_of",
    "weighs_examples",
]
