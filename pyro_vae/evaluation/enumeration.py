"""Log p(x) of discrete codes, by summing over all their values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_vae.argument_checks import at_least_one
from pyro_vae.evaluation.estimates import Estimate, blocks, log_joint, running
from pyro_vae.evaluation.unconstrained import support_of
from pyro_vae.model_guide import ModelGuide

__all__ = ["Enumeration", "enumeration"]

_MOST = 4096  # combinations of independent elements: 12 bits


@dataclass(frozen=True)
class Enumeration(Estimate):
    """Log p(x) of each example, exact, in nats; ``standard_error`` is 0.

    Args:
        values: the values of z, ``(values, *event)``.
        log_posterior: log p(z | x) of each, exact, ``(values, batch)``.
    """

    values: Tensor
    log_posterior: Tensor


def enumeration(
    vae: Any, x: Tensor | None = None, *context: Tensor, chunk_size: int = 20_000, seed: int = 0, **named: Any
) -> Enumeration:
    """Log p(x) of a model with discrete codes: log of the sum of p(x, z) over every value of z, which is exact.

    Vectors of independent elements, such as ``Bernoulli(...).to_event(1)``, may have up to 4096 values: 12 bits.

    Args:
        vae: see :func:`pyro_vae.evaluation.importance_sampling`.
        x: data ``(batch, *event_shape)``.
        context: tensors ``(batch, ...)``.
        chunk_size: rows (values × examples) that are decoded at a time; of no account for the result.
        seed: for programs that draw something else; the sum needs none.
        named: see :func:`pyro_vae.evaluation.importance_sampling`.

    Raises:
        ValueError: where codes are not discrete, or have too many values.

    Example:
        >>> import torch
        >>> from pyro_vae import build
        >>> vae = build(4, 3, prior="Categorical", posterior="Categorical", hidden=())
        >>> found = enumeration(vae, torch.ones(2, 4))
        >>> found.log_posterior.exp().sum(0).round(decimals=5)
        tensor([1., 1.])
    """
    at_least_one(chunk_size=chunk_size)
    log_probs, posteriors, values = [], [], torch.empty(0)
    with running(vae, x, context, named, seed) as pair:
        for _, part in blocks(pair):
            values = _values(part)
            z = values.unsqueeze(1).expand(-1, part.batch, *values.shape[1:])
            likelihood, prior = log_joint(part, z, chunk_size)
            joint = likelihood + prior
            log_probs.append(torch.logsumexp(joint, 0))
            posteriors.append(joint - log_probs[-1])
    log_prob = torch.cat(log_probs)
    return Enumeration(log_prob, torch.zeros_like(log_prob), values, torch.cat(posteriors, 1))


def _values(pair: ModelGuide) -> Tensor:
    """Every value of z, ``(values, *event)``, as the prior lists them, or the guide where the prior cannot."""
    prior = pair.prior()
    for distribution in (prior, pair.posterior()):
        element, elements = distribution, 1
        while isinstance(element, torch.distributions.Independent):
            elements *= math.prod(element.event_shape[: element.reinterpreted_batch_ndims])
            element = element.base_dist
        if element.has_enumerate_support:
            values = element.enumerate_support(expand=False).reshape(-1, *element.event_shape)
            return _combinations(values, elements).reshape(-1, *distribution.event_shape)
    if support_of(prior).is_discrete:
        raise ValueError(
            "enumeration needs a prior or guide whose enumerate_support gives all values of z; the prior "
            f"{type(prior).__name__} of event shape {tuple(prior.event_shape)} has none. Use importance_sampling"
        )
    raise ValueError(
        f"enumeration needs discrete codes; got the prior {type(prior).__name__}. Use quadrature for one or two "
        "dimensions, annealed_importance_sampling for more"
    )


def _combinations(values: Tensor, elements: int) -> Tensor:
    """All vectors of so many elements, each of these values, ``(vectors, elements, *event)``."""
    if elements > 1 and len(values) ** elements > _MOST:
        raise ValueError(
            f"enumeration lists up to {_MOST} values of z; {elements} independent elements of {len(values)} values "
            f"each have {len(values)} ** {elements}. Use importance_sampling"
        )
    places = torch.cartesian_prod(*[torch.arange(len(values), device=values.device)] * elements)
    return values[places.reshape(-1, elements)]
