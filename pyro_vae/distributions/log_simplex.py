"""Logs of points of a simplex: their support, and the maps from real vectors and from points.

Near a corner of the simplex, elements of a point round to 0 in floating point and the density is lost: at a temperature
of 0.05, most draws of a relaxed categorical have an element below 1e-38. The logs of the elements are ordinary numbers.
So codes on a simplex are logs z = log y, from the posterior to the prior and in every estimate, and the decoder takes
y = exp(z). Densities are with respect to the log ratios z_i − z_K, in which all classes play the same role; the density
of z is that of y times Π_k y_k.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import biject_to, constraints, kl_divergence, register_kl, transform_to
from torch.distributions.transforms import ComposeTransform, ReshapeTransform, Transform

from pyro_vae.distributions.groups import Grouped, GroupedSupport
from pyro_vae.distributions.supports import base_constraint, stated_support

__all__ = ["AdditiveLogRatio", "AsLogs", "as_logs", "is_over_logs", "log_simplex"]


class _LogSimplex(constraints.Constraint):
    """Vectors whose exponentials sum to 1, within 1e-4."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        """Return True for each vector ``(..., K)`` that is the log of a point of the simplex, ``(...)``."""
        return (value.exp().sum(-1) - 1).abs() < 1e-4


log_simplex = _LogSimplex()


class AdditiveLogRatio(Transform):
    """Maps R^(K−1) to the logs of the open simplex in R^K: z = log_softmax([x, 0]), with x_i = z_i − z_K.

    This is the log of the additive logistic transformation of Aitchison and Shen (1980, Biometrika 67). Densities over
    logs are with respect to these log ratios, so log |det J| is 0.

    Example:
        >>> AdditiveLogRatio()(torch.zeros(2)).exp()
        tensor([0.3333, 0.3333, 0.3333])
    """

    domain = constraints.real_vector
    codomain = log_simplex
    bijective = True

    def __eq__(self, other: object) -> bool:
        # It has no state; torch compares transforms before it computes a KL between transformed distributions.
        return isinstance(other, AdditiveLogRatio)

    def __hash__(self) -> int:
        return hash(type(self))

    def _call(self, x: Tensor) -> Tensor:
        return torch.nn.functional.pad(x, (0, 1)).log_softmax(-1)

    def _inverse(self, z: Tensor) -> Tensor:
        return z[..., :-1] - z[..., -1:]

    def log_abs_det_jacobian(self, x: Tensor, z: Tensor) -> Tensor:
        """Return 0 for x of shape ``(..., K − 1)``: ``(...)``."""
        return x.new_zeros(x.shape[:-1])

    def forward_shape(self, shape: torch.Size) -> torch.Size:
        """Return the shape of z for x of ``shape``."""
        return torch.Size((*shape[:-1], shape[-1] + 1))

    def inverse_shape(self, shape: torch.Size) -> torch.Size:
        """Return the shape of x for z of ``shape``."""
        return torch.Size((*shape[:-1], shape[-1] - 1))


@biject_to.register(_LogSimplex)
@transform_to.register(_LogSimplex)
def _to_log_simplex(constraint: constraints.Constraint) -> Transform:
    return AdditiveLogRatio()


@biject_to.register(GroupedSupport)
@transform_to.register(GroupedSupport)
def _to_groups(constraint: GroupedSupport) -> Transform:
    if constraint.base_constraint is not log_simplex:
        raise NotImplementedError(f"no map from real vectors to {constraint} is known")
    groups, classes = constraint.groups, constraint.classes
    apart = ReshapeTransform(Size([groups * (classes - 1)]), Size([groups, classes - 1]))
    together = ReshapeTransform(Size([groups, classes]), Size([groups * classes]))
    return ComposeTransform([apart, AdditiveLogRatio(), together])


class AsLogs(dist.TorchDistribution):
    """A distribution over the logs of points of a simplex, from one over the points.

    If an element of a point underflows to 0 in the base, its log is −∞.

    Args:
        base: a distribution over the simplex, with event shape ``(K,)``.

    Example:
        >>> import pyro.distributions as dist
        >>> d = AsLogs(dist.Dirichlet(torch.ones(3)))
        >>> d.log_prob(torch.full((3,), 1 / 3).log()).exp()  # Γ(3) Π y_k
        tensor(0.0741)
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  # the base checks its own arguments
    support = log_simplex

    def __init__(self, base: TorchDistribution) -> None:
        self.base = base
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def has_rsample(self) -> bool:
        """True if gradients flow through samples."""
        return self.base.has_rsample

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape, K)``, without gradient."""
        return self.base.sample(torch.Size(sample_shape)).log()

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape, K)``, with gradient."""
        return self.base.rsample(torch.Size(sample_shape)).log()

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density in nats, of shape ``(..., *batch_shape)``."""
        return self.base.log_prob(value.softmax(-1)) + value.sum(-1)

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> AsLogs:
        """Return the same distribution with another batch shape."""
        return AsLogs(self.base.expand(torch.Size(batch_shape)))


@register_kl(AsLogs, AsLogs)
def _kl_of_the_points(p: AsLogs, q: AsLogs) -> Tensor:
    return kl_divergence(p.base, q.base)


def as_logs(distribution: TorchDistribution) -> TorchDistribution | None:
    """Return the distribution over logs of points of a simplex: itself, or transformed; None if it is over neither.

    Args:
        distribution: one over vectors. If it states no support, it counts as one over logs.
    """
    support = stated_support(distribution)
    if support is None or _of_logs(support):
        return distribution
    if isinstance(distribution, Grouped) and distribution.support.base_constraint is constraints.simplex:
        return Grouped(AsLogs(distribution.base))
    return AsLogs(distribution) if base_constraint(support) is constraints.simplex else None


def is_over_logs(distribution: TorchDistribution) -> bool:
    """Return True if the support of a distribution is logs of points of a simplex, or groups of them."""
    support = stated_support(distribution)
    return support is not None and _of_logs(support)


def _of_logs(support: constraints.Constraint) -> bool:
    base = base_constraint(support)
    return (base.base_constraint if isinstance(base, GroupedSupport) else base) is log_simplex
