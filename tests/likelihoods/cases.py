"""Every likelihood: data for it, its density by SciPy, and its corners in float32. A new one needs an entry in CASES."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import mpmath as mp
import numpy as np
import torch
from scipy import special, stats
from torch import nn

from pyro_vae import likelihoods, nets
from tests.float32 import elements as e

X, Z = (2, 3), 2
COLUMNS = {
    "age": "Normal",
    "smoker": {"class": "Bernoulli"},
    "visits": {"class": "NegativeBinomial", "dispersion": "per_element"},
    "grade": {"class": "Categorical", "levels": 4, "upper": 3},
    "share": "Beta",
}


def softplus(raw):
    return np.logaddexp(0, raw) + 1e-6


def split(out: np.ndarray, k: int) -> list[np.ndarray]:
    """The k parameters per element in a net's output (batch, k, *shape)."""
    assert out.shape[1] == k
    return [out[:, i] for i in range(k)]


def the_scale(p, out, fixed):
    """Location and scale by the three ways of giving a scale."""
    if p.scale == "per_element":
        loc, raw = split(out, 2)
        return loc, softplus(raw)
    return out, softplus(p.raw_scale.item()) if p.scale == "learned" else fixed


def log_laplace(p, out, x):
    return stats.laplace.logpdf(x, *the_scale(p, out, 0.3))


def log_student(p, out, x):
    df = 1 + softplus(p.raw_df.item()) if p.df == "learned" else p.df
    return stats.t.logpdf(x, df, *the_scale(p, out, 0.3))


def log_normal(p, out, x):
    return stats.norm.logpdf(x, *the_scale(p, out, 0.3))


def log_logit_normal(p, out, x):
    loc, scale = the_scale(p, out, 0.3)
    if p.spread is not None:
        loc, scale = p.center.numpy() + p.spread.numpy() * loc, p.spread.numpy() * scale
    return stats.norm.logpdf(special.logit(x), loc, scale) - np.log(x) - np.log1p(-x)


def log_bernoulli(p, out, x):
    return stats.bernoulli.logpmf(x, special.expit(out))


def log_continuous_bernoulli(p, out, x):
    """An exponential distribution cut off at 1, from 0 or from 1."""
    rate = np.abs(out)
    return stats.truncexpon.logpdf(np.where(out > 0, 1 - x, x), b=rate, scale=1 / rate)


def log_beta(p, out, x):
    one, zero = split(out, 2)
    return stats.beta.logpdf(x, softplus(one), softplus(zero))


def log_categorical(p, out, x):
    index = np.rint(x * (p.levels - 1) / p.upper).astype(int)
    return np.take_along_axis(special.log_softmax(out, axis=1), index[:, None], axis=1)[:, 0]


def log_bin(x, loc, scale, levels, upper):
    """Differences of the logistic cdf, in the smaller tail."""
    half = upper / (levels - 1) / 2
    d = stats.logistic(loc, scale)
    above, below = d.cdf(x + half), d.cdf(x - half)
    middle = np.where(x > loc, d.sf(x - half) - d.sf(x + half), above - below)
    return np.log(np.where(x < half, above, np.where(x > upper - half, d.sf(x - half), middle)))


def log_discretized(p, out, x):
    loc, scale = the_scale(p, out, 0.3)
    return log_bin(x, loc * p.upper, scale * p.upper, p.levels, p.upper)


def log_discretized_mixture(p, out, x):
    logits, loc, raw = np.split(out, 3, axis=1)
    each = log_bin(x[:, None], loc * p.upper, softplus(raw) * p.upper, p.levels, p.upper)
    return special.logsumexp(special.log_softmax(logits, axis=1) + each, axis=1)


def log_poisson(p, out, x):
    return stats.poisson.logpmf(x, the_mean(p, out))


def the_mean(p, raw):
    """Of a gamma, or of counts, which may have a scale."""
    return softplus(raw) if getattr(p, "scale", None) is None else p.scale.numpy() * np.logaddexp(0, raw) + 1e-6


def nb_parameters(p, out):
    names = [*p.names, *(["θ"] if p.dispersion == "per_element" else [])]
    raws = split(out, len(names)) if len(names) > 1 else [out]
    theta = 1 / p.dispersion if isinstance(p.dispersion, float) else None
    if p.dispersion == "learned":
        theta = the_theta(p, p.raw_inverse_dispersion.item())
    return the_mean(p, raws[0]), the_theta(p, raws[-1]) if theta is None else theta, raws[1:]


def the_theta(p, raw):
    unit = 1 if getattr(p, "scale", None) is None else max(1, p.scale.mean().item())
    return unit * np.logaddexp(0, raw) + 1e-6


def log_nb(p, out, x):
    mean, theta, _ = nb_parameters(p, out)
    return stats.nbinom.logpmf(x, theta, theta / (theta + mean))


def log_zinb(p, out, x):
    mean, theta, rest = nb_parameters(p, out)
    gate = special.expit(rest[0])
    return np.log(gate * (x == 0) + (1 - gate) * stats.nbinom.pmf(x, theta, theta / (theta + mean)))


