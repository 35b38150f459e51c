"""The normal distribution whose variance is the best one for the data it is asked about."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

__all__ = ["OptimalNormal"]


class OptimalNormal(dist.Normal):
    """A normal distribution that takes its one variance from the data: the mean squared error, in closed form.

    ``log_prob(x)`` puts the variance at the mean of (x − loc)² over all elements and examples of x, where the total
    log-density is highest (Rybkin, Daniilidis and Levine 2020, arXiv 2006.13202, section 3). It is a function of all
    examples together. Where gradients are on, it moves ``running_variance`` by ``momentum`` towards that variance.
    Samples, the mean and the variance are those of a normal with the running variance.

    Args:
        loc: the means.
        running_variance: a tensor of shape ``()``, changed in place.
        momentum: how far it moves at each call.

    Example:
        >>> running = torch.tensor(1.0)
        >>> p = OptimalNormal(torch.zeros(3), running)
        >>> p.log_prob(torch.tensor([2.0, 2.0, 2.0])).equal(dist.Normal(0.0, 2.0).log_prob(torch.tensor([2.0] * 3)))
        True
        >>> running
        tensor(1.3000)
    """

    FLOOR = 1e-12
    """The least variance: that of the least scale that ``positive`` gives."""

    def __init__(
        self, loc: Tensor, running_variance: Tensor, momentum: float = 0.1, validate_args: bool | None = None
    ) -> None:
        self.running_variance, self.momentum = running_variance, momentum
        self.observed: Tensor | None = None
        # A copy of the scale: the running variance changes under a distribution that is still in use.
        super().__init__(loc, running_variance.sqrt().expand_as(loc), validate_args=validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, of shape ``(..., *batch_shape)``, at the best variance for ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        squared = (value - self.loc) ** 2
        if self.observed is None:
            variance = squared.mean() + self.FLOOR
        else:
            count = self.observed.expand(squared.shape).sum()
            found = torch.where(self.observed, squared, 0).sum() / count.clamp(min=1) + self.FLOOR
            variance = torch.where(count > 0, found, self.running_variance.to(found.dtype))
        if torch.is_grad_enabled():  # a look without gradients, at a loss or its terms, is no step
            with torch.no_grad():
                self.running_variance.lerp_(variance.detach().to(self.running_variance.dtype), self.momentum)
        return dist.Normal(self.loc, variance.sqrt(), validate_args=False).log_prob(value)

    def mask(self, mask: Any) -> Any:
        """The distribution of the elements where ``mask``: the others count neither here nor in the variance."""
        new = self.expand(torch.broadcast_shapes(self.batch_shape, mask.shape)) if isinstance(mask, Tensor) else self
        if isinstance(mask, Tensor):
            new.observed = mask.expand(new.batch_shape)
        return dist.Normal.mask(new, mask)

    def expand(self, batch_shape: Any, _instance: Any = None) -> OptimalNormal:
        """The same distribution with another batch shape."""
        new = self._get_checked_instance(OptimalNormal, _instance)
        new.running_variance, new.momentum = self.running_variance, self.momentum
        new.observed = None if self.observed is None else self.observed.expand(torch.Size(batch_shape))
        return super().expand(torch.Size(batch_shape), _instance=new)
