"""The Dirichlet, over points and over their logs."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_vae.distributions.log_simplex import AsLogs
from pyro_vae.distributions.stirling import HALF_LOG_TWO_PI, deviance_rate, near_rate, stirling_error

__all__ = ["Dirichlet", "LogDirichlet"]


class Dirichlet(dist.Dirichlet):
    """Pyro's Dirichlet, accurate in float32 for concentrations up to 10⁶; there, torch's is whole nats off.

    Example:
        >>> Dirichlet(torch.tensor([1.0, 1.0, 1.0])).log_prob(torch.tensor([0.2, 0.3, 0.5])).exp()
        tensor(2.0000)
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density in nats, ``(..., *batch_shape)``, at ``value`` over its sum, 1 up to rounding.

        It is a sum of Stirling's errors and of the deviances of the concentrations from total × value.
        """
        if self._validate_args:
            self._validate_sample(value)
        a, tiny = self.concentration, torch.finfo(value.dtype).tiny
        total = a.sum(-1, keepdim=True)
        x = value.clamp(min=tiny)
        share = a / total
        deviance = total * (share - x) * deviance_rate((share - x) / x, share / x)
        each = 0.5 * a.log() - HALF_LOG_TWO_PI - stirling_error(1 / a) - x.log() - deviance
        log_prob = each.sum(-1) + (HALF_LOG_TWO_PI + stirling_error(1 / total) - 0.5 * total.log()).squeeze(-1)
        # Below the smallest normal float, and on the edge of the simplex, where the density is 0 or infinite.
        edge = torch.where(value >= tiny, 0, torch.xlogy(a - 1, value) - torch.xlogy(a - 1, x))
        return log_prob + edge.sum(-1)

    def expand(self, batch_shape: Sequence[int], _instance: Dirichlet | None = None) -> Dirichlet:
        """Return the same distribution with another batch shape."""
        new = self._get_checked_instance(Dirichlet, _instance)
        return super().expand(torch.Size(batch_shape), _instance=new)


# torch rounds the elements of draws up to the smallest float; at a concentration of 0.01 most are below it.
class LogDirichlet(AsLogs):
    """A Dirichlet distribution over the logs z of points y of a simplex.

    The density of z with respect to the log ratios z_i − z_K is Γ(Σ_k α_k) Π_k exp(α_k z_k) / Γ(α_k). Small
    concentrations lose no digits: the log of a Gamma(α) draw is that of a Gamma(α + 1) draw plus log U / α (Marsaglia
    and Tsang 2000).

    Args:
        concentration: α, above 0, ``(*batch, K)``.

    Example:
        >>> d = LogDirichlet(torch.full((3,), 0.001))
        >>> z = d.sample((1000,))
        >>> bool(z.isfinite().all()), d.log_prob(z).shape
        (True, torch.Size([1000]))
    """

    def __init__(self, concentration: Tensor, validate_args: bool | None = None) -> None:
        super().__init__(Dirichlet(concentration, validate_args=validate_args))

    @property
    def concentration(self) -> Tensor:
        """α, ``(*batch, K)``."""
        return self.base.concentration

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape, K)``, without gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape, K)``, with gradient."""
        one_more = torch.distributions.Gamma(self.concentration + 1, 1.0).rsample(torch.Size(sample_shape))
        minus_log_u = torch.empty_like(one_more).exponential_()
        return (one_more.log() - minus_log_u / self.concentration).log_softmax(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density in nats, ``(..., *batch_shape)``: that of y without the factor 1 / Π_k y_k."""
        a = self.concentration
        total = a.sum(-1, keepdim=True)
        share, x = a / total, value.exp()
        t = (share - x) / torch.where(x > 0, x, 1)
        near = (t.abs() < 0.1) & (x > 0)
        # Far from the mean as logarithms, because x underflows there.
        far = a * torch.where(near, 0, share.log() - value) - total * (share - x)
        deviance = torch.where(near, total * (share - x) * near_rate(torch.where(near, t, 0)), far)
        each = 0.5 * a.log() - HALF_LOG_TWO_PI - stirling_error(1 / a) - deviance
        return each.sum(-1) + (HALF_LOG_TWO_PI + stirling_error(1 / total) - 0.5 * total.log()).squeeze(-1)

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> LogDirichlet:
        """Return the same distribution with another batch shape."""
        return LogDirichlet(self.concentration.expand(torch.Size((*batch_shape, *self.event_shape))))
