"""Maps from the reals to spheres and circles without one point."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pyro.distributions.constraints import sphere
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.transforms import Transform
from torch.nn.functional import normalize

__all__ = ["HalfAngle", "Stereographic"]


class Stereographic(Transform):
    """Stereographic projection from R^(n−1) to the unit sphere in R^n without its pole.

    It maps u to (2 u, |u|² − 1) / (|u|² + 1), reflected to the pole. Its Jacobian is (2 / (1 + |u|²))^(n−1): it turns a
    density with respect to area into one over the reals.

    Args:
        pole: the point without a u, unit vectors ``(*batch, n)``.

    Example:
        >>> Stereographic(torch.tensor([0.0, 0.0, 1.0]))(torch.tensor([3.0, 4.0])).norm()
        tensor(1.)
    """

    domain = constraints.real_vector
    codomain = sphere
    bijective = True

    def __init__(self, pole: Tensor) -> None:
        super().__init__()
        last = torch.zeros_like(pole)
        last[..., -1] = 1
        # A reflection takes the last axis to the pole or to its antipode, whichever is farther: this is stable.
        self.side = torch.where(pole[..., -1:] > 0, -1.0, 1.0).to(pole)
        self.mirror = normalize(last - self.side * pole, dim=-1)

    @classmethod
    def away_from(cls, drawn: Tensor) -> Stereographic:
        """Return a map whose pole is far from the draws ``(draws, *batch, n)``: opposite their mean, or at random."""
        n = drawn.shape[-1]
        anywhere = torch.randn(64, *(1 for _ in drawn.shape[1:-1]), n).to(drawn).expand(64, *drawn.shape[1:])
        poles = normalize(torch.cat([-drawn.mean(0, keepdim=True), anywhere]), dim=-1)
        nearest = torch.stack([(drawn * pole).sum(-1).amax(0) for pole in poles])
        # Opposite the mean unless draws are near there: then the map has the symmetry of the density.
        nearest[0] -= 0.3
        best = nearest.argmin(0)[None, ..., None].expand(1, *drawn.shape[1:])
        return cls(poles.gather(0, best)[0])

    def _turn(self, x: Tensor) -> Tensor:
        return self.side * (x - 2 * (x * self.mirror).sum(-1, keepdim=True) * self.mirror)

    def _call(self, x: Tensor) -> Tensor:
        square = (x * x).sum(-1, keepdim=True)
        return self._turn(torch.cat([2 * x, square - 1], dim=-1) / (square + 1))

    def _inverse(self, y: Tensor) -> Tensor:
        turned = self._turn(y)
        rest, last = turned[..., :-1], turned[..., -1:]
        # 1 − last loses its digits near the pole, where 1 − last² = |rest|² does not.
        from_pole = torch.where(last > 0, (rest * rest).sum(-1, keepdim=True) / (1 + last), 1 - last)
        return rest / from_pole

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the log of area by volume, ``(...)``, for u ``(..., n − 1)``."""
        return x.shape[-1] * (math.log(2) - torch.log1p((x * x).sum(-1)))

    def forward_shape(self, shape: Sequence[int]) -> torch.Size:
        """Return the shape of a point for u of ``shape``."""
        return torch.Size((*shape[:-1], shape[-1] + 1))

    def inverse_shape(self, shape: Sequence[int]) -> torch.Size:
        """Return the shape of u for a point of ``shape``."""
        return torch.Size((*shape[:-1], shape[-1] - 1))


class HalfAngle(Transform):
    """Maps the reals to angles less than half a turn from a middle, each by itself: θ = middle + 2 atan(u).

    Args:
        middle: opposite the angle without a u, of any shape.

    Example:
        >>> HalfAngle(torch.tensor(0.0))(torch.tensor([0.0, 1.0])) / math.pi
        tensor([0.0000, 0.5000])
    """

    domain = constraints.real
    codomain = constraints.real
    bijective = True

    def __init__(self, middle: Tensor) -> None:
        super().__init__()
        self.middle = middle

    @classmethod
    def about(cls, drawn: Tensor) -> HalfAngle:
        """Return a map about the mean direction of draws ``(draws, ...)``."""
        return cls(torch.atan2(drawn.sin().mean(0), drawn.cos().mean(0)))

    def _call(self, x: Tensor) -> Tensor:
        return self.middle + 2 * torch.atan(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.tan(torch.remainder(y - self.middle + math.pi, 2 * math.pi) / 2 - math.pi / 2)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the log-derivative of each angle, of the shape of u."""
        return math.log(2) - torch.log1p(x * x)
