"""The rules: which likelihoods fit values of one kind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_vae.registry import Spec
from pyro_vae.suggestions.values import FEW, LEVELS, ROWS, TABLE, Values, percent

__all__ = [
    "EXPECTED",
    "LOGARITHM",
    "MISSING",
    "RECODE",
    "SIGMAS",
    "STANDARDISE",
    "Step",
    "Suggestion",
    "is_bounded",
    "judge",
    "judge_reals",
    "positive_and_skewed",
    "reals_over_counts",
]

SIGMAS = 4.0  # Chance exceeds four standard errors once in 30,000 times.
OFF_GRID = 1e-3  # In steps of the grid: k / 255 in float32 is off by 1.5e-5 steps.
EXPECTED = 5.0  # Values expected above the top although there are none: probability e^-5 = 1/150.
AT_TOP = 10  # Values at the top, at least; they must also be a tenth of an even share of the levels.
OVER, UNDER = 1.2, 0.8  # Variance over mean, 1 for Poisson: within a fifth of 1, Poisson costs little.
ZEROS, FITS = 0.05, 25  # Share of extra zeros that is worth a parameter per element; columns fitted, at most.
SPARSE, TOTALS = 0.8, 2.0  # Bags of words: share of zeros; variance of totals over that of independent columns.
FINE = 100  # Whole numbers never below this have steps below 1 % of any value: as good as reals.
NORMAL, HEAVY = 3.45, 4.3  # (q99 - q1) / (q75 - q25): the normal's; heavy tails (t of 6 degrees; Laplace has 5.6).
SKEWED = 0.25  # (q95 + q5 - 2 q50) / (q95 - q5): lognormal of sigma 0.3; the exponential has 0.56.

STANDARDISE, LOGARITHM, RECODE = "Standardise", "Take the logarithm, then standardise", "Recode"
MISSING = "Values are missing: build(..., missing=True)"
_CLAMP = "clamp to [1e-6, 1 - 1e-6]"

_UNITS = ("scale", "initial_dispersion", "center", "spread")  # by which a likelihood starts near its data


class Step(NamedTuple):
    """One step to prepare data.

    Args:
        what: is to be done, such as "Standardise".
        where: to which columns of a table, such as "(height, age)"; empty for all data.
    """

    what: str
    where: str = ""


@dataclass(frozen=True)
class Suggestion:
    """A likelihood that fits the data.

    Args:
        likelihood: the value for ``pyro_vae.build(likelihood=...)``.
        reason: the evidence in the data.
        prepare: how to prepare the data first; empty if there is nothing to do.
        steps: those of ``prepare``, if there is more than one.
    """

    likelihood: Spec
    reason: str
    prepare: str = ""
    steps: tuple[Step, ...] = ()

    @property
    def todo(self) -> tuple[Step, ...]:
        """``prepare`` in steps, of which there may be one or none."""
        return self.steps or ((Step(self.prepare),) if self.prepare else ())

    def with_steps(self, steps: Sequence[Step]) -> Suggestion:
        """Return the same likelihood, for data that are prepared by these steps."""
        return replace(self, prepare=". ".join(" ".join(filter(None, step)) for step in steps), steps=tuple(steps))

    def __repr__(self) -> str:
        """Return the same as ``str`` within the name of the class."""
        return f"Suggestion({self})"

    def __str__(self) -> str:
        """Return the likelihood, the reason and the preparation in one line."""
        return f"{show(self.likelihood)}: {self.reason}." + (f" First: {self.prepare}." if self.prepare else "")


def judge(v: Values) -> list[Suggestion]:
    """Judge all elements as one kind, by the first rule that fits the values."""
    return _two_values(v) or _whole(v) or _unit(v) or judge_reals(v)


def _two_values(v: Values) -> list[Suggestion]:
    low, high = v.low, v.high
    if v.all(lambda x: (x == 0) | (x == 1)):
        return [
            Suggestion("Bernoulli", "0 and 1 are the only values" if low < high else f"{low:.0f} is the only value")
        ]
    if low == high or not v.all(lambda x: (x == low) | (x == high)) or min(v.count(low), v.count(high)) < 2:
        return []
    two = f"{low:.4g} and {high:.4g}"
    return [Suggestion("Bernoulli", f"{two} are the only values", f"{RECODE} {two} as 0 and 1")]


def _whole(v: Values) -> list[Suggestion]:
    """Judge whole numbers from 0: as levels in a bounded range, as counts, or, if they are large, as reals."""
    if v.low < 0 or not v.all(lambda x: x == np.round(x)):
        return []
    if v.low >= FINE:
        return [
            *judge_reals(v),
            Suggestion("NegativeBinomial", f"whole numbers never below {v.low:.0f}, in case they are counts"),
        ]
    if v.levels or is_bounded(v):
        top, last = max(v.levels - 1.0, v.high), f"{v.high:.0f}"
        end = f"a rise at {last}" if v.count(v.high) > v.count(v.high - 1) else f"{v.percent(v.high)} at {last}"
        reason = f"integers {v.low:.0f} to {last} with {v.percent(v.low)} at {v.low:.0f} and {end}"
        return _levels(v, int(top) + 1, top, f"{reason}: a bounded range, not counts")
    return _bag_of_words(v) + _counts(v)


def is_bounded(v: Values) -> bool:
    """Return True if many values are at the top, although counts with this spread would go beyond it."""
    top, at_top = v.high, v.count(v.high)
    if top >= LEVELS or at_top < max(AT_TOP, 0.1 * (~np.isnan(v.x)).sum() / (top + 1)):
        return False
    mean, variance, n = moments(v.sample())
    size = mean**2 / np.maximum(variance - mean, 1e-6 * mean)  # of a negative binomial with these moments
    pmf = below = np.exp(-size * np.log1p(mean / size))
    for k in range(int(top)):
        pmf = pmf * (k + size) / (k + 1) * mean / (size + mean)
        below = below + pmf
    return bool((n * np.clip(1 - below, 0, 1)).sum() * len(v.x) / len(v.sample()) >= EXPECTED)


def _levels(v: Values, levels: int, upper: float, reason: str) -> list[Suggestion]:
    """Return likelihoods over equally spaced levels, and over the unit interval after dequantising."""
    grid = {"levels": levels} if upper == 1 else {"levels": levels, "upper": upper}
    free = Suggestion({"class": "Categorical", **grid}, reason)
    ordered = [Suggestion({"class": f"DiscretizedLogistic{k}", **grid}, reason) for k in ("", "Mixture")]
    index = f"{levels - 1} * x" if upper == 1 else "x"
    prepare = v.dequantise or f"Dequantise: ({index} + torch.rand_like(x)) / {levels}"
    smooth = Suggestion("ContinuousBernoulli", f"{levels} levels, smoothed to reals", prepare)
    inside = replace(smooth, likelihood="LogitNormal", prepare=f"{prepare}, and {_CLAMP}")
    return [free, *ordered, smooth, inside] if levels <= FEW else [*ordered, free, smooth, inside]


def _bag_of_words(v: Values) -> list[Suggestion]:
    x = v.sample()
    if x.shape[1] <= TABLE or np.isnan(x).any() or (x == 0).mean() < SPARSE:
        return []
    totals = x.sum(1)
    ratio = totals.var() / max(x.var(0).sum(), 1e-12)
    if ratio < TOTALS:
        return []
    reason = f"counts with {v.percent(0)} zeros, whose row totals, {totals.min():.0f} to {totals.max():.0f}, vary"
    spec = {"class": "Multinomial", "total_count": max(1, round(totals.mean()))}
    return [Suggestion(spec, f"{reason} {ratio:.1f} times as much as those of independent columns")]


def _counts(v: Values) -> list[Suggestion]:
    """Judge counts by variance over mean: a score test against Poisson (Dean and Lawless 1989)."""
    mean, variance, n = moments(v.sample())
    if not len(mean):
        return [Suggestion("Poisson", "counts, nearly all of them 0")]
    ratio = variance.sum() / mean.sum()
    z = (variance - mean).sum() / math.sqrt((2 * mean**2 / n).sum())
    seen = f"counts whose variance, {variance.mean():,.4g}, is {ratio:.2g} times their mean"
    poisson, negative = Suggestion("Poisson", f"{seen}; for a Poisson it is 1"), Suggestion("NegativeBinomial", seen)
    if z < -SIGMAS and ratio < UNDER and v.high < LEVELS:
        spec = {"class": "Categorical", "levels": int(v.high) + 1, "upper": v.high}
        return [Suggestion(spec, f"{seen}, less than a Poisson's"), poisson]
    if z < SIGMAS or ratio < OVER:
        return [poisson, replace(negative, reason=f"{seen}; in case it is larger elsewhere")]
    others = [
        replace(negative, reason=f"{seen}; the latent may explain a part of that"),
        replace(poisson, reason=f"{seen}; enough if the latent explains that"),
    ]
    zeros, explained, gain = _zeros(v.sample())
    if gain < SIGMAS**2 or zeros - explained < ZEROS:
        return others
    extra = f"with {percent(zeros)} zeros, of which a negative binomial explains {percent(explained)}"
    return [Suggestion("ZeroInflatedNegativeBinomial", f"{seen}, {extra}"), *others]


def _zeros(counts: np.ndarray) -> tuple[float, float, float]:
    """Return the share of zeros, the share explained by a zero-inflated negative binomial's counts, and the gain.

    A negative binomial with and without extra zeros is fitted to each column by maximum likelihood. The gain of the
    extra zeros is twice the difference of the log-likelihoods minus one per column, which is twice the gain by chance.
    """
    counts = counts[:: -(-len(counts) // (ROWS // 4))]  # fits cost time
    counts = counts[:, np.nansum(counts, 0) > 0]
    if not counts.size:
        return 0.0, 0.0, 0.0
    counts = counts[:, :: -(-counts.shape[1] // FITS)]
    mean, _, n = moments(counts)
    x, total, above = torch.from_numpy(counts), n * mean, (counts > 0).sum(0)
    fitted, of = [], n.astype(float)  # values from the negative binomial: all of them, then fewer
    for _ in range(15):
        size = _size(x, total / of, of)
        log_p = -size * np.log1p(total / of / size)
        explained = of / n * np.exp(log_p)
        r = torch.from_numpy(size)
        fit = (torch.lgamma(x + r) - torch.lgamma(r)).nansum(0).numpy() - total * np.log1p(of * size / total)
        fit += above * (log_p + np.log(of / n)) + (n - above) * np.log(np.maximum(1 - of / n + explained, 1e-300))
        fitted.append(fit.sum())
        before, of = of, np.minimum(n, above / -np.expm1(log_p))
        if np.allclose(before, of, rtol=1e-4):
            break
    gain = 2 * (fitted[-1] - fitted[0]) - len(n)
    return float((n - above).sum() / n.sum()), float((n * explained).sum() / n.sum()), float(gain)


def _size(x: Tensor, mean: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Return the maximum-likelihood size (inverse dispersion) of negative binomials with these means, by bisection."""
    low, high = np.full(len(mean), math.log(1e-3)), np.full(len(mean), math.log(1e4))
    for _ in range(25):
        middle = (low + high) / 2
        r = torch.from_numpy(np.exp(middle))
        slope = (torch.digamma(x + r) - torch.digamma(r)).nansum(0).numpy() - n * np.log1p(mean / np.exp(middle))
        low, high = np.where(slope > 0, middle, low), np.where(slope > 0, high, middle)
    return np.exp(low)


