"""Flows without an inverse: their density at their draws, and elsewhere an error that names the part."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from torch import nn
from torch.distributions import MixtureSameFamily, Transform, constraints
from torch.distributions.transforms import ComposeTransform, IndependentTransform, TanhTransform

from pyro_vae import VAE, average_elbo, build, elbo_terms, evaluation, fit, likelihoods, nets, objectives, priors
from pyro_vae.checks import check
from pyro_vae.distributions import TorchToPyro, check_inverse

T = dist.transforms


class Cube(Transform):
    """A user's transform without an inverse."""

    domain = codomain = dist.constraints.real
    bijective, sign = True, 1

    def _call(self, x):
        return x + x**3

    def log_abs_det_jacobian(self, x, y):
        return torch.log1p(3 * x**2)


def base(*batch):
    return dist.Normal(torch.zeros(*batch, 2), 1.0).to_event(1)


WITHOUT = {
    "Planar": lambda: T.Planar(2),
    "ConditionedPlanar": lambda: T.conditional_planar(2, 3).condition(torch.ones(3)),
    "Radial": lambda: T.Radial(2),
    "Sylvester": lambda: T.Sylvester(2),
    "Polynomial": lambda: T.polynomial(2),
    "NeuralAutoregressive": lambda: T.neural_autoregressive(2),
    "BlockAutoregressive": lambda: T.block_autoregressive(2),
    "Cube": lambda: IndependentTransform(Cube(), 1, cache_size=1),
}
WITH = {
    "AffineCoupling": lambda: T.affine_coupling(2),
    "AffineAutoregressive": lambda: T.affine_autoregressive(2),
    "Spline": lambda: T.spline(2),
    "Permute": lambda: T.Permute(torch.tensor([1, 0])),
    "Householder": lambda: T.Householder(2),
    "Tanh": lambda: IndependentTransform(TanhTransform(), 1),
    "the inverse of Planar": lambda: T.Planar(2).inv,
}


@pytest.mark.parametrize("name", WITHOUT)
def test_what_has_no_inverse_is_named_and_its_own_draws_pass(name):
    """Flows that pass have a density by Pyro and torch, and flows that fail have none."""
    flow = dist.TransformedDistribution(base(4), [WITHOUT[name](), WITHOUT[name]()])
    given = torch.zeros(4, 2)
    with pytest.raises((KeyError, NotImplementedError)):
        flow.log_prob(given)
    for distribution in (flow, flow.mask(torch.ones(4).bool()), TorchToPyro(flow), flow.expand([4])):
        for value in (given, None):
            with pytest.raises(ValueError, match=f"prior Mine: its transform {name} has no inverse, .* Use a flow wit"):
                check_inverse(distribution, "prior Mine", value)
        z = distribution.sample()
        check_inverse(distribution, "prior Mine", z)
        assert distribution.log_prob(z).isfinite().all()


@pytest.mark.parametrize("name", WITH)
def test_what_has_an_inverse_passes(name):
    flow = dist.TransformedDistribution(base(4), [WITH[name]()])
    check_inverse(flow, "prior Mine", 0.1 * torch.ones(4, 2))
    assert flow.log_prob(0.1 * torch.ones(4, 2)).isfinite().all()


def test_inside_other_distributions():
    composed = dist.TransformedDistribution(base(), ComposeTransform([T.Permute(torch.tensor([1, 0])), T.Planar(2)]))
    outer = dist.TransformedDistribution(composed, [T.Permute(torch.tensor([1, 0]))])
    mixture = MixtureSameFamily(
        dist.Categorical(torch.ones(3)), dist.TransformedDistribution(base(3), [T.Planar(2)]), validate_args=False
    )
    for distribution in (composed, outer, mixture, TorchToPyro(mixture)):
        with pytest.raises(ValueError, match="its transform Planar has no inverse"):
            check_inverse(distribution, "prior Mine", torch.zeros(2))
    with pytest.raises(ValueError, match="its transform Planar has no inverse"):
        check_inverse(mixture, "prior Mine", mixture.sample())  # the components did not make it in one piece


class PlanarPosterior(nn.Module):
    support = constraints.real_vector

    def __init__(self):
        super().__init__()
        self.net, self.flow = nets.MLP((4,), (8,), 4), nn.ModuleList([T.Planar(2), T.Planar(2)])

    def forward(self, x):
        loc, raw = self.net(x).chunk(2, -1)
        return dist.TransformedDistribution(dist.Normal(loc, raw.exp()).to_event(1), list(self.flow))


class PlanarPrior(nn.Module):
    def __init__(self):
        super().__init__()
        self.flow = T.Planar(2)

    def forward(self):
        return dist.TransformedDistribution(base(), [self.flow])


