"""The gamma likelihood."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Exponential

from pyro_vae import average_elbo, build, likelihoods
from tests.likelihoods.cases import Raw, softplus


def test_a_dispersion_of_one_is_the_exponential():
    raw = torch.tensor([[-3.0, 0.0, 4.0]], dtype=torch.float64)
    p = likelihoods.Gamma(Raw(raw), dispersion=1.0)(torch.zeros(1, 2))
    x = torch.tensor([[0.01, 0.7, 9.0]], dtype=torch.float64)
    mean = torch.from_numpy(softplus(raw.numpy()))
    torch.testing.assert_close(p.log_prob(x), Exponential(1 / mean).log_prob(x).sum(-1))
    torch.testing.assert_close(p.mean, mean)


@pytest.mark.parametrize("wrong", [0.0, -1.0])
def test_zeros_and_negative_numbers_are_refused(wrong):
    vae = build((2,), 2, hidden=(4,), likelihood="Gamma")
    with pytest.raises(ValueError, match=r"likelihood Gamma needs x in \(0, ∞\); got values in \[.*Remove or impute"):
        average_elbo(vae, torch.tensor([[1.0, wrong]]))
