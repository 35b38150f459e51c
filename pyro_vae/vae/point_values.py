"""One row of a table for a distribution over rows: means of numbers, and the most probable codes."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import Independent

from pyro_vae.data.schema import Schema
from pyro_vae.distributions.columns import Columns, without_mask
from pyro_vae.distributions.observed import fill_missing

__all__ = ["averaged", "most_probable", "most_voted"]


def most_probable(schema: Schema, likelihood: TorchDistribution, weights: Tensor | None = None) -> Tensor:
    """Return the mean of each number, and the most probable code of each binary, category or ordered column.

    Args:
        schema: of the table.
        likelihood: p(x | z), with batch shape ``(batch,)``, or ``(particles, batch)`` with weights.
        weights: of the particles, ``(particles, batch)``, which sum to 1.

    Returns:
        ``(batch, columns)``.
    """
    likelihood = without_mask(likelihood)  # that of missing values counts too
    shape = likelihood.batch_shape if weights is None else weights.shape  # all particles may be in one dimension
    found = averaged(likelihood.mean.unflatten(0, shape), weights)
    coded = [i for i, column in enumerate(schema.data) if column.is_coded]
    if not coded:
        return found
    sizes = torch.tensor([len(schema.data[i].values) for i in coded], device=found.device)
    probs = []
    for code in range(int(sizes.max())):
        value = found.new_zeros((*likelihood.batch_shape, len(schema.data)))
        value[..., coded] = torch.minimum(sizes - 1, torch.full_like(sizes, code)).to(found.dtype)
        known = _fill_numbers(schema, likelihood, value)
        log_probs = _log_probs(likelihood, known)[..., coded]
        probs.append(averaged(torch.where(code < sizes, log_probs.exp(), 0.0).unflatten(0, shape), weights))
    found = found.clone()
    found[..., coded] = torch.stack(probs).argmax(0).to(found.dtype)
    return found


def most_voted(schema: Schema, drawn: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of each number over draws, and the code with the most weight of each column that is coded.

    Args:
        schema: of the table.
        drawn: draws of x, ``(particles, batch, columns)``.
        weights: of the particles, ``(particles, batch)``, which sum to 1.
    """
    found = averaged(drawn, weights)
    for place, column in enumerate(schema.data):
        if column.is_coded:
            codes = torch.arange(len(column.values), device=drawn.device)
            votes = averaged((drawn[..., place, None] == codes).to(weights.dtype), weights)
            found[..., place] = votes.argmax(-1).to(found.dtype)
    return found


def averaged(values: Tensor, weights: Tensor | None) -> Tensor:
    """Return the weighted mean of values ``(particles, batch, ...)``, or the values themselves without weights."""
    return values if weights is None else torch.einsum("pb,pb...->b...", weights, values)


def _fill_numbers(schema: Schema, likelihood: TorchDistribution, value: Tensor) -> Tensor:
    """Return x with a number of its support in each column that is not coded."""
    coded = torch.tensor([column.is_coded for column in schema.data], device=value.device)
    return fill_missing(likelihood, value, coded.expand(value.shape))


def _log_probs(likelihood: TorchDistribution, x: Tensor) -> Tensor:
    """Return log p of each column by itself, ``(*batch_shape, columns)``, of a product over the columns."""
    if isinstance(likelihood, Columns):
        return torch.stack(list(likelihood.factor_log_probs(x).values()), -1)
    inner: Any = likelihood
    while not isinstance(inner, Independent):
        inner = inner.base
    return inner.base_dist.log_prob(x)
