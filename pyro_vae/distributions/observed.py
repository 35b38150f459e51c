"""Missing values: the likelihood of the observed elements of x."""

from __future__ import annotations

from collections.abc import Callable

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints, transform_to

from pyro_vae.distributions.columns import mask_elements
from pyro_vae.distributions.parameters import part_name
from pyro_vae.distributions.supports import base_constraint, support_of

__all__ = ["fill_missing", "observed"]


def fill_missing(distribution: TorchDistribution, x: Tensor, mask: Tensor) -> Tensor:
    """Replace missing values of x by values in the support, because a NaN would reach the gradients.

    Args:
        distribution: p(x | z).
        x: data ``(batch, *event_shape)``; missing values may be anything, NaN included.
        mask: bool, True where x is observed; broadcast to x.

    Returns:
        A tensor of the shape of x, equal to it where ``mask`` is True.

    Example:
        >>> import pyro.distributions as dist
        >>> x = torch.tensor([[3.0, torch.nan]])
        >>> fill_missing(dist.Poisson(torch.ones(1, 2)).to_event(1), x, ~x.isnan())
        tensor([[3., 0.]])
    """
    return torch.where(mask, x, _feasible(support_of(distribution), x))


def _feasible(support: constraints.Constraint, x: Tensor) -> Tensor:
    """Return a point of the support, in the shape of x."""
    support = base_constraint(support)
    if isinstance(support, constraints.cat):
        pieces = x.split(support.lengths, dim=support.dim)
        feasible = [_feasible(part, piece) for part, piece in zip(support.cseq, pieces, strict=True)]
        return torch.cat(feasible, dim=support.dim)
    if support.is_discrete:
        return torch.zeros_like(x) + getattr(support, "lower_bound", 0)
    return transform_to(support)(torch.zeros_like(x))


def observed(
    likelihood: Callable[..., TorchDistribution] | str, distribution: TorchDistribution, mask: Tensor
) -> TorchDistribution:
    """Return the distribution whose log-density counts only the observed elements of x.

    If the likelihood is a product over the elements of x, this is the marginal density of the observed elements
    (Nazábal et al. 2018, arXiv 1807.03653). Its log-density still needs finite values everywhere: see
    :func:`fill_missing`.

    Args:
        likelihood: the module or function that returned the distribution, for the error.
        distribution: p(x | z), with batch shape ``(..., batch)``.
        mask: bool, True where x is observed, ``(batch, *event_shape)``.

    Raises:
        ValueError: if the distribution is not a product over the elements of x.

    Example:
        >>> import pyro.distributions as dist
        >>> p = dist.Normal(torch.zeros(1, 2), 1.0).to_event(1)
        >>> p = observed("a likelihood", p, torch.tensor([[True, False]]))
        >>> p.log_prob(torch.tensor([[0.0, 9.0]]))
        tensor([-0.9189])
    """
    masked = mask_elements(distribution, mask)
    if masked is None:
        raise ValueError(
            f"likelihood {part_name(likelihood)} is not a product over the elements of x, so missing values cannot be "
            "left out of it; impute them, or use a likelihood whose distribution is independent over elements "
            "(.to_event of one with a scalar event)"
        )
    return masked
