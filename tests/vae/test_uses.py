"""What one does with a trained VAE: encode, decode, sample, reconstruct, interpolate."""

from __future__ import annotations

import math

import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_vae import VAE, priors
from tests.conftest import X, make_vae, make_x


def test_encode_and_decode_return_distributions_over_whole_events(case):
    vae, x, *context = case
    q = vae.encode(x, *context)
    assert (q.batch_shape, q.event_shape) == ((7,), (2,))
    p = vae.decode(q.rsample((3,)), *context)
    assert (p.batch_shape, p.event_shape) == ((3, 7), X)


def test_reconstruct_is_the_mean_at_the_mean(case):
    vae, x, *context = case
    expected = vae.decode(vae.encode(x, *context).mean, *context).mean.detach()
    assert torch.equal(vae.reconstruct(x, *context), expected)


def test_reconstruct_draws_where_the_posterior_has_no_mean():
    vae = make_vae()
    torch_flow = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(torch.zeros(2).double(), 1.0), [torch.distributions.SigmoidTransform()]
    )
    drawn = VAE(vae.prior, vae.likelihood, lambda x: torch.distributions.Independent(torch_flow.expand((len(x), 2)), 1))
    before = torch.get_rng_state()
    assert torch.equal(drawn.reconstruct(make_x(), seed=3), drawn.reconstruct(make_x(), seed=3))
    assert torch.equal(before, torch.get_rng_state())


def test_sample_repeats_by_seed_and_draws_from_the_support(case):
    vae, x, *context = case
    state = torch.get_rng_state()
    a, b = (vae.sample(7, *context, seed=3) for _ in range(2))
    assert torch.equal(a, b)
    assert torch.equal(state, torch.get_rng_state())
    assert a.shape == x.shape
    assert not a.requires_grad
    assert bool(vae.decode(torch.zeros(7, 2, dtype=torch.float64), *context).support.check(a).all())


def test_sample_means_are_means(linear):
    vae = linear.vae()
    means = vae.sample(5, mean=True, seed=1)
    torch.manual_seed(1)
    z = vae.prior_of().sample((5,))
    torch.testing.assert_close(means, z @ linear.weight.T + linear.bias)


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_paths_start_and_end_at_the_reconstructions(case, path):
    vae, x, *context = case
    x0, x1, c = x[:3], x[3:6], [k[:3] for k in context]
    paths = vae.interpolate(x0, x1, 5, *c, path=path)
    assert paths.shape == (3, 5, *X)
    torch.testing.assert_close(paths[:, 0], vae.reconstruct(x0, *c))
    torch.testing.assert_close(paths[:, -1], vae.reconstruct(x1, *c))


def test_paths_are_straight_or_on_the_sphere():
    show_z = VAE(
        priors.StandardNormal(2),
        lambda z: dist.Normal(z, 1.0).to_event(1),
        lambda x: dist.Normal(x, 1.0).to_event(1),
    )
    x0, x1 = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    torch.testing.assert_close(show_z.interpolate(x0, x1, 3)[0], torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]]))
    curved = show_z.interpolate(x0, x1, 5, path="spherical")[0]
    torch.testing.assert_close(curved.norm(dim=-1), torch.full((5,), 2.0))
    angles = torch.atan2(curved[:, 1], curved[:, 0])
    torch.testing.assert_close(angles, torch.linspace(0, math.pi / 2, 5))
    same = show_z.interpolate(x0, x0, 4, path="spherical")
    torch.testing.assert_close(same, x0.expand(1, 4, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v, x: v.interpolate(x, x[:2], 5), "x0 and x1 must have the same shape"),
        (lambda v, x: v.interpolate(x, x, 1), "steps must be an integer of at least 2; got 1"),
        (lambda v, x: v.interpolate(x, x, 5, path="round"), 'path must be "linear" or "spherical"; got \'round\''),
        (lambda v, x: v.sample(0), "n must be an integer of at least 1; got 0"),
        (lambda v, x: v.sample(3, torch.zeros(2, 4)), "context 0 must have n = 3 rows; got 2"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(make_vae(), make_x())


def test_pictures_are_taken_without_dropout_and_leave_the_mode():
    vae = make_vae()
    vae.likelihood.net = nn.Sequential(vae.likelihood.net, nn.Dropout(0.9))
    vae.train()
    assert torch.equal(vae.reconstruct(make_x()), vae.reconstruct(make_x()))
    drawn = vae.sample(5, mean=True, seed=1)
    assert vae.likelihood.net[1].training
    assert torch.equal(drawn, vae.eval().sample(5, mean=True, seed=1))
