"""The Gamma."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_vae.distributions.stirling import HALF_LOG_TWO_PI, deviance_rate, stirling_error

__all__ = ["Gamma"]


class Gamma(dist.Gamma):
    """Pyro's Gamma, right in float32 for concentrations up to 10⁷, where torch's is whole nats off.

    Example:
        >>> Gamma(torch.tensor(1e6), torch.tensor(1.0)).log_prob(torch.tensor(1e6))
        tensor(-7.8267)
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, of shape ``(..., *batch_shape)``, by the deviance from rate × value."""
        if self._validate_args:
            self._validate_sample(value)
        a, scaled = self.concentration, self.rate * value
        deviance = (a - scaled) * deviance_rate((a - scaled) / scaled, a / scaled)
        return 0.5 * a.log() - HALF_LOG_TWO_PI - stirling_error(1 / a) - value.log() - deviance

    def expand(self, batch_shape: Any, _instance: Any = None) -> Gamma:
        """The same distribution with another batch shape."""
        new = self._get_checked_instance(Gamma, _instance)
        return super().expand(torch.Size(batch_shape), _instance=new)
