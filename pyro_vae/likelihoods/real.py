"""Likelihoods of real numbers."""

from __future__ import annotations

import math
from typing import Literal

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_vae.distributions import inverse_positive, positive

__all__ = ["Normal"]


class Normal(nn.Module):
    """Independent normal elements; for real x.

    The scale is what makes pictures sharp or blurred: it weighs the reconstruction against the KL
    (Rybkin, Daniilidis and Levine 2020, arXiv 2006.13202).

    Args:
        net: maps z, and the context if there is any, to the means, of the shape of x; with
            ``scale="per_element"`` to ``(2, *shape of x)``: the means, then the raw scales.
        scale: a number above 0 for a fixed scale, ``"shared"`` for one learned scale for all elements, or
            ``"per_element"`` for scales from the net. Learned scales are softplus(raw) + 1e-6.
        initial_scale: where a shared scale starts.

    Raises:
        ValueError: where a scale is not above 0, or the net does not give two parameters an element.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> p = Normal(nets.MLP(2, (64,), (2, 1, 8, 8)), scale="per_element")
        >>> p(torch.zeros(16, 2)).event_shape
        torch.Size([1, 8, 8])
    """

    remedy = "Remove or impute these values, or scale the data to a finite range"

    def __init__(
        self,
        net: nn.Module,
        scale: float | Literal["shared", "per_element"] = "shared",
        initial_scale: float = 0.5,
    ) -> None:
        super().__init__()
        self.net = net
        self.scale = scale
        self.initial_scale = initial_scale
        if isinstance(scale, str):
            if scale not in ("shared", "per_element"):
                raise ValueError(f'scale must be a number above 0, "shared" or "per_element"; got {scale!r}')
        elif not (scale > 0 and math.isfinite(scale)):
            raise ValueError(f"scale must be a finite number above 0; got {scale}")
        if scale == "shared":
            if not (initial_scale > 1e-6 and math.isfinite(initial_scale)):
                raise ValueError(f"initial_scale must be a finite number above 1e-6; got {initial_scale}")
            self.raw_scale = nn.Parameter(inverse_positive(torch.tensor(float(initial_scale))))

    @staticmethod
    def net_shape(
        event_shape: tuple[int, ...], scale: float | Literal["shared", "per_element"] = "shared", **_: object
    ) -> tuple[int, ...]:
        """The shape that the net must give for x of ``event_shape``: one or two parameters an element."""
        return (2, *event_shape) if scale == "per_element" else tuple(event_shape)

    def forward(self, z: Tensor, *context: Tensor) -> dist.Distribution:
        """Normal with batch shape ``(*batch,)``; all dimensions of x after the batch are its event."""
        loc, scale = self._loc_and_scale(self.net(z, *context), batch_dim=z.dim() - 1)
        return dist.Normal(loc, scale).to_event(loc.dim() - z.dim() + 1)

    def _loc_and_scale(self, out: Tensor, batch_dim: int) -> tuple[Tensor, Tensor]:
        if self.scale == "shared":
            return out, positive(self.raw_scale).expand_as(out)
        if self.scale != "per_element":
            return out, out.new_tensor(self.scale).expand_as(out)
        if out.dim() <= batch_dim or out.shape[batch_dim] != 2:
            raise ValueError(
                'likelihood Normal with scale="per_element" needs a net whose output is (batch, 2, *shape of x), '
                f"means then raw scales; got {tuple(out.shape)}"
            )
        loc, raw_scale = out.unbind(batch_dim)
        return loc, positive(raw_scale)
