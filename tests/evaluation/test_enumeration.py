"""Sums over discrete codes, compared with sums written out."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_vae.evaluation import enumeration, importance_sampling
from tests.combinations.parts import make_context, make_vae, make_x
from tests.conftest import make_vae as real_vae
from tests.conftest import make_x as real_x


@pytest.mark.parametrize("prior", ["Categorical", "Categorical-groups", "Conditional-Categorical"])
def test_it_is_the_sum_over_the_values(prior):
    vae = make_vae(prior, "Categorical-groups" if prior.endswith("groups") else "Categorical")
    x, c = make_x(), make_context(prior)
    eye = torch.eye(4, dtype=torch.float64)
    if prior.endswith("groups"):
        eye = torch.stack([torch.cat([a, b]) for a in eye[:2, :2] for b in eye[:2, :2]])
    with torch.no_grad():
        joint = torch.stack(
            [
                (vae.prior_of(*c).log_prob(z) + vae.decode(z.expand(len(x), -1), *c).log_prob(x)).expand(len(x))
                for z in eye
            ]
        )
    found = enumeration(vae, x, *c)
    torch.testing.assert_close(found.log_prob, torch.log(joint.exp().sum(0)), rtol=1e-12, atol=0)
    assert torch.equal(found.standard_error, torch.zeros(len(x), dtype=torch.float64))
    # The values may be in another order.
    order = [(found.values == z).all(-1).nonzero().item() for z in eye]
    torch.testing.assert_close(found.log_posterior[order], torch.log_softmax(joint, 0), rtol=1e-10, atol=1e-12)
    for chunk_size in (1, 2, 5):
        chunked = enumeration(vae, x, *c, chunk_size=chunk_size)
        torch.testing.assert_close(chunked.log_prob, found.log_prob, rtol=1e-12, atol=0)


def test_importance_sampling_agrees():
    """|z| below 5 for three examples: level 2e-6, on a fixed seed."""
    vae, x = make_vae("Categorical", "Categorical"), make_x()
    sampled = importance_sampling(vae, x, num_particles=20_000)
    assert ((sampled.log_prob - enumeration(vae, x).log_prob) / sampled.standard_error).abs().max() < 5


def test_codes_without_a_dimension_and_many_examples():
    chances = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    rates = torch.tensor([1.0, 5.0, 20.0], dtype=torch.float64)

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Categorical(chances))
            pyro.sample("x", dist.Poisson(rates[z]), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Categorical(chances))

    x = torch.arange(100, dtype=torch.float64)
    expected = torch.logsumexp(chances.log() + dist.Poisson(rates).log_prob(x.unsqueeze(1)), 1)
    torch.testing.assert_close(enumeration((model, guide), x).log_prob, expected, rtol=1e-12, atol=0)


def elements(prior):
    """A model that observes the sum of its codes with noise."""

    def program(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", prior)
            pyro.sample("x", dist.Normal(z.flatten(len(prior.batch_shape) + 1).sum(-1), 1.0), obs=x)

    return program


def test_vectors_of_bits():
    """The number of ones is binomial: a sum of 13 terms instead of 4096."""
    x = torch.tensor([0.3, 5.0, 20.0], dtype=torch.float64)
    bits = elements(dist.Bernoulli(torch.full((12,), 0.3, dtype=torch.float64)).to_event(1))
    ones = torch.arange(13, dtype=torch.float64)
    weight = dist.Binomial(12, torch.tensor(0.3, dtype=torch.float64)).log_prob(ones)
    expected = torch.logsumexp(weight + dist.Normal(ones, 1.0).log_prob(x.unsqueeze(1)), 1)
    found = enumeration((bits, bits), x)
    torch.testing.assert_close(found.log_prob, expected, rtol=1e-12, atol=0)
    assert found.values.shape == (4096, 12)
    assert len(found.values.unique(dim=0)) == 4096
    torch.testing.assert_close(found.log_posterior.exp().sum(0), torch.ones_like(x))


@pytest.mark.parametrize("ndim", [1, 2])
def test_vectors_of_categories(ndim):
    """Two or six elements of three categories, against the same sum by convolution of their probabilities."""
    x = torch.tensor([0.3, 5.0], dtype=torch.float64)
    chances = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    shape = (2, 3)[2 - ndim :] if ndim == 2 else (2,)
    codes = elements(dist.Categorical(chances.expand(*shape, 3)).to_event(ndim))
    total = torch.ones(1, dtype=torch.float64)
    for _ in range(math.prod(shape)):
        longer = torch.zeros(len(total) + 2, dtype=torch.float64)
        for k in range(3):
            longer[k : k + len(total)] += chances[k] * total
        total = longer
    sums = torch.arange(len(total), dtype=torch.float64)
    expected = torch.logsumexp(total.log() + dist.Normal(sums, 1.0).log_prob(x.unsqueeze(1)), 1)
    found = enumeration((codes, codes), x)
    torch.testing.assert_close(found.log_prob, expected, rtol=1e-12, atol=0)
    assert found.values.shape == (3 ** math.prod(shape), *shape)


def test_bad_input():
    with pytest.raises(ValueError, match="enumeration needs discrete codes; got the prior Independent. Use quadrature"):
        enumeration(real_vae(), real_x())

    def counts(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Poisson(torch.ones(3)).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

    with pytest.raises(
        ValueError, match=r"all values of z; the prior Independent of event shape \(3,\) has none. Use imp"
    ):
        enumeration((counts, counts), torch.zeros(2))
    bits = elements(dist.Bernoulli(torch.full((13,), 0.5)).to_event(1))
    with pytest.raises(
        ValueError, match=r"lists up to 4096 values of z; 13 .* of 2 values each have 2 \*\* 13. Use imp"
    ):
        enumeration((bits, bits), torch.zeros(2))
    with pytest.raises(ValueError, match="chunk_size must be an integer of at least 1; got 0"):
        enumeration(real_vae(), real_x(), chunk_size=0)
