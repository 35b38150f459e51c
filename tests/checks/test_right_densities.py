"""No false alarm: unusual right distributions through mass and draws, at two seeds each."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch

from pyro_vae import distributions as ours
from pyro_vae import posteriors, priors
from pyro_vae.checks.densities import elements_of
from tests.checks.test_densities import _look, _t
from tests.checks.test_vectors_and_spheres import Opaque, _randn


def _tril(n, batch=3):
    below = torch.tril(0.3 * _randn(batch, n, n, seed=2), -1)
    return below + torch.diag_embed(0.3 + _randn(batch, n, seed=3).abs())


def _of_a_module(module, *arguments):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return module().double()(*arguments)


class Funnel(dist.TorchDistribution):
    """Neal's: the first element is the log-variance of the others."""

    arg_constraints = {}  # noqa: RUF012  # as in torch
    support = torch.distributions.constraints.real_vector

    def __init__(self, n):
        super().__init__((), (n,), validate_args=False)

    def log_prob(self, x):
        first = dist.Normal(_t(0), 1.5).log_prob(x[..., 0])
        return first + dist.Normal(_t(0), (x[..., :1] / 2).exp()).log_prob(x[..., 1:]).sum(-1)

    def sample(self, sample_shape=()):
        x = torch.randn(*sample_shape, *self.event_shape, dtype=torch.float64)
        first = 1.5 * x[..., :1]
        return torch.cat([first, (first / 2).exp() * x[..., 1:]], -1)


UNUSUAL = {
    "float32": lambda: dist.Normal(_randn(3, 5).float(), 0.3),
    "tiny": lambda: dist.Normal(_randn(3, 5), _t(1e-12)),
    "huge": lambda: dist.Normal(_randn(3, 5), _t(1e12)),
    "tiny-in-float32": lambda: dist.Normal(1e-3 * _randn(3, 5).float(), 1e-5),
    "half-cauchy": lambda: dist.HalfCauchy(_t(2)),
    "half-normal": lambda: dist.HalfNormal(_t(2, 0.1)),
    "lognormal": lambda: dist.LogNormal(_t(0, 1), _t(1, 2)),
    "gumbel": lambda: dist.Gumbel(_t(0, 3), _t(1, 0.2)),
    "logistic": lambda: dist.Logistic(_t(0, 3), _t(1, 0.2)),
    "kumaraswamy": lambda: dist.Kumaraswamy(_t(2, 0.8), _t(3, 0.9)),
    "pareto": lambda: dist.Pareto(_t(1, 2), _t(1, 3)),
    "exponential": lambda: dist.Exponential(_t(1e-3, 1e3)),
    "inverse-gamma": lambda: dist.InverseGamma(_t(3, 1), _t(1, 2)),
    "fisher": lambda: dist.FisherSnedecor(_t(3, 8), _t(4, 9)),
    "asymmetric-laplace": lambda: dist.AsymmetricLaplace(_t(0), _t(1), _t(2)),
    "soft-laplace": lambda: dist.SoftAsymmetricLaplace(_t(0), _t(1), _t(2)),
    "skew-logistic": lambda: dist.SkewLogistic(_t(0), _t(1), _t(2)),
    "continuous-bernoulli": lambda: ours.ContinuousBernoulli(logits=_t(0, 2, -30)),
    "logit-normal": lambda: ours.LogitNormal(_t(0, 1), _t(1, 2)),
    "relaxed-bernoulli": lambda: dist.RelaxedBernoulli(_t(0.5), logits=_t(0.3, 2)),
    "beta-binomial": lambda: dist.BetaBinomial(_t(2, 0.5), _t(3, 0.5), _t(10)),
    "gamma-poisson": lambda: dist.GammaPoisson(_t(2, 0.5), _t(3, 0.5)),
    "geometric": lambda: dist.Geometric(logits=_t(0, -4)),
    "ordered": lambda: dist.OrderedLogistic(_t(0.3, 2), _t(-1, 0, 1)),
    "zero-inflated": lambda: ours.ZeroInflatedNegativeBinomial(_t(3, 20), _t(0.5, 0.1), _t(0.3, 1)),
    "many-categories-in-float32": lambda: dist.Categorical(logits=_randn(3, 200).float()),
    "bits-in-float32": lambda: Opaque(dist.Bernoulli(logits=_randn(3, 12).float())),
    "full": lambda: dist.MultivariateNormal(_randn(3, 8), scale_tril=_tril(8)),
    "full-in-40": lambda: dist.MultivariateNormal(_randn(3, 40), scale_tril=0.3 * _tril(40) + torch.eye(40).double()),
    "full-in-float32": lambda: dist.MultivariateNormal(_randn(3, 6).float(), scale_tril=_tril(6).float()),
    "low-rank": lambda: dist.LowRankMultivariateNormal(_randn(3, 10), _randn(3, 10, 2), _randn(3, 10).abs() + 0.1),
    "student": lambda: dist.MultivariateStudentT(_t(3), _randn(3, 4), _tril(4)),
    "cauchy-in-4": lambda: dist.MultivariateStudentT(_t(1), _randn(3, 4), _tril(4)),
    "scales-from-1e-6-to-1e6": lambda: Opaque(dist.Normal(_randn(3, 4), _t(1e-6, 1, 1e3, 1e6))),
    "a-matrix": lambda: Opaque(dist.Normal(_randn(3, 2, 3), _t(0.5)), 2),
    "lognormals": lambda: Opaque(dist.LogNormal(_randn(3, 4), _t(2))),
    "uniforms": lambda: Opaque(dist.Uniform(_t(-1, -1, -1, 0), _t(1, 1, 2, 5))),
    "betas": lambda: Opaque(dist.Beta(_randn(3, 5).abs() + 0.8, _t(2))),
    "funnel": lambda: Funnel(6),
    "relaxed": lambda: dist.RelaxedOneHotCategorical(_t(1), logits=_randn(3, 4)),
    "logs-of-relaxed": lambda: ours.RelaxedOneHot(_t(0.5), logits=_randn(3, 4)),
    "logs-of-dirichlet": lambda: ours.LogDirichlet(_t(0.1, 0.1, 0.1, 0.3).expand(3, 4)),
    "logistic-normal": lambda: ours.LogisticNormal(_randn(3, 4), _randn(3, 4).abs() + 0.3),
    "flow": lambda: _of_a_module(lambda: priors.Flow(3, hidden=(8,))),
    "inverse-autoregressive": lambda: _of_a_module(
        lambda: posteriors.InverseAutoregressiveFlow(torch.nn.Linear(4, 6 + 3), 3, features=3), _randn(3, 4)
    ),
    "mixture-of-normals": lambda: _of_a_module(lambda: priors.MixtureOfNormals(3, 6)),
}


@pytest.mark.parametrize("name", UNUSUAL)
@pytest.mark.parametrize("which", ["mass", "draws"])
def test_a_right_distribution_passes(name, which):
    for seed in range(2):
        for element in elements_of(UNUSUAL[name]()):
            found = _look(which, element, seed=seed)
            assert found.verdict == "passed", found.detail
