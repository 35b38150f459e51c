"""Masks of the observed values of x, and the posterior's input with them."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_vae.data.arrays import Array, as_tensor

__all__ = ["refuse_mask", "where_observed", "with_mask"]


def refuse_mask(mask: Array | None) -> None:
    """Raise a ValueError if there is a mask: for a VAE that was not built for missing values."""
    if mask is not None:
        raise ValueError(
            "this VAE was not built for missing values and takes no mask: build it with missing=True, and its "
            "posterior sees which values are missing"
        )


def where_observed(x: Tensor, mask: Array | None) -> Tensor:
    """Return bools of the shape of x, True where x is a number and the mask, if there is one, is True.

    Raises:
        ValueError: if the mask has another shape or dtype.
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
    """Return x with ``fill`` in place of missing values, and beside it 1 where x is observed and 0 elsewhere.

    Args:
        x: data ``(batch, *event_shape)``.
        observed: bools of the shape of x.
        fill: a finite number.

    Returns:
        ``(batch, 2 * n, ...)`` for x ``(batch, n, ...)``.
    """
    # Not a product with the mask: NaN times zero is NaN.
    filled = torch.where(observed, x, x.new_tensor(fill))
    return torch.cat([filled, observed.to(x.dtype)], dim=1)
