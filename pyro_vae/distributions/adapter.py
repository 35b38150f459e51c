"""Distributions of torch's interface with Pyro's on top."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from pyro.contrib.zuko import ZukoToPyro
from torch import Tensor
from torch.distributions import Distribution, constraints, kl_divergence, register_kl

__all__ = ["TorchToPyro", "as_pyro"]


class TorchToPyro(dist.TorchDistribution):
    """A distribution of torch's interface (Zuko's flows, say) with Pyro's interface on top.

    Pyro's sample statement needs a distribution that can be called, expanded and masked. Everything is
    passed on to ``base``; where ``base`` has a closed-form KL divergence, so has this. A flow's density at the draw
    that it has just made is known from the making, and is not computed a second time: for an inverse autoregressive
    flow that second time would cost a pass for each dimension. (Its gradient is that by the parameters, through the
    making; for one by z, take the density of a copy of z.)

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
        """Whether gradients go through samples."""
        return self.base.has_rsample

    @property
    def support(self) -> constraints.Constraint | None:
        """The set of values that have a density."""
        return self.base.support

    @property
    def mean(self) -> Tensor:
        """The mean of the base, where it has one."""
        return self.base.mean

    @property
    def variance(self) -> Tensor:
        """The variance of the base, where it has one."""
        return self.base.variance

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of shape ``(*sample_shape, *batch_shape, *event_shape)``, without gradient."""
        return self.base.sample(torch.Size(sample_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of shape ``(*sample_shape, *batch_shape, *event_shape)``, with gradient."""
        if not hasattr(self.base, "rsample_and_log_prob"):
            return self.base.rsample(torch.Size(sample_shape))
        value, log_prob = self.base.rsample_and_log_prob(torch.Size(sample_shape))
        self._draw = value, _version(value), log_prob
        return value

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, of shape ``(..., *batch_shape)``."""
        if self._draw is not None:
            drawn, version, log_prob = self._draw
            # Not where the draw was changed in place, or made without the gradients that are wanted now.
            usable = drawn.requires_grad or not torch.is_grad_enabled()
            if drawn is value and _version(value) == version and usable:
                return log_prob
        if hasattr(self.base, "rsample_and_log_prob"):
            # Zuko's flows of a batch of contexts do not broadcast values (n, 1, d), such as a mixture's.
            batch = torch.broadcast_shapes(value.shape[: value.dim() - len(self.event_shape)], self.batch_shape)
            value = value.expand(*batch, *self.event_shape)
        return self.base.log_prob(value)

    @property
    def has_enumerate_support(self) -> bool:
        """Whether the values can be listed."""
        return self.base.has_enumerate_support

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All values, where the base can list them."""
        return self.base.enumerate_support(expand)

    def entropy(self) -> Tensor:
        """Entropy in nats, where the base has it in closed form."""
        return self.base.entropy()

    def expand(self, batch_shape: Any, _instance: None = None) -> TorchToPyro:
        """The same distribution with another batch shape."""
        return TorchToPyro(self.base.expand(torch.Size(batch_shape)))


def _version(value: Tensor) -> int:
    """How often a tensor was changed in place."""
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
def _kl_from_point(p: Any, q: TorchToPyro) -> Tensor:
    # As Pyro has it for any q; without this, torch finds two that fit and warns.
    return -q.log_prob(p.v)


def as_pyro(distribution: Any, source: str = "the function") -> Any:
    """``distribution`` itself if it is Pyro's, wrapped by :class:`TorchToPyro` if it is torch's.

    Args:
        distribution: what a prior, likelihood or posterior returned.
        source: what returned it, for the error.

    Raises:
        TypeError: where it is no distribution at all.
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
