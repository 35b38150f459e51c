"""A search for points where p(x, z) is large, for peaks that fall between the nodes of a quadrature."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_vae.evaluation.estimates import log_joint
from pyro_vae.evaluation.unconstrained import UnconstrainedCodes

__all__ = ["ascend", "log_density", "points_near_modes"]

_STEPS = 40
_RADII = (0.75, 1.5, 2.25, 3.0, 3.75, 4.5, 5.25, 6.0, 6.75, 7.5)


def log_density(codes: UnconstrainedCodes, u: Tensor, chunk_size: int) -> Tensor:
    """Return log of p(x, z) |dz/du| at u ``(draws, batch, dim)``, ``(draws, batch)``."""
    z = codes.constrain(u)
    likelihood, prior = log_joint(codes.pair, z, chunk_size)
    return likelihood + prior + codes.log_volume(u, z)


def points_near_modes(
    codes: UnconstrainedCodes, draws: Tensor, starts: Tensor, chunk_size: int
) -> tuple[Tensor, Tensor]:
    """Return points ``(points, batch, dim)`` and the log-densities there ``(points, batch)``.

    The points are the draws, and the modes that ascent finds from the starts, each with rings of points around it. The
    rings reach 7.5 standard deviations, as the curvature gives them. Points that are not finite get minus infinity.
    """
    modes, curvature, axes = ascend(codes, starts, chunk_size)
    spread = axes * curvature.clamp_min(1e-12).rsqrt().clamp(max=10).unsqueeze(-2)  # columns are the axes
    around = [modes + radius * (spread @ way) for way in _directions(codes.dim, modes) for radius in _RADII]
    points = torch.cat([draws, modes, *around])
    usable = points.isfinite().all(-1) & (points.abs() < 1e6).all(-1)
    points = torch.where(usable.unsqueeze(-1), points, starts[:1])
    return points, log_density(codes, points, chunk_size).masked_fill(~usable, -torch.inf)


def _directions(dim: int, like: Tensor) -> Tensor:
    """Return unit vectors, ``(directions, dim)``."""
    if dim == 1:
        return like.new_tensor([[-1.0], [1.0]])
    angle = torch.arange(12, dtype=like.dtype, device=like.device) * (math.pi / 6)
    return torch.stack([angle.cos(), angle.sin()], -1)


def ascend(codes: UnconstrainedCodes, u: Tensor, chunk_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Climb from u ``(starts, batch, dim)`` by damped Newton steps; return the points, the curvatures and their axes.

    Curvatures are the absolute eigenvalues of minus the Hessian, ``(starts, batch, dim)``; axes are its eigenvectors,
    in columns. The Hessian comes from differences of gradients, because autograd has no second derivative of some
    decoders.
    """
    density, slope = _gradient(codes, u, chunk_size)
    damping = torch.ones_like(density)
    curvature, axes = _curvature(codes, u, slope, chunk_size)
    for _ in range(_STEPS):
        # Along each axis, uphill by slope / |curvature|, which leaves saddles too.
        along = (axes.mT @ slope.unsqueeze(-1)).squeeze(-1) / (curvature + damping.unsqueeze(-1))
        step = (axes @ along.nan_to_num().clamp(-3, 3).unsqueeze(-1)).squeeze(-1)
        new_density, new_slope = _gradient(codes, u + step, chunk_size)
        better = (new_density > density) & new_slope.isfinite().all(-1)
        damping = torch.where(better, damping / 5, damping * 5).clamp(1e-12, 1e12)
        if not better.any():
            continue
        u = torch.where(better.unsqueeze(-1), u + step, u)
        density = torch.where(better, new_density, density)
        slope = torch.where(better.unsqueeze(-1), new_slope, slope)
        curvature, axes = _curvature(codes, u, slope, chunk_size)
        if along.abs().amax() < 1e-6:
            break
    return u, curvature, axes


def _gradient(codes: UnconstrainedCodes, u: Tensor, chunk_size: int) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        u = u.detach().requires_grad_()
        density = log_density(codes, u, chunk_size)
        slope = torch.autograd.grad(density.sum(), u, allow_unused=True)[0] if density.requires_grad else None
    return density.detach(), torch.zeros_like(u) if slope is None else slope


def _curvature(codes: UnconstrainedCodes, u: Tensor, slope: Tensor, chunk_size: int) -> tuple[Tensor, Tensor]:
    width = torch.finfo(u.dtype).eps ** (1 / 3)
    columns = []
    for k in range(codes.dim):
        shift = torch.zeros_like(u)
        shift[..., k] = width
        columns.append((slope - _gradient(codes, u + shift, chunk_size)[1]) / width)
    hessian = torch.stack(columns, -1)
    hessian = torch.where(hessian.isfinite().all(-1, keepdim=True).all(-2, keepdim=True), hessian, 0.0)
    values, axes = torch.linalg.eigh((hessian + hessian.mT) / 2)
    return values.abs(), axes
