"""Densities on the unit interval, against many-digit arithmetic and SciPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from pyro_vae.distributions.unit import Beta, ContinuousBernoulli, LogitNormal, open_unit_interval

LOGITS = [0.0, 1e-9, 1e-5, 4.1e-3, 0.3, 0.4999, 0.5, 0.5001, 2.0, 15.0, 17.0, 40.0, 100.0, 1e4]
LOGITS = [sign * logit for logit in LOGITS for sign in (1, -1)]


def exact(logit: float, x: float) -> tuple[float, float, float]:
    """Log-density, its derivative by the logit, and the mean, in long double by formulas for one side."""
    a, d = np.longdouble(abs(logit)), np.longdouble(1 - x if logit > 0 else x)
    if a < 1e-2:  # powers of the logit
        log_norm = -a / 2 + a**2 / 24 - a**4 / 2880
        from_end = np.longdouble(0.5) - a / 12 + a**3 / 720 - a**5 / 30240
    else:
        log_norm = np.log(-np.expm1(-a)) - np.log(a)
        from_end = 1 / a - np.exp(-a) / -np.expm1(-a)
    mean = 1 - from_end if logit > 0 else from_end
    return float(-a * d - log_norm), float(np.longdouble(x) - mean), float(mean)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-6), (torch.float64, 2e-14)])
@pytest.mark.parametrize("x", [0.0, 0.125, 0.75, 1.0])
def test_continuous_bernoulli_is_accurate_for_all_logits(dtype, tolerance, x):
    """torch's is 1.8 nats off in float32 at a logit of 100."""
    logits = torch.tensor(LOGITS, dtype=dtype, requires_grad=True)
    p = ContinuousBernoulli(logits=logits)
    log_prob = p.log_prob(torch.tensor(x, dtype=dtype))
    (grad,) = torch.autograd.grad(log_prob.sum(), logits)
    expected = np.array([exact(logit, x) for logit in logits.tolist()])
    np.testing.assert_allclose(log_prob.detach(), expected[:, 0], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(grad, expected[:, 1], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(p.mean.detach(), expected[:, 2], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(p.entropy().detach(), -ContinuousBernoulli(logits=logits).log_prob(p.mean).detach())


def test_continuous_bernoullis_derivatives_agree():
    logits = torch.tensor([0.0, 1e-3, 0.3, -0.7, 3.0, -20.0], dtype=torch.float64, requires_grad=True)
    u = torch.linspace(0.05, 0.95, 6, dtype=torch.float64)
    for f in (
        lambda v: ContinuousBernoulli(logits=v).log_prob(u),
        lambda v: ContinuousBernoulli(logits=v).mean,
        lambda v: ContinuousBernoulli(logits=v).icdf(u),
        lambda v: ContinuousBernoulli(logits=v).cdf(u),
    ):
        assert torch.autograd.gradcheck(f, (logits,))
    (slope,) = torch.autograd.grad(ContinuousBernoulli(logits=logits).mean.sum(), logits)
    torch.testing.assert_close(slope, ContinuousBernoulli(logits=logits).variance, rtol=1e-9, atol=0)


@pytest.mark.parametrize("logit", [0.0, 1e-4, 9.9e-4, -1.1e-3, 0.4, -3.0, 30.0, -200.0])
def test_continuous_bernoullis_cdf_is_the_integral_and_icdf_its_inverse(logit):
    p = ContinuousBernoulli(logits=torch.tensor(logit, dtype=torch.float64))
    x = torch.linspace(0, 1, 21, dtype=torch.float64)
    end = 0.0 if logit <= 0 else 1.0
    for at in (0.05, 0.4, 0.95):
        mass = integrate.quad(
            lambda v: p.log_prob(torch.tensor(v, dtype=torch.float64)).exp().item(),
            end,
            at,
            points=[abs(end - 0.02)],
            limit=200,
        )[0]
        expected = mass if end == 0 else 1 + mass
        assert p.cdf(torch.tensor(at, dtype=torch.float64)).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    u = p.cdf(x)
    inner = (u > 1e-9) & (u < 1 - 1e-9)
    torch.testing.assert_close(p.icdf(u)[inner], x[inner], rtol=1e-6, atol=1e-9)
    assert (p.cdf(torch.tensor([-1.0, 0.0])) == 0).all()
    assert (p.cdf(torch.tensor([1.0, 2.0])) == 1).all()


@pytest.mark.parametrize("logit", [0.0, 0.8, -6.0, 90.0])
def test_continuous_bernoullis_samples(logit):
    """Kolmogorov-Smirnov, level 1e-4 on a fixed seed; the cdf is tested above."""
    p = ContinuousBernoulli(logits=torch.tensor(logit, dtype=torch.float64))
    x = p.sample((5000,))
    assert stats.kstest(x.numpy(), lambda v: p.cdf(torch.from_numpy(v)).numpy()).pvalue > 1e-4


@pytest.mark.parametrize("scale", [1e-6, 0.3, 1.0, 1.499, 1.5, 4.0, 60.0])
@pytest.mark.parametrize("loc", [-50.0, -3.0, 0.2, 8.0])
@pytest.mark.filterwarnings("ignore:The occurrence of roundoff")  # SciPy's, at variances of 1e-19
def test_mean_of_a_logit_normal_by_numerical_integration(loc, scale):
    p = LogitNormal(*torch.tensor([loc, scale], dtype=torch.float64))
    points = sorted({*(min(max((k - loc) / scale, -12), 12) for k in (-30, -3, 0, 3, 30)), -12, -3, 0, 3, 12})
    pieces = list(itertools.pairwise(points))

    def moment(f):
        # In pieces, because SciPy does not find the steep part of the sigmoid.
        return sum(
            integrate.quad(lambda t: f(loc + scale * t) * stats.norm.pdf(t), a, b, epsabs=1e-300, epsrel=1e-11)[0]
            for a, b in pieces
        )

    mean = moment(special.expit)
    assert p.mean.item() == pytest.approx(mean, rel=1e-10)
    variance = moment(lambda y: (special.expit(y) - mean) ** 2)
    assert p.variance.item() == pytest.approx(variance, rel=1e-6, abs=1e-14)


def test_expanded_distributions_keep_their_kind():
    for p in (
        Beta(torch.tensor(2.0), torch.tensor(3.0)),
        LogitNormal(torch.tensor(0.0), torch.tensor(1.0)),
        ContinuousBernoulli(logits=torch.tensor(0.7)),
    ):
        wide = p.expand((3,))
        assert type(wide) is type(p)
        torch.testing.assert_close(wide.log_prob(torch.tensor(0.4)), p.log_prob(torch.tensor(0.4)).expand(3))
        assert wide.mean.shape == (3,)


@pytest.mark.parametrize("make", [Beta, LogitNormal])
def test_the_ends_are_outside_and_are_not_sampled(make):
    p = make(torch.tensor(0.01), torch.tensor(50.0))  # most of its mass rounds to an end
    assert p.support is open_unit_interval
    x = torch.cat([p.sample((500,)), 1 - p.sample((500,)).clamp(min=1e-6), p.rsample((500,))])
    assert p.support.check(x).all()
    with pytest.raises(ValueError, match="support"):
        make(torch.tensor(0.1), torch.tensor(1.0), validate_args=True).log_prob(torch.tensor(0.0))
    assert torch.distributions.transform_to(open_unit_interval)(torch.tensor(0.0)) == 0.5
