"""Calibration where a model of the mask draws which values of x are missing."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch

from pyro_vae import VAE, check

WEIGHTS = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def factor_model(seen_by_q: bool) -> VAE:
    """One factor and three columns with noise of 1, a third missing at random; q is exact if it leaves gaps out."""

    def posterior(x_and_mask):
        x, observed = x_and_mask.chunk(2, -1)
        weights = WEIGHTS * (observed if seen_by_q else 1)
        precision = 1 + weights.square().sum(-1, keepdim=True)
        mean = (x * weights).sum(-1, keepdim=True) / precision
        return dist.Normal(mean, precision.rsqrt()).to_event(1)

    one = torch.ones(1, dtype=torch.float64)
    return VAE(
        prior=lambda: dist.Normal(0 * one, one).to_event(1),
        likelihood=lambda z: dist.Normal(z * WEIGHTS, torch.ones_like(WEIGHTS)).to_event(1),
        posterior=posterior,
        missing=True,
        mask_likelihood=lambda x: dist.Bernoulli(torch.full_like(x, 2 / 3)).to_event(1),
    )


@pytest.mark.parametrize(("seen_by_q", "verdict"), [(True, "passed"), (False, "noted")])
def test_the_true_z_rank_as_they_should_if_q_knows_what_is_missing(seen_by_q, verdict):
    """The level of the check is its rate of false alarms, and the seed is fixed."""
    x = torch.randn(64, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[::2, 1] = torch.nan
    report = check(factor_model(seen_by_q), x, only=["calibration"])
    assert report["calibration"].verdict == verdict