def reals_over_counts(v: Values) -> float:
    """Return by how many nats a normal or log-normal fits one column of whole numbers above 0 better than counts do.

    Both are fitted by maximum likelihood; counts are a negative binomial. Where the numbers spread over many, a density
    is as good as the probability of each.
    """
    x = v.sample()
    x = x[~np.isnan(x)]
    n, mean = len(x), np.array([x.mean()])
    counts = torch.from_numpy(x[:, None])
    r = torch.from_numpy(_size(counts, mean, np.array([n])))
    m = torch.from_numpy(mean)
    log_p = torch.lgamma(counts + r) - torch.lgamma(r) - torch.lgamma(counts + 1)
    log_p = log_p + r * torch.log(r / (r + m)) + counts * torch.log(m / (r + m))
    normal, of_log = (-0.5 * n * (math.log(2 * math.pi * y.var()) + 1) for y in (x, np.log(x)))
    return float(max(normal, of_log - np.log(x).sum()) - log_p.sum())


def _unit(v: Values) -> list[Suggestion]:
    """Judge values in [0, 1]: on a grid from end to end, inside, or touching an end."""
    if v.low < 0 or v.high > 1:
        return []
    seen = f"from {v.low:.3g} to {v.high:.3g}"
    if levels := v.levels or _grid(v):
        return _levels(v, levels, 1.0, f"grey values {seen} in steps of 1/{levels - 1}")
    # A value is at an end if it is in single precision, as in a VAE.
    if np.float32(v.low) > 0 and np.float32(v.high) < 1:
        beta = Suggestion("Beta", f"reals {seen}, inside (0, 1)")
        return [beta, *(replace(beta, likelihood=name) for name in ("LogitNormal", "ContinuousBernoulli"))]
    ends = f"with {v.percent(0)} at 0 and {v.percent(1)} at 1"
    closed = Suggestion("ContinuousBernoulli", f"reals {seen}, {ends}")
    return [closed, *(replace(closed, likelihood=n, prepare=_CLAMP.capitalize()) for n in ("LogitNormal", "Beta"))]


