"""Accurate replacements for differences of log-gamma functions, which cancel in float32.

Each term of log Γ(x + r) − log Γ(r) − log Γ(x + 1) + x log p + ... is about as large as x log x, 1e8 at a count of 1e7,
and float32 rounds 1e8 to multiples of 8. Loader (2000, "Fast and accurate computation of binomial probabilities", the
method of R) writes such a sum as two kinds of terms that are small if the sum is small: Stirling's error, and deviances
x log(x / m) − (x − m).

Some functions have one formula near a point and another far from it. Both are evaluated at points where they are finite
and weighted with 0 and 1: torch.where takes ten times as long on a CPU and gives NaN gradients from the unused side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["count_error", "deviance_rate", "log1p_ratio", "near_rate", "powers", "stirling_error"]

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)

# Stirling's error is 1/(12 z) − 1/(360 z³) + ..., by Bernoulli's numbers: from z = 8 on, to 1e-16.
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400)
# From z = 1 on it is 1/(12 z) + p(1/z) / z³ to 5e-9, with p fitted by least squares.
_FROM_ONE = (-2.7746035e-3, -4.4985801e-5, 1.03402133e-3, -6.2026729e-4, 1.3397018e-4)
_NEAR = 0.1


def powers(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Return the polynomial with these coefficients, at least two, with the constant first."""
    *others, next_to_last, last = coefficients
    total = x * last + next_to_last
    for c in reversed(others):
        total = total * x + c
    return total


def stirling_error(inverse: Tensor) -> Tensor:
    """Return the error of Stirling's formula, log Γ(z + 1) − [(z + ½) log z − z + ½ log 2π], for z = 1 / ``inverse``.

    The argument is 1 / z because very large z and their gradients would overflow or vanish.

    Example:
        >>> stirling_error(torch.tensor(0.5))  # log 2 - (2.5 log 2 - 2 + 0.5 log 2π)
        tensor(0.0413)
    """
    shift = 8 if inverse.dtype == torch.float64 else 1
    small = (inverse.detach() * shift - 1).clamp(0, 1).ceil()
    # At its bound a clamp has no gradient, so the bounds are a little outside the interval that counts.
    z = 1 / inverse.clamp(min=0.99 / shift)
    shifted = z + shift
    # Γ(z + 1) = Γ(z + 9) / [(z + 1) (z + 2) ... (z + 8)]; several times faster than torch.lgamma.
    product = z + 1
    for i in range(2, shift + 1):
        product = product * (z + i)
    log_shifted = shifted.log()
    rest = (z + 0.5) * (log_shifted - z.log()) + (shift * log_shifted - product.log()) - shift
    return _series(torch.lerp(inverse.clamp(max=1.01 / shift), 1 / shifted, small)) + small * rest


def count_error(inverse: Tensor) -> Tensor:
    """Return :func:`stirling_error` for z = 1 / ``inverse`` of at least 1, in half the time."""
    return stirling_error(inverse) if inverse.dtype == torch.float64 else _series(inverse)


def _series(w: Tensor) -> Tensor:
    """Return Stirling's error for z = 1 / w, for w up to 1, in float64 up to 1 / 8."""
    if w.dtype == torch.float64:
        return w * powers(w * w, _STIRLING)
    return w * (1 / 12 + w * w * powers(w, _FROM_ONE))


def deviance_rate(t: Tensor, ratio: Tensor) -> Tensor:
    """Return the deviance x log(x / m) − (x − m) over x − m: (1 + t) log(1 + t) / t − 1 for t = (x − m) / m.

    Args:
        t: (x − m) / m, at least −1.
        ratio: x / m, so 1 + t, but with more digits if t is near −1.

    Example:
        >>> x, m = torch.tensor(3.0), torch.tensor(2.0)
        >>> (x - m) * deviance_rate((x - m) / m, x / m)  # 3 log 1.5 - 1
        tensor(0.2164)
    """
    is_far = _is_far(t)
    log_ratio = ratio.clamp(min=torch.finfo(ratio.dtype).tiny).log()  # 0 log 0 is 0, with a gradient of 0
    far = ratio / (t + (1 - is_far)) * log_ratio - 1
    return torch.lerp(near_rate(t.clamp(-_NEAR, _NEAR)), far, is_far)


def log1p_ratio(u: Tensor) -> Tensor:
    """Return log(1 + u) / u for u above −1, and its limit 1 at 0; its gradient is right near 0 too.

    Example:
        >>> log1p_ratio(torch.tensor([0.0, 1.0]))
        tensor([1.0000, 0.6931])
    """
    is_far = _is_far(u)
    small = u.clamp(-_NEAR, _NEAR)
    return torch.lerp((1 + near_rate(small)) / (1 + small), u.log1p() / (u + (1 - is_far)), is_far)


def near_rate(t: Tensor) -> Tensor:
    """Return (1 + t) log(1 + t) / t − 1 for |t| up to 0.1: t / 2 − t² / 6 + t³ / 12 − ..."""
    terms = 14 if t.dtype == torch.float64 else 6
    return t * powers(t, [(-1) ** n / ((n + 1) * (n + 2)) for n in range(terms)])


def _is_far(t: Tensor) -> Tensor:
    """Return 1 where |t| is at least 0.1, and 0 elsewhere."""
    return (t.detach() / _NEAR).abs().clamp(max=1).floor()
