"""Bad input has an error that names it."""

from __future__ import annotations

import math

import pyro.distributions as dist
import pytest
import torch

from pyro_vae.closed_forms import LinearGaussian
from tests.closed_forms.linear_gaussian.models import D, d, make, normal, randn


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": [[1.0]]}, r"weight must be a floating-point tensor \(D, d\); got list"),
        (
            {"weight": torch.ones(3, 2, dtype=torch.int64)},
            "weight must be a floating-point tensor .*got dtype torch.int64",
        ),
        ({"weight": torch.ones(3)}, r"weight must be \(D, d\); got shape \(3,\)"),
        ({"weight": torch.ones(3, 0)}, r"weight must be \(D, d\); got shape \(3, 0\)"),
        ({"weight": torch.full((3, 2), math.nan)}, "weight must be finite; got 6 values that are not"),
        ({"bias": torch.ones(2)}, r"bias must be \(D,\) for weight \(3, 2\); got shape \(2,\)"),
        ({"bias": torch.ones(())}, r"bias must be \(D,\) for weight \(3, 2\); got shape \(\)"),
        ({"bias": 0.0}, "bias must be a tensor of the dtype of weight, torch.float32; got float"),
        (
            {"bias": torch.ones(3).double()},
            "bias must be a tensor of the dtype of weight, torch.float32; got dtype torch.float64",
        ),
        ({"bias": torch.tensor([0, math.inf, 0])}, "bias must be finite; got 1 values that are not"),
        ({"scale": torch.ones(2)}, r"scale must be a number or \(D,\) for weight \(3, 2\); got shape \(2,\)"),
        ({"scale": torch.ones(3).double()}, "scale must be a tensor of the dtype of weight"),
        ({"scale": math.nan}, "scale must be finite; got 1 values"),
        ({"scale": 0.0}, "scale must be above 0 everywhere; got 0"),
        ({"scale": torch.tensor([1.0, 1.0, -2.0])}, "scale must be above 0 everywhere; got -2"),
    ],
)
def test_bad_parameters_are_refused(change, message):
    good = {"weight": torch.ones(3, 2), "bias": torch.zeros(3), "scale": 1.0}
    with pytest.raises(ValueError, match=message):
        LinearGaussian(**{**good, **change})


@pytest.mark.parametrize(
    ("data", "latent_dim", "message"),
    [
        (
            torch.ones(9, 3).int(),
            1,
            r"data must be a floating-point tensor \(n, D\), one row per example; got dtype torch.int32",
        ),
        (torch.ones(9, 1, 3), 1, r"data must be \(n, D\), one row per example; got shape \(9, 1, 3\)"),
        (torch.tensor([[math.nan, 1.0]]), 1, "data must be finite; got 1 values that are not"),
        (torch.ones(9, 3), 0, "latent_dim must be an integer of at least 1; got 0"),
        (torch.ones(9, 3), 1.5, "latent_dim must be an integer of at least 1; got 1.5"),
        (torch.ones(9, 3), 3, "latent_dim must be below the 3 dimensions of the data, to leave noise; got 3"),
        (torch.ones(3, 4), 2, r"data must have at least latent_dim \+ 2 = 4 rows, to leave noise; got 3"),
        (torch.ones(9, 3), 1, "data lie in a subspace of at most latent_dim = 1 dimensions"),
        (randn(9, 2) @ randn(2, 5), 2, "data lie in a subspace of at most latent_dim = 2 dimensions"),
    ],
)
def test_bad_data_are_refused(data, latent_dim, message):
    with pytest.raises(ValueError, match=message):
        LinearGaussian.maximum_likelihood(data, latent_dim)


@pytest.mark.parametrize("method", ["log_prob", "posterior", "best_diagonal"])
def test_bad_x_is_refused(method):
    method = getattr(make(), method)
    with pytest.raises(ValueError, match=r"x must be \(batch, 5\); got shape \(7, 4\). Flatten its events"):
        method(randn(7, 4))
    with pytest.raises(ValueError, match="x must have the dtype of weight, torch.float64; got torch.float32"):
        method(randn(7, D).float())
    with pytest.raises(ValueError, match="x has NaN"):
        method(torch.full((7, D), math.nan).double())


def test_bad_q_is_refused():
    model, x = make(), randn(7, D)
    for q in (dist.Normal(randn(7, d), 1.0), dist.Laplace(randn(7, d), 1.0).to_event(1)):
        with pytest.raises(ValueError, match=r"q must be a normal over vectors z, such as Normal\(loc, scale\)"):
            model.elbo(x, q)
    with pytest.raises(ValueError, match=r"q must have event shape \(3,\); got \(4,\)"):
        model.elbo(x, normal("full", latent_dim=4))
    with pytest.raises(ValueError, match="q must have the dtype of weight, torch.float64; got torch.float32"):
        model.elbo(x, dist.Normal(torch.zeros(7, d), 1.0).to_event(1))
    with pytest.raises(ValueError, match=r"x must be \(batch, 5\)"):
        model.elbo(x[:, 1:], normal("full"))


def test_bad_arguments_of_the_gradient_are_refused():
    model, x, loc = make(), randn(7, D), randn(7, d)
    with pytest.raises(ValueError, match=r"loc must be \(batch, 3\); got shape \(7, 2\)"):
        model.elbo_gradient(x, loc[:, 1:], loc.exp())
    with pytest.raises(ValueError, match=r"scale must be \(batch, 3\); got shape \(\)"):
        model.elbo_gradient(x, loc, torch.tensor(1.0))
    with pytest.raises(ValueError, match="scale must be above 0 everywhere; got 0"):
        model.elbo_gradient(x, loc, torch.zeros_like(loc))
    with pytest.raises(ValueError, match=r"x must be \(batch, 5\)"):
        model.elbo_gradient(x[:, 1:], loc, loc.exp())


def test_bad_words_and_weights_are_refused():
    with pytest.raises(
        ValueError, match=r"other_weight must be \(5, d\), columns in the space of x; got shape \(4, 3\)"
    ):
        make().subspace_angle(randn(4, 3))
    with pytest.raises(ValueError, match="got shape \\(5, 0\\)"):
        make().subspace_angle(randn(5, 0))
    with pytest.raises(ValueError, match='posterior must be "exact" or "diagonal"; got \'full\''):
        make().vae("full")
    sharp = LinearGaussian(torch.eye(2).double(), torch.zeros(2).double(), 1e-7)
    for posterior in ("exact", "diagonal"):
        with pytest.raises(
            ValueError, match="the scales of a VAE's posterior are above 1e-6, and the true one has 1e-07"
        ):
            sharp.vae(posterior)
