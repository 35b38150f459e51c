"""One run of a model and its guide."""

from __future__ import annotations

from collections.abc import Callable

from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from pyro_vae.model_guide.sites import listed

__all__ = ["check_observed", "run_pair"]


def run_pair(
    model: Callable[..., object], guide: Callable[..., object], x: Tensor, *context: Tensor
) -> tuple[Trace, Trace]:
    """Run the model at a draw from the guide, and return the traces of both, without the subsamples of plates.

    Raises:
        ValueError: if the guide lacks a latent site of the model.
    """
    guide_trace = poutine.trace(guide).get_trace(x, *context)
    model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(x, *context)
    in_model, in_guide = prune_subsample_sites(model_trace), prune_subsample_sites(guide_trace)
    sites = [site for site in in_model.nodes.values() if site["type"] == "sample" and not site["is_observed"]]
    lacking = [site["name"] for site in sites if site["name"] not in in_guide.nodes]
    if lacking:
        raise ValueError(f"the guide must draw each latent site of the model; it lacks {listed(lacking)}")
    return in_model, in_guide


def check_observed(model: Trace, guide: Trace) -> None:
    """Raise a ValueError if the model observes nothing, as in a swapped pair."""
    if any(site["is_observed"] for site in model.nodes.values() if site["type"] == "sample"):
        return
    seen = [site["name"] for site in guide.nodes.values() if site["type"] == "sample" and site["is_observed"]]
    swapped = f". The guide observes {listed(seen)}: the pair is (model, guide), in this order" if seen else ""
    raise ValueError(f"the model has no observed site. Sample x with obs=x{swapped}")
