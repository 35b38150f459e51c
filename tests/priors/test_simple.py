"""p(z): densities against SciPy, samples against densities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from pyro_vae import priors


def test_standard_normal_equals_scipy():
    z = torch.randn(9, 3, dtype=torch.float64)
    ours = priors.StandardNormal(3).double()().log_prob(z)
    np.testing.assert_allclose(ours, stats.multivariate_normal(np.zeros(3)).logpdf(z.numpy()), rtol=1e-12)


def test_standard_normal_samples_match_its_density():
    """Kolmogorov-Smirnov at level 1e-4 on a fixed seed."""
    z = priors.StandardNormal(2)().sample((5000,)).flatten()
    assert stats.kstest(z.numpy(), "norm").pvalue > 1e-4


def test_standard_normal_ignores_the_context_and_follows_the_dtype():
    prior = priors.StandardNormal(3).double()
    assert prior(torch.zeros(5, 4)).batch_shape == ()
    assert prior().sample().dtype == torch.float64
    assert not prior.state_dict()


@pytest.mark.parametrize("latent_dim", [0, -1, 2.5, "2"])
def test_a_latent_dimension_below_one_is_refused(latent_dim):
    with pytest.raises(ValueError, match=f"latent_dim must be an integer of at least 1; got {latent_dim!r}"):
        priors.StandardNormal(latent_dim)