def _grid(v: Values) -> int:
    """Return the fewest levels k / (levels - 1) that contain all values; 0 if there are none, or no end is reached."""
    ends = (v.low == 0) + (v.high == 1)
    if ends < (2 if v.names else 1):  # otherwise any measurement rounded to 2 digits would pass
        return 0
    some = np.unique(v.x.ravel()[: 100 * LEVELS])
    for steps in range(2, LEVELS):
        if _off(some[~np.isnan(some)], steps).max(initial=0) < OFF_GRID and np.nanmax(_off(v.x, steps)) < OFF_GRID:
            return steps + 1
    return 0


def _off(x: np.ndarray, steps: int) -> np.ndarray:
    return np.abs(x * steps - np.round(x * steps))


def judge_reals(v: Values) -> list[Suggestion]:
    """Judge reals by their tails, each column by itself, after the logarithm if they are positive and skewed."""
    x = v.sample()
    error = SIGMAS / math.sqrt(len(x))  # 4 standard errors of the skewness; those of the tails are 5 times as large
    skew, tails = _skew_and_tails(x)
    logarithm = _skew_and_tails(np.log(x)) if v.low > 0 else (math.inf, tails)
    log = skew > max(SKEWED, error) and abs(logarithm[0]) < skew
    ratio = logarithm[1] if log else tails
    prepare = LOGARITHM if log else "" if _is_standard(x) else STANDARDISE
    kind = "whole numbers" if v.all(lambda x: x == np.round(x)) else "reals"
    have = "with" if not log else "positive and skewed, whose logarithms have"
    seen = f"{kind} from {v.low:.3g} to {v.high:.3g}, {have}"
    if math.isnan(ratio):
        return [Suggestion("Normal", f"{seen} at least half of them equal, which no density fits", prepare)]
    heavy = ratio > max(HEAVY, NORMAL + 5 * error)
    seen += f" {'heavy' if heavy else 'light'} tails: 98 % of them span {ratio:.1f} times the middle half"
    first = Suggestion("StudentT" if heavy else "Normal", f"{seen}, those of a normal {NORMAL:.1f}", prepare)
    others = [replace(first, likelihood="Laplace" if heavy else "StudentT")]
    return [first, *others, *(positive_and_skewed(v) if log else [])]


