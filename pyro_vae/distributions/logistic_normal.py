"""Normal distributions carried onto the simplex."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.transforms import Transform

from pyro_vae.distributions.parameters import more_digits

__all__ = ["AdditiveLogRatio", "LogisticNormal"]


class AdditiveLogRatio(Transform):
    """From R^(K−1) to the open simplex in R^K: y = softmax([x, 0]), with x_i = log y_i − log y_K.

    The additive logistic transformation of Aitchison and Shen (1980, Biometrika 67); log |det J| = Σ_k log y_k.
    Values are clamped to the smallest normal number of their dtype, so their logs are finite.

    Example:
        >>> import torch
        >>> AdditiveLogRatio()(torch.zeros(2))
        tensor([0.3333, 0.3333, 0.3333])
    """

    domain = constraints.real_vector
    codomain = constraints.simplex
    bijective = True

    def __eq__(self, other: object) -> bool:
        # It has no state; torch compares transforms before it gives a KL between transformed distributions.
        return isinstance(other, AdditiveLogRatio)

    def __hash__(self) -> int:
        return hash(type(self))

    def _call(self, x: Tensor) -> Tensor:
        return _with_zero(x).softmax(-1).clamp_min(torch.finfo(x.dtype).tiny)

    def _inverse(self, y: Tensor) -> Tensor:
        logs = y.clamp_min(torch.finfo(y.dtype).tiny).log()
        return logs[..., :-1] - logs[..., -1:]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Σ_k log y_k in nats, for x of shape ``(..., K − 1)``: ``(...)``."""
        return _with_zero(x).log_softmax(-1).sum(-1)

    def forward_shape(self, shape: torch.Size) -> torch.Size:
        """The shape of y for x of ``shape``."""
        return torch.Size((*shape[:-1], shape[-1] + 1))

    def inverse_shape(self, shape: torch.Size) -> torch.Size:
        """The shape of x for y of ``shape``."""
        return torch.Size((*shape[:-1], shape[-1] - 1))


def _with_zero(x: Tensor) -> Tensor:
    return torch.nn.functional.pad(x, (0, 1))


# torch's LogisticNormal breaks a stick, y_k = v_k Π_{i<k} (1 − v_i), and inverts it through 1 − Σ_{i≤k} y_i, a sum that
# in float32 has lost the elements below 1e-7. Error of log_prob at its own float32 draws against float64, in nats, for
# 50 classes, scale 1 and locations of standard deviation 1: 5e-3 root mean square, 0.2 at most (here 1e-5 and 5e-5);
# of standard deviation 3: 1e4 in the median (here 2e-5).
class LogisticNormal(dist.TransformedDistribution):
    """A normal distribution with diagonal covariance, carried onto the simplex by :class:`AdditiveLogRatio`.

    Log ratios log(y_i / y_K) are normal (Aitchison and Shen 1980, Biometrika 67); a prior of topic proportions that,
    unlike the Dirichlet, is reparametrised (Srivastava and Sutton 2017, arXiv 1703.01488). KL to another one is in
    closed form, that of the normals. There is no mean in closed form.

    Args:
        loc: means of the log ratios, ``(*batch, K − 1)``.
        scale: their standard deviations, of a shape that broadcasts with ``loc``.

    Raises:
        ValueError: where ``loc`` and ``scale`` have no dimension, or torch's validation finds a bad value.

    Example:
        >>> import torch
        >>> q = LogisticNormal(torch.zeros(16, 9), torch.ones(9))
        >>> q.batch_shape, q.event_shape, bool(torch.allclose(q.rsample().sum(-1), torch.ones(16)))
        (torch.Size([16]), torch.Size([10]), True)
    """

    def __init__(self, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        if loc.dim() < 1 and scale.dim() < 1:
            raise ValueError("loc must be (*batch, K - 1), one log ratio a class but the last; got a single number")
        base = dist.Normal(loc, scale, validate_args=validate_args).to_event(1)
        super().__init__(base, [AdditiveLogRatio()], validate_args=validate_args)

    @property
    def loc(self) -> Tensor:
        """Means of the log ratios, ``(*batch, K − 1)``."""
        return self.base_dist.base_dist.loc

    @property
    def scale(self) -> Tensor:
        """Standard deviations of the log ratios, ``(*batch, K − 1)``."""
        return self.base_dist.base_dist.scale

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, of shape ``(..., *batch)``; in float64, for log ratios of 80 and scales of 1e-6."""
        if self._validate_args:
            self._validate_sample(value)
        loc, scale, y = more_digits(self.loc, self.scale, value)
        to_simplex = AdditiveLogRatio()
        ratios = to_simplex.inv(y)
        normal = dist.Normal(loc, scale, validate_args=False).log_prob(ratios).sum(-1)
        return (normal - to_simplex.log_abs_det_jacobian(ratios, y)).to(self.loc.dtype)

    def expand(self, batch_shape: Any, _instance: Any = None) -> LogisticNormal:
        """The same distribution with another batch shape."""
        new = self._get_checked_instance(LogisticNormal, _instance)
        return super().expand(torch.Size(batch_shape), _instance=new)
