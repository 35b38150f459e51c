"""The normal distribution whose variance maximises the density of the data that it is asked about."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor

__all__ = ["OptimalNormal"]


class OptimalNormal(dist.Normal):
    """A normal distribution whose one variance is the mean squared error of the data, in closed form.

    ``log_prob(x)`` uses as variance the mean of (x − loc)² over all elements and examples of x, at which the total
    log-density is highest (Rybkin, Daniilidis and Levine 2020, arXiv 2006.13202, section 3). If gradients are on, it
    moves ``running_variance`` by ``momentum`` towards that variance. Samples, the mean and the variance are those of a
    normal with the running variance.

    So this is a density of a whole batch and not of one example, and it writes a buffer. A step of the training that
    sets the variance would be cleaner, but it would give another loss: the loss of the paper has the variance of the
    same batch at the same means, and only ``log_prob`` sees both. A variance that was set before belongs to another
    batch and to older means. Therefore :class:`pyro_vae.likelihoods.Normal` uses this class in training mode only, and
    sets ``depends_on_batch``; :func:`pyro_vae.fit` then refuses objectives that weigh draws differently.

    Args:
        loc: the means.
        running_variance: a tensor of shape ``()``, changed in place.
        momentum: the fraction of the way that it moves at each call.

    Example:
        >>> running = torch.tensor(1.0)
        >>> p = OptimalNormal(torch.zeros(3), running)
        >>> p.log_prob(torch.tensor([2.0, 2.0, 2.0])).equal(dist.Normal(0.0, 2.0).log_prob(torch.tensor([2.0] * 3)))
        True
        >>> running
        tensor(1.3000)
    """

    FLOOR = 1e-12
    """The least variance: the square of the least scale that ``positive`` gives."""

    def __init__(
        self, loc: Tensor, running_variance: Tensor, momentum: float = 0.1, validate_args: bool | None = None
    ) -> None:
        self.running_variance, self.momentum = running_variance, momentum
        self.observed: Tensor | None = None
        # A copy of the scale: the running variance may change while the distribution is still in use.
        super().__init__(loc, running_variance.sqrt().expand_as(loc), validate_args=validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density in nats, ``(..., *batch_shape)``, at the best variance for ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        squared = (value - self.loc) ** 2
        if self.observed is None:
            variance = squared.mean() + self.FLOOR
        else:
            count = self.observed.expand(squared.shape).sum()
            found = torch.where(self.observed, squared, 0).sum() / count.clamp(min=1) + self.FLOOR
            variance = torch.where(count > 0, found, self.running_variance.to(found.dtype))
        if torch.is_grad_enabled():  # without gradients, this is not a training step
            with torch.no_grad():
                self.running_variance.lerp_(variance.detach().to(self.running_variance.dtype), self.momentum)
        return dist.Normal(self.loc, variance.sqrt(), validate_args=False).log_prob(value)

    def mask(self, mask: bool | Tensor) -> dist.TorchDistribution:
        """Return the distribution of the elements where ``mask``; the others do not count in the variance either."""
        new = self.expand(torch.broadcast_shapes(self.batch_shape, mask.shape)) if isinstance(mask, Tensor) else self
        if isinstance(mask, Tensor):
            new.observed = mask.expand(new.batch_shape)
        return dist.Normal.mask(new, mask)

    def expand(self, batch_shape: torch.Size, _instance: OptimalNormal | None = None) -> OptimalNormal:
        """Return the same distribution with another batch shape."""
        new = self._get_checked_instance(OptimalNormal, _instance)
        new.running_variance, new.momentum = self.running_variance, self.momentum
        new.observed = None if self.observed is None else self.observed.expand(torch.Size(batch_shape))
        return super().expand(torch.Size(batch_shape), _instance=new)