def vae_of(prior=None, posterior=None):
    torch.manual_seed(0)
    plain = build((4,), 2, hidden=(8,))
    likelihood = likelihoods.Bernoulli(nets.MLP(2, (8,), (4,)))
    return VAE(prior or plain.prior, likelihood, posterior or plain.posterior)


X = torch.tensor([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]])


def step(vae, objective):
    return SVI(vae.model, vae.guide, Adam({"lr": 1e-3}), objective).step(X)


AS_POSTERIOR = {
    "elbo": lambda vae: elbo_terms(vae, X, kl="sampled").elbo.sum(),
    "average": lambda vae: average_elbo(vae, X).elbo,
    "step": lambda vae: step(vae, Trace_ELBO()),
    "iwae": lambda vae: step(vae, objectives.IWAE(5)),
    "fit": lambda vae: fit(vae, X, epochs=1, progress=False)[-1].elbo,
    "importance": lambda vae: evaluation.importance_sampling(vae, X, num_particles=20).mean,
    "compiled": lambda vae: evaluation.importance_sampling(vae, X, num_particles=20, compiled=True, chunk_size=12).mean,
    "quadrature": lambda vae: evaluation.quadrature(vae, X, tolerance=1e-2).mean,
    "annealed": lambda vae: evaluation.annealed_importance_sampling(vae, X, annealing=evaluation.Annealing(3)).mean,
    "outliers": lambda vae: evaluation.outlier_scores(vae, X, num_particles=20)["kl"].sum(),
    "gaps": lambda vae: evaluation.inference_gaps(vae, X, steps=2, importance_particles=20).means["elbo"],
}


@pytest.mark.parametrize("name", AS_POSTERIOR)
def test_a_posterior_that_is_asked_of_its_own_draws_works(name):
    assert torch.isfinite(torch.as_tensor(AS_POSTERIOR[name](vae_of(posterior=PlanarPosterior()))))


OF_GIVEN_CODES = {
    "latent_use": (lambda vae: evaluation.latent_use(vae, X), "posterior PlanarPosterior, site 'z' of the guide"),
    "collapse": (lambda vae: evaluation.collapse(vae, X), "posterior PlanarPosterior, site 'z' of the guide"),
    "annealed from it": (
        lambda vae: evaluation.annealed_importance_sampling(
            vae, X, annealing=evaluation.Annealing(3, start="posterior")
        ),
        "posterior PlanarPosterior, site 'z' of the guide",
    ),
    "sticking": (
        lambda vae: step(vae, objectives.StickingTheLanding()),
        "StickingTheLanding evaluates densities twice, .* site 'z' of",
    ),
    "dreg": (
        lambda vae: step(vae, objectives.DReG(3)),
        "DReG evaluates densities twice, .* site 'z' of the gui",
    ),
    "vamp": (
        lambda vae: step(VAE(priors.VampPrior(vae.posterior, (4,), 3), vae.likelihood, vae.posterior), Trace_ELBO()),
        "prior VampPrior",
    ),
}


@pytest.mark.parametrize("name", OF_GIVEN_CODES)
def test_a_posterior_whose_density_is_wanted_elsewhere_is_refused(name):
    call, who = OF_GIVEN_CODES[name]
    with pytest.raises(ValueError, match=rf"{who}.*: its transform Planar has no inverse"):
        call(vae_of(posterior=PlanarPosterior()))


@pytest.mark.parametrize("name", ["elbo", "average", "step", "iwae", "fit"])
def test_a_posterior_that_does_not_know_its_own_draws_is_refused(name):
    """An AffineTransform without a cache is inverted to another tensor than the flow's draw."""
    posterior = PlanarPosterior()

    def forward(x):
        loc, raw = posterior.net(x).chunk(2, -1)
        whole = [T.ComposeTransform([posterior.flow[0], T.AffineTransform(0.0, 2.0)])]
        return dist.TransformedDistribution(dist.Normal(loc, raw.exp()).to_event(1), whole)

    with pytest.raises(ValueError, match="posterior .*forward: its transform Planar has no inverse"):
        AS_POSTERIOR[name](vae_of(posterior=forward))


@pytest.mark.parametrize("name", [name for name in AS_POSTERIOR if name != "gaps"])
def test_a_prior_is_refused(name):
    vae = vae_of(prior=PlanarPrior())
    assert vae.sample(3).shape == (3, 4)
    with pytest.raises(ValueError, match="prior PlanarPrior.*: its transform Planar has no inverse"):
        AS_POSTERIOR[name](vae)


def test_the_check_says_so():
    report = check(vae_of(prior=PlanarPrior()), X, only=["sites"])
    assert "prior PlanarPrior: its transform Planar has no inverse" in str(report.failures[0].finding)
