"""The mass of densities and their draws, where supports, tails, peaks and counts are out of the ordinary."""

from __future__ import annotations

from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import nn

from pyro_vae.checks import check
from pyro_vae.checks.densities import elements_of
from pyro_vae.checks.inputs import Inputs
from pyro_vae.checks.mass import check_mass
from pyro_vae.checks.ranks import rank_scores
from pyro_vae.checks.sampling import check_draws
from pyro_vae.model_guide import ModelGuide
from pyro_vae.seeds import seeded
from tests.conftest import make_vae, make_x

LEVEL = 1e-4  # of false alarms, of each verdict; the seeds are fixed


def _t(*values):
    return torch.tensor(values, dtype=torch.float64)


def _mixture(loc, scale, logits=None, vector=False):
    components = dist.Normal(loc, scale).to_event(1) if vector else dist.Normal(loc, scale)
    shape = loc.shape[:-1] if vector else loc.shape
    logits = torch.zeros(shape, dtype=torch.float64) if logits is None else logits
    return dist.MixtureSameFamily(dist.Categorical(logits=logits), components)


def _far_apart(n, components, spread, scale=1.0, seed=3):
    generator = torch.Generator().manual_seed(seed)
    loc = spread * torch.randn(components, n, dtype=torch.float64, generator=generator)
    return _mixture(loc, torch.full_like(loc, scale), vector=True)


RIGHT = {
    "mixture": lambda: _mixture(_t(-1.0, 2.0).expand(6, 2), _t(0.5, 1.0)),
    "narrow-mixture": lambda: _mixture(torch.linspace(-3, 3, 5).double().expand(6, 5), _t(0.003)),
    "mixture-2d": lambda: _far_apart(2, 4, 1.5, 0.5),
    "narrow-mixture-2d": lambda: _far_apart(2, 50, 1.5, 0.02),
    "mixture-20d": lambda: _far_apart(20, 8, 6.0),
    "angles": lambda: dist.VonMises(_t(0.0, 3.1, -2.0), _t(0.3, 4.0, 1000.0)),
    "mixture-of-angles": lambda: dist.MixtureSameFamily(
        dist.Categorical(logits=_t(0.0, 1.0)), dist.VonMises(_t(0.0, 3.0), _t(5.0, 2.0))
    ),
    "binomial-of-different-counts": lambda: dist.Binomial(_t(5, 6, 70), logits=_t(0.3, -1.0, 2.0)),
    "large-counts": lambda: dist.Poisson(_t(3e4, 5e4)),
    "rare-counts": lambda: dist.Poisson(_t(0.003)),
    "zero-inflated-counts": lambda: dist.ZeroInflatedPoisson(_t(7.0, 2.0), gate=_t(0.995, 0.3)),
    "long-tailed-counts": lambda: dist.NegativeBinomial(_t(0.05, 3.0), logits=_t(4.6, 1.0)),
    "cauchy": lambda: dist.StudentT(_t(1.0), _t(0.0, 3.0), _t(0.5)),
    "half-a-degree-of-freedom": lambda: dist.StudentT(_t(0.5), _t(0.0), _t(0.5)),
    "gamma-near-zero": lambda: dist.Gamma(_t(0.05, 0.3), _t(1.0, 2.0)),
    "weibull": lambda: dist.Weibull(_t(1.0), _t(0.3)),
    "beta": lambda: dist.Beta(_t(0.5, 2.0), _t(0.5, 3.0)),
    "dirichlet": lambda: dist.Dirichlet(_t(2.0, 1.0, 3.0)),
    "uniform": lambda: dist.Uniform(_t(-2.0), _t(5.0)),
    "wide-normal": lambda: dist.Normal(_t(1e4), _t(1e-3, 1e3)),
}
# Draws that are 0 or 1 to rounding, in float64: nothing can be said about them.
AT_THE_EDGE = {
    "beta": lambda: dist.Beta(_t(0.05), _t(0.05)),
    "dirichlet": lambda: dist.Dirichlet(_t(0.1, 0.1, 0.1)),
    "dirichlet-in-many": lambda: dist.Dirichlet(torch.full((6,), 0.1, dtype=torch.float64)),
}


def _off(distribution, constant=0.0, drawn=None):
    """A distribution of which the log-density is off by a constant, or the draws are those of another."""
    log_prob = distribution.log_prob
    distribution.log_prob = lambda value: log_prob(value) + constant
    distribution.sample = (drawn or distribution).sample
    return distribution


def _look(which, distribution, level=LEVEL, seed=0):
    pair = ModelGuide(make_vae(), make_x())
    inputs = Inputs(pair, pair, None, 1, None, False, level, 20, seed)
    with pyro.validation_enabled(False), seeded(seed):
        if which == "mass":
            with torch.no_grad():
                return check_mass(distribution, inputs)
        return check_draws(distribution, distribution.sample, inputs)


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("which", ["mass", "draws"])
def test_a_right_density_passes(name, which):
    found = _look(which, RIGHT[name]())
    assert found.verdict == "passed", found.detail


