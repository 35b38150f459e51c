"""p(x | z): densities against SciPy, sums and integrals, supports and parameters."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from pyro_vae import likelihoods, nets
from pyro_vae.data_checks import check_support
from tests.conftest import LIKELIHOODS, X, Z, make_context, make_vae, make_x

CODES = torch.linspace(-1, 1, 14, dtype=torch.float64).reshape(7, Z)


def test_bernoulli_equals_scipy():
    vae, x = make_vae("bernoulli"), make_x("bernoulli")
    p = torch.sigmoid(vae.likelihood.net(CODES)).detach().numpy()
    expected = stats.bernoulli.logpmf(x.numpy(), p).sum((1, 2))
    np.testing.assert_allclose(vae.decode(CODES).log_prob(x).detach(), expected, rtol=1e-10)
    np.testing.assert_allclose(vae.decode(CODES).mean.detach(), p, rtol=1e-12)


def test_bernoulli_sums_to_one():
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6)), dtype=torch.float64).reshape(-1, 1, *X)
    total = make_vae("bernoulli").decode(CODES[:1]).log_prob(every).exp().sum()
    assert total.item() == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("name", ["normal_fixed", "normal_learned", "normal_per_element"])
def test_normal_equals_scipy(name):
    vae, x = make_vae(name), make_x(name)
    out = vae.likelihood.net(CODES).detach()
    if name == "normal_per_element":
        out, raw = out[:, 0], out[:, 1]
        scale = np.log1p(np.exp(raw.numpy())) + 1e-6
    else:
        scale = 0.3 if name == "normal_fixed" else 0.5
    expected = stats.norm.logpdf(x.numpy(), out.numpy(), scale).sum((1, 2))
    np.testing.assert_allclose(vae.decode(CODES).log_prob(x).detach(), expected, rtol=1e-7)


@pytest.mark.parametrize("scale", [0.3, "learned", "per_element"])
def test_normal_integrates_to_one(scale):
    torch.manual_seed(0)
    p = likelihoods.Normal(nets.MLP(2, (4,), (2, 1) if scale == "per_element" else 1), scale).double()(CODES[:1])

    def density(x):
        return p.log_prob(torch.full((1, 1), x, dtype=torch.float64)).exp().item()

    assert integrate.quad(density, -30, 30, points=[p.mean.item()], limit=200)[0] == pytest.approx(1.0, rel=1e-8)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_gradients_are_right_and_reach_every_parameter(name):
    vae, x = make_vae(name), make_x(name)
    parameters = list(vae.likelihood.parameters())

    def log_prob(*_):
        return vae.decode(CODES).log_prob(x)

    assert torch.autograd.gradcheck(log_prob, parameters)
    log_prob().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_batch_dimensions_in_front_do_not_matter(name):
    vae = make_vae(name, context=4)
    (c,) = make_context(4)
    z = torch.stack([CODES, -CODES])
    both = vae.decode(z, c)
    assert (both.batch_shape, both.event_shape) == ((2, 7), X)
    for i in range(2):
        torch.testing.assert_close(both.mean[i], vae.decode(z[i], c).mean)
        torch.testing.assert_close(both.variance[i], vae.decode(z[i], c).variance)


def test_learned_scale_starts_where_it_was_told():
    p = likelihoods.Normal(nets.MLP(2, (), 3), scale="learned", initial_scale=0.07)(torch.zeros(1, 2))
    torch.testing.assert_close(p.variance.sqrt(), torch.full((1, 3), 0.07))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 0.0}, "scale must be a finite number above 0; got 0.0"),
        ({"scale": -1.0}, "scale must be a finite number above 0; got -1.0"),
        ({"scale": float("nan")}, "scale must be a finite number above 0; got nan"),
        ({"scale": "big"}, 'scale must be a number above 0, "learned", "per_element" or "optimal"; got \'big\''),
        ({"initial_scale": 0.0}, "initial_scale must be a finite number above 1e-6; got 0.0"),
    ],
)
def test_bad_scales_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        likelihoods.Normal(nets.MLP(2, (), 3), **options)


def test_per_element_needs_two_parameters_an_element():
    p = likelihoods.Normal(nets.MLP(2, (), X), scale="per_element")
    p.net.out_shape = (6,)
    with pytest.raises(ValueError, match=r"needs a net whose output is \(batch, 2, \*shape of x\).*got \(1, 6\)"):
        p(torch.zeros(1, 2))


def test_support_of_other_peoples_likelihoods_is_checked_too():
    def rate(z):
        return torch.distributions.Independent(torch.distributions.Poisson(z.exp()), 1)

    z, x = torch.zeros(3, 2), torch.tensor([[0.0, 1.0], [2.0, 0.5], [0.0, 0.0]])
    with pytest.raises(
        ValueError,
        match=r"likelihood rate needs x in \{0, 1, 2, ...\}; got values in \[0, 2\], such as 0.5. Transform the data",
    ):
        check_support(rate, rate(z), x)
    check_support(rate, rate(z), x.round())


def test_a_distribution_without_support_only_needs_finite_data():
    class Unknown(torch.distributions.Distribution):
        arg_constraints = {}  # noqa: RUF012

        @property
        def support(self):
            raise NotImplementedError

    unknown = Unknown(torch.Size([3]), torch.Size([2]))
    check_support(Unknown, unknown, torch.full((3, 2), 7.3))
    with pytest.raises(ValueError, match="x has NaN"):
        check_support(Unknown, unknown, torch.full((3, 2), float("nan")))
