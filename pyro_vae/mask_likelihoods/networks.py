"""Models in which an element may be missing because of the values of all."""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_vae.mask_likelihoods.standardized import OverMasks
from pyro_vae.nets.shapes import Shape

__all__ = ["LinearMasking", "NetMasking"]


class LinearMasking(OverMasks):
    """Whether an element is missing depends on all elements: logit p(s_j = 1 | x) = a_j + Σ_k A_jk u_k.

    u is standardised x. It starts at A = 0, which is missing at random.

    Args:
        event_shape: shape of x.

    Example:
        >>> LinearMasking(3)(torch.zeros(5, 3)).event_shape
        torch.Size([3])
    """

    def __init__(self, event_shape: Shape) -> None:
        super().__init__(event_shape)
        size = math.prod(self.event_shape)
        self.weight = nn.Parameter(torch.zeros(size, size))

    def forward(self, x: Tensor, *_: Tensor) -> dist.TorchDistribution:
        """Return p(s | x), with the batch shape and the event shape of x."""
        u = self.standardize(x).flatten(-len(self.event_shape))
        return self.over_mask((u @ self.weight.T).unflatten(-1, self.event_shape))


class NetMasking(OverMasks):
    """Whether an element is missing depends on all elements, and on the context, through a network.

    Args:
        event_shape: shape of x.
        net: maps standardised x, and the context if there is any, to one number per element, which is added to a_j in
            the logit of p(s_j = 1 | x, c). A net with an ``encoding`` of its own, for the columns of a table, takes x.

    Example:
        >>> from pyro_vae import nets
        >>> NetMasking(3, nets.MLP(3, (16,), 3))(torch.zeros(5, 3)).event_shape
        torch.Size([3])
    """

    def __init__(self, event_shape: Shape, net: nn.Module) -> None:
        super().__init__(event_shape)
        self.net = net

    def forward(self, x: Tensor, *context: Tensor) -> dist.TorchDistribution:
        """Return p(s | x, c), with the batch shape and the event shape of x."""
        encodes = getattr(self.net, "encoding", None) is not None  # then it takes x itself
        return self.over_mask(self.net(x if encodes else self.standardize(x), *context))
