"""The normal whose variance is the mean squared error."""

from __future__ import annotations

import pytest
import torch
from scipy import optimize, stats

from pyro_vae.distributions.optimal_normal import OptimalNormal


def make(running=1.0):
    g = torch.Generator().manual_seed(0)
    loc = torch.randn(5, 3, generator=g, dtype=torch.float64)
    x = loc + 0.7 * torch.randn(5, 3, generator=g, dtype=torch.float64)
    return OptimalNormal(loc, torch.tensor(running, dtype=torch.float64)), x


def test_the_variance_is_the_most_likely_one():
    p, x = make()
    found = optimize.minimize_scalar(
        lambda s: -stats.norm.logpdf(x.numpy(), p.loc.numpy(), s).sum(),
        bounds=(0.01, 10),
        method="bounded",
        options={"xatol": 1e-10},
    )
    assert p.log_prob(x).sum().item() == pytest.approx(-found.fun, rel=1e-10)


def test_gradients_flow_through_the_variance():
    _, x = make()
    loc = torch.zeros(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: OptimalNormal(m, torch.ones((), dtype=torch.float64)).log_prob(x), (loc,))


def test_masks_and_events_in_either_order():
    p, x = make()
    mask = torch.rand(5, 3, generator=torch.Generator().manual_seed(1)) > 0.3
    variance = ((x - p.loc) ** 2)[mask].mean() + 1e-12
    each = torch.distributions.Normal(p.loc, variance.sqrt()).log_prob(x) * mask
    torch.testing.assert_close(p.mask(mask).log_prob(x), each)
    torch.testing.assert_close(p.mask(mask).to_event(1).log_prob(x), each.sum(-1))
    torch.testing.assert_close(p.mask(mask).expand((2, 5, 3)).log_prob(x)[1], each)
    assert p.observed is None
    assert (p.mask(False).log_prob(x) == 0).all()


def test_samples_and_moments_have_the_running_variance_of_their_making():
    p, x = make(running=4.0)
    assert (p.variance == 4).all()
    p.log_prob(x)
    assert p.running_variance.item() < 4
    assert (p.variance == 4).all()
    assert p.sample((20_000,)).std().item() == pytest.approx((4 + p.loc.var(correction=0).item()) ** 0.5, rel=0.02)


def test_only_steps_that_see_something_move_the_running_variance():
    running = torch.tensor(1.0, dtype=torch.float64)
    loc, x = torch.zeros(4, 3, dtype=torch.float64), torch.full((4, 3), 2.0, dtype=torch.float64)
    with torch.no_grad():
        OptimalNormal(loc, running).log_prob(x)
    nothing = OptimalNormal(loc, running).mask(torch.zeros(4, 3, dtype=torch.bool))
    assert torch.equal(nothing.log_prob(x), torch.zeros(4, 3, dtype=torch.float64))
    assert running.item() == 1.0
    OptimalNormal(loc, running).log_prob(x)
    assert running.item() == pytest.approx(1.3, rel=1e-9)
