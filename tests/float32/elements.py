"""Corners for likelihoods of independent elements, and log-densities with 50 digits; tests/likelihoods/cases.py has them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import mpmath as mp
import numpy as np
import torch
from torch import nn

mp.mp.dps = 50
BELOW_ONE = 1 - 2**-24  # the largest of float32
FLOOR = -30.0  # softplus of it is 1e-13, so that 1e-6 is what is left


def single(x: Any) -> float:
    """The float32 number next to x."""
    return float(np.float32(x))


def raw_of(value: float) -> float:
    """What softplus(raw) + 1e-6 makes ``value`` of, near enough."""
    y = mp.mpf(value) - mp.mpf(1e-6)
    return FLOOR if y <= 0 else single(y + mp.log(-mp.expm1(-y)))


def positive(raw: Any) -> Any:
    """Softplus(raw) + 1e-6."""
    return mp.log1p(mp.exp(raw)) + mp.mpf(1e-6)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


def log_normal(z: Any, scale: Any) -> Any:
    return -z * z / 2 - mp.log(scale) - mp.log(2 * mp.pi) / 2


class Given(nn.Module):
    """A net with an output that does not depend on z."""

    def __init__(self, out: torch.Tensor) -> None:
        super().__init__()
        self.out = out

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.out


@dataclass
class Corners:
    """Raw outputs of a likelihood's net, values of x at each, and the log-density of an element with 50 digits."""

    raws: list[tuple[float, ...]]
    values: Callable[..., Sequence[float]]
    log_density: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict)

    def points(self) -> list[tuple[tuple[float, ...], float]]:
        """Every raw output with every value of x."""
        raws = [tuple(single(r) for r in raw) for raw in self.raws]
        return [(raw, x) for raw in raws for x in sorted({single(x) for x in self.values(*raw)})]

    def log_prob(self, likelihood: type, raws: torch.Tensor, xs: torch.Tensor) -> torch.Tensor:
        """The log-density by a likelihood, for raw outputs ``(n, k)`` and x ``(n,)``."""
        out = raws if raws.shape[1] == 1 else raws.unsqueeze(-1)
        p = likelihood(Given(out), **self.options).to(raws.dtype)
        return p(torch.zeros(len(raws), 1)).log_prob(xs.unsqueeze(-1))


def near(loc: Any, scale: Any, steps: Sequence[float] = (0, 1e-3, 0.1, 1, -3, 12, -300, 1e4)) -> list[float]:
    return [loc, *(single(loc + s * scale) for s in steps)]


def of_scale(loc: float, raw: float) -> list[float]:
    return near(loc, float(positive(raw)))


LOCATIONS = [(loc, raw_of(scale)) for loc, scale in product((0.0, 0.3, -1e3, 1e6), (0, 1e-4, 1.0, 1e3))]


def normal(loc, raw, x):
    return log_normal((x - loc) / positive(raw), positive(raw))


def laplace(loc, raw, x):
    return -abs(x - loc) / positive(raw) - mp.log(2 * positive(raw))


def student(df):
    def log_density(loc, raw, x):
        n, y = mp.mpf(df), (x - loc) / positive(raw)
        constant = mp.loggamma((n + 1) / 2) - mp.loggamma(n / 2) - mp.log(n * mp.pi) / 2 - mp.log(positive(raw))
        return constant - (n + 1) / 2 * mp.log1p(y * y / n)

    return log_density


def logit_normal(loc, raw, x):
    z = (mp.log(x) - mp.log1p(-x) - loc) / positive(raw)
    return log_normal(z, positive(raw)) - mp.log(x) - mp.log1p(-x)


def beta(one, zero, x):
    a, b = positive(one), positive(zero)
    return mp.loggamma(a + b) - mp.loggamma(a) - mp.loggamma(b) + (a - 1) * mp.log(x) + (b - 1) * mp.log1p(-x)


def inside(values):
    return [x for x in values if 0 < single(x) < 1]