def positive_and_skewed(v: Values) -> list[Suggestion]:
    """Suggest a Gamma, which takes positive numbers without a logarithm; nothing if one is 0 in single precision."""
    if np.float32(v.low) == 0:
        return []
    mean = np.nanmean(v.sample(), 0)
    near = (mean > 1 / 3).all() and (mean < 3).all()  # like the means that a new network gives
    reason = f"positive and skewed values from {v.low:.3g} to {v.high:.3g}; a Gamma needs no logarithm"
    prepare = "Divide each column by its mean" if len(v.names) > 1 else "Divide by the mean"
    return [Suggestion("Gamma", reason, "" if near else prepare)]


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, variance and number of values of each column that is not all 0."""
    n = (~np.isnan(x)).sum(0)
    mean = np.nansum(x, 0) / np.maximum(n, 1)
    variance = np.nansum((x - mean) ** 2, 0) / np.maximum(n - 1, 1)
    return mean[mean > 0], variance[mean > 0], n[mean > 0]


def _skew_and_tails(x: np.ndarray) -> tuple[float, float]:
    """Return the medians over columns of two ratios of quantiles; NaN if half of every column is one value."""
    q1, q5, q25, q50, q75, q95, q99 = np.nanquantile(x, [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99], axis=0)
    some = ((x == q50).sum(0) < 0.5 * (~np.isnan(x)).sum(0)) & (q75 > q25)
    if not some.any():
        return math.nan, math.nan
    skew, tails = (q95 + q5 - 2 * q50)[some] / (q95 - q5)[some], (q99 - q1)[some] / (q75 - q25)[some]
    return float(np.median(skew)), float(np.median(tails))


def _is_standard(x: np.ndarray) -> bool:
    """Return True if every column is near 0 with a spread near 1, like the output of a new network."""
    mean, scale = np.nanmean(x, 0), np.nanstd(x, 0)
    return bool((np.abs(mean) < 3).all() and (scale < 3).all() and (scale[scale > 0] > 1 / 3).all())


def show(spec: Spec) -> str:
    """Write a specification as a call; Mixed by its kinds of columns."""
    if isinstance(spec, str):
        return spec
    if spec["class"] == "Standardized":
        return show(spec["likelihood"]) + (" of the logarithm" if spec.get("log") else "")
    if spec["class"] != "Mixed":
        arguments = ", ".join(f"{name}={value!r}" for name, value in spec.items() if name not in ("class", *_UNITS))
        return f"{spec['class']}({arguments})" if arguments else str(spec["class"])
    groups: dict[str, list[str]] = {}
    for name, column in spec["columns"].items():
        groups.setdefault(show(column), []).append(name)
    return f"Mixed({'; '.join(f'{kind} for ' + ', '.join(of) for kind, of in groups.items())})"
