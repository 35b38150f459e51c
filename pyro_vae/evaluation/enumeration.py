"""Log p(x) of models with discrete codes, as a sum over all their values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_vae.argument_checks import at_least_one
from pyro_vae.data.arrays import Array
from pyro_vae.data.batches import DataSource
from pyro_vae.distributions import support_of
from pyro_vae.evaluation.estimates import Estimate, Named, blocks, check_exact, log_joint, running
from pyro_vae.model_guide import ModelGuide, Target

__all__ = ["Enumeration", "enumeration"]

_MOST = 4096  # combinations of independent elements: 12 bits


@dataclass(frozen=True)
class Enumeration(Estimate):
    """Log p(x) of each example, exact, in nats; ``standard_error`` is 0.

    Args:
        values: all values of z, ``(values, *event)``.
        log_posterior: log p(z | x) of each value, exact, ``(values, batch)``.
    """

    values: Tensor
    log_posterior: Tensor

    def __repr__(self) -> str:
        """Return the mean, its errors and the number of values of z in one line."""
        return f"Enumeration({self.summary()}; exact, over {len(self.values):,} values of z)"


def enumeration(
    vae: Target, x: DataSource | None = None, *context: Array, chunk_size: int = 20_000, seed: int = 0, **named: Named
) -> Enumeration:
    """Compute log p(x) of a model with discrete codes exactly: the log of the sum of p(x, z) over all values of z.

    A vector of independent elements, such as ``Bernoulli(...).to_event(1)``, may have up to 4096 values: 12 bits.

    Args:
        vae: see :func:`pyro_vae.evaluation.importance_sampling`.
        x: data ``(batch, *event_shape)``.
        context: tensors ``(batch, ...)``.
        chunk_size: the number of rows (values × examples) decoded at a time. It does not change the result.
        seed: for models and guides that draw something else; the sum itself draws nothing.
        named: see :func:`pyro_vae.evaluation.importance_sampling`.

    Raises:
        ValueError: if the codes are not discrete, or have too many values.

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
        check_exact(pair, "enumeration")
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
    """Return every value of z, ``(values, *event)``, from the prior if it can list them, else from the guide."""
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
    """Return all vectors whose elements have these values, ``(vectors, elements, *event)``."""
    if elements > 1 and len(values) ** elements > _MOST:
        raise ValueError(
            f"enumeration lists up to {_MOST} values of z; {elements} independent elements of {len(values)} values "
            f"each have {len(values)} ** {elements}. Use importance_sampling"
        )
    places = torch.cartesian_prod(*[torch.arange(len(values), device=values.device)] * elements)
    return values[places.reshape(-1, elements)]
