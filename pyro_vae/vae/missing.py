"""Values in place of the missing ones."""

from __future__ import annotations

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_vae.data.schema import Schema
from pyro_vae.model_guide import ModelGuide
from pyro_vae.vae.point_values import averaged, most_probable, most_voted

__all__ = ["imputed"]


def imputed(
    pair: ModelGuide,
    posterior: TorchDistribution,
    observed: Tensor,
    *,
    num_particles: int,
    mean: bool,
    schema: Schema | None = None,
) -> Tensor:
    """Return x with its missing values replaced; see :meth:`VAE.impute`.

    Args:
        pair: model and guide of a VAE on x, with its context and mask.
        posterior: q(z | x).
        observed: bools of the shape of x.
        num_particles: draws of z per example.
        mean: return means, not draws.
        schema: of a table, whose codes get the most probable one for a mean.
    """
    terms = pair.terms(posterior((num_particles,)), posterior)
    weights = torch.softmax(terms.weight, dim=0)
    site = terms.runs[0]["recon"][pair.observed]
    likelihood = site.distribution
    if len(terms.runs[0]["recon"]) > 1:  # the weights depend on the missing values that the model drew
        drawn = site.value.unflatten(0, (num_particles, -1))
        if not mean:
            return torch.where(observed, pair.x, _chosen(weights, drawn))
        of_drawn = averaged(drawn, weights) if schema is None else most_voted(schema, drawn, weights)
        return torch.where(observed, pair.x, of_drawn)
    if mean and schema is not None:
        return torch.where(observed, pair.x, most_probable(schema, likelihood, weights))
    if mean:
        means = likelihood.mean.unflatten(0, (num_particles, -1))
        return torch.where(observed, pair.x, averaged(means, weights))
    draws = likelihood.sample().unflatten(0, (num_particles, -1))
    return torch.where(observed, pair.x, _chosen(weights, draws))


def _chosen(weights: Tensor, values: Tensor) -> Tensor:
    """Return one of the values ``(num_particles, batch, ...)`` of each example, with the weights as probabilities."""
    chosen = torch.multinomial(weights.T, 1).squeeze(-1)
    return values[chosen, torch.arange(values.shape[1], device=values.device)]
