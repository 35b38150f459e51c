"""Errors for data outside a support, for any likelihood."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch

from pyro_vae.data_checks import check_support
from pyro_vae.distributions import as_pyro
from pyro_vae.distributions.columns import Columns


def users(z):
    """A user's likelihood, for its name."""


@pytest.mark.parametrize(
    ("distribution", "good", "bad", "text"),
    [
        (dist.Exponential(torch.ones(2)), [0.0, 1.0], [-1.0, 2.0], r"\[0, ∞\); got values in \[-1, 2\]. Transform"),
        (dist.LogNormal(torch.zeros(2), 1.0), [0.1, 1.0], [0.0, 2.0], r"\(0, ∞\); got values in \[0, 2\]. Transform"),
        (dist.Geometric(torch.ones(2) / 2), [0.0, 3.0], [0.5, 0.5], r"{0, 1, 2, ...}; got values in \[0.5, 0.5\]. Tr"),
        (dist.Bernoulli(torch.ones(2) / 2), [0.0, 1.0], [-0.2, 1.0], r"{0, 1}; got values in \[-0.2, 1\]. Transform"),
    ],
)
def test_supports_have_names(distribution, good, bad, text):
    d = distribution.to_event(1).expand((1,))
    check_support(users, d, torch.tensor([good]))
    with pytest.raises(ValueError, match=f"^likelihood users needs x in {text}"):
        check_support(users, d, torch.tensor([bad]))


def test_vectors_have_supports_too():
    d = dist.Dirichlet(torch.ones(1, 3))
    check_support(users, d, torch.tensor([[0.2, 0.3, 0.5]]))
    with pytest.raises(
        ValueError, match=r"the simplex: vectors of numbers from 0 that sum to 1; got values in \[0.2, 0.9\]"
    ):
        check_support(users, d, torch.tensor([[0.2, 0.3, 0.9]]))


def test_columns_of_a_users_function_are_named():
    d = Columns(
        [dist.Normal(torch.zeros(1, 1), 1.0).to_event(1), dist.Poisson(torch.ones(1, 1)).to_event(1)], ["a", "b"]
    )
    for given in (d, as_pyro(d)):
        check_support(users, given, torch.tensor([[-0.5, 1.0]]))
        with pytest.raises(
            ValueError, match=r"^likelihood users: column 'b' needs x in {0, 1, 2, ...}; got .* Transform"
        ):
            check_support(users, given, torch.tensor([[-0.5, 1.5]]))
    with pytest.raises(ValueError, match=r"over x of shape \(batch, 2\); got \(1, 3\)"):
        check_support(users, d, torch.zeros(1, 3))
    with pytest.raises(ValueError, match="x has NaN: 1 of 2 values"):
        check_support(users, d, torch.tensor([[torch.nan, 0.0]]))
