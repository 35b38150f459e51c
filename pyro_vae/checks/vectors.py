"""Vectors of discrete elements: all of their values if these are few, else a density that is fitted to draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from pyro.distributions import DirichletMultinomial, NegativeBinomial, TorchDistribution
from torch import Tensor
from torch.distributions import Categorical, constraints

from pyro_vae.checks.operations import OperationCounter
from pyro_vae.distributions import base_constraint, support_of
from pyro_vae.distributions.grid import Grid
from pyro_vae.distributions.groups import GroupedSupport

__all__ = [
    "Parts",
    "Product",
    "ProductOfCounts",
    "ProductOfParts",
    "all_vectors",
    "fitted_product",
    "has_fixed_total",
    "neighbours",
    "parts_of",
    "too_slow",
]

_MOST = 100_000  # vectors in a sum
_MOST_NUMBERS = 5_000_000  # numbers in them
_MOST_LEVELS = 2_000  # of a part
_LONG, _OPERATIONS = 100, 1e10  # longer vectors are drawn only if this takes no more operations

_boolean, _interval, _one_hot, _multinomial, _at_least = (
    type(constraints.boolean),
    type(constraints.integer_interval(0, 1)),
    type(constraints.one_hot),
    type(constraints.multinomial(1)),
    type(constraints.nonnegative_integer),
)


@dataclass
class Parts:
    """Vectors of equal parts side by side, where each part takes one of a list of values.

    Args:
        values: of a part, ``(values, width)``: two for a bit, one per class for a one-hot vector.
        count: the number of parts.
    """

    values: Tensor
    count: int

    @property
    def size(self) -> int:
        """The number of vectors."""
        return len(self.values) ** self.count

    def at(self, index: Tensor) -> Tensor:
        """Return the vectors ``(..., count * width)`` whose parts have these indices, ``(..., count)``."""
        return self.values[index].flatten(-2)

    def index_of(self, vectors: Tensor) -> Tensor:
        """Return the indices of the parts of vectors, ``(..., count)``."""
        parts = vectors.unflatten(-1, (self.count, -1))
        if parts.shape[-1] > 1:
            return parts.argmax(-1)  # of one-hot vectors
        levels = self.values[:, 0]
        middles = (levels[1:] + levels[:-1]) / 2
        return torch.searchsorted(middles, parts[..., 0].contiguous())


def parts_of(d: TorchDistribution) -> Parts | None:
    """Return the parts of vectors; None if their values cannot be listed, as for counts without an upper bound.

    Elements with different bounds get the widest; their support then says which values exist.
    """
    base = base_constraint(support_of(d))
    numbers, like = math.prod(d.event_shape), d.sample()
    if isinstance(base, _boolean):
        return Parts(like.new_tensor([[0], [1]]), numbers)
    if isinstance(base, Grid) and base.levels <= _MOST_LEVELS:
        return Parts(base.from_index(torch.arange(base.levels).to(like)).unsqueeze(-1), numbers)
    if isinstance(base, _interval):
        low, high = (torch.as_tensor(bound).double() for bound in (base.lower_bound, base.upper_bound))
        levels = int((high.max() - low.min()).item()) + 1
        if levels > _MOST_LEVELS:
            return None
        return Parts((low.min() + torch.arange(levels)).to(like).unsqueeze(-1), numbers)
    if isinstance(base, GroupedSupport) and isinstance(base.base_constraint, _one_hot):
        return Parts(torch.eye(base.classes).to(like), base.groups)
    if isinstance(base, _one_hot) and d.event_shape[-1] <= _MOST_LEVELS:
        return Parts(torch.eye(d.event_shape[-1]).to(like), numbers // d.event_shape[-1])
    return None


def all_vectors(d: TorchDistribution) -> Tensor | None:
    """Return all vectors, ``(values, *ones, *event)``, with a one per batch dimension; None if they are too many."""
    drawn = d.sample((20,)).flatten(1 + len(d.batch_shape))
    if has_fixed_total(d, drawn):
        values = _compositions(drawn)
    else:
        parts = parts_of(d)
        if parts is None or parts.size > _MOST or parts.size * math.prod(d.event_shape) > _MOST_NUMBERS:
            return None
        digits = len(parts.values) ** torch.arange(parts.count - 1, -1, -1)
        values = parts.at(torch.arange(parts.size).unsqueeze(-1) // digits % len(parts.values))
    return None if values is None else values.view(-1, *(1 for _ in d.batch_shape), *d.event_shape)


def has_fixed_total(d: TorchDistribution, drawn: Tensor) -> bool:
    """True for vectors of counts whose draws ``(draws, *batch, numbers)`` have the same total for each example."""
    if isinstance(base_constraint(support_of(d)), _multinomial):
        return True
    totals = drawn.sum(-1)
    return (
        _counts_up(d)
        and len(d.event_shape) == 1 < drawn.shape[-1]
        and bool((totals == totals[0]).all() and (totals > 0).all())
    )


def _compositions(drawn: Tensor) -> Tensor | None:
    """Return all vectors of counts with the total of the draws; None if the totals differ."""
    totals = drawn.sum(-1)
    total, classes = int(totals.max().item()), drawn.shape[-1]
    if totals.min() != totals.max():
        return None
    count = math.comb(total + classes - 1, classes - 1)
    if count > _MOST or count * classes > _MOST_NUMBERS:
        return None
    # One class after the other: each leaves the rest of the total to later ones.
    left, chosen = torch.tensor([total]), torch.zeros(1, 0, dtype=torch.long)
    for _ in range(classes - 1):
        times = left + 1
        start = (times.cumsum(0) - times).repeat_interleave(times)
        taken = torch.arange(int(times.sum())) - start
        chosen = torch.cat([chosen.repeat_interleave(times, 0), taken.unsqueeze(-1)], dim=-1)
        left = left.repeat_interleave(times) - taken
    return torch.cat([chosen, left.unsqueeze(-1)], dim=-1).to(drawn)


# A product over the parts of vectors, fitted to draws.


class ProductOfParts:
    """Independent parts, with the frequencies of draws ``(draws, *batch, numbers)`` plus one half of a draw."""

    def __init__(self, parts: Parts, drawn: Tensor) -> None:
        self.parts = parts
        index = parts.index_of(drawn)
        seen = torch.stack([(index == k).sum(0) for k in range(len(parts.values))], dim=-1)
        self.of_part = Categorical(probs=seen.double() + 0.5)

    def sample(self, shape: Sequence[int]) -> Tensor:
        """Return draws ``(*shape, *batch, numbers)``."""
        return self.parts.at(self.of_part.sample(torch.Size(shape)))

    def log_prob(self, vectors: Tensor) -> Tensor:
        """Return the log-probabilities of vectors, ``(..., *batch)``."""
        return self.of_part.log_prob(self.parts.index_of(vectors)).sum(-1)


class ProductOfCounts:
    """Independent negative binomials, with the means and variances of draws ``(draws, *batch, numbers)``."""

    def __init__(self, drawn: Tensor) -> None:
        mean = drawn.double().mean(0) + 0.01
        variance = torch.maximum(drawn.double().var(0), 1.02 * mean)
        total = mean**2 / (variance - mean)
        self.of_part = NegativeBinomial(total, logits=torch.log(mean / total), validate_args=False)
        self.like = drawn

    def sample(self, shape: Sequence[int]) -> Tensor:
        """Return draws ``(*shape, *batch, numbers)``."""
        return self.of_part.sample(torch.Size(shape)).to(self.like)

    def log_prob(self, vectors: Tensor) -> Tensor:
        """Return the log-probabilities of vectors, ``(..., *batch)``."""
        return self.of_part.log_prob(vectors.double()).sum(-1)


Product: TypeAlias = ProductOfParts | ProductOfCounts | DirichletMultinomial


def _product_of_total(drawn: Tensor) -> DirichletMultinomial:
    """Return a density of counts with a fixed total, with about the moments of draws ``(draws, *batch, numbers)``."""
    x = drawn.double()
    total, share = x[0].sum(-1), (x.mean(0) + 0.01) / (x.mean(0) + 0.01).sum(-1, keepdim=True)
    spread = x.var(0).sum(-1) / (total * (share * (1 - share)).sum(-1))
    spread = torch.minimum(spread, 0.9 * total).clamp_min(1.001)
    strength = ((total - spread) / (spread - 1)).clamp_min(0.01)
    return DirichletMultinomial(share * strength.unsqueeze(-1), total, validate_args=False)


def fitted_product(d: TorchDistribution, drawn: Tensor) -> Product | None:
    """Return a density of mass 1, a product over parts, fitted to draws ``(draws, *batch, numbers)`` of d."""
    if has_fixed_total(d, drawn):
        return _product_of_total(drawn) if (drawn.sum(-1) == drawn[0].sum(-1)).all() else None
    parts = parts_of(d)
    if parts is not None:
        return ProductOfParts(parts, drawn)
    return ProductOfCounts(drawn) if _counts_up(d) else None


def _counts_up(d: TorchDistribution) -> bool:
    """True for counts from zero without an upper bound."""
    base = base_constraint(support_of(d))
    return isinstance(base, _at_least) and base.lower_bound == 0


def too_slow(d: TorchDistribution, draw: Callable[[tuple[int, ...]], Tensor], count: int) -> str:
    """Say why drawing long vectors takes too long, as from an autoregressive network; empty if it does not.

    Args:
        d: a distribution over vectors.
        draw: its ``sample`` or ``rsample``.
        count: the number of draws.
    """
    if math.prod(d.event_shape) <= _LONG:
        return ""
    work = []
    for few in (2, 22):
        with OperationCounter() as counted:
            draw((few,))
        work.append(counted.total)
    operations = work[1] + (work[1] - work[0]) / 20 * (count - 22)
    return f"{count} draws take {operations:.1g} operations" if operations > _OPERATIONS else ""


# Steps in one part.


def neighbours(d: TorchDistribution, drawn: Tensor, at: int, before: Tensor) -> Tensor | None:
    """Return vectors one random step in one part away from the drawn ones; the step back is equally likely.

    Args:
        d: a distribution over vectors.
        drawn: draws ``(draws, *batch, numbers)``.
        at: the index of a number; the part that contains it is changed.
        before: other draws, whose spread sets the size of the steps.

    Returns:
        Vectors of the shape of ``drawn``, possibly outside the support; None if no such step is known.
    """
    moved = drawn.clone()
    if has_fixed_total(d, before):
        other = (at + 1) % drawn.shape[-1]
        step = torch.where(torch.rand_like(drawn[..., 0].double()) < 0.5, -1, 1).to(drawn)
        moved[..., at] += step
        moved[..., other] -= step
        return moved
    parts = parts_of(d)
    if parts is not None and (parts.values.shape[-1] > 1 or len(parts.values) <= 10):
        return _to_another(parts, drawn, at, before)
    if parts is None and not _counts_up(d):
        return None
    return _up_or_down(parts, drawn, at, before)


def _to_another(parts: Parts, drawn: Tensor, at: int, before: Tensor) -> Tensor:
    """Replace one part by another of its ten likeliest values; from other values there is no step."""
    width, values = parts.values.shape[-1], len(parts.values)
    part = at // width
    seen = torch.bincount(parts.index_of(before)[..., part].flatten(), minlength=values)
    likely = seen.argsort(descending=True)[:10]
    place = torch.full_like(seen, -1)
    place[likely] = torch.arange(len(likely), device=likely.device)
    index = parts.index_of(drawn)[..., part]
    other = (place[index] + torch.randint(1, max(len(likely), 2), index.shape, device=index.device)) % len(likely)
    index = torch.where(place[index] < 0, index, likely[other])
    moved = drawn.clone()
    moved[..., part * width : (part + 1) * width] = parts.values[index]
    return moved


def _up_or_down(parts: Parts | None, drawn: Tensor, at: int, before: Tensor) -> Tensor:
    """Change one number by about as much as draws differ; leave it unchanged if it would end outside."""
    unit = 1.0 if parts is None else float(parts.values[1, 0] - parts.values[0, 0])
    spread = before[..., at].double().std() / unit
    far = 1 + (torch.randn_like(drawn[..., 0]).abs() * spread).floor()
    step = torch.where(torch.rand_like(far) < 0.5, -far, far)
    moved = drawn.clone()
    if parts is None:
        moved[..., at] += step.to(drawn)
        return moved
    index = parts.index_of(drawn)[..., at]
    to = index + step.long()
    inside = (to >= 0) & (to < len(parts.values))
    moved[..., at] = parts.values[:, 0][torch.where(inside, to, index)]
    return moved
