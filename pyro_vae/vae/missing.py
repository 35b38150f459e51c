"""Missing values: where x is observed, what the posterior sees, and what is put in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyro_vae.data.arrays import as_tensor
from pyro_vae.vae.parts import repeat

if TYPE_CHECKING:
    from pyro_vae.vae.model import VAE

__all__ = ["imputed", "no_mask", "where_observed", "with_mask"]


def no_mask(mask: Tensor | None) -> None:
    """Raises a ValueError where a VAE over complete data is given a mask."""
    if mask is not None:
        raise ValueError(
            "this VAE was not built for missing values and takes no mask: build it with missing=True, and its "
            "posterior sees which values are missing"
        )


def where_observed(x: Tensor, mask: Tensor | None) -> Tensor:
    """Bools of the shape of x: True where x is a number and the mask, if there is one, is True.

    Raises:
        ValueError: where the mask has another shape or dtype.
    """
    if mask is None:
        return ~torch.isnan(x)
    mask = as_tensor("mask", mask, device=x.device)
    if mask.dtype != torch.bool or mask.shape != x.shape:
        raise ValueError(
            f"mask must be a bool tensor of the shape of x, {tuple(x.shape)}, True where x is observed; got "
            f"{mask.dtype} of shape {tuple(mask.shape)}"
        )
    return mask & ~torch.isnan(x)


def with_mask(x: Tensor, observed: Tensor, fill: float) -> Tensor:
    """X with ``fill`` where it is missing, and beside it where it was observed, as 1 and 0.

    Args:
        x: data ``(batch, *event_shape)``.
        observed: bools of the shape of x.
        fill: a finite number.

    Returns:
        Twice as long as x in the dimension after the batch.
    """
    # Not a product with the mask: NaN times zero is NaN.
    filled = torch.where(observed, x, x.new_tensor(fill))
    return torch.cat([filled, observed.to(x.dtype)], dim=1)


def imputed(vae: VAE, x: Tensor, observed: Tensor, *context: Tensor, num_particles: int, mean: bool) -> Tensor:
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
