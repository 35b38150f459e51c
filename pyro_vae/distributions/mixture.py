"""Mixtures of many normal distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from pyro_vae.distributions.parameters import more_digits
from pyro_vae.distributions.stirling import HALF_LOG_TWO_PI

__all__ = ["NormalMixture"]


_FEW = 32  # up to this many components, differences from each mean are as fast as products


class NormalMixture(dist.TorchDistribution):
    """A mixture of normal distributions with diagonal covariances, for mixtures of many components.

    It has the density of torch's ``MixtureSameFamily`` without a tensor of shape ``(batch, k, d)``: with the squares
    multiplied out, log N(z; μ, s²) = −½ [Σ z²/s² − 2 Σ z μ/s² + Σ μ²/s²] + const is two matrix products. Priors with
    hundreds of components need this, such as VampPrior (Tomczak and Welling 2017, arXiv 1705.07120).

    Multiplied out, a small distance is a difference of large squares. So z and the means are first shifted by the mean
    of the means, and the products are computed in float64: they lose 1e-16 × Σ (μ − centre)²/s² nats; float32 would
    lose 1e-7 × that. Mixed precision is off in here. Up to 32 components are evaluated by differences, which lose
    nothing.

    Args:
        logits: unnormalised log weights, ``(*batch, k)``.
        loc: means, ``(*batch, k, d)``.
        scale: standard deviations, ``(*batch, k, d)``. Cheaper are ``(*batch, k, 1)`` for spherical components, and
            ``(*batch, 1, d)`` or ``(*batch, 1, 1)`` for one scale for all.

    Raises:
        ValueError: if the shapes do not fit, or torch's validation finds a value outside its range.

    Example:
        >>> import torch
        >>> p = NormalMixture(torch.zeros(500), torch.randn(500, 20), torch.ones(500, 20))
        >>> p.sample((3,)).shape, p.log_prob(torch.zeros(16, 128, 20)).shape
        (torch.Size([3, 20]), torch.Size([16, 128]))
    """

    arg_constraints = {  # noqa: RUF012  # as in torch
        "logits": constraints.real_vector,
        "loc": constraints.independent(constraints.real, 2),
        "scale": constraints.independent(constraints.positive, 2),
    }
    support = constraints.real_vector
    has_rsample = False

    def __init__(self, logits: Tensor, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        if logits.dim() < 1 or loc.dim() < 2 or scale.dim() < 2:
            raise ValueError(_shape_error(logits, loc, scale))
        k, d = loc.shape[-2:]
        if logits.shape[-1] != k or scale.shape[-2] not in (1, k) or scale.shape[-1] not in (1, d):
            raise ValueError(_shape_error(logits, loc, scale))
        try:
            batch_shape = torch.broadcast_shapes(logits.shape[:-1], loc.shape[:-2], scale.shape[:-2])
        except RuntimeError as error:
            raise ValueError(_shape_error(logits, loc, scale)) from error
        self.logits, self.loc, self.scale = logits, loc, scale
        super().__init__(batch_shape, torch.Size((d,)), validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: NormalMixture | None = None) -> NormalMixture:
        """Return the same mixture with another batch shape; its parameters are neither copied nor expanded."""
        new = self._get_checked_instance(NormalMixture, _instance)
        new.logits, new.loc, new.scale = self.logits, self.loc, self.scale
        super(NormalMixture, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density of ``(..., d)`` in nats; the largest tensor on the way is ``(..., k)``."""
        if self._validate_args:
            self._validate_sample(value)
        with torch.autocast(value.device.type, enabled=False):
            log_prob = self._log_joint(value).logsumexp(-1)
        return log_prob.expand(torch.broadcast_shapes(value.shape[:-1], self.batch_shape))

    def _log_joint(self, value: Tensor) -> Tensor:
        """Return the log-density of each component at ``(..., d)`` plus its log weight, ``(..., k)``."""
        if self.loc.shape[-2] <= _FEW:
            squares = (((value.unsqueeze(-2) - self.loc) / self.scale) ** 2).sum(-1)
            log_scales = self.scale.log().sum(-1) * (self.loc.shape[-1] / self.scale.shape[-1])
            return self.logits.log_softmax(-1) - log_scales - self.loc.shape[-1] * HALF_LOG_TWO_PI - 0.5 * squares
        # The density does not depend on the centre, so no gradient flows through it.
        value, loc, scale = more_digits(value, self.loc, self.scale)
        centre = loc.detach().mean(-2)
        z, loc = value - centre, loc - centre.unsqueeze(-2)
        precision = scale**-2
        weighted = loc * precision
        d = self.event_shape[0]
        log_scales = scale.log().sum(-1) * (d / scale.shape[-1])
        constant = (
            self.logits.log_softmax(-1) - log_scales - 0.5 * (d * math.log(2 * math.pi) + (loc * weighted).sum(-1))
        )
        return (_products(z, weighted) - 0.5 * _squares(z, precision) + constant).to(self.loc.dtype)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape, d)``, without gradient."""
        shape = self._extended_shape(torch.Size(sample_shape))
        k, d = self.loc.shape[-2:]
        with torch.no_grad():
            component = torch.distributions.Categorical(logits=self.logits, validate_args=False)
            component = component.expand(self.batch_shape).sample(torch.Size(sample_shape))
            index = component[..., None, None].expand(*shape[:-1], 1, d)
            # Views of the parameters: gather reads only the chosen rows.
            loc, scale = (p.expand(*shape[:-1], k, d).gather(-2, index).squeeze(-2) for p in (self.loc, self.scale))
            return torch.normal(loc, scale)

    @property
    def mean(self) -> Tensor:
        """The mean, ``(*batch_shape, d)``."""
        return self._average(self.loc)

    @property
    def variance(self) -> Tensor:
        """The variance of each dimension, ``(*batch_shape, d)``."""
        centre = self.logits.softmax(-1).unsqueeze(-2) @ self.loc
        return self._average((self.loc - centre) ** 2 + self.scale**2)

    def _average(self, values: Tensor) -> Tensor:
        mean = (self.logits.softmax(-1).unsqueeze(-2) @ values).squeeze(-2)
        return mean.expand(*self.batch_shape, -1)


def _products(z: Tensor, rows: Tensor) -> Tensor:
    """Return the matrix product ``(..., *batch, k)`` of z ``(..., *batch, d)`` and rows ``(*batch, k, d)``."""
    while rows.dim() > 2 and rows.shape[0] == 1:
        rows = rows.squeeze(0)
    if rows.dim() == 2:
        return z @ rows.mT
    leading = z.shape[: max(z.dim() - rows.dim() + 1, 0)]
    if not leading:
        return (rows @ z.unsqueeze(-1)).squeeze(-1)
    # Dimensions in front of the batch become columns; torch.matmul would copy the rows for each of them.
    columns = z.flatten(0, len(leading) - 1).movedim(0, -1)
    return (rows @ columns).movedim(-1, 0).unflatten(0, leading)


def _squares(z: Tensor, precision: Tensor) -> Tensor:
    """Return Σ_d z² precision, ``(..., *batch, k or 1)``; a matrix product only if the precisions need one."""
    if precision.shape[-2] == 1:
        return (z**2 * precision.squeeze(-2)).sum(-1, keepdim=True)
    if precision.shape[-1] == 1:
        return (z**2).sum(-1, keepdim=True) * precision.squeeze(-1)
    return _products(z**2, precision)


def _shape_error(logits: Tensor, loc: Tensor, scale: Tensor) -> str:
    return (
        f"NormalMixture needs logits (*batch, k), loc (*batch, k, d) and scale (*batch, k or 1, d or 1); got logits "
        f"{tuple(logits.shape)}, loc {tuple(loc.shape)} and scale {tuple(scale.shape)}. Give one logit and one row of "
        "means per component"
    )
