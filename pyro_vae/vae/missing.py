"""Values in place of the missing ones."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_vae.vae.conditionals import Conditionals
from pyro_vae.vae.parts import repeat

__all__ = ["imputed"]


def imputed(vae: Conditionals, x: Tensor, observed: Tensor, *context: Tensor, num_particles: int, mean: bool) -> Tensor:
    """See :meth:`VAE.impute`; ``observed`` are bools of the shape of x."""
    posterior, prior = vae.encode(x, *context, mask=observed), vae.prior_of(*context)
    z = posterior((num_particles,))  # with gradient where it has one
    vae.check_codes(prior, z)
    # Particles are folded into the batch: a decoder need not know of dimensions in front of it.
    likelihood = vae.decode(z.flatten(0, 1), *(repeat(c, num_particles) for c in context))
    known, filled = vae.observed(likelihood, repeat(x, num_particles), repeat(observed, num_particles))
    log_x = known.log_prob(filled).unflatten(0, (num_particles, -1))
    weights = torch.softmax(log_x + prior.log_prob(z) - posterior.log_prob(z), dim=0)
    if mean:
        means = likelihood.mean.unflatten(0, (num_particles, -1))
        return torch.where(observed, x, torch.einsum("pb,pb...->b...", weights, means))
    draws = likelihood.sample().unflatten(0, (num_particles, -1))
    chosen = torch.multinomial(weights.T, 1).squeeze(-1)
    return torch.where(observed, x, draws[chosen, torch.arange(len(x), device=x.device)])
