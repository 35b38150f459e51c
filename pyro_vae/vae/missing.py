"""Values in place of the missing ones."""

from __future__ import annotations

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_vae.data.schema import Schema
from pyro_vae.model_guide import ModelGuide
from pyro_vae.vae.tables import most_probable

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
    likelihood = terms.runs[0]["recon"][pair.observed].distribution
    if mean and schema is not None:
        return torch.where(observed, pair.x, most_probable(schema, likelihood, weights))
    if mean:
        means = likelihood.mean.unflatten(0, (num_particles, -1))
        return torch.where(observed, pair.x, torch.einsum("pb,pb...->b...", weights, means))
    draws = likelihood.sample().unflatten(0, (num_particles, -1))
    chosen = torch.multinomial(weights.T, 1).squeeze(-1)
    return torch.where(observed, pair.x, draws[chosen, torch.arange(pair.batch, device=pair.x.device)])
