"""Likelihoods p(x | z, c): modules that take latent codes and context and return a distribution over x."""

from __future__ import annotations

import math
from typing import Any, Literal

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_vae.distributions import inverse_positive, part_name, positive

__all__ = ["Bernoulli", "Normal"]


class Bernoulli(nn.Module):
    """Independent binary elements; for x in {0, 1}.

    Grey values are no Bernoulli's: what such a script calls a likelihood does not integrate to one
    (Loaiza-Ganem and Cunningham 2019, arXiv 1907.06845). The VAE refuses them.

    Args:
        net: maps z, and the context if there is any, to the logits, of the shape of x.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> p = Bernoulli(nets.MLP(2, (64,), (1, 8, 8)))
        >>> p(torch.zeros(16, 2)).event_shape
        torch.Size([1, 8, 8])
    """

    remedy = 'Binarise the data (binarize="dynamic" or "threshold" in pyro_vae.data) or use likelihoods.Normal'

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    @staticmethod
    def net_shape(event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that the net must give for x of ``event_shape``: one parameter an element."""
        return tuple(event_shape)

    def forward(self, z: Tensor, *context: Tensor) -> dist.Distribution:
        """Bernoulli with batch shape ``(*batch,)``; all dimensions of x after the batch are its event."""
        logits = self.net(z, *context)
        return dist.Bernoulli(logits=logits).to_event(logits.dim() - z.dim() + 1)


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


_SETS = {
    constraints.boolean: "{0, 1}",
    constraints.real: "the real numbers",
    constraints.unit_interval: "[0, 1]",
    constraints.positive: "(0, ∞)",
    constraints.nonnegative: "[0, ∞)",
    constraints.nonnegative_integer: "{0, 1, 2, ...}",
}


def check_finite(x: Tensor) -> None:
    """Raises a ValueError where x holds NaN or infinite values."""
    # A check reads values, which a graph being captured does not have; its first batch was checked before.
    if torch.compiler.is_compiling() or torch.isfinite(x).all():
        return
    bad = (~torch.isfinite(x)).sum().item()
    kind = "NaN" if torch.isnan(x).any() else "infinite values"
    raise ValueError(f"x has {kind}: {bad} of {x.numel()} values are not finite. Remove or impute them before training")


def check_support(likelihood: Any, distribution: Any, x: Tensor) -> None:
    """Raises a ValueError where x has another shape than p(x | z), or values to which it gives no density.

    Args:
        likelihood: the module or function, for its name and its remedy.
        distribution: what it returned, p(x | z) with batch shape ``(..., batch)``.
        x: data ``(batch, *event_shape)``.
    """
    if torch.compiler.is_compiling():
        return
    name = f"likelihood {part_name(likelihood)}"
    event_shape = tuple(distribution.event_shape)
    if tuple(x.shape[1:]) != event_shape:
        raise ValueError(
            f"{name} is over x of shape (batch, {', '.join(map(str, event_shape))}); got {tuple(x.shape)}. Give its "
            f"net the output shape of the data, and declare every dimension after the batch with .to_event"
        )
    check_finite(x)
    try:
        support = distribution.support
    except NotImplementedError:
        return
    if support.check(x).all():
        return
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    low, high = x.min().item(), x.max().item()
    remedy = getattr(likelihood, "remedy", "Transform the data or use a likelihood over such values")
    raise ValueError(
        f"{name} needs x in {_SETS.get(support, support)}; got values in [{low:.4g}, {high:.4g}]. {remedy}"
    )
