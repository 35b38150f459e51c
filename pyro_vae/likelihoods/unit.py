"""Likelihoods of numbers between 0 and 1."""

from __future__ import annotations

from typing import Literal

import pyro.distributions as dist
from torch import Tensor, nn

from pyro_vae.distributions import positive
from pyro_vae.distributions import unit as densities
from pyro_vae.likelihoods.parameters import LocationScale, Numbers, check_shape, finite_numbers, per_element
from pyro_vae.parts import Likelihood

__all__ = ["Beta", "ContinuousBernoulli", "LogitNormal"]

_OPEN = (
    "Its density is 0 or infinite at 0 and 1: give pixels as dequantised reals (dequantize=True in pyro_vae.data), "
    "or use likelihoods.ContinuousBernoulli, which takes the ends"
)


class ContinuousBernoulli(Likelihood):
    """Independent continuous Bernoulli elements; for x in [0, 1], ends included.

    This is a Bernoulli's formula on grey values with the normaliser that it lacks (Loaiza-Ganem and Cunningham 2019,
    arXiv 1907.06845). The logits are not log-odds, and the mean is not their sigmoid.

    Args:
        net: maps z, and the context if there is any, to the logits, of the shape of x.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> p = ContinuousBernoulli(nets.MLP(2, (64,), (1, 8, 8)))
        >>> p(torch.zeros(16, 2)).event_shape
        torch.Size([1, 8, 8])
    """

    remedy = "Scale the data to [0, 1], or use likelihoods.Normal"

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, z: Tensor, *context: Tensor) -> dist.Distribution:
        """Return a continuous Bernoulli of batch shape ``(*batch,)`` and the event shape of x."""
        logits = self.net(z, *context)
        return densities.ContinuousBernoulli(logits=logits).to_event(logits.dim() - z.dim() + 1)


class Beta(Likelihood):
    """Independent beta elements; for x in the open interval (0, 1).

    Args:
        net: maps z, and the context if there is any, to ``(2, *shape of x)``: the raw concentrations at 1, then
            those at 0. Concentrations are softplus(raw) + 1e-6; with one below 1 the density is unbounded at an end.

    Raises:
        ValueError: if the net does not give two parameters per element.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> p = Beta(nets.MLP(2, (64,), (2, 1, 8, 8)))
        >>> p(torch.zeros(16, 2)).event_shape
        torch.Size([1, 8, 8])
    """

    remedy = _OPEN

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    @classmethod
    def net_shape(cls, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape that the net must give for x of ``event_shape``: two parameters per element."""
        return (2, *event_shape)

    def forward(self, z: Tensor, *context: Tensor) -> dist.Distribution:
        """Return a beta of batch shape ``(*batch,)`` and the event shape of x."""
        names = ("raw concentrations at 1", "those at 0")
        one, zero = per_element(self, self.net(z, *context), z.dim() - 1, names)
        return densities.Beta(positive(one), positive(zero)).to_event(one.dim() - z.dim() + 1)


class LogitNormal(LocationScale):
    """Independent elements whose logits are normal; for x in the open interval (0, 1).

    (Aitchison and Shen 1980, "Logistic-normal distributions".)

    Args:
        net: maps z, and the context if there is any, to the means of logit(x), of the shape of x; with
            ``scale="per_element"`` to ``(2, *shape of x)``: the means, then the raw scales.
        scale: of logit(x): a number above 0 for a fixed scale, ``"learned"`` for one learned scale for all elements,
            or ``"per_element"`` for scales from the net. Learned scales are softplus(raw) + 1e-6.
        initial_scale: where a learned scale starts.
        center: a typical logit(x), or one for each element, in the shape of x. Means are then center + spread × those
            above, and start near the data.
        spread: a typical standard deviation of logit(x), likewise, by which the scales above are multiplied.

    Raises:
        ValueError: if a scale or ``spread`` is not above 0, if ``center`` or ``spread`` is no finite number or has
            another shape than x, or if the net does not give two parameters per element.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> p = LogitNormal(nets.MLP(2, (64,), (1, 8, 8)))
        >>> p(torch.zeros(16, 2)).event_shape
        torch.Size([1, 8, 8])
    """

    remedy = _OPEN
    center: Tensor | None
    spread: Tensor | None

    def __init__(
        self,
        net: nn.Module,
        scale: float | Literal["learned", "per_element"] = "learned",
        initial_scale: float = 1.0,
        center: Numbers | None = None,
        spread: Numbers | None = None,
    ) -> None:
        super().__init__(net, scale, initial_scale)
        self.register_buffer("center", None if center is None else finite_numbers("center", center))
        self.register_buffer("spread", None if spread is None else finite_numbers("spread", spread, positive=True))

    def forward(self, z: Tensor, *context: Tensor) -> dist.Distribution:
        """Return a logit-normal of batch shape ``(*batch,)`` and the event shape of x."""
        loc, scale = self._loc_and_scale(z, *context)
        if self.spread is not None:
            check_shape(self, "spread", self.spread, loc.shape[z.dim() - 1 :])
            loc, scale = self.spread * loc, self.spread * scale
        if self.center is not None:
            check_shape(self, "center", self.center, loc.shape[z.dim() - 1 :])
            loc = self.center + loc
        return densities.LogitNormal(loc, scale).to_event(loc.dim() - z.dim() + 1)
