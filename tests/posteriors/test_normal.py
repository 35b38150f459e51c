"""q(z | x): densities against SciPy, gradients through samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from pyro_vae import nets, posteriors
from tests.conftest import make_vae, make_x


def test_diagonal_normal_equals_scipy():
    vae, x = make_vae(), make_x()
    out = vae.posterior.net(x).detach().numpy()
    mean, scale = out[:, :2], np.log1p(np.exp(out[:, 2:])) + 1e-6
    q, z = vae.encode(x), torch.randn(7, 2, dtype=torch.float64)
    np.testing.assert_allclose(q.log_prob(z).detach(), stats.norm.logpdf(z, mean, scale).sum(1), rtol=1e-10)
    np.testing.assert_allclose(q.mean.detach(), mean, rtol=1e-12)


def test_diagonal_normal_samples_match_its_density():
    """Kolmogorov-Smirnov at level 1e-4 on a fixed seed."""
    q = make_vae().encode(make_x(n=1))
    z = (q.sample((5000,)) - q.mean) / q.variance.sqrt()
    assert stats.kstest(z.detach().flatten().numpy(), "norm").pvalue > 1e-4


def test_gradients_go_through_samples_to_every_parameter():
    vae, x = make_vae(), make_x()
    parameters = list(vae.posterior.parameters())

    def draw(*_):
        torch.manual_seed(1)
        return vae.encode(x).rsample()

    assert torch.autograd.gradcheck(draw, parameters)
    draw().pow(2).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in parameters)


def test_an_odd_number_of_parameters_is_refused():
    with pytest.raises(ValueError, match=r"last dimension is 2 \* latent_dim, .*; got 3, which is odd"):
        posteriors.DiagonalNormal(nets.MLP(4, (), 3))(torch.zeros(1, 4))
