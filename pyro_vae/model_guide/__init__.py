"""Any Pyro model and guide on a batch: their distributions, log-densities, sites and modules."""

from pyro_vae.model_guide.modules import modules_around
from pyro_vae.model_guide.pair import ModelGuide
from pyro_vae.model_guide.parameter_store import kept_store
from pyro_vae.model_guide.sites import (
    check_sites,
    factors_of,
    listed,
    per_example,
    sampled_sites,
    scale_of,
    sites_marked,
    weighs_examples,
)
from pyro_vae.model_guide.target import HasModelGuide, Target, model_and_guide, owner_of
from pyro_vae.model_guide.tracing import check_observed, run_pair

__all__ = [
    "HasModelGuide",
    "ModelGuide",
    "Target",
    "check_observed",
    "check_sites",
    "factors_of",
    "kept_store",
    "listed",
    "model_and_guide",
    "modules_around",
    "owner_of",
    "per_example",
    "run_pair",
    "sampled_sites",
    "scale_of",
    "sites_marked",
    "weighs_examples",
]
