"""The logistic normal distribution, as logs, against NumPy, quadrature and automatic differentiation."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Predictive, Trace_ELBO, TraceMeanField_ELBO
from scipy import integrate, stats
from torch.distributions import kl_divergence

from pyro_vae.distributions.log_simplex import log_simplex
from pyro_vae.distributions.logistic_normal import LogisticNormal


def parameters(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    loc = torch.randn(*shape, dtype=torch.float64, generator=g)
    scale = 0.3 + torch.rand(*shape, dtype=torch.float64, generator=g)
    return loc.requires_grad_(), scale.requires_grad_()


def test_density_equals_the_formula():
    """Aitchison and Shen (1980): the normal density of the log ratios, with respect to these."""
    loc, scale = (p.detach().numpy() for p in parameters(5, 3))
    y = np.random.default_rng(0).dirichlet(np.ones(4), size=(6, 5))
    ratios = np.log(y[..., :-1] / y[..., -1:])
    expected = stats.norm.logpdf(ratios, loc, scale).sum(-1)
    ours = LogisticNormal(*parameters(5, 3)).log_prob(torch.tensor(y).log()).detach()
    assert ours.shape == (6, 5)
    np.testing.assert_allclose(ours, expected, rtol=1e-10)


def test_over_points_it_integrates_to_one():
    """The density of a point is that of its log over the product of its elements."""
    line, triangle = LogisticNormal(*parameters(1), validate_args=False), LogisticNormal(*parameters(2))

    def of_points(d, y):
        return (d.log_prob(y.log()) - y.log().sum(-1)).exp()

    def of_two(a):
        return of_points(line, torch.tensor([a, 1 - a], dtype=torch.float64)).item()

    assert integrate.quad(of_two, 0, 1)[0] == pytest.approx(1.0, rel=1e-7)
    u = (torch.arange(1500, dtype=torch.float64) + 0.5) / 1500
    a, b = torch.meshgrid(u, u, indexing="ij")  # the triangle as the square: y = (a, (1 − a) b, (1 − a)(1 − b))
    y = torch.stack([a, (1 - a) * b, (1 - a) * (1 - b)], dim=-1)
    assert ((of_points(triangle, y) * (1 - a)).mean().item()) == pytest.approx(1.0, rel=1e-4)


def test_draws_have_normal_log_ratios():
    """Kolmogorov-Smirnov of each log ratio: level 1e-4 per test, 3 on a fixed seed."""
    torch.manual_seed(0)
    loc, scale = (p.detach() for p in parameters(3))
    y = LogisticNormal(loc, scale).sample((5000,)).exp().numpy()
    np.testing.assert_allclose(y.sum(-1), 1, rtol=1e-12)
    for i in range(3):
        assert stats.kstest(np.log(y[:, i] / y[:, -1]), stats.norm(loc[i], scale[i]).cdf).pvalue > 1e-4


def test_kl_is_that_of_the_normals_and_the_mean_of_the_log_ratio():
    """4.5 standard errors of 100,000 draws: a false alarm in 1e5, on a fixed seed."""
    torch.manual_seed(0)
    (loc, scale), (loc_q, scale_q) = parameters(3), parameters(3, seed=1)
    p, q = LogisticNormal(loc, scale), LogisticNormal(loc_q, scale_q)
    kl = kl_divergence(p, q)
    expected = torch.log(scale_q / scale) + (scale**2 + (loc - loc_q) ** 2) / (2 * scale_q**2) - 0.5
    torch.testing.assert_close(kl, expected.sum(), rtol=1e-10, atol=0)
    y = p.sample((100_000,))
    draws = p.log_prob(y) - q.log_prob(y)
    assert (draws.mean() - kl).abs() < 4.5 * draws.std() / len(y) ** 0.5
    assert kl_divergence(p.expand((2,)), q.expand((2,))).shape == (2,)


def test_gradients():
    loc, scale = parameters(2, 3)
    y = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).log()
    assert torch.autograd.gradcheck(lambda a, b: LogisticNormal(a, b, validate_args=False).log_prob(y), [loc, scale])

    def draw(a, b):
        torch.manual_seed(0)
        return LogisticNormal(a, b, validate_args=False).rsample((4,))

    assert torch.autograd.gradcheck(draw, [loc, scale])


def test_its_interface():
    loc, scale = parameters(5, 3)
    p = LogisticNormal(loc, scale[0])
    assert isinstance(p, dist.TransformedDistribution)
    assert (p.batch_shape, p.event_shape, p.has_rsample, p.support) == ((5,), (4,), True, log_simplex)
    assert torch.equal(p.loc, loc)
    assert torch.equal(p.scale, scale[:1].expand(5, 3))
    q = p.expand((2, 5))
    assert type(q) is LogisticNormal
    assert (q.batch_shape, q.event_shape, q.rsample((6,)).shape) == ((2, 5), (4,), (6, 2, 5, 4))
    y = p.sample()
    torch.testing.assert_close(q.log_prob(y), p.log_prob(y).expand(2, 5))
    with pytest.raises(NotImplementedError):
        p.mean  # noqa: B018


@pytest.mark.parametrize("spread", [1.0, 3.0, 100.0])
def test_float32_keeps_the_small_elements(spread):
    """At its own draws against float64, even if the points are 0 in float32."""
    torch.manual_seed(0)
    loc, scale = spread * torch.randn(500, 49), torch.ones(49)
    p = LogisticNormal(loc, scale)
    z = p.sample()
    exact = LogisticNormal(loc.double(), scale.double()).log_prob(z.double())
    torch.testing.assert_close(p.log_prob(z).double(), exact, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("spread", [1.0, 100.0])
def test_a_sampled_kl_is_the_closed_form_in_float32(spread):
    """4.5 standard errors of 50,000 draws: a false alarm in 1e5 for each, on a fixed seed."""
    torch.manual_seed(0)
    p, q = LogisticNormal(spread * torch.randn(5), torch.rand(5) + 0.5), LogisticNormal(torch.zeros(5), torch.ones(5))
    z = p.sample((50_000,))
    ratio = p.log_prob(z) - q.log_prob(z)
    assert (ratio.mean() - kl_divergence(p, q)).abs() < 4.5 * ratio.std() / len(z) ** 0.5


def test_torchs_loses_the_small_elements():
    """The reason not to use torch's class; if this test fails, use it."""
    torch.manual_seed(0)
    loc, scale = 3 * torch.randn(500, 49), torch.ones(49)
    theirs = torch.distributions.LogisticNormal
    p = theirs(loc, scale, validate_args=False)
    y = p.sample()
    exact = theirs(loc.double(), scale.double(), validate_args=False).log_prob(y.double())
    assert (p.log_prob(y) - exact).abs().max() > 1


