"""Counts: multinomials of any total, zero-inflated distributions that expand."""

from __future__ import annotations

import mpmath as mp
import pyro
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pyro_vae.distributions.counts import Multinomial, NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial


def test_any_total_has_the_probability_given_that_total():
    p = Multinomial(total_count=5, logits=torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64), validate_args=True)
    for counts in ([0, 0, 0], [1, 0, 0], [4, 3, 0], [100, 200, 50]):
        x = torch.tensor(counts, dtype=torch.float64)
        expected = stats.multinomial.logpmf(counts, sum(counts), p.probs.numpy())
        assert p.log_prob(x).item() == pytest.approx(expected, rel=1e-10, abs=1e-14)
    assert (p.sample((50,)).sum(-1) == 5).all()
    assert p.expand((2,)).sample().shape == (2, 3)
    assert p.expand((2,)).support.check(torch.ones(2, 3)).all()


@pytest.mark.parametrize("bad", [[0.5, 0.5, 0.0], [-1.0, 1.0, 1.0]])
def test_what_is_no_count_is_refused(bad):
    p = Multinomial(total_count=1, logits=torch.zeros(3), validate_args=True)
    with pytest.raises(ValueError, match="support"):
        p.log_prob(torch.tensor(bad))


def test_zero_inflated_distributions_expand_before_and_after_they_are_sampled():
    p = ZeroInflatedNegativeBinomial(torch.ones(3), torch.tensor(1.0), torch.tensor([-1.0, 0.0, 1.0]))
    x = torch.tensor([0.0, 1.0, 2.0])
    before = p.expand((2, 3))
    p.sample()
    after = p.expand((2, 3))
    assert torch.equal(before.log_prob(x), after.log_prob(x))
    assert torch.equal(after.expand((4, 2, 3)).mean[3, 1], p.mean)


@pytest.mark.parametrize(
    ("dispersion", "mean", "count", "right"),
    [
        (1e-8, 1.0, 5, -5.7874917024),
        (1e-6, 1.0, 1, -1.0000005),
        (1e-4, 1e6, 1e6, -10.1342606),
        (10.0, 1e6, 2e6, -17.1223),
        (0.0, 2.5, 3, stats.poisson.logpmf(3, 2.5)),
    ],
)
def test_the_negative_binomial_in_float32(dispersion, mean, count, right):
    p = NegativeBinomial(torch.tensor(mean), torch.tensor(dispersion))
    assert p.log_prob(torch.tensor(float(count))).item() == pytest.approx(right, rel=1e-4)


MEANS, DISPERSIONS = (1e-3, 1.0, 10.0, 1e3, 1e5, 1e7), (1e-10, 1e-7, 1e-4, 1e-2, 1.0, 30.0, 1e4)


def derivatives(mean: float, dispersion: float, count: float) -> tuple[float, float]:
    """With respect to log mean and log dispersion, with 100 digits."""
    with mp.workdps(100):
        m, a, x = map(mp.mpf, (mean, dispersion, count))
        r = 1 / a
        by_r = mp.digamma(x + r) - mp.digamma(r) - mp.log1p(a * m) + (m - x) / (r + m)
        return float((x - m) / (1 + a * m)), float(-r * by_r)


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("dispersion", DISPERSIONS)
def test_gradients_of_the_negative_binomial_in_float32(mean, dispersion):
    spread = (mean + dispersion * mean**2) ** 0.5
    counts = {0, 1, 1000, 2**24, *(round(mean + k * spread) for k in (0, 0.3, 1, -1, 5, -5))}
    for count in sorted(c for c in counts if 0 <= c <= 2**24):
        m, a = (torch.tensor(v, requires_grad=True) for v in (mean, dispersion))
        by_m, by_a = torch.autograd.grad(NegativeBinomial(m, a).log_prob(torch.tensor(float(count))), (m, a))
        right = derivatives(m.item(), a.item(), count)
        assert (by_m * m).item() == pytest.approx(right[0], rel=1e-3, abs=1e-3), count
        assert (by_a * a).item() == pytest.approx(right[1], rel=1e-3, abs=1e-3), count


