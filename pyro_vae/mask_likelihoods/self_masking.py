"""Models in which an element is missing because of its own value."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_vae.argument_checks import one_of
from pyro_vae.mask_likelihoods.standardized import OverMasks
from pyro_vae.nets.shapes import Shape

__all__ = ["SelfMasking"]

Tail: TypeAlias = Literal["either", "upper", "lower"]
"""Which values of an element are missing more often."""


class SelfMasking(OverMasks):
    """Whether an element is missing depends on its own value: logit p(s_j = 1 | x) = a_j - w_j u_j.

    u_j is the standardised x_j. A positive w_j means that larger values are missing more often. In the units of x and
    with the letters of the paper, the logit is -W_j (x_j - b_j): see :attr:`steepness` and :attr:`threshold`.

    From the observed values alone, the sign of w_j is often hard to tell. If you know that large values are missing
    more often, such as incomes, say so with ``tail="upper"``.

    Args:
        event_shape: shape of x.
        tail: which values are missing more often: ``"upper"`` for large ones (w_j > 0), ``"lower"`` for small ones
            (w_j < 0); ``"either"`` leaves the sign of each w_j open.

    Raises:
        ValueError: for another ``tail``.

    Example:
        >>> masking = SelfMasking(3, tail="upper")
        >>> masking(torch.zeros(5, 3)).log_prob(torch.ones(5, 3)).shape
        torch.Size([5])
    """

    def __init__(self, event_shape: Shape, tail: Tail = "either") -> None:
        super().__init__(event_shape)
        one_of("tail", tail, *get_args(Tail))
        self.tail: Tail = tail
        # softplus(0) is 0.69; an open sign starts from no dependence, which is missing at random.
        self.slope = nn.Parameter(torch.zeros(self.event_shape))

    def forward(self, x: Tensor, *_: Tensor) -> dist.TorchDistribution:
        """Return p(s | x), with the batch shape and the event shape of x."""
        return self.over_mask(-self._weight() * self.standardize(x))

    def _weight(self) -> Tensor:
        if self.tail == "either":
            return self.slope
        return softplus(self.slope) if self.tail == "upper" else -softplus(self.slope)

    @property
    def steepness(self) -> Tensor:
        """The W of each element, per unit of x, without gradient."""
        return (self._weight() / self.standardize.spread).detach()

    @property
    def threshold(self) -> Tensor:
        """The b of each element: the value of x that is missing half of the time, without gradient."""
        return (self.standardize.center + self.standardize.spread * self.intercept / self._weight()).detach()
