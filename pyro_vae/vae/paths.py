"""Paths from code to code through the latent space."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["path_between", "slerp"]


def path_between(z0: Tensor, z1: Tensor, steps: int, *, spherical: bool) -> Tensor:
    """Return points on the path from each row of z0 to the same row of z1, both ends included.

    Args:
        z0: codes ``(batch, latent_dim)``.
        z1: codes of the same shape.
        steps: number of points on each path.
        spherical: follow great circles (:func:`slerp`) instead of straight lines.

    Returns:
        ``(batch, steps, latent_dim)``.
    """
    t = torch.linspace(0, 1, steps, dtype=z0.dtype, device=z0.device).unsqueeze(-1)
    z0, z1 = z0.unsqueeze(1), z1.unsqueeze(1)
    return slerp(z0, z1, t) if spherical else torch.lerp(z0, z1, t)


def slerp(z0: Tensor, z1: Tensor, t: Tensor) -> Tensor:
    """Return points whose directions follow a great circle and whose lengths change linearly.

    If the two directions agree, the path is a straight line.
    """
    r0, r1 = z0.norm(dim=-1, keepdim=True), z1.norm(dim=-1, keepdim=True)
    tiny = torch.finfo(z0.dtype).tiny
    u0, u1 = z0 / r0.clamp_min(tiny), z1 / r1.clamp_min(tiny)
    angle = torch.acos((u0 * u1).sum(-1, keepdim=True).clamp(-1, 1))
    sine = torch.sin(angle)
    curved = (torch.sin((1 - t) * angle) * u0 + torch.sin(t * angle) * u1) / sine.clamp_min(tiny)
    return torch.where(sine > 1e-4, curved * torch.lerp(r0, r1, t), torch.lerp(z0, z1, t))
