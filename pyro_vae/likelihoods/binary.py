"""Likelihoods of binary data."""

from __future__ import annotations

import pyro.distributions as dist
from torch import Tensor, nn

from pyro_vae.parts import DataKind, Likelihood

__all__ = ["Bernoulli"]


class Bernoulli(Likelihood):
    """Independent binary elements; for x in {0, 1}.

    On grey values this formula does not integrate to one (Loaiza-Ganem and Cunningham 2019, arXiv 1907.06845), so the
    VAE refuses them.

    Args:
        net: maps z, and the context if there is any, to the logits, of the shape of x.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> p = Bernoulli(nets.MLP(2, (64,), (1, 8, 8)))
        >>> p(torch.zeros(16, 2)).event_shape
        torch.Size([1, 8, 8])
    """

    data: DataKind = "binary"
    remedy = (
        'Binarise the data (binarize="dynamic" or "threshold" in pyro_vae.data) or use likelihoods.ContinuousBernoulli'
    )

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, z: Tensor, *context: Tensor) -> dist.Distribution:
        """Return a Bernoulli with batch shape ``(*batch,)`` and the event shape of x."""
        logits = self.net(z, *context)
        return dist.Bernoulli(logits=logits).to_event(logits.dim() - z.dim() + 1)
