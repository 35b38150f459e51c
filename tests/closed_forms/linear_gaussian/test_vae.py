"""The VAE with the exact distributions."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from scipy import stats

from pyro_vae import elbo_terms
from pyro_vae.closed_forms import LinearGaussian
from tests.closed_forms.linear_gaussian.models import NOISE, D, d, make, randn


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("latent_dim", [1, 3])
def test_vae_has_the_exact_distributions(noise, latent_dim):
    model, x = make(noise, latent_dim=latent_dim), randn(7, D, seed=9)
    state = torch.get_rng_state()
    vae = model.vae()
    assert torch.equal(state, torch.get_rng_state())
    z = 2 * randn(7, latent_dim, seed=8)
    q, likelihood = vae.encode(x), vae.decode(z)
    difference = vae.prior_of().log_prob(z) + likelihood.log_prob(x) - q.log_prob(z)
    torch.testing.assert_close(difference, model.log_prob(x), rtol=1e-10, atol=0)
    torch.testing.assert_close(q.base.covariance_matrix, model.posterior(x).covariance_matrix, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(q.mean, model.posterior(x).mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(model.elbo(x, q), model.log_prob(x), rtol=1e-10, atol=0)
    assert all(t.dtype == torch.float64 for t in (*vae.parameters(), *vae.buffers()))
    # Every draw gives the evidence, so any Pyro ELBO is exact with one particle.
    loss = Trace_ELBO().loss(vae.model, vae.guide, x)
    assert -loss == pytest.approx(model.log_prob(x).sum().item(), rel=1e-10)


@pytest.mark.parametrize("noise", NOISE)
def test_vae_of_the_best_diagonal(noise):
    model, x = make(noise), randn(7, D, seed=9)
    vae = model.vae("diagonal")
    q, best = vae.encode(x), model.best_diagonal(x)
    torch.testing.assert_close(q.mean, best.mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(q.stddev, best.stddev, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(model.elbo(x, q), model.elbo(x, best), rtol=1e-10, atol=0)


@pytest.mark.parametrize("noise", NOISE)
def test_vae_of_the_best_diagonal_agrees_with_elbo_terms(noise):
    """Within 4.5 standard errors of 4,000 draws, one false alarm in 1e5 per example, on a fixed seed."""
    model, x = make(noise), randn(7, D, seed=9)
    vae = model.vae("diagonal")
    draws = torch.stack([elbo_terms(vae, x, kl="sampled", seed=i, num_particles=1).elbo for i in range(40)])
    error = elbo_terms(vae, x, kl="sampled", seed=99, num_particles=4000).elbo - model.elbo(x, model.best_diagonal(x))
    assert (error.abs() < 4.5 * 1.3 * draws.std(0) / math.sqrt(4000)).all()


@pytest.mark.parametrize("posterior", ["exact", "diagonal"])
def test_vae_is_a_copy_that_trains(posterior):
    model, x = make(), randn(7, D, seed=9)
    vae, before = model.vae(posterior), model.weight.clone()
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    weights = [p.clone() for p in vae.parameters()]
    svi.step(x)
    assert all(not torch.equal(p, w) for p, w in zip(vae.parameters(), weights, strict=True))
    assert torch.equal(model.weight, before)


def test_vae_in_float32_and_with_a_scale_that_is_learned():
    weight = randn(D, d).float().requires_grad_()
    scale = torch.tensor(0.5, requires_grad=True)
    model, x = LinearGaussian(weight, torch.zeros(D), scale), randn(7, D, seed=9).float()
    terms = elbo_terms(model.vae(), x, kl="sampled", seed=0)
    assert terms.elbo.dtype == torch.float32
    torch.testing.assert_close(terms.elbo, model.log_prob(x), rtol=1e-5, atol=1e-5)


def test_samples_of_the_vae_have_the_marginal_distribution():
    """Kolmogorov-Smirnov along a direction: level 1e-4, on a fixed seed."""
    model = make("vector")
    x, direction = model.vae().sample(4000, seed=0), randn(D, seed=3)
    variance = direction @ model.marginal().covariance_matrix @ direction
    along = stats.norm((model.bias @ direction).item(), variance.sqrt().item())
    assert stats.kstest((x @ direction).numpy(), along.cdf).pvalue > 1e-4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu():
    cpu, x = make("vector"), randn(7, D, seed=9)
    model = LinearGaussian(cpu.weight.cuda(), cpu.bias.cuda(), cpu.scale.cuda())
    vae = model.vae()
    assert elbo_terms(vae, x.cuda(), kl="sampled").elbo.is_cuda
    for ours, expected in (
        (model.log_prob(x.cuda()), cpu.log_prob(x)),
        (model.elbo(x.cuda(), model.best_diagonal(x.cuda())), cpu.elbo(x, cpu.best_diagonal(x))),
        (elbo_terms(vae, x.cuda(), kl="sampled").elbo, cpu.log_prob(x)),
        (model.subspace_angle(model.weight), torch.zeros(()).double()),
    ):
        torch.testing.assert_close(ours.cpu(), expected, rtol=1e-9, atol=1e-12)


def test_it_is_exported():
    """With validation on, except for the caller's normal, which torch before 2.15 cannot export."""
    model = make("vector")

    class Terms(torch.nn.Module):
        def forward(self, x, loc, scale):
            q = model.best_diagonal(x)
            return (
                model.log_prob(x),
                model.posterior(x).log_prob(loc),
                q.log_prob(loc),
                model.elbo(x, q),
                model.elbo(x, dist.Normal(loc, scale, validate_args=False).to_event(1)),
                *model.elbo_gradient(x, loc, scale),
            )

    def inputs(n):
        return randn(n, D), randn(n, d), randn(n, d).exp()

    assert torch.distributions.Distribution._validate_args
    rows = {0: torch.export.Dim("batch", min=2)}
    graph = torch.export.export(Terms(), inputs(6), strict=False, dynamic_shapes=(rows,) * 3).module()
    assert torch.distributions.Distribution._validate_args
    some = inputs(4)
    torch.testing.assert_close(graph(*some), Terms()(*some))
