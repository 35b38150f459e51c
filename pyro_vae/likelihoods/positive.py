"""Likelihoods of positive numbers."""

from __future__ import annotations

import pyro.distributions as dist
from torch import Tensor
from torch.distributions import constraints

from pyro_vae.distributions import Gamma as GammaDistribution
from pyro_vae.distributions import positive
from pyro_vae.likelihoods.parameters import MeanDispersion

__all__ = ["Gamma"]


class Gamma(MeanDispersion):
    """Independent gamma elements; for x above 0, such as durations, prices and intensities.

    The variance is dispersion × mean², so the spread grows with the mean, as in generalised linear models (McCullagh
    and Nelder 1989, chapter 8). The concentration is θ = 1 / dispersion and the rate θ / mean.

    Args:
        net: maps z, and the context if there is any, to the raw means, of the shape of x; with
            ``dispersion="per_element"`` to ``(2, *shape of x)``: the raw means, then the raw θ. Means are
            softplus(raw) + 1e-6.
        dispersion: a number above 0 for a fixed dispersion, ``"learned"`` for one learned θ = softplus(raw) + 1e-6 for
            all elements, or ``"per_element"`` for θ from the net. A dispersion of 1 gives an exponential distribution.
        initial_dispersion: where a learned dispersion starts.

    Raises:
        ValueError: if a dispersion is not above 0, or the net does not give two parameters per element.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> p = Gamma(nets.MLP(2, (64,), 30))
        >>> p(torch.zeros(16, 2)).event_shape
        torch.Size([30])
    """

    remedy = "Remove or impute these values, or use likelihoods.Normal; for counts, use likelihoods.NegativeBinomial"

    def forward(self, z: Tensor, *context: Tensor) -> dist.Distribution:
        """Return a gamma of batch shape ``(*batch,)`` and the event shape of x."""
        raw_mean, dispersion, _ = self._split(z, *context)
        mean = positive(raw_mean)
        concentration = (1 / dispersion).expand_as(mean)
        return _PositiveGamma(concentration, concentration / mean).to_event(mean.dim() - z.dim() + 1)


class _PositiveGamma(GammaDistribution):
    support = constraints.positive  # at 0, which torch allows, the density is 0 or infinite unless the dispersion is 1
