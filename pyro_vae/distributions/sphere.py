"""Distributions on the unit sphere."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.distributions import Gamma, register_kl
from torch.nn.functional import normalize

from pyro_vae.argument_checks import at_least

__all__ = ["PowerSpherical", "UniformOnSphere"]


def _log_area(dim: int) -> float:
    """Return the log of the area of the unit sphere in R^dim: 2 π^(dim/2) / Γ(dim/2)."""
    return math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)


class UniformOnSphere(dist.TorchDistribution):
    """The uniform distribution on the unit sphere S^(dim−1) in R^dim.

    The prior of hyperspherical VAEs (Davidson et al. 2018, arXiv 1804.00891).

    Args:
        dim: the dimension of the space around the sphere, at least 2, and the number of elements of z.
        like: a tensor whose dtype and device the draws take, such as a buffer of the module that makes this
            distribution; None for torch's defaults.

    Raises:
        ValueError: if ``dim`` is below 2.

    Example:
        >>> p = UniformOnSphere(3)
        >>> p.sample((5,)).shape, p.log_prob(torch.tensor([0.0, 0.6, 0.8]))
        (torch.Size([5, 3]), tensor(-2.5310))
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012
    support = constraints.sphere
    has_rsample = True

    def __init__(self, dim: int, like: Tensor | None = None, validate_args: bool | None = None) -> None:
        at_least("dim", dim, 2, "the plane around a circle")
        self.dim = dim
        self.like = torch.empty(()) if like is None else like
        super().__init__(torch.Size(), torch.Size((dim,)), validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: UniformOnSphere | None = None) -> UniformOnSphere:
        """Return the same distribution with another batch shape."""
        new = self._get_checked_instance(UniformOnSphere, _instance)
        new.dim, new.like = self.dim, self.like
        super(UniformOnSphere, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape, dim)``."""
        shape = self._extended_shape(torch.Size(sample_shape))
        return normalize(torch.randn(shape, dtype=self.like.dtype, device=self.like.device), dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density with respect to area, −log of the sphere's area, in nats: ``(..., *batch_shape)``."""
        if self._validate_args:
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        return value.new_full((), -_log_area(self.dim)).expand(shape)

    def entropy(self) -> Tensor:
        """Return the entropy in nats, the log of the sphere's area, ``(*batch_shape)``."""
        return self.like.new_full((), _log_area(self.dim)).expand(self.batch_shape)

    @property
    def mean(self) -> Tensor:
        """The centre of the sphere, ``(*batch_shape, dim)``, which is not on the sphere."""
        return self.like.new_zeros(()).expand(self._extended_shape())

    @property
    def variance(self) -> Tensor:
        """1 / dim in each dimension, ``(*batch_shape, dim)``."""
        return self.like.new_full((), 1 / self.dim).expand(self._extended_shape())


