"""Posteriors over real vectors: normals of all kinds, the Laplace, and a point."""

from __future__ import annotations

import math
from typing import ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.transforms.householder import ConditionedHouseholder
from torch import Tensor, nn
from torch.distributions import (
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    constraints,
    kl_divergence,
    register_kl,
)
from torch.distributions.utils import vec_to_tril_matrix

from pyro_vae.argument_checks import at_least
from pyro_vae.distributions import TorchToPyro, positive
from pyro_vae.distributions.parameters import more_digits
from pyro_vae.parts import Posterior

__all__ = ["Delta", "DiagonalNormal", "FullNormal", "Householder", "Laplace", "LowRankNormal"]

_NO_SHAPE = torch.Size()


class _RealVectors(Posterior):
    """Posteriors over real vectors with one net."""

    support = constraints.real_vector

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net


class _LocationScale(_RealVectors):
    """Independent dimensions of one family, with locations and scales from the net; ``locations`` names the former."""

    family: ClassVar[type[TorchDistribution]]
    locations: ClassVar[str] = "means"

    @classmethod
    def net_shape(cls, latent_dim: int) -> tuple[int, ...]:
        """Return the shape that the net must give for a latent space of ``latent_dim`` dimensions."""
        return (2 * latent_dim,)

    def forward(self, x: Tensor, *context: Tensor) -> TorchDistribution:
        """Return ``family(loc, scale)`` with batch shape ``(batch,)`` and event shape ``(latent_dim,)``."""
        out = self.net(x, *context)
        if out.shape[-1] % 2:
            raise ValueError(
                f"posterior {type(self).__name__} needs a net whose last dimension is 2 * latent_dim, {self.locations} "
                f"then raw scales; got {out.shape[-1]}, which is odd"
            )
        loc, raw_scale = out.chunk(2, dim=-1)
        return self.family(loc, positive(raw_scale)).to_event(1)


class DiagonalNormal(_LocationScale):
    """A normal with independent dimensions: the mean-field posterior of Kingma and Welling (arXiv 1312.6114).

    Args:
        net: maps x, and the context if there is any, to ``(batch, 2 * latent_dim)``: the means, then the raw
            scales, which become softplus(raw) + 1e-6.

    Raises:
        ValueError: if the net gives an odd number of outputs.

    Example:
        >>> import torch
        >>> from pyro_vae import nets
        >>> q = DiagonalNormal(nets.MLP((1, 8, 8), (64,), 2 * 5))
        >>> q(torch.rand(16, 1, 8, 8)).event_shape
        torch.Size([5])
    """

    family = dist.Normal


class Laplace(_LocationScale):
    """Independent Laplace dimensions; with the prior ``Laplace``, sparse codes (Barello, Charles and Pillow 2018).

    Args:
        net: maps x, and the context if there is any, to ``(batch, 2 * latent_dim)``: the locations, then the raw
            scales, which become softplus(raw) + 1e-6.

    Raises:
        ValueError: if the net gives an odd number of outputs.

    Example:
        >>> from pyro_vae import nets
        >>> q = Laplace(nets.MLP((1, 8, 8), (64,), 2 * 5))
        >>> q(torch.rand(16, 1, 8, 8)).event_shape
        torch.Size([5])
    """

    family = dist.Laplace
    locations = "locations"


