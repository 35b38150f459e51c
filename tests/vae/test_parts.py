"""Bare functions and other people's distributions as the parts of a VAE."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import nn

from pyro_vae import VAE, elbo_terms, likelihoods, nets, posteriors, priors
from tests.conftest import C, make_context, make_vae, make_x
from tests.vae.doors import everywhere


def test_bare_functions_in_each_place():
    vae = VAE(
        prior=lambda: dist.Laplace(torch.zeros(2), 1.0).to_event(1),
        likelihood=lambda z: dist.Normal(z.repeat_interleave(2, -1), 0.5).to_event(1),
        posterior=lambda x: dist.Normal(x[:, ::2], 0.3).to_event(1),
    )
    x = torch.rand(5, 4)
    pyro.set_rng_seed(5)
    loss = Trace_ELBO().loss(vae.model, vae.guide, x)
    assert -loss == pytest.approx(elbo_terms(vae, x, kl="sampled", seed=5).elbo.sum().item(), rel=1e-5)
    assert vae.sample(3).shape == (3, 4)


@pytest.mark.parametrize(
    ("part", "bad", "message"),
    [
        ("prior", priors.StandardNormal, r"prior must be a module or a function .*; got the class StandardNormal"),
        ("likelihood", 3, "likelihood must be a module or a function .*; got a int"),
        ("posterior", None, "posterior must be a module or a function .*; got a NoneType"),
        (
            "prior",
            dist.Normal(torch.zeros(2), 1.0).to_event(1),  # Pyro's distributions can be called
            r"got the distribution Independent. Pass a function that returns it: prior=lambda \*context: ...",
        ),
        (
            "likelihood",
            torch.distributions.Normal(torch.zeros(2), 1.0),
            r"got the distribution Normal. Pass a function that returns it: likelihood=lambda z, \*context: ...",
        ),
    ],
)
def test_what_cannot_be_called_is_refused(part, bad, message):
    parts = {name: getattr(make_vae(), name) for name in ("prior", "likelihood", "posterior")}
    with pytest.raises(TypeError, match=message):
        VAE(**{**parts, part: bad})


def test_functions_must_return_distributions():
    vae = VAE(lambda: torch.zeros(2), make_vae().likelihood, make_vae().posterior)
    with pytest.raises(TypeError, match="prior <lambda> must return a Pyro or torch distribution; got Tensor"):
        vae.sample(1)


@pytest.mark.parametrize("part", ["prior", "posterior"])
def test_undeclared_event_dimensions_are_named(part):
    whole = make_vae()
    forgetful = {
        "prior": lambda: dist.Normal(torch.zeros(2), 1.0),
        "posterior": lambda x: dist.Normal(torch.zeros(len(x), 2), 1.0),
    }[part]
    parts = {"prior": whole.prior, "likelihood": whole.likelihood, "posterior": whole.posterior, part: forgetful}
    with pytest.raises(
        ValueError, match=rf"^{part} <lambda> must return a distribution over vectors z; .*to_event\(1\)"
    ):
        elbo_terms(VAE(**parts), make_x())


def test_a_likelihood_that_forgets_to_event_is_refused():
    vae = make_vae()
    forgetful = VAE(vae.prior, lambda z: dist.Normal(vae.likelihood.net(z), 1.0).to_event(1), vae.posterior)
    with pytest.raises(
        ValueError, match=r"must return one distribution per example, .*got batch shape \(7, 2\).*\.to_event"
    ):
        elbo_terms(forgetful, make_x())


@pytest.mark.parametrize(
    ("part", "make", "message"),
    [
        (
            "posterior",
            lambda x: dist.Normal(torch.zeros(7, 1, 2), 1.0).to_event(1),
            r"posterior <lambda> must return one .*shape \(7, 1\)",
        ),
        (
            "posterior",
            lambda x: dist.Normal(torch.zeros(7, 2), 1.0).to_event(2),
            r"over vectors z; got event shape \(7, 2\)",
        ),
        (
            "likelihood",
            lambda z: dist.Normal(torch.zeros(3, 2, 3), 1.0).to_event(2),
            r"likelihood <lambda> must return one .*shape \(3,\)",
        ),
    ],
)
def test_other_batch_shapes_are_refused(part, make, message):
    whole = make_vae("normal_fixed")
    parts = {"prior": whole.prior, "likelihood": whole.likelihood, "posterior": whole.posterior, part: make}
    for enter in everywhere(VAE(**parts), make_x("normal_fixed")):
        with pytest.raises(ValueError, match=message):
            enter()


def test_one_distribution_for_all_examples_is_expanded():
    same = VAE(
        prior=lambda: dist.Normal(torch.zeros(1, 2), 1.0).to_event(1),
        likelihood=lambda z: dist.Normal(torch.zeros(3), 1.0).to_event(1),
        posterior=lambda x: dist.Normal(torch.ones(2), 0.5).to_event(1),
    )
    x = torch.randn(7, 3)
    terms = elbo_terms(same, x, kl="sampled", seed=5)
    assert terms.elbo.shape == (7,)
    pyro.set_rng_seed(5)
    assert terms.elbo.sum().item() == pytest.approx(-Trace_ELBO().loss(same.model, same.guide, x), rel=1e-5)
    assert same.sample(16).shape == (16, 3)
    assert same.reconstruct(x).shape == (7, 3)


class Convolutional(nn.Module):
    """A decoder that knows of one batch dimension only."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 + C, 8), nn.BatchNorm1d(8), nn.Unflatten(1, (2, 2, 2)), nn.ConvTranspose2d(2, 1, 2)
        )

    def forward(self, z, c):
        return self.layers(torch.cat([z, c], -1))


@pytest.mark.parametrize("num_particles", [1, 4])
def test_decoders_that_know_of_one_batch_dimension_only(num_particles):
    encoder = nets.MLP((1, 3, 3), (), 4, context_features=C)
    vae = (
        VAE(priors.StandardNormal(2), likelihoods.Normal(Convolutional()), posteriors.DiagonalNormal(encoder))
        .double()
        .eval()
    )
    x, (c,) = torch.randn(7, 1, 3, 3, dtype=torch.float64), make_context(C)
    terms = elbo_terms(vae, x, c, kl="sampled", num_particles=num_particles, seed=5)
    torch.manual_seed(5)
    z = vae.encode(x, c).rsample((num_particles,))
    each = [vae.decode(z[k], c).log_prob(x) for k in range(num_particles)]
    torch.testing.assert_close(terms.recon, torch.stack(each).mean(0))
    if num_particles == 1:
        pyro.set_rng_seed(5)
        assert terms.elbo.sum().item() == pytest.approx(-Trace_ELBO().loss(vae.model, vae.guide, x, c), rel=1e-9)
    assert vae.interpolate(x[:3], x[3:6], 5, c[:3]).shape == (3, 5, 1, 3, 3)
