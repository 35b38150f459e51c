"""A row of a table as one event: each column has its own distribution."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import Independent, constraints

from pyro_vae.distributions.adapter import TorchToPyro, as_pyro
from pyro_vae.distributions.one_column import OneColumn
from pyro_vae.distributions.supports import base_constraint

__all__ = ["Columns", "Group", "mask_elements", "without_mask"]

_T = TypeVar("_T")


class Group(NamedTuple):
    """A distribution of one column, or of k columns together, and where they stand in a row.

    Args:
        distribution: of event shape ``(1,)``, and of batch shape ``(*batch,)`` or, for k columns, ``(*batch, k)``.
        place: the number of the column, or a tuple of the numbers of the k columns.
    """

    distribution: TorchDistribution
    place: int | tuple[int, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of the columns."""
        return self.place if isinstance(self.place, tuple) else (self.place,)

    def values(self, x: Tensor) -> Tensor:
        """Return the values of the columns in rows ``(..., columns)``, as the distribution takes them."""
        if isinstance(self.place, int):
            return x[..., self.place : self.place + 1]
        first, last = self.place[0], self.place[-1]
        if self.place == tuple(range(first, last + 1)):
            return x[..., first : last + 1].unsqueeze(-1)
        # Side by side, so that compiled code takes many at a time; not so if they were taken by their numbers.
        return torch.stack([x[..., number] for number in self.place], dim=-1).unsqueeze(-1)

    def elements(self, of_distribution: Tensor) -> Tensor:
        """Return values that the distribution gave, such as its mean or a draw, as ``(..., k)``."""
        return of_distribution.squeeze(-1) if isinstance(self.place, tuple) else of_distribution

    def log_probs(self, x: Tensor) -> Tensor:
        """Return the log-density of each column in nats at rows ``(..., columns)``, as ``(..., k)``."""
        log_prob = self.distribution.log_prob(self.values(x))
        return log_prob if isinstance(self.place, tuple) else log_prob.unsqueeze(-1)

    def columns(self) -> list[TorchDistribution]:
        """Return the distribution of each column, of event shape ``(1,)``."""
        if isinstance(self.place, int):
            return [self.distribution]
        return [OneColumn(self.distribution, i, -1) for i in range(len(self.place))]

    def expand(self, batch_shape: torch.Size) -> TorchDistribution:
        """Return the distribution with another batch shape ``(*batch,)``."""
        k = (len(self.place),) if isinstance(self.place, tuple) else ()
        return self.distribution.expand(torch.Size((*batch_shape, *k)))

    def observed(self, mask: Tensor) -> TorchDistribution:
        """Return the distribution whose log-density counts only columns where ``mask``, ``(..., columns)``, is True."""
        mask = self.values(mask)
        # A column is one element, so a column that is not a product of elements can be masked as a whole.
        return mask_elements(self.distribution, mask) or self.distribution.mask(mask.squeeze(-1))


