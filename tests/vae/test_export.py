"""torch.export of what a VAE does with tensors, with the validation of arguments on and a dynamic batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributions import Distribution

from pyro_vae import elbo_terms
from tests.combinations.parts import (
    LIKELIHOODS,
    POSTERIORS,
    make_context,
    make_likelihood_vae,
    make_vae,
    make_x,
    partner,
)

# A few of each kind for every run of the tests; an export takes seconds.
QUICK = (
    "DiagonalNormal",
    "InverseAutoregressiveFlow",
    "RelaxedCategorical-groups",
    "PowerSpherical",
    "bernoulli",
    "mixed",
)


def with_slow(names):
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


METHODS = {
    "encode": lambda vae, x, *c: _mean(vae.encode(x, *c)),
    "codes": lambda vae, x, *c: vae.codes(x, *c),
    "reconstruct": lambda vae, x, *c: vae.reconstruct(x, *c),
    "elbo": lambda vae, x, *c: elbo_terms(vae, x, *c, kl="sampled").elbo,
    "model": lambda vae, x, *c: vae.model(x, *c),
}


class Some(nn.Module):
    """Some methods of a VAE as one function of tensors, which is what torch.export takes."""

    def __init__(self, vae, names):
        super().__init__()
        self.vae, self.names = vae, names

    def forward(self, x, context):
        c = () if context is None else (context,)
        return {name: METHODS[name](self.vae, x, *c) for name in self.names}


def _mean(posterior):
    try:
        return posterior.mean
    except NotImplementedError:
        return posterior.sample()


@pytest.fixture(autouse=True)
def _validation():
    before = Distribution._validate_args
    Distribution.set_default_validate_args(True)
    yield
    assert Distribution._validate_args, "the export left validation off"
    Distribution.set_default_validate_args(before)


def check_exported(names, vae, x, *context):
    """Exports at one batch size, and compares with what is not exported at two others."""
    module = Some(vae.eval(), names)
    given = x, *(context or (None,))
    batch = {0: torch.export.Dim("batch", min=2)}
    shapes = batch, batch if context else None
    graph = torch.export.export(module, tuple(t if t is None else t[:3] for t in given), dynamic_shapes=shapes).module()
    for n in (2, 5):
        rows = tuple(t if t is None else t[:n] for t in given)
        torch.manual_seed(0)
        expected = module(*rows)
        torch.manual_seed(0)
        found = graph(*rows)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("posterior", with_slow(POSTERIORS))
def test_every_posterior(posterior):
    prior, _ = partner(posterior=posterior)
    check_exported(("encode", "codes"), make_vae(prior, posterior), make_x(5), *make_context(prior, 5))


@pytest.mark.parametrize("likelihood", with_slow(LIKELIHOODS))
def test_every_likelihood(likelihood):
    vae, _ = make_likelihood_vae(likelihood)
    check_exported(("reconstruct",), vae, LIKELIHOODS[likelihood].x(5))


@pytest.mark.parametrize("prior", ["StandardNormal", "MixtureOfNormals", "Conditional-Normal"])
def test_the_bound_and_the_model(prior):
    _, posterior = partner(prior=prior)
    check_exported(("elbo", "model"), make_vae(prior, posterior), make_x(5), *make_context(prior, 5))
