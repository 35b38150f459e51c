"""The terms of the bound for a discrete z, as sums over its values."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_vae.model_guide import ModelGuide

__all__ = ["Enumerated", "enumerated", "enumerated_elbo"]


class Enumerated(NamedTuple):
    """Means over all values of z, in nats, each ``(batch,)``.

    Args:
        recon: of log p(x | z), over q(z | x).
        kl: KL(q || p).
        reverse_kl: KL(p || q).
    """

    recon: Tensor
    kl: Tensor
    reverse_kl: Tensor


def enumerated(pair: ModelGuide) -> Enumerated:
    """Return recon, KL(q || p) and KL(p || q) for a discrete z."""
    q = pair.posterior()
    terms = pair.terms(q.enumerate_support(), q)
    by_q, by_p = terms.posterior.exp(), terms.prior.exp()
    recon = _mean(by_q, terms.recon)
    return Enumerated(recon, _mean(by_q, terms.posterior - terms.prior), _mean(by_p, terms.prior - terms.posterior))


def enumerated_elbo(pair: ModelGuide) -> Tensor:
    """Return the ELBO for a discrete z, ``(batch,)``."""
    terms = enumerated(pair)
    return terms.recon - terms.kl


def _mean(share: Tensor, value: Tensor) -> Tensor:
    # 0 log 0 is 0. The zero is put in before the product, because the gradient of 0 times infinity is NaN.

    return (share * torch.where(share > 0, value, 0.0)).sum(0)