@pytest.mark.parametrize("name", RIGHT)
def test_a_density_without_its_constant_is_found(name):
    """By log 1.1; by more where it is not integrated but estimated from draws."""
    constant = 0.4 if name in ("mixture-20d", "narrow-mixture-2d") else 0.0953
    distribution = RIGHT[name]()
    found = _look("mass", _off(distribution, constant))
    assert found.verdict == "failed", found
    assert "normalisation" in found.detail


@pytest.mark.parametrize("name", AT_THE_EDGE)
@pytest.mark.parametrize("which", ["mass", "draws"])
def test_a_density_at_the_edge_is_not_judged(name, which):
    for seed in range(3):
        assert _look(which, AT_THE_EDGE[name](), seed=seed).verdict == "skipped"


@pytest.mark.parametrize("which", ["mass", "draws"])
@pytest.mark.parametrize(
    ("distribution", "reason"),
    [
        (dist.Poisson(_t(1e9)), "spread over more than"),
        (dist.ZeroInflatedPoisson(_t(1e5), gate=_t(0.5)), "spread over more than"),
        (dist.MixtureSameFamily(dist.Categorical(_t(1, 1)), dist.Binomial(_t(3, 9), _t(0.5))), "different supports"),
        (dist.MixtureSameFamily(dist.Categorical(_t(1, 1)), dist.Uniform(_t(0, 1), _t(1, 3))), "is known"),
    ],
    ids=["large", "far-apart", "mixture-of-binomials", "mixture-of-uniforms"],
)
def test_what_cannot_be_compared_is_skipped_with_a_reason(which, distribution, reason):
    found = _look(which, distribution)
    assert found.verdict == "skipped"
    assert reason in found.detail


def test_a_vector_of_counts_that_is_not_understood_is_skipped_with_a_reason():
    """Totals that change from draw to draw, under a support that says that they are one."""

    class OfAnyTotal(dist.Multinomial):
        def sample(self, sample_shape=()):
            return torch.randint(9, (*sample_shape, *self.batch_shape, *self.event_shape)).double()

    found = _look("mass", OfAnyTotal(3, probs=_t(0.2, 0.8)))
    assert found.verdict == "skipped"
    assert "cannot all be listed" in found.detail


@pytest.mark.parametrize(
    ("density", "drawn"),
    [
        (dist.VonMises(_t(0.0), _t(4.0)), dist.VonMises(_t(0.3), _t(4.0))),
        (dist.VonMises(_t(0.0), _t(4.0)), dist.VonMises(_t(0.0), _t(2.5))),
        (dist.Binomial(_t(5, 6), logits=_t(0.3, -1.0)), dist.Binomial(_t(5, 6), logits=_t(-0.3, -1.0))),
        (dist.Poisson(_t(3e4)), dist.Poisson(_t(3.01e4))),
        (dist.Poisson(_t(4.0)), dist.GammaPoisson(_t(4.0), _t(1.0))),
        (dist.ZeroInflatedPoisson(_t(7.0), gate=_t(0.95)), dist.ZeroInflatedPoisson(_t(7.0), gate=_t(0.9))),
        (dist.StudentT(_t(1.0), _t(0.0), _t(0.5)), dist.StudentT(_t(1.0), _t(0.0), _t(0.7))),
        (dist.StudentT(_t(3.0), _t(0.0), _t(1.0)), dist.StudentT(_t(1.0), _t(0.0), _t(1.0))),
        (dist.Normal(_t(0.0), _t(1.0)), dist.Normal(_t(0.0), _t(1.25))),
        (_mixture(_t(-1.0, 1.5), _t(0.5, 1.0)), _mixture(_t(-1.0, 1.5), _t(0.5, 1.0), _t(0.0, 1.5))),
    ],
    ids=lambda d: type(d).__name__,
)
def test_draws_of_another_distribution_are_found(density, drawn):
    assert _look("draws", density).verdict == "passed"
    found = _look("draws", _off(density, drawn=drawn))
    assert found.verdict == "failed"
    assert "draws do not follow" in found.detail


@pytest.mark.parametrize("name", ["zero-inflated-counts", "long-tailed-counts", "cauchy", "beta", "angles"])
def test_draws_keep_their_level(name):
    """40 seeds at level 0.05: more than 8 failures would come up in fewer than 1 of 1000 runs (binomial)."""
    failures = sum(_look("draws", RIGHT[name](), 0.05, seed).verdict == "failed" for seed in range(40))
    assert failures <= 8


def test_the_bridge_over_many_peaks_keeps_its_level():
    """12 seeds at level 0.05: more than 4 failures would come up in fewer than 1 of 1000 runs (binomial)."""
    mixture = _far_apart(8, 5, 6.0)
    assert sum(_look("mass", mixture, 0.05, seed).verdict == "failed" for seed in range(12)) <= 4


def test_a_mixture_without_its_weights_is_found_in_20_dimensions():
    found = _look("mass", _off(RIGHT["mixture-20d"](), 2.0794))
    assert found.verdict == "failed"
    assert found.p_value < 1e-6


