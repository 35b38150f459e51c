"""Laplace, Student's t and the normal with the optimal scale."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from pyro_vae import average_elbo, likelihoods, nets
from tests.likelihoods.cases import CASES, CODES, X
from tests.likelihoods.test_every import vae_of


def optimal():
    case = CASES["normal_optimal"]
    return case.with_mlp(), case.x()


def test_optimal_scale_is_the_root_mean_square_error_of_the_batch():
    p, x = optimal()
    loc = p.net(CODES).detach().numpy()
    sigma = math.sqrt(((x.numpy() - loc) ** 2).mean() + 1e-12)
    expected = stats.norm.logpdf(x.numpy(), loc, sigma).sum((1, 2))
    torch.testing.assert_close(p(CODES).log_prob(x).detach(), torch.from_numpy(expected), rtol=1e-10, atol=0)


def test_no_other_scale_makes_the_batch_more_likely():
    p, x = optimal()
    best = p(CODES).log_prob(x).sum()
    sigma = ((x - p.net(CODES)) ** 2).mean().sqrt().item()
    for factor in (0.9, 0.99, 1.01, 1.1):
        assert likelihoods.Normal(p.net, scale=sigma * factor)(CODES).log_prob(x).sum() < best


def test_optimal_scale_of_perfect_reconstructions_is_finite():
    p, _ = optimal()
    x = p.net(CODES).detach()
    log_prob = p(CODES).log_prob(x)
    torch.testing.assert_close(log_prob, torch.full((7,), 6 * -math.log(1e-6 * math.sqrt(2 * math.pi))).double())
    log_prob.sum().backward()
    assert all(torch.isfinite(q.grad).all() for q in p.parameters())


def test_running_variance_is_an_exponential_mean_and_what_evaluation_uses():
    p, x = optimal()
    expected = 0.25
    for shift in (0.0, 1.0, 2.0):
        p(CODES).log_prob(x + shift)
        expected = 0.9 * expected + 0.1 * ((x + shift - p.net(CODES)) ** 2).mean().item()
    assert p.running_variance.item() == pytest.approx(expected, rel=1e-10)
    p.eval()
    loc = p.net(CODES).detach().numpy()
    wanted = stats.norm.logpdf(x.numpy(), loc, math.sqrt(expected)).sum((1, 2))
    torch.testing.assert_close(p(CODES).log_prob(x).detach(), torch.from_numpy(wanted), rtol=1e-9, atol=0)
    assert p.running_variance.item() == pytest.approx(expected, rel=1e-10)
    torch.testing.assert_close(p(CODES).variance, torch.full((7, *X), expected).double())


def test_in_evaluation_an_example_does_not_depend_on_its_batch():
    p, x = optimal()
    p.eval()
    torch.testing.assert_close(p(CODES).log_prob(x)[:2], p(CODES[:2]).log_prob(x[:2]))
    p.train()
    assert not torch.allclose(p(CODES).log_prob(x)[:2], p(CODES[:2]).log_prob(x[:2]))


def test_running_variance_is_saved_with_the_weights(tmp_path):
    vae, x = vae_of(CASES["normal_optimal"]), CASES["normal_optimal"].x()
    vae.decode(CODES).log_prob(x)
    vae.save_weights(tmp_path / "w.safetensors")
    other = vae_of(CASES["normal_optimal"]).load_weights(tmp_path / "w.safetensors")
    assert other.likelihood.running_variance == vae.likelihood.running_variance != 0.25
    average_elbo(vae, x.numpy())  # in evaluation mode
    assert other.likelihood.running_variance == vae.likelihood.running_variance


def test_particles_share_the_optimal_scale():
    p, x = optimal()
    z = torch.stack([CODES, -CODES])
    sigma = ((x - p.net(z)) ** 2).mean().add(1e-12).sqrt()
    expected = torch.distributions.Normal(p.net(z), sigma).log_prob(x).sum((-1, -2))
    torch.testing.assert_close(p(z).log_prob(x), expected)


@pytest.mark.parametrize("make", [likelihoods.Laplace, likelihoods.StudentT, likelihoods.Normal])
def test_learned_scales_start_where_they_were_told(make):
    for start in (0.07, 3.0, 200.0):
        p = make(nets.MLP(2, (), 3), initial_scale=start)(torch.zeros(1, 2))
        torch.testing.assert_close(p.base_dist.scale, torch.full((1, 3), start))


def test_learned_degrees_of_freedom_start_where_they_were_told():
    p = likelihoods.StudentT(nets.MLP(2, (), 3), initial_df=30.0)(torch.zeros(1, 2))
    torch.testing.assert_close(p.base_dist.df, torch.full((1, 3), 30.0))


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (likelihoods.Laplace, {"scale": "optimal"}, 'scale must be a number above 0, "learned" or "per_element"; got'),
        (likelihoods.Laplace, {"scale": -2}, "scale must be a finite number above 0; got -2"),
        (likelihoods.Normal, {"scale": None}, "scale must be a finite number above 0; got None"),
        (
            likelihoods.Normal,
            {"scale": "optimal", "initial_scale": -1.0},
            "initial_scale must be a finite number above 1e-6",
        ),
        (likelihoods.StudentT, {"df": 1.0}, "df must be a finite number above 1; got 1.0"),
        (likelihoods.StudentT, {"df": "many"}, "df must be a number above 1 or \"learned\"; got 'many'"),
        (likelihoods.StudentT, {"initial_df": 0.5}, "initial_df must be a finite number above 1; got 0.5"),
    ],
)
def test_bad_arguments_are_refused(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(nets.MLP(2, (), 3), **options)


@pytest.mark.parametrize(
    "make", [likelihoods.Laplace, likelihoods.StudentT, likelihoods.LogitNormal, likelihoods.DiscretizedLogistic]
)
def test_scales_from_the_net_need_two_parameters_an_element(make):
    p = make(nets.MLP(2, (), X), scale="per_element")
    p.net.out_shape = (6,)
    with pytest.raises(ValueError, match=rf"likelihood {make.__name__} with scale=.* needs a net .*got \(1, 6\)"):
        p(torch.zeros(1, 2))