class FullNormal(_RealVectors):
    """A normal with any covariance L Lᵀ; the net gives the Cholesky factor L.

    (Kingma and Welling 2019, arXiv 1906.02691, section 2.5.1.)

    Args:
        net: maps x, and the context if there is any, to ``(batch, d * (d + 3) / 2)`` for d latent dimensions: the
            means, the raw diagonal of L, which becomes softplus(raw) + 1e-6, and the entries below it, row by row.

    Raises:
        ValueError: if the net gives another number of outputs.

    Example:
        >>> from pyro_vae import nets
        >>> q = FullNormal(nets.MLP((1, 8, 8), (64,), FullNormal.net_shape(5)))
        >>> q(torch.rand(16, 1, 8, 8)).event_shape
        torch.Size([5])
    """

    @classmethod
    def net_shape(cls, latent_dim: int) -> tuple[int, ...]:
        """Return the shape that the net must give for a latent space of ``latent_dim`` dimensions."""
        return (latent_dim * (latent_dim + 3) // 2,)

    def forward(self, x: Tensor, *context: Tensor) -> TorchToPyro:
        """Return N(loc, L Lᵀ) with batch shape ``(batch,)`` and event shape ``(latent_dim,)``."""
        out = self.net(x, *context)
        n = out.shape[-1]
        d = (math.isqrt(9 + 8 * n) - 3) // 2
        if d < 1 or self.net_shape(d) != (n,):
            raise ValueError(
                f"posterior FullNormal needs a net whose last dimension is d * (d + 3) / 2 for d latent dimensions "
                f"(2, 5, 9, 14, ...); got {n}. FullNormal.net_shape(latent_dim) gives it"
            )
        loc, raw_diagonal, below = out.split([d, d, n - 2 * d], dim=-1)
        scale_tril = torch.diag_embed(positive(raw_diagonal)) + vec_to_tril_matrix(below, diag=-1)
        return TorchToPyro(_CholeskyNormal(loc, scale_tril=scale_tril))


class _CholeskyNormal(MultivariateNormal):
    """A normal that computes the density of a draw from the noise of the draw.

    ``log_prob`` must solve for that noise, which fails in float32 if L is nearly singular.
    """

    def rsample_and_log_prob(self, shape: torch.Size = _NO_SHAPE) -> tuple[Tensor, Tensor]:
        noise = self.loc.new_empty(self._extended_shape(shape)).normal_()
        value = self.loc + (self.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)
        log_scales = self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = 0.5 * self.event_shape[0] * math.log(2 * math.pi)
        return value, -0.5 * noise.square().sum(-1) - log_scales - constant

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        loc, scale_tril, z = more_digits(self.loc, self.scale_tril, value)
        wide = MultivariateNormal(loc, scale_tril=scale_tril, validate_args=False)
        return wide.log_prob(z).to(self.loc.dtype)


class LowRankNormal(_RealVectors):
    """A normal with covariance F Fᵀ + diag(s²), where F has a few columns: correlations at little cost.

    (Ong, Nott and Smith 2017, arXiv 1701.03208.)

    Args:
        net: maps x, and the context if there is any, to ``(batch, (2 + rank) * latent_dim)``: the means, the raw
            scales s, which become softplus(raw) + 1e-6, and F, column by column.
        rank: columns of F, at least 1.

    Raises:
        ValueError: if ``rank`` is below 1, or the net gives another number of outputs.

    Example:
        >>> from pyro_vae import nets
        >>> q = LowRankNormal(nets.MLP((1, 8, 8), (64,), (2 + 3) * 5), rank=3)
        >>> q(torch.rand(16, 1, 8, 8)).event_shape
        torch.Size([5])
    """

    def __init__(self, net: nn.Module, rank: int = 2) -> None:
        super().__init__(net)
        self.rank = at_least("rank", rank, 1)

    @classmethod
    def net_shape(cls, latent_dim: int, rank: int = 2) -> tuple[int, ...]:
        """Return the shape that the net must give for a latent space of ``latent_dim`` dimensions."""
        return ((2 + rank) * latent_dim,)

    def forward(self, x: Tensor, *context: Tensor) -> TorchDistribution:
        """Return N(loc, F Fᵀ + diag(s²)) with batch shape ``(batch,)`` and event shape ``(latent_dim,)``."""
        loc, raw_scale, *columns = _parts(self, self.net(x, *context), 2 + self.rank, "(2 + rank) * latent_dim")
        return _LowRankNormal(loc, torch.stack(columns, dim=-1), positive(raw_scale) ** 2)


class _LowRankNormal(dist.LowRankMultivariateNormal):
    """Computes the log-density in float64: it is the difference of two squares of the size of (F / s)²."""

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        loc, factor, diagonal, z = more_digits(self.loc, self.cov_factor, self.cov_diag, value)
        wide = LowRankMultivariateNormal(loc, factor, diagonal, validate_args=False)
        return wide.log_prob(z).to(self.loc.dtype)

    def expand(self, batch_shape: torch.Size, _instance: _LowRankNormal | None = None) -> _LowRankNormal:
        new = self._get_checked_instance(_LowRankNormal, _instance)
        return super().expand(torch.Size(batch_shape), _instance=new)


class Householder(_RealVectors):
    """A normal with independent dimensions, turned by reflections whose directions the net gives.

    A chain of Householder reflections can turn the axes of the normal into any others and keeps volumes, so the density
    stays cheap (Tomczak and Welling 2016, arXiv 1611.09630). The reflections are Pyro's.

    Args:
        net: maps x, and the context if there is any, to ``(batch, (2 + reflections) * latent_dim)``: the means, the
            raw scales, which become softplus(raw) + 1e-6, and the directions.
        reflections: number of reflections, at least 1.

    Raises:
        ValueError: if ``reflections`` is below 1, or the net gives another number of outputs.

    Example:
        >>> from pyro_vae import nets
        >>> q = Householder(nets.MLP((1, 8, 8), (64,), (2 + 3) * 5), reflections=3)
        >>> q(torch.rand(16, 1, 8, 8)).event_shape
        torch.Size([5])
    """

    def __init__(self, net: nn.Module, reflections: int = 4) -> None:
        super().__init__(net)
        self.reflections = at_least("reflections", reflections, 1)

    @classmethod
    def net_shape(cls, latent_dim: int, reflections: int = 4) -> tuple[int, ...]:
        """Return the shape that the net must give for a latent space of ``latent_dim`` dimensions."""
        return ((2 + reflections) * latent_dim,)

    def forward(self, x: Tensor, *context: Tensor) -> TorchDistribution:
        """Return the turned normal, with batch shape ``(batch,)`` and event shape ``(latent_dim,)``."""
        out = self.net(x, *context)
        loc, raw_scale, *directions = _parts(self, out, 2 + self.reflections, "(2 + reflections) * latent_dim")
        turn = ConditionedHouseholder(torch.stack(directions, dim=-2))
        return _Turned(dist.Normal(loc, positive(raw_scale)).to_event(1), [turn])


class _Turned(dist.TransformedDistribution):
    """Independent dimensions after a rotation, which also turns their mean and axes and keeps the entropy."""

    @property
    def mean(self) -> Tensor:
        return self._turn(self.base_dist.mean)

    @property
    def variance(self) -> Tensor:
        axes = torch.diag_embed(self.base_dist.stddev).movedim(-2, 0)
        return self._turn(axes).square().sum(0)

    def entropy(self) -> Tensor:
        return self.base_dist.entropy()

    def log_prob(self, value: Tensor) -> Tensor:
        (turn,) = self.transforms
        if value is turn._cached_x_y[1]:
            return super().log_prob(value)  # of the last draw, whose noise is known
        if self._validate_args:
            self._validate_sample(value)
        normal = self.base_dist.base_dist
        # Turning a value back rounds it by 1e-7, which is much if a scale is 1e-6.
        loc, scale, directions, wide = more_digits(normal.loc, normal.scale, turn.u_unnormed, value)
        noise = ConditionedHouseholder(directions).inv(wide)
        return dist.Normal(loc, scale, validate_args=False).log_prob(noise).sum(-1).to(value.dtype)

    def _turn(self, vectors: Tensor) -> Tensor:
        for turn in self.transforms:
            vectors = turn._call(vectors)  # turn(vectors) would replace the last draw in its cache
        return vectors


class Delta(_RealVectors):
    """A point: q(z | x) has all its mass at the net's output, as in an autoencoder. For comparison.

    The entropy of a point, −∞, is left out. So the training maximises log p(x | z) + log p(z), which is not a bound on
    log p(x) (Ghosh et al. 2019, arXiv 1903.12436, say what such a model can do).

    Args:
        net: maps x, and the context if there is any, to ``(batch, latent_dim)``.

    Example:
        >>> from pyro_vae import nets
        >>> q = Delta(nets.MLP((1, 8, 8), (64,), 5))
        >>> q(torch.rand(16, 1, 8, 8)).event_shape
        torch.Size([5])
    """

    is_point = True

    @classmethod
    def net_shape(cls, latent_dim: int) -> tuple[int, ...]:
        """Return the shape that the net must give for a latent space of ``latent_dim`` dimensions."""
        return (latent_dim,)

    def forward(self, x: Tensor, *context: Tensor) -> TorchDistribution:
        """Return the point, with batch shape ``(batch,)`` and event shape ``(latent_dim,)``."""
        return dist.Delta(self.net(x, *context), event_dim=1)


def _parts(posterior: nn.Module, out: Tensor, parts: int, formula: str) -> tuple[Tensor, ...]:
    if out.shape[-1] % parts:
        raise ValueError(
            f"posterior {type(posterior).__name__} needs a net whose last dimension is {formula}, a multiple of "
            f"{parts}; got {out.shape[-1]}"
        )
    return out.chunk(parts, dim=-1)


@register_kl(MultivariateNormal, Independent)
@register_kl(LowRankMultivariateNormal, Independent)
@register_kl(_Turned, Independent)
def _kl_normal_independent(p: TorchDistribution, q: Independent) -> Tensor:
    """Return KL(p || q) from a normal with any covariance to independent dimensions, which torch lacks.

    E_p[log q] depends only on the marginals of p. So the KL is the sum of their KLs, plus the entropy of the
    marginals, minus that of p.
    """
    if q.reinterpreted_batch_ndims != 1 or q.base_dist.event_shape:
        raise NotImplementedError
    marginals = Normal(p.mean, p.variance.sqrt(), validate_args=False)
    return (kl_divergence(marginals, q.base_dist) + marginals.entropy()).sum(-1) - p.entropy()
