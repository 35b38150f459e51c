"""A row of a table as one event: each column has its own distribution."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import Independent, constraints

from pyro_vae.distributions.adapter import TorchToPyro, as_pyro
from pyro_vae.distributions.supports import base_constraint

__all__ = ["Columns", "mask_elements"]


class Columns(dist.TorchDistribution):
    """Independent columns of different kinds, side by side.

    Args:
        columns: one distribution per column, each of event shape ``(1,)`` and all of the same batch shape.
        names: of the columns; None for their numbers.

    Raises:
        ValueError: if there is no column, one has another shape, or two have the same name.

    Example:
        >>> height = dist.Normal(torch.zeros(5, 1), 1.0).to_event(1)
        >>> children = dist.Poisson(torch.ones(5, 1)).to_event(1)
        >>> Columns([height, children]).event_shape
        torch.Size([2])
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  # the columns check their own

    def __init__(
        self,
        columns: Sequence[TorchDistribution],
        names: Sequence[str] | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.names = [str(i) for i in range(len(columns))] if names is None else list(names)
        if not columns or len(columns) != len(self.names):
            raise ValueError(f"columns must be at least one, each with a name; got {len(columns)} and {self.names}")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"names must differ from one another; got {self.names}")
        self.columns = [as_pyro(column, f"column {name!r}") for name, column in zip(self.names, columns, strict=True)]
        for name, column in zip(self.names, self.columns, strict=True):
            if tuple(column.event_shape) != (1,) or column.batch_shape != self.columns[0].batch_shape:
                raise ValueError(
                    f"column {name!r} must have event shape (1,) and batch shape "
                    f"{tuple(self.columns[0].batch_shape)}; got {tuple(column.event_shape)} and "
                    f"{tuple(column.batch_shape)}. Declare the last dimension with .to_event(1)"
                )
        event_shape = torch.Size((len(self.columns),))
        super().__init__(self.columns[0].batch_shape, event_shape, validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        """True if gradients flow through samples of every column."""
        return all(column.has_rsample for column in self.columns)

    @property
    def support(self) -> constraints.Constraint:
        """The supports of the columns, side by side."""
        # Not into mixtures: the limits of their components may differ.
        elements = [base_constraint(c.support, through=(constraints.independent,)) for c in self.columns]
        return constraints.independent(constraints.cat(elements, dim=-1), 1)

    @property
    def mean(self) -> Tensor:
        """The means, ``(*batch_shape, columns)``."""
        return torch.cat([column.mean for column in self.columns], dim=-1)

    @property
    def variance(self) -> Tensor:
        """The variances, ``(*batch_shape, columns)``."""
        return torch.cat([column.variance for column in self.columns], dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density in nats, of shape ``(..., *batch_shape)``: the sum over columns."""
        if self._validate_args:
            self._validate_sample(value)
        return torch.stack(list(self.factor_log_probs(value).values())).sum(0)

    def factor_log_probs(self, value: Tensor) -> dict[str, Tensor]:
        """Return the log-density of each column by name, in nats, each of shape ``(..., *batch_shape)``."""
        log_probs = [column.log_prob(value[..., i : i + 1]) for i, column in enumerate(self.columns)]
        return dict(zip(self.names, torch.broadcast_tensors(*log_probs), strict=True))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape, columns)``, without gradient."""
        return torch.cat([column.sample(torch.Size(sample_shape)) for column in self.columns], dim=-1)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape, columns)``, with gradient."""
        if not self.has_rsample:
            raise NotImplementedError("a column has no rsample; use sample")
        return torch.cat([column.rsample(torch.Size(sample_shape)) for column in self.columns], dim=-1)

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> Columns:
        """Return the same distribution with another batch shape."""
        columns = [column.expand(torch.Size(batch_shape)) for column in self.columns]
        return Columns(columns, self.names, validate_args=self._validate_args)

    def observed(self, mask: Tensor) -> Columns:
        """Return the distribution whose log-density counts only columns where ``mask``, ``(..., columns)``, is True."""
        parts = zip(self.columns, mask.unbind(-1), strict=True)
        # A column is one element, so a column that is not a product of elements can be masked as a whole.
        columns = [mask_elements(c, m.unsqueeze(-1)) or c.mask(m) for c, m in parts]
        return Columns(columns, self.names, validate_args=self._validate_args)


def mask_elements(distribution: TorchDistribution, mask: Tensor) -> TorchDistribution | None:
    """Return the distribution whose log-density counts only the elements where ``mask`` is True.

    Args:
        distribution: a product over the elements of its events.
        mask: bool, ``(..., *event_shape)``, broadcast against the distribution's batch.

    Returns:
        The distribution, or None if this one is not a product over its elements.

    Example:
        >>> p = mask_elements(dist.Normal(torch.zeros(2), 1.0).to_event(1), torch.tensor([True, False]))
        >>> p.log_prob(torch.zeros(2))
        tensor(-0.9189)
    """
    if isinstance(distribution, Columns):
        return distribution.observed(mask)
    inner = distribution.base if isinstance(distribution, TorchToPyro) else distribution
    dims = 0
    while isinstance(inner, Independent):
        dims, inner = dims + inner.reinterpreted_batch_ndims, inner.base_dist
    if inner.event_shape:
        return None
    masked = as_pyro(inner).mask(mask)
    return masked.to_event(dims) if dims else masked