def test_in_a_pyro_model_and_guide():
    (loc, scale), x = parameters(5, 3), torch.rand(5, 4, dtype=torch.float64)

    def model(x):
        with pyro.plate("data", 5):
            z = pyro.sample("z", LogisticNormal(torch.zeros(3).double(), torch.ones(3).double()))
            pyro.sample("x", dist.Normal(z.exp(), 0.5).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", 5):
            pyro.sample("z", LogisticNormal(loc, scale))

    assert Predictive(model, num_samples=6, parallel=True)(None)["z"].shape == (6, 5, 4)
    losses = []
    for elbo in (Trace_ELBO, TraceMeanField_ELBO):
        pyro.set_rng_seed(0)
        loss = elbo(num_particles=4000, vectorize_particles=True, max_plate_nesting=1).differentiable_loss(
            model, guide, x
        )
        assert all(g.isfinite().all() and g.abs().sum() > 0 for g in torch.autograd.grad(loss, [loc, scale]))
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], abs=0.2)


def test_single_numbers_are_refused():
    with pytest.raises(
        ValueError, match=r"loc must be \(\*batch, K - 1\), one log ratio for each class except the last; got a single"
    ):
        LogisticNormal(torch.tensor(0.0), torch.tensor(1.0))
    with pytest.raises(ValueError, match="parameter scale"):
        LogisticNormal(torch.zeros(3), torch.zeros(3))
    with pytest.raises(ValueError, match="within the support"):
        LogisticNormal(torch.zeros(2), torch.ones(2)).log_prob(torch.full((3,), 1 / 3))
