"""The sites of a program's trace: their names, their distributions per example, and their scales."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from pyro.distributions import TorchDistribution, Unit
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyro_vae.terms import FROM_MODEL, WITH_X

__all__ = [
    "MoreRows",
    "check_sites",
    "factors_of",
    "listed",
    "per_example",
    "plates_of_event",
    "sampled_sites",
    "scale_of",
    "sites_marked",
    "weighs_examples",
]


class MoreRows(Messenger):
    """Lets the subsample of a plate have more rows than the plate has elements.

    Many draws are run by repeating rows. A ``pyro.plate("data", size, subsample_size=len(x))`` is then asked for more
    than ``size`` rows, and Pyro would choose ``size`` of them.
    """

    def _pyro_sample(self, msg: Message) -> None:
        if not site_is_subsample(msg) or msg["value"] is not None:
            return
        rows, size = msg["fn"].subsample_size, msg["fn"].size
        if rows is not None and rows > size:
            msg["value"] = torch.arange(rows, device=msg["fn"].device) % size


def plates_of_event(site: Message) -> tuple[int, ...]:
    """Return the dimensions of the plates to the right of the examples' plate, such as one of pixels."""
    return tuple(range(1 - len(site["fn"].batch_shape), 0))


def per_example(site: Message, program: str, rows: int) -> TorchDistribution:
    """Return the distribution of a site, one per example, with its masks and without its scales.

    Plates to the right of the examples' plate, such as one of pixels, become dimensions of the event.

    Args:
        site: of a trace.
        program: of the site, ``"model"`` or ``"guide"``.
        rows: the number of examples.

    Raises:
        ValueError: if there is not one distribution per example; says what to do.
    """
    distribution, mask = site["fn"], site["mask"]
    first, inner = tuple(distribution.batch_shape[:1]), tuple(distribution.batch_shape[1:])
    plates = {frame.dim for frame in site["cond_indep_stack"]}
    declared = all(size == 1 or i - len(inner) in plates for i, size in enumerate(inner))
    if first != (rows,) or not declared:
        raise ValueError(
            f"the {program}'s site {site['name']!r} must have one distribution per example, of batch shape ({rows},); "
            f"got batch shape {tuple(distribution.batch_shape)} and event shape {tuple(distribution.event_shape)} for "
            f"{rows} rows that run at once. Sample it in a plate of all examples of x, and declare every dimension "
            "after the batch with .to_event"
        )
    if mask is not None and mask is not True:
        distribution = distribution.mask(mask)
    return distribution.to_event(len(inner)) if inner else distribution


def scale_of(site: Message) -> float:
    """Return the factor of a site's log-density in Pyro's losses, the mean over its examples."""
    scale = site["scale"]
    # Not through a tensor of torch's default dtype, which would round a number.
    return float(scale.double().mean()) if isinstance(scale, Tensor) else float(scale)


def weighs_examples(site: Message) -> bool:
    """Return True if the scale of a site differs between examples, as weights of classes do."""
    scale = site["scale"]
    return isinstance(scale, Tensor) and bool((scale != scale.flatten()[0]).any())


def check_sites(program: str, trace: Trace, latent: str, observed: str, strict: bool = True) -> None:
    """Check that a program has one latent site and, if it is a model, one observed site.

    Sites of ``pyro.deterministic`` and the subsamples of plates do not count.

    Args:
        program: ``"model"`` or ``"guide"``.
        trace: of a run.
        latent: the name of the latent site, which may be conditioned on.
        observed: the name of the observed site. A guide may have it too: a model that draws from its prior is a guide.
        strict: refuse other observed sites of a model.

    Raises:
        ValueError: if the program has other sites.
    """
    latent_sites, observed_sites = sampled_sites(trace, latent)
    if program == "model" and observed in latent_sites:
        raise ValueError(f"the model must observe its site {observed!r}, with obs=x; got one that it draws")
    if latent_sites != [latent]:
        remedies = {0: "", 1: ". Name it with latent="}
        remedy = remedies.get(len(latent_sites), ". Put them into one site, whose distribution is over all of them")
        raise ValueError(f"the {program} must have one latent site, {latent!r}; got {_names(latent_sites)}{remedy}")
    if program == "guide":
        unexpected = [name for name in observed_sites if name != observed]
        if unexpected:
            raise ValueError(f"the guide must have no observed site and no pyro.factor; got {_names(unexpected)}")
        return
    if observed_sites != [observed] if strict else observed not in observed_sites:
        nothing = ". Sample x with obs=x; the pair is (model, guide), in this order"
        remedies = {0: nothing, 1: ". Name it with observed="}
        all_count = ". All of them count in log p(x, z), a pyro.factor too. Put them into one"
        remedy = remedies.get(len(observed_sites), all_count)
        raise ValueError(f"the model must have one observed site, {observed!r}; got {_names(observed_sites)}{remedy}")


def _names(sites: Iterable[str]) -> str:
    return listed(map(repr, sites))


def sampled_sites(trace: Trace, latent: str = "") -> tuple[list[str], list[str]]:
    """Return the names of the latent sites and of the observed sites.

    Sites of ``pyro.deterministic``, the subsamples of plates and the sites of :func:`sites_marked` are neither.

    Args:
        trace: of a run of a program.
        latent: the name of a site that is latent even if the program was conditioned on its value.
    """
    latents: list[str] = []
    observed: list[str] = []
    for name, site in trace.nodes.items():
        if site["type"] != "sample" or site_is_subsample(site) or site["infer"].get("_deterministic"):
            continue
        if site["infer"].get(FROM_MODEL) or site["infer"].get(WITH_X):
            continue
        given = site["is_observed"] or site["infer"].get("was_observed")
        (observed if given and name != latent else latents).append(name)
    return latents, observed


def sites_marked(trace: Trace, mark: str) -> list[Message]:
    """Return the sites with a mark in ``infer``: :data:`pyro_vae.terms.FROM_MODEL` or :data:`pyro_vae.terms.WITH_X`."""
    return [site for site in trace.nodes.values() if site["type"] == "sample" and site["infer"].get(mark)]


def factors_of(trace: Trace) -> list[str]:
    """Return the names of the sites of ``pyro.factor``."""
    return [name for name, site in trace.nodes.items() if site["type"] == "sample" and isinstance(site["fn"], Unit)]


def listed(words: Iterable[str]) -> str:
    """Return words in one line, each once: "a, b and c". Of more than four, it names three and counts the rest."""
    words = list(dict.fromkeys(words))
    if len(words) > 4:
        words = [*words[:3], f"{len(words) - 3} more"]
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part) or "none"
