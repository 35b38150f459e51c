"""From draws to a verdict: whether means are what they must be, at a level that is kept whatever is looked at."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_vae.checks.report import Finding

__all__ = ["equal", "mean_is_zero", "normal_quantile", "not_above", "two_sided"]


def two_sided(z: Tensor) -> Tensor:
    """How often a standard normal is as far from zero as z."""
    return torch.special.erfc(z.abs() / math.sqrt(2))


def normal_quantile(p: float) -> float:
    """The z that a standard normal exceeds in absolute value with probability p."""
    return float(math.sqrt(2) * torch.special.erfinv(torch.tensor(1 - p, dtype=torch.float64)))


def _normal(t: Tensor, df: float) -> Tensor:
    """The z that a standard normal exceeds as often as Student's t exceeds ``t`` (Wallace 1959)."""
    return torch.sign(t) * torch.sqrt(df * torch.log1p(t**2 / df)) * (8 * df + 1) / (8 * df + 3)


def _scores(samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard error and z-score of each column: Student's t, brought to a normal.

    The t of skewed draws is skewed the other way, and far out that makes many false alarms. Hall's transformation
    (1992, "On the removal of skewness by transformation") undoes it; of the two scores the one nearer to zero counts.
    """
    samples = samples.double().flatten(1) if samples.dim() > 1 else samples.double().unsqueeze(1)
    n = samples.shape[0]
    mean = samples.mean(0)
    error = samples.std(0) / math.sqrt(n)
    t = torch.where(error > 0, mean / error, torch.where(mean == 0, 0.0, torch.inf).to(mean.dtype))
    skewness = ((samples - mean) ** 3).mean(0) / (error * math.sqrt(n)) ** 3 / math.sqrt(n)
    skewness = torch.where(error > 0, skewness, 0.0)
    plain, unskewed = (_normal(s, n - 1) for s in (t, t + skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / 6))
    return mean, error, torch.where(unskewed.abs() < plain.abs(), unskewed, plain)


def mean_is_zero(samples: Tensor, level: float, detail: str = "", slack: Tensor | float = 0.0) -> Finding:
    """Whether the mean of each column is zero: a t-test a column, Bonferroni over the columns.

    Args:
        samples: independent draws, ``(n,)`` or ``(n, ...)``.
        level: the rate of false alarms of all columns together.
        detail: what to say where one is not zero.
        slack: a difference that rounding explains, a number or one a column.
    """
    mean, error, z = _scores(samples)
    columns = mean.numel()
    slack = torch.as_tensor(slack, dtype=mean.dtype).expand_as(mean)
    rounding = mean.abs() <= slack
    p = torch.where(rounding, 1.0, (columns * two_sided(z)).clamp(max=1.0))
    worst = int(torch.where(torch.isnan(p), -1.0, p).argmin())
    failed = not bool(p[worst] >= level)  # so that NaN fails
    tolerance = max(normal_quantile(level / columns) * error[worst].item(), slack[worst].item())
    return Finding(
        "failed" if failed else "passed",
        detail if failed else "",
        mean[worst].item(),
        error[worst].item(),
        tolerance,
        p[worst].item(),
    )


def not_above(low: Tensor, high: Tensor, level: float, detail: str = "", slack: float = 0.0) -> Finding:
    """Whether the mean of ``low`` is at most that of ``high``: independent draws of each, one-sided.

    Args:
        low: draws ``(n,)``.
        high: draws ``(m,)``, or a number without an error, ``()``.
        level: the rate of false alarms.
        detail: what to say where it is above.
        slack: a difference that rounding or another known error explains.
    """
    low, high = low.double(), high.double()
    difference = (low.mean() - high.mean()).item()
    parts = [(x.var().item() / x.numel(), x.numel() - 1) for x in (low, high) if x.dim() and x.numel() > 1]
    error = math.sqrt(sum(v for v, _ in parts))
    if error > 0:
        df = error**4 / sum(v**2 / n for v, n in parts)  # Welch's
        z = _normal(torch.tensor((difference - slack) / error, dtype=torch.float64), df).item()
    else:
        z = math.copysign(math.inf, difference - slack)
    p = 0.5 * math.erfc(z / math.sqrt(2))
    failed = not p >= level
    tolerance = normal_quantile(2 * level) * error + slack
    return Finding("failed" if failed else "passed", detail if failed else "", difference, error, tolerance, p)


def equal(ours: Tensor, theirs: Tensor, tolerance: float, detail: str = "") -> Finding:
    """Whether two tensors are the same to rounding: the largest difference relative to the largest of the values.

    Args:
        ours: any shape.
        theirs: of the same shape.
        tolerance: the largest relative difference.
        detail: what to say where they are not the same.
    """
    scale = torch.maximum(ours.abs().max(), theirs.abs().max()).clamp(min=1.0)
    difference = ((ours - theirs).abs().max() / scale).item()
    failed = not difference <= tolerance
    return Finding("failed" if failed else "passed", detail if failed else "", difference, None, tolerance)
