"""Which likelihoods fit the data, and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_vae.config import Spec
from pyro_vae.data.images import DataSet, Images

__all__ = ["Suggestion", "suggest"]

SIGMAS = 4.0  # Chance alone goes further than four standard errors once in 30,000 times.
ROWS = 4000  # Enough for every shape judged here to have a standard error of a few per cent.
TABLE = 100  # Columns of a table at most: one likelihood a column is of no use for a thousand of them.
LEVELS, FEW = 256, 32  # Levels of a grid at most, a byte; and those of which each can afford a free probability.
OFF_GRID = 1e-3  # Of a step: k / 255 in float32 is off by 1.5e-5 of a step.
EXPECTED = 5.0  # Values expected above the top where there is none: chance does that once in e^5 = 150 times.
AT_TOP = 10  # Values at the top that are no stragglers; they must also be a tenth of an even share of the levels.
OVER, UNDER = 1.2, 0.8  # Variance over mean, 1 for Poisson: within a fifth, Poisson costs next to nothing.
ZEROS, FITS = 0.05, 25  # Share of extra zeros that is worth a parameter an element; columns they are judged from.
SPARSE, TOTALS = 0.8, 2.0  # Bags of words: share of zeros, variance of totals over that of independent columns.
FINE = 100  # Whole numbers never below this have steps of less than 1 % of any value: as good as reals.
CLEAR = 10  # Beside columns of reals, whole numbers never below this are reals that were rounded.
SPAN = 0.75  # Of (0, 1), that a column beside columns of reals must fill to be a proportion and no small measurement.
RARE = 0.2  # Share of ones below which a column of 0 and 1 may be a count that is rarely above 1.
NORMAL, HEAVY = 3.45, 4.3  # (q99 - q1) / (q75 - q25): the normal's; heavy tails (t of 6 degrees; Laplace has 5.6).
SKEWED = 0.25  # (q95 + q5 - 2 q50) / (q95 - q5): lognormal of sigma 0.3; the exponential has 0.56.

_CLAMP = "clamp to [1e-6, 1 - 1e-6]"
_REALS = {"Normal", "StudentT"}
_KINDS = {
    "Bernoulli": "binary",
    "Normal": "Normal",
    "StudentT": "StudentT",
    **dict.fromkeys(("Categorical", "DiscretizedLogistic"), "levels"),
    **dict.fromkeys(("Poisson", "NegativeBinomial", "ZeroInflatedNegativeBinomial"), "counts"),
    **dict.fromkeys(("Beta", "ContinuousBernoulli"), "unit"),
}


@dataclass(frozen=True)
class Suggestion:
    """A likelihood that fits the data.

    Args:
        likelihood: what ``pyro_vae.build(likelihood=...)`` takes.
        reason: what was seen in the data.
        prepare: what to do to the data first; empty where nothing is to be done.
    """

    likelihood: Spec
    reason: str
    prepare: str = ""

    def __str__(self) -> str:
        return f"{_show(self.likelihood)}: {self.reason}." + (f" First: {self.prepare}." if self.prepare else "")


def suggest(data: Any, names: Sequence[str] | None = None) -> list[Suggestion]:
    """The likelihoods that fit the data, best first, each with the reason.

    All values decide what is possible; shapes (dispersion, zeros, tails) are judged within each element of x, from at
    most 4,000 evenly spaced rows. A table of 2 to 100 columns of different kinds gets ``Mixed``. What a VAE learns is
    p(x | z), which is narrower than the data: dispersion, zeros and tails may be the latent's doing, so that the
    simpler likelihood always stands beside the richer one.

    Args:
        data: tensor or array ``(n, *event_shape)``, a table with ``columns`` and ``to_numpy()`` (a pandas DataFrame),
            or images of :mod:`pyro_vae.data`, as they would be fed. NaN is a missing value.
        names: of the columns of a table ``(n, columns)``.

    Raises:
        ValueError: where there is nothing to judge: no values, infinite ones, a single constant, no numbers.
        TypeError: where ``data`` is something else.

    Example:
        >>> from pyro_vae import data
        >>> print(suggest(data.load("digits", binarize="threshold"))[0])
        Bernoulli: 0 and 1 are the only values.
        >>> print(suggest(torch.tensor([[0.5, 0.0], [0.2, 1.0], [0.7, 0.0], [0.31, 0.0]]), ["share", "smokes"])[0])
        Mixed(Beta for share; Bernoulli for smokes): columns of different kinds, such as share (reals from 0.2 to 0.7, \
inside (0, 1)) and smokes (0 and 1 are the only values).
    """
    values = _read(data, names)
    found = _judge_table(values) if len(values.names) > 1 else _judge(values)
    if not np.isnan(values.x).any():
        return found
    missing = "Values are missing: build(..., missing=True)"
    return [replace(s, prepare=f"{s.prepare}. {missing}" if s.prepare else missing) for s in found]


@dataclass(frozen=True, eq=False)
class _Values:
    x: np.ndarray  # (n, elements), floating-point; NaN where missing
    names: tuple[str, ...] = ()  # of the columns, where this is a table
    levels: int = 0  # where known
    touches: bool = False  # whether an end of [0, 1] comes up, though perhaps not in this sample
    dequantise: str = ""  # how to, where known

    @property
    def low(self) -> float:
        return float(np.nanmin(self.x))

    @property
    def high(self) -> float:
        return float(np.nanmax(self.x))

    def all(self, holds: Callable[[np.ndarray], np.ndarray]) -> bool:
        return bool((holds(self.x) | np.isnan(self.x)).all())

    def count(self, value: float) -> int:
        return int((self.x == value).sum())

    def percent(self, value: float) -> str:
        return _percent(self.count(value) / (~np.isnan(self.x)).sum())

    def sample(self) -> np.ndarray:
        return self.x[:: -(-len(self.x) // ROWS)].astype(np.float64)


def _judge(v: _Values) -> list[Suggestion]:
    """All elements taken to be of one kind: the first rule that knows the values."""
    return _two_values(v) or _whole(v) or _unit(v) or _real(v)


def _two_values(v: _Values) -> list[Suggestion]:
    low, high = v.low, v.high
    if v.all(lambda x: (x == 0) | (x == 1)):
        return [
            Suggestion("Bernoulli", "0 and 1 are the only values" if low < high else f"{low:.0f} is the only value")
        ]
    if low == high or not v.all(lambda x: (x == low) | (x == high)) or min(v.count(low), v.count(high)) < 2:
        return []
    two = f"{low:.4g} and {high:.4g}"
    return [Suggestion("Bernoulli", f"{two} are the only values", f"Recode {two} as 0 and 1")]


def _whole(v: _Values) -> list[Suggestion]:
    """Whole numbers from 0: of a bounded range, or counts; or else so large that they are as good as reals."""
    if v.low < 0 or not v.all(lambda x: x == np.round(x)):
        return []
    if v.low >= FINE:
        return [*_real(v), Suggestion("NegativeBinomial", f"whole numbers never below {v.low:.0f}, in case they count")]
    if v.levels or _bounded(v):
        top, last = max(v.levels - 1.0, v.high), f"{v.high:.0f}"
        end = f"a rise at {last}" if v.count(v.high) > v.count(v.high - 1) else f"{v.percent(v.high)} at {last}"
        reason = f"integers {v.low:.0f} to {last} with {v.percent(v.low)} at {v.low:.0f} and {end}"
        return _levels(v, int(top) + 1, top, f"{reason}: a bounded range, not counts")
    return _bag_of_words(v) + _counts(v)


def _bounded(v: _Values) -> bool:
    """Whether the values stop at a top that is well populated and where counts of such spread would go on."""
    top, at_top = v.high, v.count(v.high)
    if top >= LEVELS or at_top < max(AT_TOP, 0.1 * (~np.isnan(v.x)).sum() / (top + 1)):
        return False
    mean, variance, n = _moments(v.sample())
    size = mean**2 / np.maximum(variance - mean, 1e-6 * mean)  # of a negative binomial with these moments
    pmf = below = np.exp(-size * np.log1p(mean / size))
    for k in range(int(top)):
        pmf = pmf * (k + size) / (k + 1) * mean / (size + mean)
        below = below + pmf
    return bool((n * np.clip(1 - below, 0, 1)).sum() * len(v.x) / len(v.sample()) >= EXPECTED)


def _levels(v: _Values, levels: int, upper: float, reason: str) -> list[Suggestion]:
    """The likelihoods over equally spaced levels, and those over the unit interval after dequantising."""
    grid = {"levels": levels} if upper == 1 else {"levels": levels, "upper": upper}
    free = Suggestion({"class": "Categorical", **grid}, reason)
    ordered = [Suggestion({"class": f"DiscretizedLogistic{k}", **grid}, reason) for k in ("", "Mixture")]
    index = f"{levels - 1} * x" if upper == 1 else "x"
    prepare = v.dequantise or f"Dequantise: ({index} + torch.rand_like(x)) / {levels}"
    smooth = Suggestion("ContinuousBernoulli", f"{levels} levels, smoothed to reals", prepare)
    inside = replace(smooth, likelihood="LogitNormal", prepare=f"{prepare}, and {_CLAMP}")
    return [free, *ordered, smooth, inside] if levels <= FEW else [*ordered, free, smooth, inside]


def _bag_of_words(v: _Values) -> list[Suggestion]:
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


def _counts(v: _Values) -> list[Suggestion]:
    """Counts by their variance over their mean: a score test against Poisson (Dean and Lawless 1989)."""
    mean, variance, n = _moments(v.sample())
    if not len(mean):
        return [Suggestion("Poisson", "counts, nearly all of them 0")]
    ratio = variance.sum() / mean.sum()
    z = (variance - mean).sum() / math.sqrt((2 * mean**2 / n).sum())
    seen = f"counts whose variance, {variance.mean():,.4g}, is {ratio:.2g} times their mean"
    poisson, negative = Suggestion("Poisson", f"{seen}, where a Poisson has 1"), Suggestion("NegativeBinomial", seen)
    if z < -SIGMAS and ratio < UNDER and v.high < LEVELS:
        spec = {"class": "Categorical", "levels": int(v.high) + 1, "upper": v.high}
        return [Suggestion(spec, f"{seen}, less than a Poisson's"), poisson]
    if z < SIGMAS or ratio < OVER:
        return [poisson, replace(negative, reason=f"{seen}, in case it is more elsewhere")]
    others = [
        replace(negative, reason=f"{seen}; the latent may explain a part of that"),
        replace(poisson, reason=f"{seen}; enough if the latent explains that"),
    ]
    zeros, explained, gain = _zeros(v.sample())
    if gain < SIGMAS**2 or zeros - explained < ZEROS:
        return others
    extra = f"with {_percent(zeros)} zeros, of which a negative binomial explains {_percent(explained)}"
    return [Suggestion("ZeroInflatedNegativeBinomial", f"{seen}, {extra}"), *others]


def _zeros(counts: np.ndarray) -> tuple[float, float, float]:
    """Share of zeros, the share that a negative binomial beside extra zeros explains, and what the extra zeros gain.

    Both are fitted to each column by maximum likelihood; the gain is twice the difference of the log-likelihoods, less
    one a column, which is twice what chance gives.
    """
    counts = counts[:, np.nansum(counts, 0) > 0]
    counts = counts[:: -(-len(counts) // (ROWS // 4)), :: -(-counts.shape[1] // FITS)]  # fits cost time
    mean, _, n = _moments(counts)
    x, total, above = torch.from_numpy(counts), n * mean, (counts > 0).sum(0)
    fitted, of = [], n.astype(float)  # how many values are of the negative binomial: all of them, then fewer
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
    """The most likely size (inverse dispersion) of negative binomials of these means, by bisection."""
    low, high = np.full(len(mean), math.log(1e-3)), np.full(len(mean), math.log(1e4))
    for _ in range(25):
        middle = (low + high) / 2
        r = torch.from_numpy(np.exp(middle))
        slope = (torch.digamma(x + r) - torch.digamma(r)).nansum(0).numpy() - n * np.log1p(mean / np.exp(middle))
        low, high = np.where(slope > 0, middle, low), np.where(slope > 0, high, middle)
    return np.exp(low)


def _unit(v: _Values) -> list[Suggestion]:
    """Values in [0, 1]: on a grid from end to end, inside, or touching an end."""
    if v.low < 0 or v.high > 1:
        return []
    seen = f"from {v.low:.3g} to {v.high:.3g}"
    if levels := v.levels or _grid(v):
        return _levels(v, levels, 1.0, f"grey values {seen} in steps of 1/{levels - 1}")
    # An end is what a VAE in single precision would see as one.
    if np.float32(v.low) > 0 and np.float32(v.high) < 1 and not v.touches:
        beta = Suggestion("Beta", f"reals {seen}, inside (0, 1)")
        return [beta, *(replace(beta, likelihood=name) for name in ("LogitNormal", "ContinuousBernoulli"))]
    ends = f"with {v.percent(0)} at 0 and {v.percent(1)} at 1"
    ends = "which round to an end of [0, 1] now and then" if v.touches else ends
    closed = Suggestion("ContinuousBernoulli", f"reals {seen}, {ends}")
    return [closed, *(replace(closed, likelihood=n, prepare=_CLAMP.capitalize()) for n in ("LogitNormal", "Beta"))]


def _grid(v: _Values) -> int:
    """The fewest levels k / (levels - 1) that hold every value; 0 where there are none, or no end is reached."""
    ends = (v.low == 0) + (v.high == 1)
    if ends < (2 if v.names else 1):  # else any measurement rounded to 2 digits would be an image
        return 0
    some = np.unique(v.x.ravel()[: 100 * LEVELS])
    for steps in range(2, LEVELS):
        if _off(some[~np.isnan(some)], steps).max(initial=0) < OFF_GRID and np.nanmax(_off(v.x, steps)) < OFF_GRID:
            return steps + 1
    return 0


def _off(x: np.ndarray, steps: int) -> np.ndarray:
    return np.abs(x * steps - np.round(x * steps))


def _real(v: _Values) -> list[Suggestion]:
    """Reals by their tails, each column by itself: after the logarithm where they are positive and skewed."""
    x = v.sample()
    error = SIGMAS / math.sqrt(len(x))  # 4 standard errors of the skewness; those of the tails are 5 times as large
    skew, tails = _skew_and_tails(x)
    logarithm = _skew_and_tails(np.log(x)) if v.low > 0 else (math.inf, tails)
    log = skew > max(SKEWED, error) and abs(logarithm[0]) < skew
    ratio = logarithm[1] if log else tails
    prepare = "Take the logarithm, then standardise" if log else "" if _is_standard(x) else "Standardise"
    kind = "whole numbers" if v.all(lambda x: x == np.round(x)) else "reals"
    have = "with" if not log else "positive and skewed, whose logarithms have"
    seen = f"{kind} from {v.low:.3g} to {v.high:.3g}, {have}"
    if math.isnan(ratio):
        return [Suggestion("Normal", f"{seen} at least half of them equal, which no density fits", prepare)]
    heavy = ratio > max(HEAVY, NORMAL + 5 * error)
    seen += f" {'heavy' if heavy else 'light'} tails: 98 % of them span {ratio:.1f} times the middle half"
    first = Suggestion("StudentT" if heavy else "Normal", f"{seen}, those of a normal {NORMAL:.1f}", prepare)
    return [first, replace(first, likelihood="Laplace" if heavy else "StudentT")]


def _judge_table(v: _Values) -> list[Suggestion]:
    """Each column by itself; one likelihood for all where they are of one kind, else Mixed."""
    columns = [replace(v, x=v.x[:, j : j + 1], names=(name,)) for j, name in enumerate(v.names)]
    first = [_judge_column(column) for column in columns]
    if any(_class(s) in _REALS and c.low < c.high for c, s in zip(columns, first, strict=True)):
        first = [_real(c)[0] if _is_measured(c, s) else s for c, s in zip(columns, first, strict=True)]
    settled = [(c, s) for c, s in zip(columns, first, strict=True) if not _is_rare(c)]
    kinds = {_KINDS[_class(s)] for _, s in settled}
    if kinds == _REALS and 2 * sum(_class(s) == "StudentT" for _, s in settled) >= len(settled):
        first = [replace(s, likelihood="StudentT") for s in first]
    alike = len(kinds) <= 1 and not kinds & {"levels", *_REALS} and not any(s.prepare for s in first)
    codes = any(c.low == 0 and c.high == 1 and _class(s) == "Bernoulli" for c, s in settled)
    at_top = [c.high == v.high for c in columns if c.low < c.high]
    one_range = "levels" in kinds and not codes and 2 * sum(at_top) >= len(at_top)  # as pixels have
    pooled = _judge(v) if alike or one_range else []
    if alike or (pooled and _KINDS.get(_class(pooled[0])) == "levels"):
        return pooled
    return _together(v.names, first)


def _judge_column(v: _Values) -> Suggestion:
    if v.low == v.high and v.low not in (0, 1):
        return Suggestion("Normal", f"always {v.low:.4g}", "Drop what never varies")
    return _judge(v)[0]


def _is_measured(v: _Values, first: Suggestion) -> bool:
    """Whether what looks like a proportion or a count is, beside columns of reals, a measurement."""
    kind = _KINDS[_class(first)]
    return (kind == "unit" and v.high - v.low < SPAN) or (kind in ("counts", "levels") and v.low >= CLEAR)


def _is_rare(v: _Values) -> bool:
    """Whether a column of 0 and 1 goes with any other: it never varies, or counts above 1 are too rare to be seen."""
    n = (~np.isnan(v.x)).sum()
    p = v.count(1) / n
    no_more = v.low == 0 and v.high == 1 and n * (1 - math.exp(-p) * (1 + p)) < EXPECTED
    return v.low == v.high or (no_more and p < RARE)


def _together(names: tuple[str, ...], first: list[Suggestion]) -> list[Suggestion]:
    """One likelihood of reals where all columns have the same; else Mixed."""
    todo: dict[str, list[str]] = {}
    examples: dict[str, str] = {}
    for name, suggestion in zip(names, first, strict=True):
        examples.setdefault(_class(suggestion), f"{name} ({suggestion.reason})")
        todo.setdefault(suggestion.prepare, []).append(name)
    steps = [(text, "the columns" if len(of) == len(names) else f"({', '.join(of)})") for text, of in todo.items()]
    prepare = ". ".join(f"{text} {of}" for text, of in steps if text)
    *others, last = examples.values()
    such = f"{', '.join(others)} and {last}" if others else last
    if len(examples) == 1 and not _REALS.isdisjoint(examples):
        alike = ("Normal", "StudentT") if "Normal" in examples else ("StudentT", "Laplace")
        return [Suggestion(name, f"columns of reals, such as {such}", prepare) for name in alike]
    spec = {"class": "Mixed", "columns": {n: s.likelihood for n, s in zip(names, first, strict=True)}}
    return [Suggestion(spec, f"columns of different kinds, such as {such}", prepare)]


def _read(data: Any, names: Sequence[str] | None) -> _Values:
    """The data as an array ``(n, elements)``, checked."""
    if isinstance(data, (DataSet, Images)):
        return _of_images(data.train if isinstance(data, DataSet) else data, names)
    if isinstance(data, Tensor):
        data = data.detach().cpu()
        data = (data.float() if data.dtype in (torch.float16, torch.bfloat16) else data).numpy()
    elif hasattr(data, "columns") and hasattr(data, "to_numpy"):
        names, data = list(data.columns) if names is None else names, data.to_numpy()
    if not isinstance(data, np.ndarray):
        raise TypeError(f"data must be a tensor, a NumPy array, a table or Images; got {type(data).__name__}")
    if data.ndim == 0 or data.size == 0:
        raise ValueError(f"data must hold at least one example with at least one value; got shape {data.shape}")
    labels = _labels(data.shape, names)
    x = _numbers(data, labels).reshape(len(data), -1)
    if np.isinf(x).any():
        raise ValueError(f"data has infinite values: {np.isinf(x).sum()} of {x.size}. Remove them, or write NaN")
    empty = np.isnan(x).all(0)
    if empty.all() or (labels and empty.any()):
        raise ValueError(f"data must have values; {labels[empty.argmax()] if labels else 'all of it'} is only NaN")
    is_bytes = data.dtype == np.uint8 and (data.ndim > 2 or len(labels) > TABLE) and data.max() >= LEVELS / 2
    v = _Values(x[:, ~empty], labels if len(labels) <= TABLE else (), levels=LEVELS if is_bytes else 0)
    if v.low == v.high and v.low not in (0, 1):
        raise ValueError(f"data must vary; every value is {v.low:.4g}, which needs no likelihood")
    return v


def _of_images(images: Images, names: Sequence[str] | None) -> _Values:
    if names is not None or not len(images):
        raise ValueError(f"images must be at least one, without names; got {len(images)} and names {names}")
    some = images.pixels[:: -(-len(images) // ROWS)]
    x = images.to_x(some, torch.float32, torch.Generator(some.device).manual_seed(0)).flatten(1).cpu().numpy()
    levels = 0 if images.dequantize or images.binarize else images.levels + 1
    return _Values(x, (), levels, images.dequantize, "Dequantise: data.load(..., dequantize=True)")


def _labels(shape: tuple[int, ...], names: Sequence[Any] | None) -> tuple[str, ...]:
    if names is None:
        return tuple(f"column {j}" for j in range(shape[1])) if len(shape) == 2 else ()
    labels = tuple(str(name) for name in names)
    if len(shape) != 2 or len(labels) != shape[1] or len(set(labels)) < len(labels):
        raise ValueError(f"names must be one for each column of a table, all different; got {labels} for {shape}")
    return labels


def _numbers(data: np.ndarray, labels: tuple[str, ...]) -> np.ndarray:
    """The same as floating-point numbers; None and pandas' NA become NaN."""
    if data.dtype.kind in "biuf":
        return data if data.dtype in (np.float32, np.float64) else data.astype(np.float64)
    if data.dtype != object:
        raise ValueError(f"data must hold real numbers; got dtype {data.dtype}")
    out = np.full(data.shape, np.nan)
    for place, value in np.ndenumerate(data):
        if isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)):
            out[place] = value
        elif value is not None and type(value).__name__ != "NAType":
            where = f" in {labels[place[1]]!r}" if labels else ""
            raise ValueError(f"data must hold real numbers; got {value!r}{where}. Write classes as codes 0, 1, 2, ...")
    return out


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, variance and number of values of the columns that are not all 0."""
    n = (~np.isnan(x)).sum(0)
    mean = np.nansum(x, 0) / np.maximum(n, 1)
    variance = np.nansum((x - mean) ** 2, 0) / np.maximum(n - 1, 1)
    return mean[mean > 0], variance[mean > 0], n[mean > 0]


def _skew_and_tails(x: np.ndarray) -> tuple[float, float]:
    """The medians over columns of two ratios of quantiles; NaN where at least half of every column is one value."""
    q1, q5, q25, q50, q75, q95, q99 = np.nanquantile(x, [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99], axis=0)
    some = ((x == q50).sum(0) < 0.5 * (~np.isnan(x)).sum(0)) & (q75 > q25)
    if not some.any():
        return math.nan, math.nan
    skew, tails = (q95 + q5 - 2 * q50)[some] / (q95 - q5)[some], (q99 - q1)[some] / (q75 - q25)[some]
    return float(np.median(skew)), float(np.median(tails))


def _is_standard(x: np.ndarray) -> bool:
    """Whether every column lies about 0 and spreads by about 1, as a new network's output does."""
    mean, scale = np.nanmean(x, 0), np.nanstd(x, 0)
    return bool((np.abs(mean) < 3).all() and (scale < 3).all() and (scale[scale > 0] > 1 / 3).all())


def _class(s: Suggestion) -> str:
    return str(s.likelihood if isinstance(s.likelihood, str) else s.likelihood["class"])


def _show(spec: Spec) -> str:
    """A specification as one would write the call; Mixed by its kinds of columns."""
    if isinstance(spec, str):
        return spec
    if spec["class"] != "Mixed":
        arguments = ", ".join(f"{name}={value!r}" for name, value in spec.items() if name != "class")
        return f"{spec['class']}({arguments})"
    groups: dict[str, list[str]] = {}
    for name, column in spec["columns"].items():
        groups.setdefault(_show(column), []).append(name)
    return f"Mixed({'; '.join(f'{kind} for ' + ', '.join(of) for kind, of in groups.items())})"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
