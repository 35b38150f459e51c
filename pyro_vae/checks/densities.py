"""Lines that check whether p(z), q(z|x) and p(x|z) have mass one, and whether their draws follow them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from pyro.distributions import MaskedDistribution, TorchDistribution

from pyro_vae.checks.inputs import Check, Inputs
from pyro_vae.checks.mass import check_mass
from pyro_vae.checks.ranks import correlation_of_examples
from pyro_vae.checks.report import Finding, worst
from pyro_vae.checks.sampling import check_draws
from pyro_vae.distributions import TorchToPyro
from pyro_vae.distributions.columns import Columns
from pyro_vae.distributions.groups import Grouped
from pyro_vae.distributions.one_column import OneColumn

__all__ = ["CHECKS", "elements_of"]

_SECTION = "Distributions"


# What is checked: p(z) for one example, q(z|x) for a few, and the elements of p(x|z).


def _prior(inputs: Inputs) -> TorchDistribution:
    return inputs.exact.rows(0, 1).prior()


def _posterior(inputs: Inputs) -> TorchDistribution:
    return inputs.exact.rows(0, 3).posterior()


def _likelihood(inputs: Inputs) -> TorchDistribution:
    p = inputs.exact.rows(0, 1 if inputs.has_large_x else 3)
    return p.likelihood(p.draw(1)[0])


def elements_of(distribution: TorchDistribution) -> Iterator[TorchDistribution]:
    """Yield the distributions of single elements, column by column if columns differ."""
    while True:
        if isinstance(distribution, TorchToPyro):
            distribution = distribution.base
        elif isinstance(distribution, (torch.distributions.Independent, MaskedDistribution)):
            distribution = distribution.base_dist
        elif isinstance(distribution, Grouped):
            distribution = distribution.base
        else:
            break
    if isinstance(distribution, Columns):
        for group in distribution.groups:
            for element in elements_of(group.distribution):
                dim = -1 - len(element.batch_shape) + len(group.distribution.batch_shape)
                one = isinstance(group.place, int)
                yield from [element] if one else [OneColumn(element, i, dim) for i in range(len(group.numbers))]
    else:
        yield distribution


def _mass(distribution: TorchDistribution, inputs: Inputs) -> Finding:
    """Check the mass of each element."""
    elements = list(elements_of(distribution))
    part = replace(inputs, level=inputs.level / len(elements))
    with torch.no_grad(), inputs.seeded(10):
        return worst([check_mass(element, part) for element in elements])


def _draws(distribution: TorchDistribution, inputs: Inputs) -> Finding:
    """Check the draws of each element, by ``sample`` and, as Pyro trains, by ``rsample``."""
    elements = list(elements_of(distribution))
    kinds = [(d, "sample") for d in elements] + [(d, "rsample") for d in elements if d.has_rsample]
    part = replace(inputs, level=inputs.level / len(kinds))
    with inputs.seeded(11):
        return worst([check_draws(d, getattr(d, way), part) for d, way in kinds])


def _noise(inputs: Inputs) -> Finding:
    """Check the rank correlations between draws of any two examples, over many draws."""
    p = inputs.exact.rows(0, 8 if inputs.has_large_x else 32)
    if p.batch < 2:
        return Finding("skipped", "there is only one example", applies=False)
    draws = inputs.affordable("draws of noise", 400, p.batch, least=100)
    with torch.no_grad(), inputs.seeded(12):
        # As pyro.sample draws: by rsample if there is one, which may have a mistake that sample has not.
        z = torch.stack([p.draw(1)[0] for _ in range(draws)]).reshape(draws, p.batch, -1)
        found = correlation_of_examples(z, inputs.level, inputs.seed)
    if found.verdict != "failed":
        return found
    words = (
        f"draws of z for different examples have a correlation of {found.difference:.2g}: do they share one noise? "
        "Draw noise in the shape of the scale"
    )
    return replace(found, detail=words)


_MASS = "A density that does not integrate to 1 shifts the bound by a constant, which no comparison of losses shows."
_FOLLOW = "The bound is a mean over draws; it bounds nothing if they follow another distribution than the density."


def _three(
    name: str, compared: str, why: str, look: Callable[[TorchDistribution, Inputs], Finding], about: str
) -> list[Check]:
    """Return a line for each of the three distributions."""
    of = {"prior": ("p(z)", _prior), "posterior": ("q(z|x)", _posterior), "likelihood": ("p(x|z)", _likelihood)}

    def check(place: str, symbol: str, distribution: Callable[[Inputs], TorchDistribution]) -> Check:
        said, words = compared.format(symbol), about.format(symbol)
        return Check(f"{place}-{name}", _SECTION, said, why, lambda c: look(distribution(c), c), words)

    return [check(place, *what) for place, what in of.items()]


CHECKS = [
    Check(
        "noise",
        _SECTION,
        "draws of z for one example against those for others",
        "Each example has its own z; shared noise makes the loss far noisier and its standard error wrong.",
        _noise,
        "whether each example has noise of its own",
    ),
    *_three("mass", "the integral, or sum, of {} against 1", _MASS, _mass, "whether {} integrates to 1"),
    *_three(
        "draws",
        "draws of {} against its density (Stein's identity, frequencies)",
        _FOLLOW,
        _draws,
        "whether draws of {} follow its density",
    ),
]
