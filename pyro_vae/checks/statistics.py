"""Tests that turn draws into a verdict, at a stated level."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import stdtr, stdtrit  # the t distribution, without the checks of scipy.stats
from torch import Tensor

from pyro_vae.checks.report import Finding

__all__ = ["equal", "mean_is_zero", "not_above"]


def mean_is_zero(samples: Tensor, level: float, detail: str = "", slack: Tensor | float = 0.0) -> Finding:
    """Test whether the mean of each column is zero, by a t-test per column with a Bonferroni correction.

    The t-score of skewed draws is skewed the other way, and its tail makes many false alarms. Hall's transformation
    (1992, "On the removal of skewness by transformation") corrects this; of the two scores, the smaller one counts.

    Args:
        samples: independent draws, ``(n,)`` or ``(n, ...)``.
        level: the rate of false alarms of all columns together.
        detail: the finding's words if a mean is not zero.
        slack: a difference that rounding explains, one number or one per column.
    """
    x = samples.detach().double().reshape(len(samples), -1).cpu().numpy()
    n, columns = x.shape
    with np.errstate(divide="ignore", invalid="ignore"):  # infinite draws fail below
        mean, error = x.mean(0), x.std(0, ddof=1) / math.sqrt(n)
        noisy = error > 0
        t = np.where(noisy, mean / error, np.where(mean == 0, 0.0, np.inf))
        skewness = np.where(noisy, ((x - mean) ** 3).mean(0) / (error * math.sqrt(n)) ** 3 / math.sqrt(n), 0.0)
        unskewed = t + skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / 6
    p = np.minimum(1.0, columns * 2 * _above(np.minimum(np.abs(t), np.abs(unskewed)), n - 1))
    allowed = np.broadcast_to(torch.as_tensor(slack).detach().double().cpu().numpy(), mean.shape)
    p = np.where(np.abs(mean) <= allowed, 1.0, p)
    least = int(np.where(np.isnan(p), -1.0, p).argmin())
    failed = not p[least] >= level  # NaN fails too

    return Finding(
        "failed" if failed else "passed",
        detail if failed else "",
        float(mean[least]),
        float(error[least]),
        float(max(_exceeded(level / columns / 2, n - 1) * error[least], allowed[least])),
        float(p[least]),
    )


def not_above(low: Tensor, high: Tensor, level: float, detail: str = "", slack: float = 0.0) -> Finding:
    """Test whether the mean of ``low`` is at most that of ``high``, from independent draws: Welch's test, one-sided.

    Args:
        low: draws ``(n,)``.
        high: draws ``(m,)``, or an exact number, ``()``.
        level: the rate of false alarms.
        detail: the finding's words if the mean is above.
        slack: a difference that rounding or another known error explains.
    """
    low, high = low.detach().double(), high.detach().double()
    difference = (low.mean() - high.mean()).item()
    parts = [(x.var().item() / x.numel(), x.numel() - 1) for x in (low, high) if x.dim() and x.numel() > 1]
    error = math.sqrt(sum(v for v, _ in parts))
    df = error**4 / sum(v**2 / n for v, n in parts) if error > 0 else 1.0
    t = (difference - slack) / error if error > 0 else math.copysign(math.inf, difference - slack)
    p = float(_above(t, df))
    failed = not p >= level
    tolerance = float(_exceeded(level, df)) * error + slack if error > 0 else slack
    return Finding("failed" if failed else "passed", detail if failed else "", difference, error, tolerance, p)


def _above(t: np.ndarray | float, df: float) -> np.ndarray | float:
    """Return how often Student's t with so many degrees of freedom is above t; NaN without any."""
    above: np.ndarray | float = stdtr(df, -t) if df > 0 else t * math.nan
    return above


def _exceeded(level: float, df: float) -> float:
    """Return what Student's t exceeds with this probability."""
    return float(-stdtrit(df, level)) if df > 0 else math.nan


def equal(ours: Tensor, theirs: Tensor, tolerance: float, detail: str = "") -> Finding:
    """Test whether two tensors are equal to rounding.

    Args:
        ours: any shape.
        theirs: of the same shape.
        tolerance: the largest difference, relative to the largest value.
        detail: the finding's words if they differ.
    """
    scale = torch.maximum(ours.abs().max(), theirs.abs().max()).clamp(min=1.0)
    difference = ((ours - theirs).abs().max() / scale).item()
    failed = not difference <= tolerance
    return Finding("failed" if failed else "passed", detail if failed else "", difference, None, tolerance)