def of_beta(one: float, zero: float) -> list[float]:
    a, b = float(positive(one)), float(positive(zero))
    spread = (a * b / (a + b) ** 2 / (a + b + 1)) ** 0.5
    mode = a / (a + b)
    return inside(
        [1.2e-38, 1e-20, 1e-6, 0.3, 0.5, BELOW_ONE, mode, mode + spread, mode - 5 * spread, mode + 5 * spread]
    )


def continuous_bernoulli(logit, x):
    if not logit:
        return mp.mpf(0)
    return logit * x - mp.log(mp.expm1(logit) / logit)


def bernoulli(logit, x):
    return -mp.log1p(mp.exp(-logit if x else logit))


def of_levels(levels, upper):
    return [
        k * upper / (levels - 1)
        for k in (0, 1, 3 * levels // 10, 3 * levels // 10 + 1, levels // 3, levels // 2, levels - 2, levels - 1)
    ]


def discretized(levels, upper):
    def log_density(loc, raw, x):
        index, steps = mp.nint(x * (levels - 1) / upper), levels - 1
        above, below = (((index + s) - loc * steps) / (positive(raw) * steps) for s in (mp.mpf(0.5), -mp.mpf(0.5)))
        if index == 0:
            return mp.log(sigmoid(above))
        if index == levels - 1:
            return mp.log(sigmoid(-below))
        # sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b))
        return -mp.log1p(mp.exp(-above)) - mp.log1p(mp.exp(below)) + mp.log(-mp.expm1(below - above))

    return log_density


def discretized_mixture(levels):
    one = discretized(levels, 1)

    def log_density(*params_and_x):
        *params, x = params_and_x
        logits, locs, raws = params[:2], params[2:4], params[4:]
        weights = [mp.exp(a) for a in logits]
        return mp.log(sum(w * mp.exp(one(m, r, x)) for w, m, r in zip(weights, locs, raws, strict=True)) / sum(weights))

    return log_density


def categorical(levels):
    def log_density(*logits_and_x):
        *logits, x = logits_and_x
        return logits[int(mp.nint(x * (levels - 1)))] - mp.log(sum(mp.exp(a) for a in logits))

    return log_density


def poisson(raw, x):
    rate = positive(raw)
    return x * mp.log(rate) - rate - mp.loggamma(x + 1)


def log_negative_binomial(mean, a, x):
    r = 1 / mp.mpf(a)
    gammas = mp.loggamma(x + r) - mp.loggamma(r) - mp.loggamma(x + 1)
    return gammas - r * mp.log1p(a * mean) + x * (mp.log(mean) - mp.log(r + mean))


def negative_binomial(dispersion=None):
    def log_density(raw, *rest):
        a = 1 / positive(rest[0]) if dispersion is None else mp.mpf(dispersion)
        return log_negative_binomial(positive(raw), a, rest[-1])

    return log_density


def zero_inflated(dispersion):
    def log_density(raw, gate, x):
        base = log_negative_binomial(positive(raw), mp.mpf(dispersion), x) - mp.log1p(mp.exp(gate))
        return base if x else mp.log(mp.exp(base) + sigmoid(gate))

    return log_density


MEANS = (1e-3, 1.0, 30.0, 1e4, 1e6, 1e7)


def around(mean: float, dispersion: float) -> list[float]:
    spread = (mean + dispersion * mean**2) ** 0.5
    steps = [mean + k * spread for k in (0, 0.01, 1, -2.5, 5, -5)]
    return [0, 1, 5, 1000, 2**24, *(round(x) for x in steps if 0 <= x <= 2**24)]


def counts(dispersion=None):
    def values(raw, *rest):
        a = float(1 / positive(rest[0])) if dispersion is None else dispersion
        return around(float(positive(raw)), a)

    return values


DISPERSIONS = (1e-10, 1e-8, 1e-6, 1e-4, 1e-2, 1.0, 10.0, 1e4)
LOGITS = (0.0, 1e-4, -0.4999, 0.5001, 15.0, -100.0, 1e4)
SPECTRUM = [0.0, 1.0, -100.0, 60.0, 3.0]

BERNOULLI = {"Bernoulli": Corners([(x,) for x in LOGITS], lambda _: [0, 1], bernoulli)}
CONTINUOUS_BERNOULLI = {
    "ContinuousBernoulli": Corners(
        [(x,) for x in LOGITS], lambda _: [0, 1e-6, 0.3, 0.5, BELOW_ONE, 1], continuous_bernoulli
    )
}
BETA = {
    "Beta": Corners([tuple(map(raw_of, p)) for p in product((0, 1e-3, 0.5, 1.0, 1e3, 1e6), repeat=2)], of_beta, beta)
}
LOGIT_NORMAL = {
    "LogitNormal": Corners(
        [(loc, raw_of(s)) for loc, s in product((0.0, 0.3, -5.0, 80.0), (0, 1e-3, 1.0, 30.0))],
        lambda loc, raw: inside([1.2e-38, 1e-6, 0.3, 0.5, BELOW_ONE, *(float(sigmoid(y)) for y in of_scale(loc, raw))]),
        logit_normal,
        {"scale": "per_element"},
    )
}
NORMAL = {"Normal": Corners(LOCATIONS, of_scale, normal, {"scale": "per_element"})}
LAPLACE = {"Laplace": Corners(LOCATIONS, of_scale, laplace, {"scale": "per_element"})}
STUDENT = {
    f"StudentT {df:g} degrees": Corners(LOCATIONS, of_scale, student(df), {"df": df, "scale": "per_element"})
    for df in (1.0001, 2.0, 30.0, 1e4, 1e6, 1e9)
}
DISCRETIZED_LOGISTIC = {
    f"DiscretizedLogistic upper {upper:g}": Corners(
        [(loc, raw_of(s)) for loc, s in product((0.0, 0.3, 0.5, 1.0, -2.0, 30.0), (0, 1e-3, 0.1, 100.0))],
        lambda loc, raw, upper=upper: of_levels(256, upper),
        discretized(256, upper),
        {"scale": "per_element", "upper": upper},
    )
    for upper in (1.0, 255.0)
}
DISCRETIZED_MIXTURE = {
    "DiscretizedLogisticMixture": Corners(
        [
            (0.0, g, 0.3, m, raw_of(s), raw_of(t))
            for g, m, s, t in product((0.0, 60.0, -60.0), (0.5, 20.0), (0, 0.1), (0, 1.0))
        ],
        lambda *_: of_levels(256, 1),
        discretized_mixture(256),
        {"components": 2},
    )
}
CATEGORICAL = {"Categorical": Corners([tuple(SPECTRUM)], lambda *_: of_levels(5, 1), categorical(5), {"levels": 5})}
POISSON = {"Poisson": Corners([(raw_of(m),) for m in MEANS], counts(0.0), poisson)}
NEGATIVE_BINOMIAL = {
    **{
        f"NegativeBinomial dispersion {a:g}": Corners(
            [(raw_of(m),) for m in MEANS], counts(a), negative_binomial(a), {"dispersion": a}
        )
        for a in DISPERSIONS
    },
    "NegativeBinomial per element": Corners(
        [(raw_of(m), raw_of(1 / a)) for m in MEANS for a in DISPERSIONS],
        counts(),
        negative_binomial(),
        {"dispersion": "per_element"},
    ),
}
ZERO_INFLATED = {
    f"ZeroInflatedNegativeBinomial dispersion {a:g}": Corners(
        [(raw_of(m), gate) for m in MEANS for gate in (0.0, 40.0, -40.0, -200.0)],
        lambda raw, gate, a=a: around(float(positive(raw)), a),
        zero_inflated(a),
        {"dispersion": a},
    )
    for a in (1e-8, 1e-2, 1e4)
}
