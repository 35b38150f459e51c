"""Distributions of numbers that are standardised first: shifted, scaled and, if wanted, their logarithm taken."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import pyro.distributions as dist
import torch
from pyro.distributions import MaskedDistribution, TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from pyro_vae.distributions.parameters import more_digits
from pyro_vae.distributions.supports import base_constraint, stated_support
from pyro_vae.value_checks import capturing

__all__ = ["Standardized"]


class Standardized(dist.TorchDistribution):
    """The distribution of x = loc + scale · y, or of x = exp(loc + scale · y), for a y of known distribution.

    Densities are with respect to x: log p(x) = log p(y) − log scale, and − log x with the logarithm. torch's
    TransformedDistribution has this density too, but no mean, variance and mode, and in float32 it loses the digits of
    y where x is far from 0. Here y is computed in float64.

    Args:
        base: the distribution of y, over real numbers; a normal if ``log`` is True.
        loc: is subtracted from x, or from its logarithm; broadcast to the shape of y.
        scale: above 0; divides the difference.
        log: True if y is the standardised logarithm of x. x is then log-normal.

    Raises:
        ValueError: if the base is not over real numbers, or ``log`` is True and it is not normal.

    Example:
        >>> height = Standardized(dist.Normal(0.0, 1.0), loc=torch.tensor(170.0), scale=torch.tensor(10.0))
        >>> height.mean, height.stddev
        (tensor(170.), tensor(10.))
        >>> height.log_prob(torch.tensor(180.0)) == dist.Normal(170.0, 10.0).log_prob(torch.tensor(180.0))
        tensor(True)
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  # the base checks its own

    def __init__(
        self, base: TorchDistribution, loc: Tensor, scale: Tensor, log: bool = False, validate_args: bool | None = None
    ) -> None:
        if log and not isinstance(base, torch.distributions.Normal):
            raise ValueError(f"with log=True, y must be normal; got {type(base).__name__}")
        support = stated_support(base)
        if support is not None and base_constraint(support) is not constraints.real:
            raise ValueError(f"y must be over real numbers; got {type(base).__name__}, over {support}")
        self.base_dist, self.log = base, log
        # The names loc and scale would be taken for those of x.
        shape = base.batch_shape + base.event_shape
        self.shift, self.factor = loc.expand(shape), scale.expand(shape)
        super().__init__(base.batch_shape, base.event_shape, validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        """True if gradients flow through samples."""
        return self.base_dist.has_rsample

    @property
    def support(self) -> constraints.Constraint:
        """All numbers or, with the logarithm, all above 0."""
        element = constraints.positive if self.log else constraints.real
        return constraints.independent(element, len(self.event_shape)) if self.event_shape else element

    def standardize(self, value: Tensor) -> Tensor:
        """Return y of x, in float64 where the device has it."""
        x, shift, factor = more_digits(value, self.shift, self.factor)
        return ((x.log() if self.log else x) - shift) / factor

    def _unstandardize(self, y: Tensor) -> Tensor:
        x = self.shift + self.factor * y
        return x.exp() if self.log else x

    def _drawn(self, y: Tensor) -> Tensor:
        x = self._unstandardize(y)
        return _within_range("draw", x) if self.log else x

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density of x in nats, ``(..., *batch_shape)``, in the units of x."""
        if self._validate_args:
            self._validate_sample(value)
        log_prob = self.base_dist.log_prob(self.standardize(value))
        slope = -self.factor.log() - value.log() if self.log else -self.factor.log()
        return (log_prob + self._over_event(slope)).to(torch.promote_types(value.dtype, self.shift.dtype))

    def _over_event(self, values: Tensor) -> Tensor:
        dims = len(self.event_shape)
        return values.flatten(-dims).sum(-1) if dims else values

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape, *event_shape)``, without gradient."""
        with torch.no_grad():
            return self._drawn(self.base_dist.sample(torch.Size(sample_shape)))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape, *event_shape)``, with gradient."""
        return self._drawn(self.base_dist.rsample(torch.Size(sample_shape)))

    def _log_moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and variance of log x."""
        return self.shift + self.factor * self.base_dist.mean, self.factor**2 * self.base_dist.variance

    @property
    def mean(self) -> Tensor:
        """The mean, ``(*batch_shape, *event_shape)``; that of a log-normal is exp(m + v / 2)."""
        if not self.log:
            return self._unstandardize(self.base_dist.mean)
        m, v = self._log_moments()
        return _within_range("mean", (m + v / 2).exp())

    @property
    def mode(self) -> Tensor:
        """The mode, if the base has one; that of a log-normal is exp(m − v)."""
        if not self.log:
            return self._unstandardize(self.base_dist.mode)
        m, v = self._log_moments()
        return (m - v).exp()

    @property
    def variance(self) -> Tensor:
        """The variance, ``(*batch_shape, *event_shape)``; that of a log-normal is (exp(v) − 1) exp(2 m + v)."""
        if not self.log:
            return self.factor**2 * self.base_dist.variance
        m, v = self._log_moments()
        # Not a product, which is infinite times 0 if v is large and m far below 0. exp(v) - 1 = exp(v) (1 - exp(-v)).
        return _within_range("variance", (2 * (m + v) + (-torch.expm1(-v)).log()).exp())

    @property
    def stddev(self) -> Tensor:
        """The standard deviation, which may be finite where the variance is not."""
        if not self.log:
            return self.factor * self.base_dist.stddev
        m, v = self._log_moments()
        return _within_range("standard deviation", (m + v + (-torch.expm1(-v)).log() / 2).exp())

    def entropy(self) -> Tensor:
        """Return the entropy in nats, ``batch_shape``, if that of the base is known."""
        slope = self.factor.log()
        if self.log:
            slope = slope + self._log_moments()[0]
        return self.base_dist.entropy() + self._over_event(slope)

    def mask(self, mask: bool | Tensor) -> TorchDistribution:
        """Return the distribution of the elements where ``mask``."""
        masked = self.base_dist.mask(mask)
        # The base may have to know the mask, as OptimalNormal has, and it has the shape of the mask now.
        return MaskedDistribution(self._of(masked.base_dist), mask)

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> Standardized:
        """Return the same distribution with another batch shape."""
        return self._of(self.base_dist.expand(torch.Size(batch_shape)))

    def _of(self, base: TorchDistribution) -> Standardized:
        return Standardized(base, self.shift, self.factor, self.log, validate_args=self._validate_args)


def _within_range(name: str, values: Tensor) -> Tensor:
    """Return values, with a warning if some are beyond the range of their dtype."""
    if not capturing() and (over := int(values.isinf().sum())):
        warnings.warn(
            f"the {name} of a log-normal is beyond the range of {values.dtype}, and infinite, in {over} of "
            f"{values.numel()} elements: the location or the scale of log x is too large there",
            stacklevel=4,
        )
    return values
