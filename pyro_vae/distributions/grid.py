"""Distributions over equally spaced levels, such as grey values."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from pyro_vae.distributions.parameters import more_digits

__all__ = ["DiscretizedLogistic", "Grid", "GridCategorical"]


class Grid(constraints.Constraint):
    """The ``levels`` numbers from 0 to ``upper`` in equal steps, up to the rounding of float32.

    Args:
        levels: how many numbers, at least 2.
        upper: the last number, above 0.

    Example:
        >>> Grid(256, 1.0)
        {0, 1/255, ..., 1}
        >>> Grid(5, 4.0).check(torch.tensor([0.0, 3.0, 3.5, 5.0]))
        tensor([ True,  True, False, False])
    """

    is_discrete = True
    event_dim = 0
    lower_bound = 0

    def __init__(self, levels: int, upper: float) -> None:
        self.levels, self.upper = levels, upper
        super().__init__()

    def to_index(self, value: Tensor) -> Tensor:
        """Return the index of each level, from 0, as whole floating-point numbers."""
        return torch.round(value * ((self.levels - 1) / self.upper))

    def from_index(self, index: Tensor) -> Tensor:
        """Return the value of each level by its index; in float32 the same number as k / 255."""
        return index if self.upper == self.levels - 1 else index / ((self.levels - 1) / self.upper)

    def check(self, value: Tensor) -> Tensor:
        """Return True for each value that is a level."""
        exact = value * ((self.levels - 1) / self.upper)
        index = torch.round(exact)
        tolerance = 1e-3 + 2.4e-7 * self.levels  # in steps; two roundings of float32 at the upper end
        return ((exact - index).abs() <= tolerance) & (index >= 0) & (index <= self.levels - 1)

    def __repr__(self) -> str:
        if self.levels == 2:
            return f"{{0, {self.upper:g}}}"
        step = f"1/{self.levels - 1}" if self.upper == 1 else f"{self.upper / (self.levels - 1):g}"
        return f"{{0, {step}, ..., {self.upper:g}}}"


class GridCategorical(dist.TorchDistribution):
    """A probability for each of ``levels`` equally spaced values from 0 to ``upper``.

    Args:
        logits: ``(*batch_shape, levels)``.
        upper: the last value.

    Example:
        >>> p = GridCategorical(torch.zeros(3, 256))
        >>> p.mean
        tensor([0.5000, 0.5000, 0.5000])
    """

    arg_constraints = {"logits": constraints.real_vector}  # noqa: RUF012  # as in torch

    def __init__(self, logits: Tensor, upper: float = 1.0, validate_args: bool | None = None) -> None:
        self._index = dist.Categorical(logits=logits, validate_args=validate_args)
        self.upper = upper
        super().__init__(self._index.batch_shape, validate_args=validate_args)

    @property
    def logits(self) -> Tensor:
        """Log-probabilities of the levels, ``(*batch_shape, levels)``."""
        return self._index.logits

    @property
    def levels(self) -> int:
        """The number of levels."""
        return self.logits.shape[-1]

    @property
    def support(self) -> Grid:
        """The levels."""
        return Grid(self.levels, self.upper)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability in nats, of shape ``(..., *batch_shape)``."""
        if self._validate_args:
            self._validate_sample(value)
        return self._index.log_prob(self.support.to_index(value))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape)``, floating-point."""
        return self.support.from_index(self._index.sample(torch.Size(sample_shape)).to(self.logits.dtype))

    @property
    def mean(self) -> Tensor:
        """The mean, ``batch_shape``."""
        return self._index.probs @ self._values()

    @property
    def variance(self) -> Tensor:
        """The variance, ``batch_shape``."""
        return (self._index.probs * (self._values() - self.mean.unsqueeze(-1)) ** 2).sum(-1)

    def _values(self) -> Tensor:
        return self.support.from_index(torch.arange(self.levels, dtype=self.logits.dtype, device=self.logits.device))

    def expand(self, batch_shape: Sequence[int], _instance: GridCategorical | None = None) -> GridCategorical:
        """Return the same distribution with another batch shape."""
        new = self._get_checked_instance(GridCategorical, _instance)
        new._index, new.upper = self._index.expand(torch.Size(batch_shape)), self.upper
        super(GridCategorical, new).__init__(torch.Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new


class DiscretizedLogistic(dist.TorchDistribution):
    """A logistic variable, rounded to the nearest of ``levels`` values from 0 to ``upper``; the ends take the tails.

    (Kingma et al. 2016, arXiv 1606.04934; Salimans et al. 2017, arXiv 1701.05517.)

    Args:
        loc: location of the logistic, in units of the values.
        scale: its scale, in the same units.
        levels: how many values, at least 2.
        upper: the last value.
        unit: the unit of location and scale; with ``upper``, a location of 1 is the last value.

    Example:
        >>> p = DiscretizedLogistic(torch.tensor(0.5), torch.tensor(0.01))
        >>> p.log_prob(torch.tensor([128 / 255, 0.0]))
        tensor([ -2.3351, -49.8039])
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}  # noqa: RUF012  # as in torch

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor,
        levels: int = 256,
        upper: float = 1.0,
        unit: float = 1.0,
        validate_args: bool | None = None,
    ) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.levels, self.upper, self.unit = levels, upper, unit
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def support(self) -> Grid:
        """The levels."""
        return Grid(self.levels, self.upper)

    def _in_steps(self) -> tuple[Tensor, Tensor]:
        """Return location and scale in steps, in which the levels are 0, 1, 2, ..."""
        steps = (self.levels - 1) * (self.unit / self.upper)
        return self.loc * steps, self.scale * steps

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability in nats, of shape ``(..., *batch_shape)``."""
        if self._validate_args:
            self._validate_sample(value)
        loc, scale = self._in_steps()
        index = self.support.to_index(value)
        # Half a level from the location, in float64: float32 resolves 1e-5 of a level, the width of narrow scales.
        exact_index, exact_loc = more_digits(index, self.loc)
        centre = exact_index - exact_loc * ((self.levels - 1) * (self.unit / self.upper))
        above, below = (((centre + half) / scale).to(loc.dtype) for half in (0.5, -0.5))
        # sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b)): nothing cancels, and no gradient vanishes
        # or is NaN, even if the bin is thin and its location far.
        bottom, top = index < 0.5, index > self.levels - 1.5
        log_width = torch.log(-torch.expm1(-1 / scale))
        return (
            torch.where(top, 0, logsigmoid(above))
            + torch.where(bottom, 0, logsigmoid(-below))
            + torch.where(bottom | top, 0, log_width)
        )

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape)``."""
        with torch.no_grad():
            loc, scale = self._in_steps()
            shape = self._extended_shape(torch.Size(sample_shape))
            noise = torch.logit(torch.rand(shape, dtype=loc.dtype, device=loc.device))
            return self.support.from_index(torch.round(loc + scale * noise).clamp(0, self.levels - 1))

    @property
    def mean(self) -> Tensor:
        """The mean, ``batch_shape``: exact, from the tails P(level > k)."""
        loc, scale = self._in_steps()
        # A loop, because another dimension would take 255 times the memory of the batch.
        total = torch.zeros_like(loc)
        for k in range(self.levels - 1):
            total = total + torch.sigmoid((loc - k - 0.5) / scale)
        return self.support.from_index(total)

    @property
    def variance(self) -> Tensor:
        """The variance, ``batch_shape``: exact, around the level nearest to the mean, which saves digits."""
        loc, scale = self._in_steps()
        centre = torch.round(self.mean * ((self.levels - 1) / self.upper))
        # E[(level - c)²] = c² + Σ_k ((k + 1 - c)² - (k - c)²) P(level > k), from either side of c.
        total = torch.zeros_like(loc)
        for k in range(self.levels - 1):
            step = 2 * (k - centre) + 1
            tail = (loc - k - 0.5) / scale
            total = total + step.abs() * torch.sigmoid(torch.where(step > 0, tail, -tail))
        mean = self.mean * ((self.levels - 1) / self.upper)
        return (total - (mean - centre) ** 2) * (self.upper / (self.levels - 1)) ** 2

    def expand(self, batch_shape: Sequence[int], _instance: DiscretizedLogistic | None = None) -> DiscretizedLogistic:
        """Return the same distribution with another batch shape."""
        new = self._get_checked_instance(DiscretizedLogistic, _instance)
        batch_shape = torch.Size(batch_shape)
        new.loc, new.scale = self.loc.expand(batch_shape), self.scale.expand(batch_shape)
        new.levels, new.upper, new.unit = self.levels, self.upper, self.unit
        super(DiscretizedLogistic, new).__init__(batch_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new
