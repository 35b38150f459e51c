"""Grids over a latent space of two dimensions, for integrals and for comparisons with draws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.combinations.parts import ONE_HOT, REAL, SIMPLEX, SPHERE, Density


@dataclass
class Grid:
    """Points z ``(a * b, batch, d)``, the log of the volume around each, and their coordinates.

    The axes ``(a, batch)`` and ``(b, batch)`` hold the coordinates; :func:`coordinates` gives those of any z. Half of
    the mass at a point lies below it.
    """

    z: Tensor
    log_volume: Tensor
    axes: tuple[Tensor, Tensor]

    def log_density(self, distribution: Any) -> Tensor:
        """The log-density at each point, ``(a * b, batch)``."""
        rows = [distribution.log_prob(z).reshape(len(z), -1).detach() for z in self.z.split(60_000)]
        return torch.cat(rows).expand(-1, self.z.shape[1])

    def mass(self, distribution: Any) -> Tensor:
        """The probability around each point, ``(a, b, batch)``."""
        mass = (self.log_density(distribution) + self.log_volume).exp()
        return mass.unflatten(0, tuple(len(axis) for axis in self.axes))


def grid_for(density: Density, distribution: Any, n: int = 301, reach: float = 5.0) -> Grid:
    """Points for a distribution of :meth:`Density.of`."""
    space, classes, d = density.part.space, density.part.classes, density.part.small_dim
    batch = max(distribution.batch_shape.numel(), 1)
    if space == SPHERE:
        return sphere(batch)
    # Around each example's draws, u = centre + spread sinh(t): fine within, and out to 74 times the spread.
    with torch.random.fork_rng():
        torch.manual_seed(5)
        draws = torch.stack(coordinates(density, distribution.sample((1000,)).reshape(1000, batch, d)), dim=-1)
    centre, spread = draws.median(0).values, (draws.quantile(0.84, 0) - draws.quantile(0.16, 0)) / 2
    t = torch.linspace(-reach, reach, n, dtype=torch.float64)
    both = torch.cartesian_prod(t, t).unsqueeze(1)
    u = centre + spread * both.sinh()
    log_volume = (spread * both.cosh() * (2 * reach / (n - 1))).log().sum(-1)
    axes = tuple((centre + spread * t.sinh()[:, None, None])[..., k] for k in range(2))
    if space == REAL:
        return Grid(u, log_volume, axes)
    assert space == SIMPLEX
    # Log ratios to the last of a group, with respect to which the densities are.
    size = classes or d
    ratios = u.unflatten(-1, (d // size, size - 1))
    log_z = torch.nn.functional.pad(ratios, (0, 1)).log_softmax(-1)
    return Grid(log_z.flatten(-2), log_volume, axes)


def sphere(batch: int, n: int = 400) -> Grid:
    """Heights in equal steps by longitudes in equal steps, each in the middle of an equal area."""
    height = (torch.arange(n, dtype=torch.float64) + 0.5) * (2 / n) - 1
    angle = (torch.arange(n, dtype=torch.float64) + 0.5) * (2 * math.pi / n) - math.pi
    h, a = torch.cartesian_prod(height, angle).T
    r = (1 - h**2).sqrt()
    z = torch.stack([r * a.cos(), r * a.sin(), h], dim=-1)
    log_volume = z.new_full((len(z), batch), math.log(4 * math.pi / n**2))
    return Grid(
        z.unsqueeze(1).expand(-1, batch, -1),
        log_volume,
        tuple(a.unsqueeze(1).expand(-1, batch) for a in (height, angle)),
    )


def coordinates(density: Density, z: Tensor) -> tuple[Tensor, Tensor]:
    """Of z ``(..., d)``, along the axes of the grid."""
    space, classes, d = density.part.space, density.part.classes, density.part.small_dim
    if space == SPHERE:
        return z[..., 2], torch.atan2(z[..., 1], z[..., 0])
    if space == SIMPLEX:
        groups = z.unflatten(-1, (-1, classes or d))
        z = (groups[..., :-1] - groups[..., -1:]).flatten(-2)
    return z[..., 0], z[..., 1]


def values(density: Density) -> Tensor:
    """All one-hot vectors, ``(values, d)``."""
    assert density.part.space == ONE_HOT
    d = density.part.small_dim
    size = density.part.classes or d
    one_hot = torch.eye(size, dtype=torch.float64)
    index = torch.cartesian_prod(*[torch.arange(size)] * (d // size)).reshape(-1, d // size)
    return one_hot[index].flatten(1)