class Columns(dist.TorchDistribution):
    """Independent columns of different kinds, side by side.

    Args:
        columns: distributions of single columns, each of event shape ``(1,)`` and all of the same batch shape. With
            ``places``, one may be over k columns together: its batch shape then ends with k, ``(*batch_shape, k)``.
        names: of the columns; None for their numbers.
        places: for each distribution, the number of its column, or a tuple of the numbers of its k columns; None if
            each is over one column, in the order of the columns. Columns of one kind are faster together.

    Attributes:
        groups: the distributions as they were given, each with its places.

    Raises:
        ValueError: if there is no column, a distribution has another shape, two columns have the same name, or
            ``places`` are not those of all columns.

    Example:
        >>> height = dist.Normal(torch.zeros(5, 1), 1.0).to_event(1)
        >>> children = dist.Poisson(torch.ones(5, 1)).to_event(1)
        >>> Columns([height, children]).event_shape
        torch.Size([2])
        >>> reals = dist.Normal(torch.zeros(5, 2, 1), 1.0).to_event(1)
        >>> Columns([reals, children], ["height", "weight", "children"], places=[(0, 1), 2]).mean.shape
        torch.Size([5, 3])
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  # the columns check their own

    def __init__(
        self,
        columns: Sequence[TorchDistribution],
        names: Sequence[str] | None = None,
        validate_args: bool | None = None,
        places: Sequence[int | tuple[int, ...]] | None = None,
    ) -> None:
        where = range(len(columns)) if places is None else places
        if len(columns) != len(where):
            raise ValueError(f"places must be one per distribution; got {len(where)} for {len(columns)}")
        given = [Group(column, place) for column, place in zip(columns, where, strict=True)]
        of_all = [number for group in given for number in group.numbers]
        self.names = list(map(str, range(len(of_all)))) if names is None else list(names)
        if not columns or len(of_all) != len(self.names):
            raise ValueError(f"columns must be at least one, each with a name; got {len(of_all)} and {self.names}")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"names must differ from one another; got {self.names}")
        if sorted(of_all) != list(range(len(of_all))):
            raise ValueError(f"places must be the numbers from 0 to {len(of_all) - 1}, each once; got {list(where)}")
        whats = [_words([self.names[i] for i in group.numbers]) for group in given]
        self.groups = [Group(as_pyro(g.distribution, what), g.place) for g, what in zip(given, whats, strict=True)]
        batch_shape = _batch_shape(self.groups[0])
        for group, what in zip(self.groups, whats, strict=True):
            _check_shapes(group, what, batch_shape)
        super().__init__(batch_shape, torch.Size((len(of_all),)), validate_args=validate_args)

    @property
    def columns(self) -> list[TorchDistribution]:
        """The distribution of each column, of event shape ``(1,)``; slow for columns that are evaluated together."""
        return self._in_order([column for group in self.groups for column in group.columns()])

    @property
    def has_rsample(self) -> bool:
        """True if gradients flow through samples of every column."""
        return all(group.distribution.has_rsample for group in self.groups)

    @property
    def support(self) -> constraints.Constraint:
        """The supports of the columns, side by side."""
        # Not into mixtures: the limits of their components may differ.
        of_groups = [base_constraint(g.distribution.support, through=(constraints.independent,)) for g in self.groups]
        each = self._in_order([of for of, g in zip(of_groups, self.groups, strict=True) for _ in g.numbers])
        runs = [(of, len(list(same))) for of, same in itertools.groupby(each)]
        elements = constraints.cat([of for of, _ in runs], dim=-1, lengths=[length for _, length in runs])
        return constraints.independent(elements, 1)

    @property
    def mean(self) -> Tensor:
        """The means, ``(*batch_shape, columns)``."""
        return self._side_by_side([group.elements(group.distribution.mean) for group in self.groups])

    @property
    def variance(self) -> Tensor:
        """The variances, ``(*batch_shape, columns)``."""
        return self._side_by_side([group.elements(group.distribution.variance) for group in self.groups])

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density in nats, of shape ``(..., *batch_shape)``: the sum over columns."""
        if self._validate_args:
            self._validate_sample(value)
        return self._log_probs(value).sum(-1)

    def factor_log_probs(self, value: Tensor) -> dict[str, Tensor]:
        """Return the log-density of each column by name, in nats, each of shape ``(..., *batch_shape)``."""
        return dict(zip(self.names, self._in_order(list(self._log_probs(value).unbind(-1))), strict=True))

    def _log_probs(self, value: Tensor) -> Tensor:
        """Return the log-densities of the columns, ``(..., *batch_shape, columns)``, in the order of the groups."""
        found = [group.log_probs(value) for group in self.groups]
        shape = torch.broadcast_shapes(*(log_probs.shape[:-1] for log_probs in found))
        return torch.cat([log_probs.expand(*shape, -1) for log_probs in found], dim=-1)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape, columns)``, without gradient."""
        return self._side_by_side([g.elements(g.distribution.sample(torch.Size(sample_shape))) for g in self.groups])

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape, columns)``, with gradient."""
        if not self.has_rsample:
            raise NotImplementedError("a column has no rsample; use sample")
        return self._side_by_side([g.elements(g.distribution.rsample(torch.Size(sample_shape))) for g in self.groups])

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> Columns:
        """Return the same distribution with another batch shape."""
        return self._with([group.expand(torch.Size(batch_shape)) for group in self.groups])

    def observed(self, mask: Tensor) -> Columns:
        """Return the distribution whose log-density counts only columns where ``mask``, ``(..., columns)``, is True."""
        return self._with([group.observed(mask) for group in self.groups])

    def _with(self, distributions: list[TorchDistribution]) -> Columns:
        places = [group.place for group in self.groups]
        return Columns(distributions, self.names, validate_args=self._validate_args, places=places)

    def _in_order(self, of_columns: list[_T]) -> list[_T]:
        """Return what stands in the order of the groups in that of the columns."""
        numbers = [number for group in self.groups for number in group.numbers]
        return [one for _, one in sorted(zip(numbers, of_columns, strict=True), key=lambda pair: pair[0])]

    def _side_by_side(self, of_groups: list[Tensor]) -> Tensor:
        """Return one tensor ``(..., columns)`` from those of the groups, ``(..., k)``."""
        order = self._in_order(list(range(len(self.names))))
        together = torch.cat(of_groups, dim=-1)
        return together if order == sorted(order) else together[..., order]


def _words(names: list[str]) -> str:
    return f"column {names[0]!r}" if len(names) == 1 else f"columns {', '.join(map(repr, names))}"


def _batch_shape(group: Group) -> torch.Size:
    shape = group.distribution.batch_shape
    return shape[:-1] if isinstance(group.place, tuple) else shape


def _check_shapes(group: Group, what: str, batch_shape: torch.Size) -> None:
    """Raise a ValueError if a distribution has another event shape or batch shape."""
    k = (len(group.place),) if isinstance(group.place, tuple) else ()
    found = group.distribution.event_shape, group.distribution.batch_shape
    if found != ((1,), (*batch_shape, *k)):
        raise ValueError(
            f"{what} must have event shape (1,) and batch shape {(*batch_shape, *k)}; got {tuple(found[0])} and "
            f"{tuple(found[1])}. Declare the last dimension with .to_event(1)"
        )


def without_mask(distribution: TorchDistribution) -> TorchDistribution:
    """Return the distribution that :func:`mask_elements` was given, whose log-density counts all elements."""
    if isinstance(distribution, Columns):
        inner = [without_mask(group.distribution) for group in distribution.groups]
        places = [group.place for group in distribution.groups]
        return Columns(inner, distribution.names, places=places)
    if isinstance(distribution, Independent):
        return without_mask(distribution.base_dist).to_event(distribution.reinterpreted_batch_ndims)
    return without_mask(distribution.base_dist) if isinstance(distribution, dist.MaskedDistribution) else distribution


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
