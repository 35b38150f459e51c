"""Vectors of what can be counted: all of their values where these are few, a density beside them where not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions import DirichletMultinomial, NegativeBinomial
from torch import Tensor
from torch.distributions import Categorical, constraints

from pyro_vae.checks.operations import OperationCounter
from pyro_vae.distributions import base_constraint, support_of
from pyro_vae.distributions.grid import Grid
from pyro_vae.distributions.groups import GroupedSupport

__all__ = [
    "Parts",
    "ProductOfCounts",
    "ProductOfParts",
    "all_vectors",
    "fitted_product",
    "has_fixed_total",
    "neighbours",
    "parts_of",
    "too_slow",
]

_MOST = 100_000  # vectors that are summed over
_MOST_NUMBERS = 5_000_000  # in them
_MOST_LEVELS = 2_000  # of a part
_LONG, _OPERATIONS = 100, 1e10  # vectors from this length are drawn only where that takes no more

_boolean, _interval, _one_hot, _multinomial, _at_least = (
    type(constraints.boolean),
    type(constraints.integer_interval(0, 1)),
    type(constraints.one_hot),
    type(constraints.multinomial(1)),
    type(constraints.nonnegative_integer),
)


@dataclass
class Parts:
    """Vectors made of equal parts side by side, each one of a list of values.

    Args:
        values: of a part, ``(values, width)``: two for a bit, as many as there are classes for a one-hot vector.
        count: how many parts.
    """

    values: Tensor
    count: int

    @property
    def size(self) -> int:
        """How many vectors there are."""
        return len(self.values) ** self.count

    def at(self, index: Tensor) -> Tensor:
        """The vectors ``(..., count * width)`` of which the parts have these numbers, ``(..., count)``."""
        return self.values[index].flatten(-2)

    def index_of(self, vectors: Tensor) -> Tensor:
        """The numbers of their parts."""
        parts = vectors.unflatten(-1, (self.count, -1))
        if parts.shape[-1] > 1:
            return parts.argmax(-1)  # of one-hot vectors
        levels = self.values[:, 0]
        middles = (levels[1:] + levels[:-1]) / 2
        return torch.searchsorted(middles, parts[..., 0].contiguous())


def parts_of(d: Any) -> Parts | None:
    """What vectors are made of, or None where that is no list: counts without an upper limit, and sums that are fixed.

    Elements of different limits count as of the widest; their support says which values there are.
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


def all_vectors(d: Any) -> Tensor | None:
    """All vectors, ``(values, *ones, *event)``, a one for each dimension of the batch; None where they are too many."""
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


def has_fixed_total(d: Any, drawn: Tensor) -> bool:
    """Whether it is over vectors of counts of which all draws ``(draws, *batch, numbers)`` of one have one total."""
    if isinstance(base_constraint(support_of(d)), _multinomial):
        return True
    totals = drawn.sum(-1)
    return (
        _counts_up(d)
        and len(d.event_shape) == 1 < drawn.shape[-1]
        and bool((totals == totals[0]).all() and (totals > 0).all())
    )


def _compositions(drawn: Tensor) -> Tensor | None:
    """All vectors of counts with the total that every draw has, where it is one."""
    totals = drawn.sum(-1)
    total, classes = int(totals.max().item()), drawn.shape[-1]
    if totals.min() != totals.max():
        return None
    count = math.comb(total + classes - 1, classes - 1)
    if count > _MOST or count * classes > _MOST_NUMBERS:
        return None
    # One class after the other: each leaves what the ones after it share.
    left, chosen = torch.tensor([total]), torch.zeros(1, 0, dtype=torch.long)
    for _ in range(classes - 1):
        times = left + 1
        start = (times.cumsum(0) - times).repeat_interleave(times)
        taken = torch.arange(int(times.sum())) - start
        chosen = torch.cat([chosen.repeat_interleave(times, 0), taken.unsqueeze(-1)], dim=-1)
        left = left.repeat_interleave(times) - taken
    return torch.cat([chosen, left.unsqueeze(-1)], dim=-1).to(drawn)


# A density beside one over vectors, a product over their parts, fitted to draws.