def log_gamma(p, out, x):
    mean, theta, _ = nb_parameters(p, out)
    return stats.gamma.logpdf(x, theta, scale=mean / theta)


def log_standardized(log_density):
    """The density of y = (x − loc) / scale by that of the inner likelihood."""

    def log_density_of_x(p, out, x):
        loc, scale = p.loc.numpy(), p.scale.numpy()
        return log_density(p.part, out, (x - loc) / scale) - np.log(scale)

    return log_density_of_x


def log_lognormal(p, out, x):
    m, s = the_scale(p.part, out, 0.3)
    loc, scale = p.loc.item(), p.scale.item()
    return stats.lognorm.logpdf(x, scale * s, scale=np.exp(loc + scale * m))


def exact_gamma(raw_mean, raw_theta, x):
    a, mean = e.positive(raw_theta), e.positive(raw_mean)
    return a * mp.log(a / mean) - mp.loggamma(a) + (a - 1) * mp.log(x) - a * x / mean


GAMMA = {
    "Gamma": e.Corners(
        [(e.raw_of(m), e.raw_of(a)) for m, a in product((1e-3, 1.0, 1e4, 1e7), (0, 0.1, 1.0, 30.0, 1e4, 1e6))],
        lambda raw, _: [float(e.positive(raw)) * s for s in (1e-30, 1e-6, 0.5, 0.999, 1.0, 1.01, 3.0, 50.0)],
        exact_gamma,
        {"dispersion": "per_element"},
    )
}


# 1234.5 and 0.375 are exact in float32.
STANDARDIZED = {
    f"Standardized {name}": e.Corners(
        e.LOCATIONS,
        lambda m, raw: [1234.5 + 0.375 * y for y in e.of_scale(m, raw)],
        lambda m, raw, x, inner=inner: inner(m, raw, (x - 1234.5) / 0.375) - mp.log(0.375),
        {"likelihood": {"class": name, "scale": "per_element", **options}, "loc": 1234.5, "scale": 0.375},
    )
    for name, inner, options in (
        ("Normal", e.normal, {}),
        ("Laplace", e.laplace, {}),
        ("StudentT", e.student(4.0), {"df": 4.0}),
    )
}
LOG_NORMAL = {
    "Standardized log": e.Corners(
        [(m, e.raw_of(s)) for m, s in product((0.0, 0.3, -5.0, 30.0), (0, 1e-3, 1.0, 5.0))],
        lambda m, raw: [float(mp.exp(2.25 + 0.375 * y)) for y in e.of_scale(m, raw) if -200 < y < 200],
        lambda m, raw, x: e.normal(m, raw, (mp.log(x) - 2.25) / 0.375) - mp.log(0.375) - mp.log(x),
        {"likelihood": {"class": "Normal", "scale": "per_element"}, "loc": 2.25, "scale": 0.375, "log": True},
    )
}