def test_columns_are_looked_at_one_by_one():
    normal = dist.Normal(_t(0.0), 1.0)
    assert list(elements_of(dist.MaskedDistribution(normal.to_event(1), torch.tensor(True)))) == [normal]


class _Pair(nn.Module):
    """A model and a guide with any likelihood, or noise, of their own."""

    def __init__(self, likelihood, noise=None):
        super().__init__()
        self.likelihood, self.noise = likelihood, noise
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.encoder = nn.Linear(6, 4)

    def model(self, x):
        pyro.module("pair", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), 2), 1.0).to_event(1))
            pyro.sample("x", self.likelihood(z.sum(-1, keepdim=True).expand(-1, 6)).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("pair", self)
        with pyro.plate("data", len(x)):
            loc, raw = self.encoder(x).chunk(2, -1)
            pyro.sample("z", _Repeating(loc, nn.functional.softplus(raw) + 0.1, self.noise).to_event(1))


class _Repeating(dist.Normal):
    """A normal of which every so many examples have the same noise."""

    def __init__(self, loc, scale, period, validate_args=None):
        self.period = period
        super().__init__(loc, scale, validate_args=validate_args)

    def rsample(self, sample_shape=()):
        noise = torch.randn(self._extended_shape(sample_shape), dtype=self.loc.dtype)
        if self.period and noise.dim() > 1:
            noise = noise[..., torch.arange(noise.shape[-2]) % self.period, :]
        return self.loc + self.scale * noise

    def expand(self, batch_shape, _instance=None):
        return _Repeating(self.loc.expand(batch_shape), self.scale.expand(batch_shape), self.period)


def _normal(h):
    return dist.Normal(h, 1.0)


def _of_two(h):
    return dist.MixtureSameFamily(
        dist.Categorical(logits=torch.zeros_like(h).unsqueeze(-1).expand(*h.shape, 2)),
        dist.Normal(torch.stack([h, h + 3], -1), 1.0),
    )


@pytest.mark.parametrize("period", [1, 2, 16])
def test_noise_that_repeats_is_found(period):
    report = check(_Pair(_normal, period), torch.randn(40, 6), only=["noise"])
    assert report["noise"].verdict == "failed"
    assert "share one noise" in report["noise"].finding.detail


def test_noise_of_each_example_passes():
    """12 seeds at level 0.05: more than 4 failures would come up in fewer than 1 of 1000 runs (binomial)."""
    x = torch.randn(40, 6)
    reports = [check(_Pair(_normal), x, only=["noise"], level=0.05, seed=seed) for seed in range(12)]
    assert sum(not report.passed for report in reports) <= 4


class _Rare(nn.Module):
    """Codes of which two categories are rare."""

    def model(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.OneHotCategorical(x.new_tensor([0.9, 0.07, 0.03])))
            pyro.sample("x", dist.Normal(z @ x.new_ones(3, 6), 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.OneHotCategorical(x.new_tensor([0.9, 0.07, 0.03])))


def test_independent_rare_categories_raise_no_alarm():
    """20 seeds at level 0.01: more than 3 below it would come up in fewer than 1 of 20,000 runs (binomial)."""
    x = torch.randn(40, 6)
    reports = [check(_Rare(), x, only=["noise"], seed=seed) for seed in range(20)]
    assert sum(report["noise"].finding.p_value < 0.01 for report in reports) <= 3


def testrank_scores_are_spearmans():
    draws = torch.randn(50, 2, dtype=torch.float64)
    draws[:, 1] += draws[:, 0] ** 3
    ours = (rank_scores(draws).prod(1).sum() / 49).item()
    assert ours == pytest.approx(stats.spearmanr(*draws.T).statistic, abs=1e-12)


@pytest.mark.parametrize(
    ("likelihood", "x"),
    [
        (_of_two, torch.randn(20, 6)),
        (lambda h: dist.VonMises(h, 2.0), 6 * torch.rand(20, 6) - 3),
        (lambda h: dist.Binomial(torch.arange(5, 11).to(h), logits=h), torch.ones(20, 6)),
        (lambda h: dist.Poisson((10 + 0.1 * h.tanh()).exp()), 2e4 + torch.arange(120.0).view(20, 6)),
        (lambda h: dist.ZeroInflatedPoisson(h.exp().clamp(max=50), gate_logits=h), torch.ones(20, 6)),
        (lambda h: dist.StudentT(1.0, h, 0.5), torch.randn(20, 6)),
    ],
    ids=["mixture", "angles", "binomial", "large-counts", "zero-inflated", "cauchy"],
)
def test_a_right_likelihood_passes_within_a_model(likelihood, x):
    report = check(_Pair(likelihood), x, only=["likelihood-mass", "likelihood-draws"])
    assert [line.verdict for line in report] == ["passed", "passed"], report.summary()


def test_a_report_of_a_level_is_of_that_level():
    """A finding's tolerance grows as its level falls."""
    found = [_look("draws", dist.Normal(_t(0.0), 1.0), level) for level in (1e-2, 1e-6)]
    assert found[0].tolerance < found[1].tolerance
    assert replace(found[0], tolerance=None) == replace(found[1], tolerance=None)