class PowerSpherical(dist.TorchDistribution):
    """The power spherical distribution on the unit sphere S^(d−1): density proportional to (1 + μ·z)^κ.

    It has the shape of the von Mises-Fisher distribution, but draws need no rejection, gradients are exact, and it is
    stable in high dimensions (De Cao and Aziz 2020, arXiv 2006.04437). The KL to
    :class:`UniformOnSphere` has a closed form.

    Args:
        loc: the direction μ, unit vectors ``(*batch, d)`` with d at least 2.
        concentration: κ, at least 0 (0 is uniform), ``(*batch)``, or a number.

    Raises:
        ValueError: if d is below 2, the shapes do not broadcast, or torch's validation finds vectors of another length
            than 1.

    Example:
        >>> import torch
        >>> from torch.distributions import kl_divergence
        >>> q = PowerSpherical(torch.tensor([[0.0, 0.6, 0.8]]), torch.tensor([10.0]))
        >>> q.rsample((5,)).shape, q.mean
        (torch.Size([5, 1, 3]), tensor([[0.0000, 0.5000, 0.6667]]))
        >>> kl_divergence(q, UniformOnSphere(3))
        tensor([1.4888])
    """

    arg_constraints = {"loc": constraints.sphere, "concentration": constraints.nonnegative}  # noqa: RUF012
    support = constraints.sphere
    has_rsample = True

    def __init__(self, loc: Tensor, concentration: float | Tensor, validate_args: bool | None = None) -> None:
        concentration = torch.as_tensor(concentration, dtype=loc.dtype, device=loc.device)
        if loc.dim() < 1 or loc.shape[-1] < 2:
            raise ValueError(
                f"loc must be unit vectors (*batch, d) with d of at least 2; got shape {tuple(loc.shape)}. "
                "Give torch.nn.functional.normalize(loc, dim=-1)"
            )
        try:
            batch_shape = torch.broadcast_shapes(loc.shape[:-1], concentration.shape)
        except RuntimeError as error:
            raise ValueError(
                f"concentration must be one number per direction, {tuple(loc.shape[:-1])}; got shape "
                f"{tuple(concentration.shape)}. Squeeze its last dimension"
            ) from error
        self.loc = loc.expand(*batch_shape, -1)
        self.concentration = concentration.expand(batch_shape)
        super().__init__(batch_shape, loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: PowerSpherical | None = None) -> PowerSpherical:
        """Return the same distribution with another batch shape."""
        new = self._get_checked_instance(PowerSpherical, _instance)
        new.loc = self.loc.expand(*batch_shape, -1)
        new.concentration = self.concentration.expand(batch_shape)
        super(PowerSpherical, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape ``(*sample_shape, *batch_shape, d)``, with gradient."""
        shape = self._extended_shape(torch.Size(sample_shape))
        # s = (1 − t)/2 for t = μ·z, not (1 + t)/2: at high concentrations it is small, and floats are dense near 0.
        # A Beta variable as a ratio of Gammas, which torch.export takes, unlike the kernel in torch's Beta.
        beta = torch.full_like(self.concentration, (shape[-1] - 1) / 2)
        below, above = (Gamma(c, torch.ones_like(c), validate_args=False) for c in (beta, beta + self.concentration))
        g = below.rsample(torch.Size(sample_shape))
        s = g / (g + above.rsample(torch.Size(sample_shape)))
        info = torch.finfo(s.dtype)
        s = s.clamp(info.tiny, 1 - info.eps).unsqueeze(-1)
        tangent = normalize(torch.randn((*shape[:-1], shape[-1] - 1), dtype=s.dtype, device=s.device), dim=-1)
        return self._turn(torch.cat([1 - 2 * s, 2 * (s * (1 - s)).sqrt() * tangent], dim=-1))

    def _turn(self, y: Tensor) -> Tensor:
        """Map the sphere onto itself and its first axis e to μ, by a Householder reflection."""
        # The paper reflects at e − μ, which is zero if μ is e. If the two are near, reflect e to −μ, at e + μ, and
        # change all signs. So the vector is never shorter than √2, and its gradient is finite.
        sign = torch.where(self.loc[..., :1] > 0, -1.0, 1.0).to(self.loc.dtype)
        e = torch.zeros_like(self.loc)
        e[..., 0] = 1
        w = e - sign * self.loc
        return sign * (y - w * (2 * (w * y).sum(-1, keepdim=True) / (w * w).sum(-1, keepdim=True)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density by area in nats, ``(..., *batch_shape)``; finite at −μ, where the density is 0."""
        if self._validate_args:
            self._validate_sample(value)
        # log((1 + μ·z)/2) from the shorter of the chords to μ and to −μ: in float32, 1 + μ·z has an error of 1e-7,
        # which κ multiplies.
        to_loc = ((value - self.loc) ** 2).sum(-1) / 4
        to_antipode = ((value + self.loc) ** 2).sum(-1) / 4
        near = torch.log1p(-to_loc.clamp_max(0.6))
        far = torch.log(to_antipode.clamp_min(torch.finfo(value.dtype).tiny))
        log_half = torch.where(to_loc < 0.5, near, far)
        return self.concentration * log_half + self._log_peak().to(value.dtype)

    def _shapes(self) -> tuple[Tensor, float]:
        """Return the parameters α and β of the Beta distribution of (1 + μ·z)/2, α in float64."""
        # In float32, differences of lgamma and digamma at 1e4 keep three decimals; this is one number per example.
        beta = (self.event_shape[0] - 1) / 2
        return self.concentration.double() + beta, beta

    def _log_peak(self) -> Tensor:
        """Return the log-density at μ, in float64."""
        alpha, beta = self._shapes()
        return torch.lgamma(alpha + beta) - torch.lgamma(alpha) - beta * math.log(4 * math.pi)

    def entropy(self) -> Tensor:
        """Return the entropy in nats, ``(*batch_shape)``."""
        alpha, beta = self._shapes()
        log_half = torch.digamma(alpha) - torch.digamma(alpha + beta)
        return (-self._log_peak() - self.concentration.double() * log_half).to(self.loc.dtype)

    @property
    def mean(self) -> Tensor:
        """The mean, ``(*batch_shape, d)``: along μ, inside the sphere."""
        d = self.event_shape[0]
        return self.loc * (self.concentration / (self.concentration + (d - 1))).unsqueeze(-1)

    @property
    def mode(self) -> Tensor:
        """The direction μ, ``(*batch_shape, d)``."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """The variance of each dimension, ``(*batch_shape, d)``."""
        d = self.event_shape[0]
        beta = (d - 1) / 2
        alpha, total = self.concentration + beta, self.concentration + (d - 1)
        factor = 2 * alpha / (total**2 * (total + 1))
        return factor.unsqueeze(-1) * (total.unsqueeze(-1) - self.concentration.unsqueeze(-1) * self.loc**2)


@register_kl(PowerSpherical, UniformOnSphere)
def _kl_to_uniform(p: PowerSpherical, q: UniformOnSphere) -> Tensor:
    if p.event_shape != q.event_shape:
        raise ValueError(
            f"KL needs two distributions on one sphere; got dimensions {p.event_shape[0]} and {q.event_shape[0]}. "
            "Give posterior and prior the same dimension"
        )
    return (_log_area(q.dim) - p.entropy()).expand(torch.broadcast_shapes(p.batch_shape, q.batch_shape))
