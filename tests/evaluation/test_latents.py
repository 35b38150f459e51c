"""Information, the aggregate posterior and active units."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from pyro_vae import VAE, build, evaluation, posteriors, priors
from tests.conftest import make_vae, make_x


def test_parts_by_hand():
    """The aggregate posterior is a mixture of torch.distributions."""
    vae, x = make_vae(), make_x(n=12)
    found = evaluation.latent_use(vae, x, num_particles=4000, seed=3)
    q = vae.encode(x)
    mixture = MixtureSameFamily(Categorical(torch.ones(12).double()), Independent(Normal(q.mean, q.stddev), 1))
    torch.manual_seed(0)
    z = q.sample((4000,))
    expected = {
        "kl": kl_divergence(q, vae.prior_of()).mean(),
        "mutual_information": (q.log_prob(z) - mixture.log_prob(z)).mean(),
        "marginal_kl": (mixture.log_prob(z) - vae.prior_of().log_prob(z)).mean(),
    }
    for name, value in expected.items():  # 48,000 draws each: 5 standard errors, false alarms below 1e-5
        assert getattr(found, name) == pytest.approx(value.item(), abs=0.03)
    assert found.kl == pytest.approx(found.mutual_information + found.marginal_kl, rel=1e-12)
    torch.testing.assert_close(found.variance_of_means, q.mean.var(0, correction=0))
    by_dimension = kl_divergence(Normal(q.mean, q.stddev), Normal(0.0, 1.0)).mean(0)
    torch.testing.assert_close(found.kl_of_dimensions, by_dimension)
    assert found.kl_of_dimensions.sum().item() == pytest.approx(kl_divergence(q, vae.prior_of()).mean().item())


def test_the_rate_is_the_sum_of_its_dimensions_and_of_its_parts():
    """The rate has a closed form, so one draw suffices: only the information uses the draws."""
    vae, x = make_vae(), make_x(n=12)
    found = evaluation.latent_use(vae, x)
    rates = kl_divergence(vae.encode(x), vae.prior_of())
    assert found.kl == pytest.approx(rates.mean().item(), rel=1e-12)
    assert found.kl == pytest.approx(found.kl_of_dimensions.sum().item(), rel=1e-12)
    assert found.kl == pytest.approx(found.mutual_information + found.marginal_kl, rel=1e-12)
    assert found.kl_standard_error == pytest.approx((rates.std() / math.sqrt(12)).item(), rel=1e-12)
    assert found.kl == evaluation.latent_use(vae, x, seed=5).kl


def test_where_no_closed_form_is_known_all_are_at_the_same_draws():
    """There is none for a Laplace prior with a normal posterior."""
    plain, x = make_vae(), make_x(n=12)
    prior = pyro.distributions.Laplace(torch.zeros(2).double(), 1.0)
    vae = VAE(lambda: prior.to_event(1), plain.likelihood, plain.posterior)
    found = evaluation.latent_use(vae, x, num_particles=3000)
    assert found.kl == pytest.approx(found.kl_of_dimensions.sum().item(), rel=1e-12)
    assert found.kl == pytest.approx(found.mutual_information + found.marginal_kl, rel=1e-12)
    torch.manual_seed(0)
    q = vae.encode(x)
    z = q.sample((3000,))
    expected = (q.log_prob(z) - prior.log_prob(z).sum(-1)).mean().item()
    assert found.kl == pytest.approx(expected, abs=0.05)  # 36,000 draws each: 5 standard errors, 6e-7


def test_no_product_but_a_closed_form():
    vae, x = build((2, 3), 2, hidden=(5,), posterior="full").double(), make_x(n=12)
    found = evaluation.latent_use(vae, x)
    other = evaluation.latent_use(VAE(priors.MixtureOfNormals(2).double(), vae.likelihood, vae.posterior), x)
    assert found.kl_of_dimensions is None
    assert found.kl == evaluation.latent_use(vae, x, seed=1).kl
    assert other.kl == pytest.approx(other.mutual_information + other.marginal_kl, rel=1e-12)


def test_errors_are_the_spread_over_data_and_draws():
    """200 data sets of 50 examples: the spread of each number is within 25 % of its standard error, five of its own errors.

    The information depends on all examples together, so the spread over examples gives a rough error: a factor
    of 2.
    """
    torch.manual_seed(0)
    vae = make_vae()
    found = [evaluation.latent_use(vae, torch.rand(50, 2, 3).double().round(), seed=s) for s in range(200)]
    for name, factor in (("kl", 1.25), ("mutual_information", 2.0), ("marginal_kl", 2.0)):
        spread = torch.tensor([getattr(f, name) for f in found]).std().item()
        said = math.sqrt(sum(getattr(f, f"{name}_standard_error") ** 2 for f in found) / 200)
        assert spread / factor < said < spread * factor, name
    assert math.isnan(evaluation.latent_use(vae, make_x(n=1)).kl_standard_error)


def test_codes_far_apart_tell_which_example_it_was():
    far = posteriors.DiagonalNormal(torch.nn.Linear(6, 4, dtype=torch.float64))
    with torch.no_grad():
        far.net.weight.copy_(torch.cat([1000 * torch.randn(2, 6), torch.zeros(2, 6)]))
    vae = make_vae()
    x = torch.rand(50, 6, dtype=torch.float64).round()
    x = torch.unique(x, dim=0)
    whole = VAE(vae.prior, vae.likelihood, lambda x: far(x.flatten(1)))
    found = evaluation.latent_use(whole, x.unflatten(1, (2, 3)))
    assert found.mutual_information == pytest.approx(math.log(len(x)), abs=1e-6)
    assert found.active_units == 2


def test_codes_of_the_prior_carry_nothing(linear):
    """If q is the prior for every x, codes carry nothing."""
    with torch.no_grad():
        linear.encoder.weight.zero_()
        linear.encoder.bias.copy_(torch.tensor([0.0, 0.0, math.log(math.e - 1), math.log(math.e - 1)]))
    found = evaluation.latent_use(linear.vae(), torch.randn(30, 4, dtype=torch.float64), num_particles=10)
    assert found.active_units == 0
    assert abs(found.mutual_information) < 1e-9
    assert abs(found.kl) < 1e-5


def test_the_true_posterior_of_data_from_the_model_fills_the_prior(linear):
    """2,000 examples: the rate exceeds the information by the KL of their aggregate posterior from the prior."""
    x = linear.marginal().sample((2000,))
    found = evaluation.latent_use(linear.vae(), x)
    assert 0 < found.marginal_kl < 0.05
    assert found.mutual_information == pytest.approx(found.kl, abs=0.05)


@pytest.mark.parametrize("posterior", ["full", "iaf"])
def test_posteriors_that_are_no_products(posterior):
    vae = build((1, 8, 8), 3, hidden=(8,), posterior=posterior)
    found = evaluation.latent_use(vae, torch.rand(20, 1, 8, 8).round())
    assert found.kl_of_dimensions is None
    assert (found.active_units is None) == (posterior == "iaf")
    assert found.kl == pytest.approx(found.mutual_information + found.marginal_kl, rel=1e-4, abs=1e-5)


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_particles must be an integer of at least 1; got 0"):
        evaluation.latent_use(make_vae(), make_x(), num_particles=0)
    point = build((2, 3), 2, hidden=(), posterior="delta")
    with pytest.raises(ValueError, match="latent_use needs a guide with a density"):
        evaluation.latent_use(point, make_x().float())
