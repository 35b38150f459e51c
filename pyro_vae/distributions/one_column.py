"""One column of a distribution over several."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

__all__ = ["OneColumn"]


class OneColumn(dist.TorchDistribution):
    """One column of a distribution over several columns, which are a dimension of its batch.

    To compute its density, it computes those of all columns at the same value. So it is for looking at a single column;
    it is not fast.

    Args:
        base: of a batch shape with a dimension for the columns.
        number: of the column.
        dim: that dimension of the batch, counted from its end: -1 is the last.

    Example:
        >>> both = dist.Normal(torch.tensor([[0.0], [5.0]]), 1.0).to_event(1)
        >>> OneColumn(both, 1, -1).mean
        tensor([5.])
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  # the base checks its own arguments

    def __init__(self, base: TorchDistribution, number: int, dim: int) -> None:
        self.base, self.number, self.dim = base, number, dim
        self.has_rsample, self.has_enumerate_support = base.has_rsample, base.has_enumerate_support
        shape = list(base.batch_shape)
        del shape[dim]
        super().__init__(torch.Size(shape), base.event_shape, validate_args=False)

    def _take(self, of_base: Tensor) -> Tensor:
        """Return this column of what the base returned."""
        dim = self.dim - len(self.event_shape)
        return of_base.select(dim, min(self.number, of_base.shape[dim] - 1))

    @property
    def support(self) -> constraints.Constraint | None:
        """The support of the base, which is that of each column."""
        return self.base.support

    @property
    def mean(self) -> Tensor:
        """The mean, if the base has one."""
        return self._take(self.base.mean)

    @property
    def mode(self) -> Tensor:
        """The likeliest value, if the base has one."""
        return self._take(self.base.mode)

    @property
    def variance(self) -> Tensor:
        """The variance, if the base has one."""
        return self._take(self.base.variance)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density in nats, of shape ``(..., *batch_shape)``."""
        # Values of fewer dimensions than the batch have none for the columns either.
        dims = len(self.batch_shape) + len(self.event_shape)
        value = value.reshape(*(1 for _ in range(dims - value.dim())), *value.shape)
        dim = self.dim - len(self.event_shape)
        return self.base.log_prob(value.unsqueeze(dim)).select(self.dim, self.number)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape, *event_shape)``, without gradient."""
        return self._take(self.base.sample(torch.Size(sample_shape)))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape, *event_shape)``, with gradient."""
        return self._take(self.base.rsample(torch.Size(sample_shape)))

    def entropy(self) -> Tensor:
        """Return the entropy in nats, if the base has it in closed form."""
        return self.base.entropy().select(self.dim, self.number)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Return all values, if the base can list them."""
        return self._take(self.base.enumerate_support(expand))

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> OneColumn:
        """Return the same distribution with another batch shape."""
        shape = list(batch_shape)
        at = len(shape) + 1 + self.dim
        shape.insert(at, self.base.batch_shape[self.dim])
        return OneColumn(self.base.expand(torch.Size(shape)), self.number, self.dim)