@given(
    st.floats(-3, 7),
    st.floats(-10, 4),
    st.floats(0, 1),
)
def test_the_negative_binomial_sums_to_one(log_mean, log_dispersion, where):
    """Over 200 counts, the probabilities are the difference of SciPy's cdf, in float64."""
    mean, dispersion = 10.0**log_mean, 10.0**log_dispersion
    r = 1 / dispersion
    start = int(stats.nbinom.ppf(0.1 + 0.8 * where, r, r / (r + mean)))
    x = torch.arange(start, start + 200, dtype=torch.float64)
    p = NegativeBinomial(torch.tensor(mean, dtype=torch.float64), torch.tensor(dispersion, dtype=torch.float64))
    scipy = stats.nbinom(r, r / (r + mean))
    assert p.log_prob(x).exp().sum().item() == pytest.approx(scipy.cdf(start + 199) - scipy.cdf(start - 1), abs=1e-6)


@pytest.mark.parametrize(
    ("mean", "dispersion"), [(1e-2, 1.0), (5.0, 0.0), (3.0, 1e-10), (1e4, 0.1), (1e7, 1e-7), (1e7, 0.3)]
)
def test_draws_of_the_negative_binomial_have_its_mean_and_variance(mean, dispersion):
    """Five standard errors, of the variance as estimated from the fourth moment: false alarms below 1e-5."""
    torch.manual_seed(0)
    p = NegativeBinomial(torch.full((3,), mean), torch.tensor(dispersion))
    x = p.sample((20_000,)).double()
    assert x.shape == (20_000, 3)
    assert p.support.check(x).all()
    square = (x - mean) ** 2
    for got, right in ((x, mean), (square, mean + dispersion * mean**2)):
        assert ((got.mean(0) - right).abs() < 5 * got.std(0) / 20_000**0.5).all()


def test_draws_are_zero_as_often_as_the_gate_says():
    """Five standard errors: false alarms below 1e-6."""
    torch.manual_seed(0)
    p = ZeroInflatedNegativeBinomial(torch.tensor(1e6), torch.tensor(0.1), torch.tensor([-1.0, 2.0]))
    zeros = (p.sample((10_000,)) == 0).float().mean(0)
    assert ((zeros - torch.sigmoid(torch.tensor([-1.0, 2.0]))).abs() < 0.025).all()
    x = p.sample((50_000,)).double()
    assert ((x.mean(0) - p.mean).abs() < 5 * x.std(0) / 50_000**0.5).all()
    torch.testing.assert_close(x.var(0), p.variance.double(), rtol=0.05, atol=0)


@pytest.mark.parametrize("validate", [True, False])
def test_a_poisson_of_rate_zero_is_zero(validate):
    p = Poisson(torch.zeros(2), validate_args=validate)
    assert p.log_prob(torch.tensor([0.0, 3.0])).tolist() == [0.0, -float("inf")]


@pytest.mark.parametrize(
    "make",
    [
        lambda m: Poisson(m),
        lambda m: NegativeBinomial(m, 1 / m),
        lambda m: ZeroInflatedNegativeBinomial(m, 1 / m, m - 3),
        lambda m: Multinomial(logits=m),
    ],
)
def test_densities_of_counts_are_captured_mapped_and_differentiated_twice(make):
    x, mean = torch.tensor([[0.0, 1.0, 8.0], [40.0, 3.0, 2.0]]), torch.tensor([0.5, 3.0, 20.0])

    class Module(torch.nn.Module):
        def forward(self, mean, x):
            return make(mean).log_prob(x)

    eager = Module()(mean, x)
    with pyro.validation_enabled(False):  # its conditions on values have no place in a graph
        exported = torch.export.export(Module(), (mean, x), strict=False).module()
    assert torch.equal(exported(mean, x), eager)
    mapped = torch.func.vmap(Module(), in_dims=(None, 0))(mean, x)
    torch.testing.assert_close(mapped, eager)
    assert torch.autograd.gradgradcheck(lambda m: make(m).log_prob(x.double()), mean.double().requires_grad_())
