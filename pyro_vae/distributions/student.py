"""Student's t."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_vae.distributions.stirling import HALF_LOG_TWO_PI, log1p_ratio, stirling_error

__all__ = ["StudentT"]

_FAR = 1e12  # scales


class StudentT(dist.StudentT):
    """Pyro's Student t, accurate in float32 for all degrees of freedom: torch's is 0.5 nats off at df = 10⁶.

    Example:
        >>> StudentT(torch.tensor([1e6, 1e9])).log_prob(torch.zeros(2))
        tensor([-0.9189, -0.9189])
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density in nats, ``(..., *batch_shape)``, computed as a normal's plus small terms.

        log Γ((df + 1) / 2) − log Γ(df / 2) is a difference of Stirling's errors plus the difference of their leading
        terms, which is written out.
        """
        if self._validate_args:
            self._validate_sample(value)
        few = 1 / self.df
        errors = stirling_error(2 * few / (1 + few)) - stirling_error(2 * few) + 0.5 * (log1p_ratio(few) - 1)
        distance = ((value - self.loc) / self.scale).abs()
        squared = distance.clamp(max=_FAR) ** 2
        exponent = 0.5 * (1 + few) * squared * log1p_ratio(few * squared)
        # Beyond _FAR a square would overflow; there the density falls as a power.
        exponent = exponent + (1 + self.df) * (distance / _FAR).clamp(min=1).log()
        return errors - HALF_LOG_TWO_PI - self.scale.log() - exponent

    def expand(self, batch_shape: Sequence[int], _instance: StudentT | None = None) -> StudentT:
        """Return the same distribution with another batch shape."""
        new = self._get_checked_instance(StudentT, _instance)
        return super().expand(torch.Size(batch_shape), _instance=new)