class ProductOfParts:
    """Each part by itself, as often each of its values as in the draws ``(draws, *batch, numbers)``, and a bit more."""

    def __init__(self, parts: Parts, drawn: Tensor) -> None:
        self.parts = parts
        index = parts.index_of(drawn)
        seen = torch.stack([(index == k).sum(0) for k in range(len(parts.values))], dim=-1)
        self.of_part = Categorical(probs=seen.double() + 0.5)

    def sample(self, shape: Any) -> Tensor:
        """Draws ``(*shape, *batch, numbers)``."""
        return self.parts.at(self.of_part.sample(torch.Size(shape)))

    def log_prob(self, vectors: Tensor) -> Tensor:
        """Their log-probabilities, ``(..., *batch)``."""
        return self.of_part.log_prob(self.parts.index_of(vectors)).sum(-1)


class ProductOfCounts:
    """Each count by itself, a negative binomial of the mean and variance of the draws ``(draws, *batch, numbers)``."""

    def __init__(self, drawn: Tensor) -> None:
        mean = drawn.double().mean(0) + 0.01
        variance = torch.maximum(drawn.double().var(0), 1.02 * mean)
        total = mean**2 / (variance - mean)
        self.of_part = NegativeBinomial(total, logits=torch.log(mean / total), validate_args=False)
        self.like = drawn

    def sample(self, shape: Any) -> Tensor:
        """Draws ``(*shape, *batch, numbers)``."""
        return self.of_part.sample(torch.Size(shape)).to(self.like)

    def log_prob(self, vectors: Tensor) -> Tensor:
        """Their log-probabilities, ``(..., *batch)``."""
        return self.of_part.log_prob(vectors.double()).sum(-1)


def _beside_total(drawn: Tensor) -> DirichletMultinomial:
    """Counts of a total, with the mean and about the variance of the draws ``(draws, *batch, numbers)``."""
    x = drawn.double()
    total, share = x[0].sum(-1), (x.mean(0) + 0.01) / (x.mean(0) + 0.01).sum(-1, keepdim=True)
    spread = x.var(0).sum(-1) / (total * (share * (1 - share)).sum(-1))
    spread = torch.minimum(spread, 0.9 * total).clamp_min(1.001)
    strength = ((total - spread) / (spread - 1)).clamp_min(0.01)
    return DirichletMultinomial(share * strength.unsqueeze(-1), total, validate_args=False)


def fitted_product(d: Any, drawn: Tensor) -> Any:
    """A density of mass one that draws ``(draws, *batch, numbers)`` of another follow as far as a product can."""
    if has_fixed_total(d, drawn):
        return _beside_total(drawn) if (drawn.sum(-1) == drawn[0].sum(-1)).all() else None
    parts = parts_of(d)
    if parts is not None:
        return ProductOfParts(parts, drawn)
    return ProductOfCounts(drawn) if _counts_up(d) else None


def _counts_up(d: Any) -> bool:
    base = base_constraint(support_of(d))
    return isinstance(base, _at_least) and base.lower_bound == 0


def too_slow(d: Any, draw: Callable[[tuple[int, ...]], Tensor], count: int) -> str:
    """Words where so many draws of long vectors take long, as those that a network gives element by element; else none.

    Args:
        d: a distribution over vectors.
        draw: its ``sample`` or ``rsample``.
        count: how many draws.
    """
    if math.prod(d.event_shape) <= _LONG:
        return ""
    work = []
    for few in (2, 22):
        with OperationCounter() as counted:
            draw((few,))
        work.append(counted.total)
    operations = work[1] + (work[1] - work[0]) / 20 * (count - 22)
    return f"{count} draws of them take {operations:.1g} operations" if operations > _OPERATIONS else ""


# Where a step in one part leads.


def neighbours(d: Any, drawn: Tensor, at: int, before: Tensor) -> Tensor | None:
    """Vectors beside the drawn ones, a random step in one part away; the step back is as likely.

    Args:
        d: a distribution over vectors.
        drawn: draws ``(draws, *batch, numbers)``.
        at: a number of the vector; the part that has it is changed.
        before: other draws, of which the spread says how far steps go.

    Returns:
        Vectors of the shape of ``drawn``, maybe outside of the support; None where no such step is known.
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
    """With another value in one part, of the ten that are likeliest there; from the rest there is no step."""
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
    """With one number more or less, by about as much as draws differ; where it would end outside, as it is."""
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
