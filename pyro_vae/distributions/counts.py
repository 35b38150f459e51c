"""Distributions over counts, accurate in float32 for counts up to 2²⁴.

torch computes differences of log-gamma functions, which cancel: in float32 its Poisson and its negative binomial are
whole nats off at counts of 10⁶. See :mod:`pyro_vae.distributions.stirling` for the formulas used here.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from pyro_vae.distributions.stirling import HALF_LOG_TWO_PI, count_error, deviance_rate, near_rate, stirling_error

__all__ = ["Multinomial", "NegativeBinomial", "Poisson", "ZeroInflatedNegativeBinomial"]


class Poisson(dist.Poisson):
    """Pyro's Poisson with a log-density that is accurate in float32: torch's is 0.5 nats off at rates of 10⁶.

    Example:
        >>> Poisson(torch.tensor(1e6)).log_prob(torch.tensor(1e6))
        tensor(-7.8267)
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability in nats, of shape ``(..., *batch_shape)``."""
        if self._validate_args:
            self._validate_sample(value)
        some = self.rate > 0
        rate = torch.where(some, self.rate, 1)
        difference = value - rate
        log_prob = _at_mean(value) - difference * deviance_rate(difference / rate, value / rate)
        return torch.where(some, log_prob, torch.where(value > 0, -torch.inf, 0.0))

    def expand(self, batch_shape: Sequence[int], _instance: Poisson | None = None) -> Poisson:
        """Return the same distribution with another batch shape."""
        new = self._get_checked_instance(Poisson, _instance)
        return super().expand(torch.Size(batch_shape), _instance=new)


def _at_mean(count: Tensor) -> Tensor:
    """Return the log-probability of a count under the Poisson with that count as its rate: 0 for 0."""
    some = _is_some(count)
    safe = count + (1 - some)
    return -some * (0.5 * safe.log() + HALF_LOG_TWO_PI + count_error(1 / safe))


def _is_some(count: Tensor) -> Tensor:
    """Return 1 where a count is above 0, and 0 where it is 0."""
    return count.detach().clamp(max=1).ceil()


class NegativeBinomial(dist.TorchDistribution):
    """The negative binomial by mean and dispersion: variance mean + dispersion × mean².

    torch's has a number of failures and a probability. In float32 the probability rounds to 1 if mean × dispersion is
    above 10⁷, and differences of log-gamma functions leave no digit if the dispersion is small. Here the density takes
    mean and dispersion directly. For dispersions from 1e-10 to 1e4, means from 1e-3 to 1e7 and counts up to 2²⁴, its
    relative error in float32 is below 2e-5, and that of its gradients by log mean and log dispersion below 1e-4.

    Args:
        mean: above 0.
        dispersion: at least 0, which gives a Poisson; of a shape that broadcasts with ``mean``.

    Example:
        >>> p = NegativeBinomial(torch.tensor(1e6), torch.tensor(1e-4))
        >>> p.log_prob(torch.tensor(1e6)), p.stddev
        (tensor(-10.1343), tensor(10049.8760))
    """

    arg_constraints = {"mean": constraints.positive, "dispersion": constraints.nonnegative}  # noqa: RUF012  # as in torch
    support = constraints.nonnegative_integer

    def __init__(self, mean: Tensor, dispersion: Tensor, validate_args: bool | None = None) -> None:
        # Not expanded: the dispersion is often one number for all, and terms in it alone then cost nothing.
        batch_shape = torch.broadcast_shapes(mean.shape, dispersion.shape)
        self._mean, self.dispersion = mean.expand(batch_shape), dispersion
        super().__init__(batch_shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """The mean, ``batch_shape``."""
        return self._mean

    @property
    def variance(self) -> Tensor:
        """The variance, ``batch_shape``."""
        return self.mean * (1 + self.dispersion * self.mean)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability in nats, of shape ``(..., *batch_shape)``.

        With a = dispersion, d = x − mean, A = 1 + a x and B = 1 + a mean, it is −½ log(2π x A), plus Stirling's errors
        −δ(x) − δ(1/a) + δ(x + 1/a), minus the deviances of x and of the 1/a failures from their expected shares of the
        total A / a: the shares are mean A / B and A / (a B), and the differences d / B and −d / B.
        """
        if self._validate_args:
            self._validate_sample(value)
        a, mean = self.dispersion, self.mean
        to_value, to_mean = 1 + a * value, 1 + a * mean
        difference = value - mean
        # value × B / (mean × A), with a gradient that does not cancel if a × mean is large.
        ratio = value * ((1 / mean + a) / to_value)
        rate = deviance_rate(difference / (mean * to_value), ratio)
        rate = rate - deviance_rate(-a * difference / to_value, to_mean / to_value)
        some = _is_some(value)
        errors = count_error(some * a / to_value) - some * (stirling_error(a) + 0.5 * to_value.log())
        return _at_mean(value) + errors - difference / to_mean * rate

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape)``, from a Poisson whose rates are Gamma variables."""
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            spread = self.dispersion > 0
            failures = (1 / torch.where(spread, self.dispersion, 1)).expand(shape)
            gamma = torch.distributions.Gamma(failures, torch.ones_like(failures), validate_args=False).sample()
            return torch.poisson(self.mean * torch.where(spread, self.dispersion * gamma, 1))

    def expand(self, batch_shape: Sequence[int], _instance: NegativeBinomial | None = None) -> NegativeBinomial:
        """Return the same distribution with another batch shape."""
        new = self._get_checked_instance(NegativeBinomial, _instance)
        batch_shape = torch.Size(batch_shape)
        new._mean, new.dispersion = self._mean.expand(batch_shape), self.dispersion
        super(NegativeBinomial, new).__init__(batch_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new


class ZeroInflatedNegativeBinomial(dist.TorchDistribution):
    """A negative binomial by mean and dispersion, with a gate that sets some draws to 0.

    (Lopez et al. 2018, "Deep generative modeling for single-cell transcriptomics".) Pyro's takes a probability, as
    torch's negative binomial does: see :class:`NegativeBinomial`.

    Args:
        mean: of the negative binomial, above 0.
        dispersion: of the negative binomial, at least 0.
        gate_logits: log-odds of the gate. The three broadcast.

    Example:
        >>> p = ZeroInflatedNegativeBinomial(torch.tensor(2.0), torch.tensor(1.0), torch.tensor([0.0, 20.0]))
        >>> p.mean, p.log_prob(torch.tensor(0.0)).exp()
        (tensor([1.0000e+00, 4.1223e-09]), tensor([0.6667, 1.0000]))
    """

    arg_constraints = {"gate_logits": constraints.real}  # noqa: RUF012  # the negative binomial checks the others
    support = constraints.nonnegative_integer

    def __init__(
        self, mean: Tensor, dispersion: Tensor, gate_logits: Tensor, validate_args: bool | None = None
    ) -> None:
        negative_binomial = NegativeBinomial(mean, dispersion, validate_args=validate_args)
        batch_shape = torch.broadcast_shapes(negative_binomial.batch_shape, gate_logits.shape)
        self.base = negative_binomial.expand(batch_shape)
        self.gate_logits = gate_logits.expand(batch_shape)
        super().__init__(batch_shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """The mean, ``batch_shape``."""
        return torch.sigmoid(-self.gate_logits) * self.base.mean

    @property
    def variance(self) -> Tensor:
        """The variance, ``batch_shape``."""
        spread = self.base.variance + torch.sigmoid(self.gate_logits) * self.base.mean**2
        return torch.sigmoid(-self.gate_logits) * spread

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability in nats, of shape ``(..., *batch_shape)``."""
        if self._validate_args:
            self._validate_sample(value)
        from_base = logsigmoid(-self.gate_logits) + self.base.log_prob(value)
        return torch.where(value > 0, from_base, torch.logaddexp(logsigmoid(self.gate_logits), from_base))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape)``."""
        with torch.no_grad():
            draws = self.base.sample(torch.Size(sample_shape))
            return torch.where(torch.rand_like(draws) < torch.sigmoid(self.gate_logits), 0, draws)

    def expand(
        self, batch_shape: Sequence[int], _instance: ZeroInflatedNegativeBinomial | None = None
    ) -> ZeroInflatedNegativeBinomial:
        """Return the same distribution with another batch shape."""
        new = self._get_checked_instance(ZeroInflatedNegativeBinomial, _instance)
        batch_shape = torch.Size(batch_shape)
        new.base, new.gate_logits = self.base.expand(batch_shape), self.gate_logits.expand(batch_shape)
        super(ZeroInflatedNegativeBinomial, new).__init__(batch_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new


class Multinomial(dist.Multinomial):
    """Pyro's multinomial with a total for each vector of counts, accurate in float32 for totals up to 2²⁴.

    ``log_prob`` is the log-probability of the counts given their total; only samples and the mean need
    ``total_count``. torch's loses whole nats to rounding at totals of 10⁶, and clamps ``probs`` to one rounding error
    from 0.

    Example:
        >>> p = Multinomial(total_count=10, logits=torch.zeros(2))
        >>> p.log_prob(torch.tensor([[1.0, 0.0], [1.0, 1.0]])).exp()
        tensor([0.5000, 0.5000])
    """

    @property
    def support(self) -> constraints.Constraint:
        """Vectors of whole numbers of at least 0, with any total."""
        return constraints.independent(constraints.nonnegative_integer, 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability in nats given the total, ``(..., *batch_shape)``.

        It is the log-probability of independent Poisson counts, minus that of their total.
        """
        if self._validate_args:
            self._validate_sample(value)
        total = value.sum(-1, keepdim=True)
        log_p = self._log_probs()
        mean = total * log_p.exp()
        difference = value - mean
        near, some = difference.abs() < 0.1 * mean, value > 0
        from_near = difference * near_rate(torch.where(near, difference, 0) / torch.where(near, mean, 1))
        # As logarithms, because small probabilities underflow.
        count = torch.where(some, value, 1)
        log_ratio = torch.where(some, count.log() - torch.where(some, total, 1).log() - log_p, 0)
        deviance = torch.where(near, from_near, value * torch.where(near, 0, log_ratio) - difference)
        return (_at_mean(value) - deviance).sum(-1) - _at_mean(total).squeeze(-1)

    def _log_probs(self) -> Tensor:
        given_probs = self._categorical._param is self._categorical.__dict__.get("probs")
        return self.probs.log() if given_probs else self.logits

    def sample(self, sample_shape: Sequence[int] = ()) -> torch.Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape, *event_shape)``, each of total ``total_count``."""
        return super().sample(torch.Size(sample_shape))
