"""Finds the mistake that turns the covariance of a normal density into that of its draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

__all__ = ["likeliest_mistake"]

_MOST = 64  # dimensions
_NEAR = 0.2  # the relative error of a covariance from 2000 draws is at most 0.15, in thousands of elements
_ALIKE = 0.04  # two fits that differ by less cannot be distinguished


def likeliest_mistake(slope: Callable[[Tensor], Tensor], u: Tensor) -> str:
    """Say which mistake explains the draws of a density; empty if the density is not normal or no mistake fits.

    Args:
        slope: the gradient of the log-density at points ``(points, *batch, n)``, differentiable.
        u: draws, ``(draws, *batch, n)``, each element of the batch with its own density.
    """
    if u.shape[-1] > _MOST or len(u) < 100:
        return ""
    centred = u - u.mean(0)
    drawn = torch.einsum("d...i,d...j->...ij", centred, centred) / len(u)
    if not bool((drawn.diagonal(dim1=-2, dim2=-1) > 1e-20 * u[0] ** 2).any()):
        return "all draws are equal: do they share one noise? Draw noise in the shape that was asked for"
    normal = _normal(slope, u[:4])
    if normal is None:
        return ""
    middle, covariance = normal
    found = [(_apart(drawn, other), words) for other, words in _mistakes(covariance)]
    least = min(off for off, _ in found)
    if least < _NEAR:
        fitting = [words for off, words in found if off < least + _ALIKE]
        if not fitting[0]:  # the density's own covariance
            fitting = [_mean_off(u, middle, covariance)]
        return f"draws do not follow the density: {' Or: '.join(fitting)}" if fitting[0] else ""
    times = (drawn.diagonal(dim1=-2, dim2=-1) / covariance.diagonal(dim1=-2, dim2=-1)).median()
    if _apart(drawn, times * covariance) < _NEAR:
        return (
            f"draws do not follow the density: their covariance is {times.item():.3g} times the density's. Is a "
            "variance taken for a scale, or is there one factor too many?"
        )
    return ""


def _mean_off(u: Tensor, middle: Tensor, covariance: Tensor) -> str:
    """Say how far the mean of the draws is from the density's; empty if chance explains it."""
    off = ((u.mean(0) - middle).abs() / covariance.diagonal(dim1=-2, dim2=-1).sqrt()).max().item()
    if off < _NEAR:
        return ""
    return f"their mean is up to {off:.2g} standard deviations from the density's, and their covariance is right"


def _normal(slope: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return mean and covariance of a density with the same curvature everywhere; None for others."""
    at = at.detach().clone().requires_grad_()
    first = slope(at)
    if not first.requires_grad:
        return None
    rows = [torch.autograd.grad(first[..., j].sum(), at, retain_graph=True)[0] for j in range(at.shape[-1])]
    precision = -torch.stack(rows, dim=-2)
    if not bool((precision - precision[:1]).abs().max() <= 1e-4 * precision.abs().max()):
        return None
    factor, wrong = torch.linalg.cholesky_ex((precision[0] + precision[0].mT) / 2)
    if wrong.any():
        return None
    covariance = torch.cholesky_inverse(factor)
    middle = at[0].detach() + (covariance @ first[0].detach().unsqueeze(-1)).squeeze(-1)
    return middle, covariance


def _mistakes(covariance: Tensor) -> Iterator[tuple[Tensor, str]]:
    """Yield the covariance that each mistake gives the draws, and its words; first without a mistake."""
    yield covariance, ""
    of_draws = "the draws' covariance is"
    root = torch.linalg.cholesky(covariance)
    yield root.mT @ root, f"{of_draws} L^T L and the density's is L L^T. Is scale_tril transposed in one of the two?"
    yield (
        torch.linalg.inv(covariance),
        (f"{of_draws} the inverse of the density's. Is a precision taken for a covariance in one of the two?"),
    )
    factor = torch.linalg.cholesky(torch.linalg.inv(covariance))
    yield (
        torch.linalg.inv(factor.mT @ factor),
        (f"{of_draws} that of a transposed factor of the precision. Solve with L^T instead of L"),
    )
    yield (
        covariance @ covariance,
        (f"{of_draws} the square of the density's. Is a variance taken for a scale in one of the two?"),
    )
    values, vectors = torch.linalg.eigh(covariance)
    yield (
        vectors @ torch.diag_embed(values.clamp_min(0).sqrt()) @ vectors.mT,
        (f"{of_draws} the square root of the density's. Is a scale taken for a variance in one of the two?"),
    )
    yield (
        torch.diag_embed(covariance.diagonal(dim1=-2, dim2=-1)),
        (
            "the draws have the density's variances without its covariances. Does one of the two leave out what is off "
            "the diagonal?"
        ),
    )


def _apart(drawn: Tensor, other: Tensor) -> float:
    """Return the relative distance of one covariance from another: at most 0.15 by chance, from 2000 draws."""
    factor, wrong = torch.linalg.cholesky_ex(other)
    if wrong.any():
        return math.inf
    half = torch.linalg.solve_triangular(factor, drawn, upper=False)
    white = torch.linalg.solve_triangular(factor, half.mT, upper=False)
    off = (white - torch.eye(drawn.shape[-1]).to(drawn)).abs().max().item()
    return off if math.isfinite(off) else math.inf
