"""Vectors made of independent groups."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, kl_divergence, register_kl

from pyro_vae.distributions.adapter import TorchToPyro

__all__ = ["Grouped", "GroupedSupport"]

_MOST_VALUES = 4096  # the decoder gets this many values of z for each example


class GroupedSupport(constraints.Constraint):
    """Vectors of groups side by side, each of which satisfies a constraint.

    Two are equal if groups, classes and the constraint on a group agree.

    Args:
        base_constraint: the constraint on each group, which is a vector.
        groups: the number of groups.
        classes: the length of a group.

    Example:
        >>> import torch
        >>> one_hot = GroupedSupport(torch.distributions.constraints.one_hot, groups=2, classes=3)
        >>> one_hot.check(torch.tensor([[0.0, 1.0, 0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0, 1.0]]))
        tensor([ True, False])
    """

    event_dim = 1

    def __init__(self, base_constraint: constraints.Constraint, groups: int, classes: int) -> None:
        self.base_constraint = base_constraint
        self.groups = groups
        self.classes = classes
        super().__init__()

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        """True if the values of a group can be counted."""
        return self.base_constraint.is_discrete

    def check(self, value: Tensor) -> Tensor:
        """Return True for each vector ``(..., groups * classes)`` in the support, ``(...)``."""
        if value.shape[-1] != self.groups * self.classes:
            return torch.zeros(value.shape[:-1], dtype=torch.bool, device=value.device)
        return self.base_constraint.check(value.unflatten(-1, (self.groups, self.classes))).all(-1)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, GroupedSupport)
            and (self.groups, self.classes) == (other.groups, other.classes)
            and _same(self.base_constraint, other.base_constraint)
        )

    def __hash__(self) -> int:
        return hash((self.groups, self.classes))

    def __repr__(self) -> str:
        return f"GroupedSupport({self.base_constraint}, groups={self.groups}, classes={self.classes})"


def _same(a: constraints.Constraint, b: constraints.Constraint) -> bool:
    """Return True if two constraints agree; torch makes ``independent`` anew each time and compares by identity."""
    if isinstance(a, constraints.independent) and isinstance(b, constraints.independent):
        return a.reinterpreted_batch_ndims == b.reinterpreted_batch_ndims and _same(
            a.base_constraint, b.base_constraint
        )
    return a == b


class Grouped(dist.TorchDistribution):
    """Independent groups side by side in one vector.

    They make one latent vector of several one-hot variables (Jang, Gu and Poole 2016, arXiv 1611.01144), or of relaxed
    ones (Maddison, Mnih and Teh 2016, arXiv 1611.00712).

    Args:
        base: a distribution over one group, with batch shape ``(*batch, groups)`` and event shape ``(classes,)``.

    Attributes:
        groups: the number of groups.
        classes: the length of a group.

    Raises:
        ValueError: if ``base`` has no batch dimension for the groups, or is not over vectors.

    Example:
        >>> import torch
        >>> import pyro.distributions as dist
        >>> q = Grouped(dist.OneHotCategorical(logits=torch.zeros(16, 3, 4)))
        >>> q.batch_shape, q.event_shape, q.enumerate_support(expand=False).shape
        (torch.Size([16]), torch.Size([12]), torch.Size([64, 1, 12]))
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  # the base checks its own arguments

    def __init__(self, base: dist.TorchDistribution) -> None:
        if len(base.batch_shape) < 1 or len(base.event_shape) != 1:
            raise ValueError(
                "base must have batch shape (*batch, groups) and event shape (classes,); got batch shape "
                f"{tuple(base.batch_shape)} and event shape {tuple(base.event_shape)}. Give, for example, "
                "OneHotCategorical(logits) with logits of shape (*batch, groups, classes)"
            )
        self.base = base
        self.has_rsample, self.has_enumerate_support = base.has_rsample, base.has_enumerate_support
        self.groups: int = base.batch_shape[-1]
        self.classes: int = base.event_shape[0]
        super().__init__(base.batch_shape[:-1], torch.Size((self.groups * self.classes,)), validate_args=False)

    @property
    def support(self) -> GroupedSupport:
        """Vectors with each group in the support of the base."""
        return GroupedSupport(self.base.support, self.groups, self.classes)

    @property
    def mean(self) -> Tensor:
        """The mean, if the base has one."""
        return self.base.mean.flatten(-2)

    @property
    def mode(self) -> Tensor:
        """The likeliest value, if the base has one."""
        return self.base.mode.flatten(-2)

    @property
    def variance(self) -> Tensor:
        """The variance of each dimension, if the base has one."""
        return self.base.variance.flatten(-2)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape, groups * classes)``, without gradient."""
        return self.base.sample(torch.Size(sample_shape)).flatten(-2)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape, groups * classes)``, with gradient."""
        return self.base.rsample(torch.Size(sample_shape)).flatten(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density or log-probability in nats: the sum over the groups, ``(..., *batch_shape)``."""
        if value.shape[-1:] != self.event_shape:
            raise ValueError(
                f"value must be (..., {self.event_shape[0]}), {self.groups} groups of {self.classes}; "
                f"got shape {tuple(value.shape)}"
            )
        return self.base.log_prob(value.unflatten(-1, (self.groups, self.classes))).sum(-1)

    def entropy(self) -> Tensor:
        """Return the entropy in nats, if the base has it in closed form: the sum over the groups."""
        return self.base.entropy().sum(-1)

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> Grouped:
        """Return the same distribution with another batch shape."""
        return Grouped(self.base.expand(torch.Size((*batch_shape, self.groups))))

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Return every value: all combinations of the values of a group.

        Args:
            expand: True to repeat them along the batch, ``(values ** groups, *batch_shape, groups * classes)``; False
                to keep the dimensions of the batch at 1.

        Raises:
            NotImplementedError: if the base cannot list its values.
            ValueError: if there are more than 4096.
        """
        if not self.has_enumerate_support:
            raise NotImplementedError(f"the values of {type(self.base).__name__} cannot be enumerated")
        of_a_group = self.base.enumerate_support(expand=False).reshape(-1, self.classes)
        count = len(of_a_group)
        if count**self.groups > _MOST_VALUES:
            raise ValueError(
                f"{self.groups} groups of {count} values have {count}**{self.groups} = {count**self.groups} "
                f"combinations, more than the {_MOST_VALUES} that are enumerated. Use fewer groups or classes, or a "
                "RelaxedCategorical posterior"
            )
        index = torch.cartesian_prod(*(torch.arange(count, device=of_a_group.device) for _ in range(self.groups)))
        values = of_a_group[index.reshape(-1, self.groups)].flatten(1)
        values = values.reshape(-1, *(1 for _ in self.batch_shape), self.event_shape[0])
        return values.expand(-1, *self.batch_shape, -1) if expand else values


@register_kl(Grouped, Grouped)
def _kl_between_groups(p: Grouped, q: Grouped) -> Tensor:
    if (p.groups, p.classes) != (q.groups, q.classes):
        raise ValueError(
            f"KL needs the same groups on both sides; got {p.groups} groups of {p.classes} and {q.groups} of "
            f"{q.classes}. Give posterior and prior the same numbers"
        )
    return kl_divergence(p.base, q.base).sum(-1)


@register_kl(Grouped, Distribution)
def _kl_by_summing(p: Grouped, q: Distribution) -> Tensor:
    """Return the KL from codes that can be counted to any other distribution over them: the sum over all values."""
    if not (p.has_enumerate_support and getattr(q.support, "is_discrete", False)):
        raise NotImplementedError
    try:
        values = p.enumerate_support(expand=False)
    except ValueError as error:
        raise NotImplementedError(f"no closed form of the KL but a sum over all values: {error}") from error
    # In front of all batch dimensions of p and q.
    dims = max(len(p.batch_shape), len(q.batch_shape))
    values = values.reshape(-1, *(1 for _ in range(dims)), p.event_shape[0])
    log_p = p.log_prob(values)
    return (log_p.exp() * torch.where(log_p > -torch.inf, log_p - q.log_prob(values), 0)).sum(0)


@register_kl(Grouped, TorchToPyro)
def _kl_to_adapter(p: Grouped, q: TorchToPyro) -> Tensor:
    # Without this, torch finds two functions that fit, the sum above and the adapter's, and warns.
    return kl_divergence(p, q.base)
