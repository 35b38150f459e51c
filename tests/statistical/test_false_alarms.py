"""How often a check raises a false alarm on correct models: no more often than it says."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from scipy import stats

from pyro_vae.checks import check
from pyro_vae.closed_forms import LinearGaussian
from tests.combinations.parts import disturb, raw_vae

# The lines that compare estimates. Calibration is among them where q is the true posterior.
LINES = [
    "noise",
    "prior-mass",
    "posterior-mass",
    "prior-draws",
    "posterior-draws",
    "likelihood-draws",
    "kl",
    "objective",
    "order",
    "evidence",
    "gradient-analytic-kl",
    "gradient-score",
    "gradient-landing",
    "gradient-doubly",
    "objective-gradient",
    "calibration",
]


def linear(seed, dims):
    """A linear Gaussian VAE with its true posterior, so that nothing is an approximation."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(6, dims, dtype=torch.float64, generator=generator)
    model = LinearGaussian(weight, torch.zeros(6, dtype=torch.float64), 0.7)
    vae = model.vae("exact")
    return vae, vae.sample(8, seed=seed), True


def mixture(seed, _):
    """Networks, a mixture as prior, and codes of which Pyro knows no closed KL."""
    vae = disturb(raw_vae("MixtureOfNormals", "FullNormal", 3, seed), seed)
    return vae, vae.sample(8, seed=seed), False


def categories(seed, _):
    vae = disturb(raw_vae("Categorical", "Categorical", 3, seed), seed)
    return vae, vae.sample(8, seed=seed), False


MODELS = {"linear-2": (linear, 2), "linear-4": (linear, 4), "mixture": (mixture, 3), "categories": (categories, 3)}


def hand_written(vae):
    """The negative bound as a user writes it, with its own draws."""

    def loss(x):
        q, p = vae.encode(x), vae.prior_of()
        z = q.rsample() if q.has_rsample else q.sample()
        return -(vae.decode(z).log_prob(x) + p.log_prob(z) - q.log_prob(z)).sum()

    return loss


def p_values(name, seed):
    make, dims = MODELS[name]
    vae, x, exact = make(seed, dims)
    report = check(vae, x, objective=hand_written(vae), exact=exact, only=LINES, repeats=30, seed=seed)
    assert {line.name for line in report} <= set(LINES), [line.finding.detail for line in report.failures]
    found = {line.name: line.finding.p_value for line in report if line.finding.p_value is not None}
    if not exact:
        found.pop("calibration", None)  # q is an approximation there, and the line tells so rightly
    return found


def excess(counts, n, level):
    """The lines whose p-values lie below the level more often than chance explains, at one in a million a line."""
    most = stats.binom.isf(1e-6, n, level)
    return {line: (count, n, level) for line, count in counts.items() if count > most}


def assert_calibrated(seeds):
    values = defaultdict(lambda: defaultdict(list))
    for name in MODELS:
        for seed in seeds:
            for line, p in p_values(name, seed).items():
                values[name][line].append(p)
    for name, lines in values.items():
        for level in (0.1, 0.01, 1e-4):
            counts = {line: sum(p < level for p in ps) for line, ps in lines.items()}
            assert not excess(counts, len(seeds), level), name
    assert {line for lines in values.values() for line in lines} == set(LINES) - {"posterior-mass", "prior-mass"} | (
        {"prior-mass", "posterior-mass"} & {line for lines in values.values() for line in lines}
    )


def test_twenty_seeds():
    assert_calibrated(range(5))


@pytest.mark.slow
def test_two_hundred_seeds():
    """Each line on four models of each seed: 200 reports a model."""
    assert_calibrated(range(200))
