"""Conjugate pairs as VAEs: prior and posterior are of one family, and the evidence has a closed form."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from pyro.ops.special import log_beta
from torch import Tensor
from torch.distributions import constraints

from pyro_vae.argument_checks import at_least, finite_number
from pyro_vae.data_checks import check_finite
from pyro_vae.distributions import Beta, Dirichlet, Gamma, Multinomial, NegativeBinomial, Poisson
from pyro_vae.distributions.parameters import more_digits
from pyro_vae.vae import VAE
from pyro_vae.value_checks import exportable, holds

__all__ = ["BetaBernoulli", "DirichletMultinomial", "GammaPoisson", "NormalNormal"]


class _Conjugate(ABC):
    """The VAE of a conjugate pair, and the check of x."""

    size: int
    support: constraints.Constraint
    values: str

    @abstractmethod
    def prior(self) -> TorchDistribution:
        """Return p(z)."""

    @abstractmethod
    def likelihood(self, z: Tensor) -> TorchDistribution:
        """Return p(x | z)."""

    @abstractmethod
    def posterior(self, x: Tensor) -> TorchDistribution:
        """Return p(z | x)."""

    def vae(self) -> VAE:
        """Return a :class:`pyro_vae.VAE` of the three, with the true posterior and no parameters to train."""
        return VAE(self.prior, self.likelihood, self.posterior)

    def _check(self, x: Tensor) -> Tensor:
        name = type(self).__name__
        if x.dim() < 1 or x.shape[-1] != self.size:
            raise ValueError(f"{name} is over x of shape (batch, {self.size}); got {tuple(x.shape)}")
        check_finite(x)
        good = self.support.check(x)
        if not holds(good.all()):
            raise ValueError(f"{name} needs x in {self.values}; got {x[~good][0].item():.4g}")
        return x


class BetaBernoulli(_Conjugate):
    """A coin of unknown bias, thrown n times: z is from Beta(a, b), and each element of x from Bernoulli(z).

    See Gelman et al. 2013, "Bayesian data analysis", section 2.4. x is the sequence of throws, not only their sum.

    Args:
        a: first shape of the prior, above 0: a number, or a tensor ``()``.
        b: second shape of the prior, likewise. Numbers get the dtype of the tensors beside them, or torch's default.
        n: the number of elements of x, at least 1.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> model = BetaBernoulli(1.0, 1.0, n=3)
        >>> x = torch.tensor([[1.0, 1.0, 0.0]])
        >>> model.log_prob(x).exp(), model.posterior(x).mean
        (tensor([0.0833]), tensor([[0.6000]]))
    """

    support = constraints.boolean
    values = "{0, 1}"

    def __init__(self, a: float | Tensor, b: float | Tensor, n: int) -> None:
        self.a, self.b = _positive(a=a, b=b)
        self.n = self.size = at_least("n", n, 1)

    @exportable
    def prior(self) -> TorchDistribution:
        """Return Beta(a, b), with batch shape ``()`` and event shape ``(1,)``."""
        return Beta(self.a.expand(1), self.b.expand(1)).to_event(1)

    @exportable
    def likelihood(self, z: Tensor) -> TorchDistribution:
        """Return n independent Bernoulli(z), for z ``(batch, 1)``: batch shape ``(batch,)``, event shape ``(n,)``."""
        return dist.Bernoulli(probs=_repeat(z, self.n)).to_event(1)

    @exportable
    def posterior(self, x: Tensor) -> TorchDistribution:
        """Return Beta(a + Σx, b + n − Σx), for x ``(batch, n)``: batch shape ``(batch,)``, event shape ``(1,)``."""
        ones = self._check(x).sum(-1, keepdim=True)
        return Beta(self.a + ones, self.b + (self.n - ones)).to_event(1)

    @exportable
    def log_prob(self, x: Tensor) -> Tensor:
        """Return the evidence log p(x) in nats, ``(batch,)``, for x ``(batch, n)``."""
        a, b, ones = more_digits(self.a, self.b, self._check(x).sum(-1))
        return (log_beta(a + ones, b + (self.n - ones)) - log_beta(a, b)).to(x.dtype)


class GammaPoisson(_Conjugate):
    """Counts with an unknown rate: z is from Gamma(shape, rate), and each element of x from Poisson(z).

    See Gelman et al. 2013, "Bayesian data analysis", section 2.6.

    Args:
        shape: shape of the prior, above 0: a number, or a tensor ``()``.
        rate: rate of the prior, one over its scale, likewise. Numbers get the dtype of the tensors beside them, or
            torch's default.
        n: the number of elements of x, at least 1.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> model = GammaPoisson(2.0, 1.0, n=3)
        >>> x = torch.tensor([[1.0, 0.0, 3.0]])
        >>> model.log_prob(x), model.posterior(x).mean
        (tensor([-5.3220]), tensor([[1.5000]]))
    """

    support = constraints.nonnegative_integer
    values = "{0, 1, 2, ...}"

    def __init__(self, shape: float | Tensor, rate: float | Tensor, n: int) -> None:
        self.shape, self.rate = _positive(shape=shape, rate=rate)
        self.n = self.size = at_least("n", n, 1)
        # Made here, so its checks of values are not part of a captured graph.
        self._split = Multinomial(logits=self.rate.new_zeros(self.n), validate_args=False)

    @exportable
    def prior(self) -> TorchDistribution:
        """Return Gamma(shape, rate), with batch shape ``()`` and event shape ``(1,)``."""
        return Gamma(self.shape.expand(1), self.rate.expand(1)).to_event(1)

    @exportable
    def likelihood(self, z: Tensor) -> TorchDistribution:
        """Return n independent Poisson(z), for z ``(batch, 1)``: batch shape ``(batch,)``, event shape ``(n,)``."""
        return Poisson(_repeat(z, self.n)).to_event(1)

    @exportable
    def posterior(self, x: Tensor) -> TorchDistribution:
        """Return Gamma(shape + Σx, rate + n), for x ``(batch, n)``: batch shape ``(batch,)``, event shape ``(1,)``."""
        shape = self.shape + self._check(x).sum(-1, keepdim=True)
        return Gamma(shape, (self.rate + self.n).expand_as(shape)).to_event(1)

    @exportable
    def log_prob(self, x: Tensor) -> Tensor:
        """Return the evidence log p(x) in nats, ``(batch,)``, for x ``(batch, n)``."""
        # The total is negative binomial, and each count falls on one of the n elements with equal probability.
        mean = self.n * self.shape / self.rate
        total = NegativeBinomial(mean, 1 / self.shape, validate_args=False).log_prob(self._check(x).sum(-1))
        return total + self._split.log_prob(x)


class DirichletMultinomial(_Conjugate):
    """Counts with unknown proportions: z is from Dirichlet(concentration), and x from Multinomial(total_count, z).

    See Gelman et al. 2013, "Bayesian data analysis", section 3.4.

    Args:
        concentration: concentration of the prior, above 0, ``(K,)`` with K at least 2.
        total_count: the sum of each x, at least 1.

    Raises:
        ValueError: if a shape does not fit or a number is out of range.

    Example:
        >>> model = DirichletMultinomial(torch.ones(3), total_count=2)
        >>> x = torch.tensor([[1.0, 1.0, 0.0]])
        >>> model.log_prob(x).exp(), model.posterior(x).mean
        (tensor([0.1667]), tensor([[0.4000, 0.4000, 0.2000]]))
    """

    support = constraints.nonnegative_integer
    values = "{0, 1, 2, ...}"

    def __init__(self, concentration: Tensor, total_count: int) -> None:
        if not isinstance(concentration, Tensor) or concentration.dim() != 1 or len(concentration) < 2:
            what = f"shape {tuple(concentration.shape)}" if isinstance(concentration, Tensor) else repr(concentration)
            raise ValueError(f"concentration must be a tensor (K,) with K of at least 2; got {what}")
        if not concentration.is_floating_point():
            raise ValueError(f"concentration must be of a floating-point dtype; got {concentration.dtype}")
        if not ((concentration > 0) & concentration.isfinite()).all():
            raise ValueError(f"concentration must be finite numbers above 0; got {concentration.tolist()}")
        self.concentration = concentration
        self.total_count = at_least("total_count", total_count, 1)
        self.size = len(concentration)

    @exportable
    def prior(self) -> TorchDistribution:
        """Return Dirichlet(concentration), with batch shape ``()`` and event shape ``(K,)``."""
        return Dirichlet(self.concentration)

    @exportable
    def likelihood(self, z: Tensor) -> TorchDistribution:
        """Return Multinomial(total_count, z), for z ``(batch, K)``: batch shape ``(batch,)``, event shape ``(K,)``."""
        return dist.Multinomial(self.total_count, probs=z)

    @exportable
    def posterior(self, x: Tensor) -> TorchDistribution:
        """Return Dirichlet(concentration + x), for x ``(batch, K)``: batch shape ``(batch,)``, event shape ``(K,)``."""
        return Dirichlet(self.concentration + self._check(x))

    @exportable
    def log_prob(self, x: Tensor) -> Tensor:
        """Return the evidence log p(x) in nats, ``(batch,)``, for x ``(batch, K)``."""
        a, counts = more_digits(self.concentration, self._check(x))
        each = torch.lgamma(a + counts) - torch.lgamma(a) - torch.lgamma(counts + 1)
        total = torch.lgamma(a.sum() + self.total_count) - torch.lgamma(a.sum()) - math.lgamma(self.total_count + 1)
        return (each.sum(-1) - total).to(x.dtype)

    def _check(self, x: Tensor) -> Tensor:
        x = super()._check(x)
        totals = x.sum(-1)
        if not holds((totals == self.total_count).all()):
            wrong = totals[totals != self.total_count][0].item()
            raise ValueError(
                f"DirichletMultinomial needs x with the total {self.total_count}, its total_count; got {wrong:g}"
            )
        return x


class NormalNormal(_Conjugate):
    """Measurements of an unknown quantity: z is from N(loc, scale²), and each element of x from N(z, noise²).

    See Gelman et al. 2013, "Bayesian data analysis", section 2.5. For more dimensions, use :class:`LinearGaussian`.

    Args:
        loc: mean of the prior: a number, or a tensor ``()``.
        scale: standard deviation of the prior, above 0, likewise.
        noise: standard deviation of a measurement, above 0, likewise. Numbers get the dtype of the tensors beside
            them, or torch's default.
        n: the number of elements of x, at least 1.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> model = NormalNormal(0.0, 1.0, 1.0, n=3)
        >>> x = torch.tensor([[1.0, 0.0, 3.0]])
        >>> model.log_prob(x), model.posterior(x).mean
        (tensor([-6.4500]), tensor([[1.]]))
    """

    support = constraints.real
    values = "the real numbers"

    def __init__(self, loc: float | Tensor, scale: float | Tensor, noise: float | Tensor, n: int) -> None:
        self.loc, self.scale, self.noise = _numbers(loc=loc, scale=scale, noise=noise)
        _positive(scale=self.scale, noise=self.noise)
        self.n = self.size = at_least("n", n, 1)

    @exportable
    def prior(self) -> TorchDistribution:
        """Return N(loc, scale²), with batch shape ``()`` and event shape ``(1,)``."""
        return dist.Normal(self.loc.expand(1), self.scale.expand(1)).to_event(1)

    @exportable
    def likelihood(self, z: Tensor) -> TorchDistribution:
        """Return n independent N(z, noise²), for z ``(batch, 1)``: batch shape ``(batch,)``, event shape ``(n,)``."""
        return dist.Normal(_repeat(z, self.n), self.noise).to_event(1)

    @exportable
    def posterior(self, x: Tensor) -> TorchDistribution:
        """Return the normal at the precision-weighted mean, for x ``(batch, n)``: event shape ``(1,)``."""
        precision = self.scale**-2 + self.n * self.noise**-2
        mean = (self.loc * self.scale**-2 + self._check(x).sum(-1, keepdim=True) * self.noise**-2) / precision
        return dist.Normal(mean, precision.rsqrt().expand_as(mean)).to_event(1)

    @exportable
    def log_prob(self, x: Tensor) -> Tensor:
        """Return the evidence log p(x) in nats, ``(batch,)``, for x ``(batch, n)``."""
        shared, own = self.scale.expand(self.n, 1), (self.noise**2).expand(self.n)
        marginal = dist.LowRankMultivariateNormal(self.loc.expand(self.n), shared, own, validate_args=False)
        return marginal.log_prob(self._check(x))


def _repeat(z: Tensor, n: int) -> Tensor:
    """Repeat the one element of z for each element of x, ``(..., n)``."""
    return z.expand(*z.shape[:-1], n)


def _numbers(**values: float | Tensor) -> list[Tensor]:
    """Return numbers or tensors ``()`` as tensors with one dtype, on one device."""
    for name, value in values.items():
        finite_number(name, _scalar(value))
    like = next((v for v in values.values() if isinstance(v, Tensor) and v.is_floating_point()), torch.empty(()))
    return [torch.as_tensor(v, dtype=like.dtype, device=like.device) for v in values.values()]


def _positive(**values: float | Tensor) -> list[Tensor]:
    """Do the same as :func:`_numbers` for numbers above 0."""
    for name, value in values.items():
        finite_number(name, _scalar(value), above=0)
    return _numbers(**values)


def _scalar(value: float | Tensor) -> float | Tensor:
    """Return the number in a tensor ``()``, and anything else unchanged."""
    return value.item() if isinstance(value, Tensor) and not value.dim() else value
