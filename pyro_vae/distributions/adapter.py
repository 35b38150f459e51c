"""Distributions with torch's interface, given Pyro's too."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from pyro.contrib.zuko import ZukoToPyro
from torch import Tensor
from torch.distributions import Distribution, constraints, kl_divergence, register_kl

__all__ = ["TorchToPyro", "as_pyro"]


class TorchToPyro(dist.TorchDistribution):
    """Gives Pyro's interface to a distribution with torch's, such as one of Zuko's flows.

    Pyro's sample statement needs a distribution that can be called, expanded and masked. This class passes everything
    on to ``base``; if ``base`` has a KL divergence in closed form, so has this. A flow knows the density at its last
    draw from drawing it and does not compute it again, which would cost an inverse autoregressive flow one pass per
    dimension. (That density has the gradient with respect to the parameters, through the draw; for the gradient with
    respect to z, take the density of a copy of z.)

    Args:
        base: any :class:`torch.distributions.Distribution`.

    Example:
        >>> import torch
        >>> d = TorchToPyro(torch.distributions.Normal(0.0, 1.0))
        >>> d.expand((3,)).log_prob(torch.zeros(3)).shape
        torch.Size([3])
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  # the base checks its own arguments

    def __init__(self, base: Distribution) -> None:
        self.base = base
        self._draw: tuple[Tensor, int, Tensor] | None = None
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def has_rsample(self) -> bool:
        """True if gradients flow through samples."""
        return self.base.has_rsample

    @property
    def support(self) -> constraints.Constraint | None:
        """The support of the base."""
        return self.base.support

    @property
    def mean(self) -> Tensor:
        """The mean of the base, if it has one."""
        return self.base.mean

    @property
    def variance(self) -> Tensor:
        """The variance of the base, if it has one."""
        return self.base.variance

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape, *event_shape)``, without gradient."""
        return self.base.sample(torch.Size(sample_shape))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape, *event_shape)``, with gradient."""
        if not hasattr(self.base, "rsample_and_log_prob"):
            return self.base.rsample(torch.Size(sample_shape))
        value, log_prob = self.base.rsample_and_log_prob(torch.Size(sample_shape))
        self._draw = value, _version(value), log_prob
        return value

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density in nats, of shape ``(..., *batch_shape)``."""
        if self._draw is not None:
            drawn, version, log_prob = self._draw
            # Not if the draw was changed in place, or lacks the gradients that are needed now.
            usable = drawn.requires_grad or not torch.is_grad_enabled()
            if drawn is value and _version(value) == version and usable:
                return log_prob
        if hasattr(self.base, "rsample_and_log_prob"):
            # Zuko's flows with a batch of contexts do not broadcast values (n, 1, d), which mixtures give.
            batch = torch.broadcast_shapes(value.shape[: value.dim() - len(self.event_shape)], self.batch_shape)
            value = value.expand(*batch, *self.event_shape)
        return self.base.log_prob(value)

    @property
    def has_enumerate_support(self) -> bool:
        """True if the values can be listed."""
        return self.base.has_enumerate_support

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Return all values, if the base can list them."""
        return self.base.enumerate_support(expand)

    def entropy(self) -> Tensor:
        """Return the entropy in nats, if the base has it in closed form."""
        return self.base.entropy()

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> TorchToPyro:
        """Return the same distribution with another batch shape."""
        return TorchToPyro(self.base.expand(torch.Size(batch_shape)))


def _version(value: Tensor) -> int:
    """Return how often a tensor was changed in place."""
    return 0 if value.is_inference() else value._version


@register_kl(TorchToPyro, Distribution)
def _kl_of_adapter(p: TorchToPyro, q: Distribution) -> Tensor:
    return kl_divergence(p.base, q)


@register_kl(Distribution, TorchToPyro)
def _kl_to_adapter(p: Distribution, q: TorchToPyro) -> Tensor:
    return kl_divergence(p, q.base)


@register_kl(TorchToPyro, TorchToPyro)
def _kl_between_adapters(p: TorchToPyro, q: TorchToPyro) -> Tensor:
    return kl_divergence(p.base, q.base)


@register_kl(dist.Delta, TorchToPyro)
def _kl_from_point(p: dist.Delta, q: TorchToPyro) -> Tensor:
    # The same as Pyro's for any q; without this, torch finds two that fit and warns.
    return -q.log_prob(p.v)


def as_pyro(distribution: object, source: str = "the function") -> dist.TorchDistribution:
    """Return a distribution of Pyro's unchanged, and wrap one of torch's in :class:`TorchToPyro`.

    Args:
        distribution: the value that a prior, likelihood or posterior returned.
        source: the name of that part, for the error.

    Raises:
        TypeError: if it is not a distribution.
    """
    if isinstance(distribution, ZukoToPyro):
        distribution = distribution.dist  # with Pyro's own adapter, Predictive fails
    if isinstance(distribution, dist.torch_distribution.TorchDistributionMixin):
        return distribution
    if isinstance(distribution, Distribution):
        return TorchToPyro(distribution)
    raise TypeError(
        f"{source} must return a Pyro or torch distribution; got {type(distribution).__name__}. "
        "Return, for example, pyro.distributions.Normal(loc, scale).to_event(1)"
    )
