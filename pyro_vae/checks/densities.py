"""Whether the three distributions are what they say: densities of mass one, and draws that follow them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pyro.distributions as dist
import torch

from pyro_vae.checks.case import Case, Check, small
from pyro_vae.checks.draws import draws_of
from pyro_vae.checks.mass import mass_of
from pyro_vae.checks.report import Finding, worst
from pyro_vae.checks.statistics import mean_is_zero
from pyro_vae.distributions import TorchToPyro
from pyro_vae.distributions.columns import Columns
from pyro_vae.distributions.groups import Grouped

__all__ = ["CHECKS"]

_SECTION = "Distributions"


# What is looked at: p(z) for one example, q(z|x) for a few, and the elements of p(x|z).


def _prior(case: Case) -> Any:
    return case.exact.rows(0, 1).prior()


def _posterior(case: Case) -> Any:
    return case.exact.rows(0, 3).posterior()


def _likelihood(case: Case) -> Any:
    p = case.exact.rows(0, 1 if _is_large(case) else 3)
    return p.likelihood(p.draw(1)[0])


def _is_large(case: Case) -> bool:
    """Whether x is such that a run of the programs takes long, as images are."""
    return case.exact.x[0].numel() > 3000


def _elements(distribution: Any) -> Iterator[Any]:
    """The distribution without the dimensions and groups that only count, column by column where columns differ."""
    while True:
        if isinstance(distribution, TorchToPyro):
            distribution = distribution.base
        elif isinstance(distribution, (torch.distributions.Independent, dist.MaskedDistribution)):
            distribution = distribution.base_dist
        elif isinstance(distribution, Grouped):
            distribution = distribution.base
        else:
            break
    if isinstance(distribution, Columns):
        for column in distribution.columns:
            yield from _elements(column)
    else:
        yield distribution


def _mass(distribution: Any, case: Case) -> Finding:
    elements = list(_elements(distribution))
    part = replace(case, level=case.level / len(elements))
    with torch.no_grad(), case.seeded(10):
        return worst([mass_of(element, part) for element in elements])


def _draws(distribution: Any, case: Case) -> Finding:
    """Each element by itself, and drawn both ways: by rsample, as Pyro trains, and by sample."""
    elements = list(_elements(distribution))
    kinds = [(d, "sample") for d in elements] + [(d, "rsample") for d in elements if d.has_rsample]
    part = replace(case, level=case.level / len(kinds))
    with case.seeded(11):
        return worst([draws_of(d, getattr(d, way), part) for d, way in kinds])


def _noise(case: Case) -> Finding:
    """Rank correlations between the draws of any two of some examples, over many draws."""
    p = case.exact.rows(0, 8 if _is_large(case) else 32)
    if p.batch < 2:
        return Finding("skipped", "there is only one example")
    draws = 100 if _is_large(case) else 400
    with torch.no_grad(), case.seeded(12):
        # As pyro.sample draws: by rsample where there is one, of which sample may know nothing.
        z = torch.stack([p.draw(1)[0] for _ in range(draws)]).double().reshape(draws, p.batch, -1)
        scores = _rank_scores(z)
    scores[:, z.amax(0) == z.amin(0)] = torch.nan  # what never changes has no correlation
    first, second = torch.triu_indices(p.batch, p.batch, 1, device=z.device)
    keep = small(z.new_empty(len(first), z.shape[-1]), 10_000, case.seed)
    pair, latent = keep // z.shape[-1], keep % z.shape[-1]
    products = scores[:, first[pair], latent] * scores[:, second[pair], latent]
    products = products[:, torch.isfinite(products).all(0)]
    if not products.numel():
        return Finding("skipped", "q has no noise")
    found = mean_is_zero(products, case.level)
    if found.verdict == "failed" and abs(found.difference or 0) > 0.05:
        words = (
            f"draws of z of different examples have a correlation of {found.difference:.2g}: do they share one noise? "
            "Draw it in the shape of the scale"
        )
        return replace(found, detail=words)
    return replace(found, verdict="passed")


def _rank_scores(draws: torch.Tensor) -> torch.Tensor:
    """Ranks over the first dimension, of mean 0 and variance 1, equal draws in random order.

    Their products are tame whatever the draws are: those of two rare categories are zero hundreds of times, and huge
    once.
    """
    shuffled = torch.rand_like(draws).argsort(0)
    order = shuffled.gather(0, draws.gather(0, shuffled).argsort(dim=0, stable=True))
    ranks = order.argsort(0).to(draws.dtype)
    return (ranks - ranks.mean(0)) / ranks.std(0)


_MASS = "A density that does not integrate to one shifts the bound by a constant that no comparison of losses shows."
_FOLLOW = "The bound is a mean over draws; if they come from another distribution than the density, it bounds nothing."


def _three(name: str, compared: str, why: str, look: Callable[[Any, Case], Finding]) -> list[Check]:
    """A line for each of the three distributions."""
    of = {"prior": ("p(z)", _prior), "posterior": ("q(z|x)", _posterior), "likelihood": ("p(x|z)", _likelihood)}

    def check(place: str, symbol: str, distribution: Callable[[Case], Any]) -> Check:
        return Check(f"{place}-{name}", _SECTION, compared.format(symbol), why, lambda c: look(distribution(c), c))

    return [check(place, *what) for place, what in of.items()]


CHECKS = [
    Check(
        "noise",
        _SECTION,
        "the draws of z of different examples",
        "Each example has its own z; noise that is shared makes the loss far noisier and its error wrong.",
        _noise,
    ),
    *_three("mass", "the integral, or sum, of {} with 1", _MASS, _mass),
    *_three("draws", "draws of {} with its density (Stein's identity, frequencies)", _FOLLOW, _draws),
]