@dataclass
class Case:
    """A likelihood with its options.

    ``values`` says what x is like. ``log_density`` is that of an element by SciPy: of the likelihood, its net's output
    and x; None if there are no independent elements. ``corners`` are those of its class for the tests in float32; one
    case of a class suffices.
    """

    cls: type
    values: str
    log_density: Callable[..., np.ndarray] | None
    options: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = X
    corners: dict[str, e.Corners] = field(default_factory=dict)

    def build(self, net: nn.Module) -> nn.Module:
        return self.cls(net, **self.options)

    def net_shape(self, shape: tuple[int, ...] | None = None) -> tuple[int, ...]:
        return tuple(self.cls.net_shape(self.shape if shape is None else shape, **self.options))

    def with_mlp(self, context: int = 0) -> nn.Module:
        """In float64, with a small net, the same each time."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return self.build(nets.MLP(Z, (5,), self.net_shape(), activation="Tanh", context_features=context)).double()

    def with_raw(self, raw: torch.Tensor) -> nn.Module:
        """With a net that gives ``raw`` (batch, *net_shape) for any z."""
        return self.build(Raw(raw)).to(raw.dtype)

    def x(self, n: int = 7) -> torch.Tensor:
        g = torch.Generator().manual_seed(1)
        if self.values == "columns":
            each = [CASES[name].values for name in ("normal_learned", "bernoulli", "poisson", "class_codes", "beta")]
            return torch.cat([draw(values, (n, 1), g, levels=4) for values in each], dim=1)
        return draw(self.values, (n, *self.shape), g, self.options.get("levels", 256), self.options.get("upper", 1.0))


def draw(values, shape, g, levels=256, upper=None):
    u = torch.rand(*shape, generator=g, dtype=torch.float64)
    index = (u * levels).floor().clamp(0, levels - 1)
    if index.dim() > 1 and values == "levels":
        index.flatten()[:2] = torch.tensor([0.0, levels - 1.0])
    upper = levels - 1 if upper is None else upper
    return {
        "real": 3 * u - 1,
        "unit": u,
        "positive": 3 * u**2 + 0.01,
        "binary": (u > 0.5).double(),
        "levels": index / ((levels - 1) / upper),
        "counts": (4 * u**2 / (1.05 - u)).floor(),
    }[values]


class Raw(nn.Module):
    """A net that gives its parameter for any input."""

    def __init__(self, raw: torch.Tensor) -> None:
        super().__init__()
        self.raw = nn.Parameter(raw)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.raw


L = likelihoods
INTERVALS = {"real": (-np.inf, np.inf), "unit": (0.0, 1.0), "positive": (0.0, np.inf)}  # of continuous values
SCALES = {"fixed": 0.3, "learned": "learned", "per_element": "per_element"}
CASES = {
    "bernoulli": Case(L.Bernoulli, "binary", log_bernoulli, corners=e.BERNOULLI),
    **{f"normal_{k}": Case(L.Normal, "real", log_normal, {"scale": v}, corners=e.NORMAL) for k, v in SCALES.items()},
    "normal_optimal": Case(L.Normal, "real", None, {"scale": "optimal"}),
    **{
        f"laplace_{k}": Case(L.Laplace, "real", log_laplace, {"scale": v}, corners=e.LAPLACE) for k, v in SCALES.items()
    },
    **{
        f"student_{k}": Case(L.StudentT, "real", log_student, {"scale": v}, corners=e.STUDENT)
        for k, v in SCALES.items()
    },
    "student_fixed_df": Case(L.StudentT, "real", log_student, {"df": 3.5}),
    "continuous_bernoulli": Case(
        L.ContinuousBernoulli, "unit", log_continuous_bernoulli, corners=e.CONTINUOUS_BERNOULLI
    ),
    "beta": Case(L.Beta, "unit", log_beta, corners=e.BETA),
    **{
        f"logit_normal_{k}": Case(L.LogitNormal, "unit", log_logit_normal, {"scale": v}, corners=e.LOGIT_NORMAL)
        for k, v in SCALES.items()
    },
    "logit_normal_scaled": Case(L.LogitNormal, "unit", log_logit_normal, {"center": 0.4, "spread": 0.7}),
    "categorical": Case(L.Categorical, "levels", log_categorical, {"levels": 17}, corners=e.CATEGORICAL),
    "class_codes": Case(L.Categorical, "levels", log_categorical, {"levels": 4, "upper": 3}),
    **{
        f"discretized_{k}": Case(
            L.DiscretizedLogistic, "levels", log_discretized, {"levels": 17, "scale": v}, corners=e.DISCRETIZED_LOGISTIC
        )
        for k, v in SCALES.items()
    },
    "discretized_256": Case(L.DiscretizedLogistic, "levels", log_discretized, {"levels": 256, "upper": 255.0}),
    "discretized_mixture": Case(
        L.DiscretizedLogisticMixture,
        "levels",
        log_discretized_mixture,
        {"levels": 17, "components": 3},
        corners=e.DISCRETIZED_MIXTURE,
    ),
    "poisson": Case(L.Poisson, "counts", log_poisson, corners=e.POISSON),
    **{
        f"nb_{k}": Case(L.NegativeBinomial, "counts", log_nb, {"dispersion": v}, corners=e.NEGATIVE_BINOMIAL)
        for k, v in SCALES.items()
    },
    **{
        f"zinb_{k}": Case(
            L.ZeroInflatedNegativeBinomial, "counts", log_zinb, {"dispersion": v}, corners=e.ZERO_INFLATED
        )
        for k, v in SCALES.items()
    },
    "poisson_scaled": Case(L.Poisson, "counts", log_poisson, {"scale": 0.5}),
    "nb_scaled": Case(L.NegativeBinomial, "counts", log_nb, {"scale": 3.0}),
    "nb_scaled_per_element": Case(L.NegativeBinomial, "counts", log_nb, {"scale": 3.0, "dispersion": "per_element"}),
    "zinb_scaled": Case(L.ZeroInflatedNegativeBinomial, "counts", log_zinb, {"scale": 2.0}),
    **{f"gamma_{k}": Case(L.Gamma, "positive", log_gamma, {"dispersion": v}, corners=GAMMA) for k, v in SCALES.items()},
    "standardized": Case(
        L.Standardized, "real", log_standardized(log_normal), {"loc": 0.7, "scale": 2.5}, corners=STANDARDIZED
    ),
    "standardized_student": Case(
        L.Standardized,
        "real",
        log_standardized(log_student),
        {"likelihood": {"class": "StudentT", "scale": "per_element"}, "loc": 0.7, "scale": 2.5},
    ),
    "standardized_log": Case(
        L.Standardized, "positive", log_lognormal, {"loc": 0.3, "scale": 0.7, "log": True}, corners=LOG_NORMAL
    ),
    "multinomial": Case(L.Multinomial, "counts", None, {"total_count": 3}, shape=(4,)),
    "mixed": Case(L.Mixed, "columns", None, {"columns": COLUMNS}, shape=(5,)),
}
ELEMENTS = {name: (case.cls, corners) for case in CASES.values() for name, corners in case.corners.items()}
ELEMENTWISE = [name for name, case in CASES.items() if case.log_density is not None]
CODES = torch.linspace(-1, 1, 14, dtype=torch.float64).reshape(7, Z)
