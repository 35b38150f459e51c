"""The sites of a program's trace: which there are, their distributions example by example, and their scales."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from pyro.distributions import Unit
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample

__all__ = [
    "MoreRows",
    "check_sites",
    "factors_of",
    "listed",
    "per_example",
    "sampled_sites",
    "scale_of",
    "weighs_examples",
]


class MoreRows(Messenger):
    """Lets a plate that chooses its subsample have more rows than it is large.

    Many draws are run by repeating rows, so that ``pyro.plate("data", size, subsample_size=len(x))`` may be asked for
    more than ``size`` of them, of which Pyro chooses no more than there are.
    """

    def _pyro_sample(self, msg: Any) -> None:
        if not site_is_subsample(msg) or msg["value"] is not None:
            return
        rows, size = msg["fn"].subsample_size, msg["fn"].size
        if rows is not None and rows > size:
            msg["value"] = torch.arange(rows, device=msg["fn"].device) % size


def per_example(site: Any, program: str, rows: int) -> Any:
    """The distribution of a site, one per example, with the masks around it and without the scales.

    Plates to the right of the examples' plate, such as one of pixels, become dimensions of the event.

    Args:
        site: of a trace.
        program: whose it is, ``"model"`` or ``"guide"``.
        rows: how many examples there are.

    Raises:
        ValueError: where there is no such distribution; says what would do.
    """
    distribution, mask = site["fn"], site["mask"]
    first, others = tuple(distribution.batch_shape[:1]), tuple(distribution.batch_shape[1:])
    plates = {frame.dim for frame in site["cond_indep_stack"]}
    declared = all(size == 1 or i - len(others) in plates for i, size in enumerate(others))
    if first != (rows,) or not declared:
        raise ValueError(
            f"the {program}'s site {site['name']!r} must have one distribution per example, of batch shape ({rows},); "
            f"got batch shape {tuple(distribution.batch_shape)} and event shape {tuple(distribution.event_shape)}. "
            "Sample it in a plate of all examples of x, and declare every dimension after the batch with .to_event"
        )
    if mask is not None and mask is not True:
        distribution = distribution.mask(mask)
    return distribution.to_event(len(others)) if others else distribution


def scale_of(site: Any) -> float:
    """How often a site's log-density counts in Pyro's losses, on average over its examples.

    A number stays what it is: through a tensor of torch's default dtype it would be rounded.
    """
    scale = site["scale"]
    return float(scale.double().mean()) if isinstance(scale, torch.Tensor) else float(scale)


def weighs_examples(site: Any) -> bool:
    """Whether a scale differs between examples, as weights of classes do."""
    scale = site["scale"]
    return isinstance(scale, torch.Tensor) and bool((scale != scale.flatten()[0]).any())


def check_sites(program: str, trace: Any, latent: str, observed: str, alone: bool = True) -> None:
    """Raises a ValueError where a program has other sites than a latent one and, in a model, an observed one.

    Sites of ``pyro.deterministic`` and the subsamples of plates are none.

    Args:
        program: ``"model"`` or ``"guide"``.
        trace: of a run.
        latent: the name of the latent site, which may be conditioned on.
        observed: the name of the observed site, which a guide may have too: a model is a guide that draws from its
            prior.
        alone: whether there may be no other observed site.
    """
    latents, others = sampled_sites(trace, latent)
    if program == "model" and observed in latents:
        raise ValueError(f"the model must observe its site {observed!r}, with obs=x; got one that it draws")
    if latents != [latent]:
        remedies = {0: "", 1: ". Name it with latent="}
        remedy = remedies.get(len(latents), ". Put them into one site, whose distribution is over all of them")
        raise ValueError(
            f"the {program} must have one latent site, {latent!r}; got {listed(map(repr, latents))}{remedy}"
        )
    if program == "guide":
        strangers = [name for name in others if name != observed]
        if strangers:
            raise ValueError(
                f"the guide must have no observed site, nor a pyro.factor; got {listed(map(repr, strangers))}"
            )
        return
    if others != [observed] if alone else observed not in others:
        remedies = {0: "", 1: ". Name it with observed="}
        remedy = remedies.get(len(others), ", which all (pyro.factor too) count in log p(x, z). Put them into one")
        raise ValueError(
            f"the model must have one observed site, {observed!r}; got {listed(map(repr, others))}{remedy}"
        )


def sampled_sites(trace: Trace, latent: str = "") -> tuple[list[str], list[str]]:
    """Return the names of the latent sites and of the observed sites.

    Sites of ``pyro.deterministic`` and the subsamples of plates are neither.

    Args:
        trace: of a run of a program.
        latent: the name of a site that is latent even if the program was conditioned on its value.
    """
    latents: list[str] = []
    observed: list[str] = []
    for name, site in trace.nodes.items():
        if site["type"] != "sample" or site_is_subsample(site) or site["infer"].get("_deterministic"):
            continue
        given = site["is_observed"] or site["infer"].get("was_observed")
        (observed if given and name != latent else latents).append(name)
    return latents, observed


def factors_of(trace: Any) -> list[str]:
    """The names of the sites that are a ``pyro.factor``."""
    return [name for name, site in trace.nodes.items() if site["type"] == "sample" and isinstance(site["fn"], Unit)]


def listed(words: Iterable[str]) -> str:
    """Return words in one line, each once: "a, b and c". Of more than four, it names three and counts the rest."""
    words = list(dict.fromkeys(words))
    if len(words) > 4:
        words = [*words[:3], f"{len(words) - 3} more"]
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part) or "none"
