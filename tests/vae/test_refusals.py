"""Data that do not fit a VAE are refused by name, through whichever door they come."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro import poutine

from pyro_vae import VAE, build, elbo_terms, likelihoods, nets, priors
from tests.conftest import C, X, make_context, make_vae, make_x
from tests.vae.doors import everywhere


@pytest.mark.parametrize("validation", [True, False])
def test_grey_values_under_a_bernoulli_are_refused(validation):
    vae, grey = make_vae(), torch.linspace(0, 0.996, 12, dtype=torch.float64).reshape(2, *X)
    for enter in everywhere(vae, grey):
        with (
            pyro.validation_enabled(validation),
            pytest.raises(
                ValueError,
                match=r"^likelihood Bernoulli needs x in \{0, 1\}; got values in \[0, 0.996\]. Binarise the data "
                r'\(binarize="dynamic" or "threshold" .*\) or use likelihoods.ContinuousBernoulli',
            ),
        ):
            enter()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
@pytest.mark.parametrize(
    ("likelihood", "values", "remedy"),
    [
        ("Bernoulli", [0, 7, 255], r"divide them by 255 and binarise them, .*DiscretizedLogistic\(levels=256, upper="),
        ("Bernoulli", [0, 255, 255], "divide them by 255$"),
        ("Bernoulli", [0, 1, 3], "Binarise the data"),  # counts
        ("ContinuousBernoulli", [0, 7, 255], "divide them by 255$"),
        ("DiscretizedLogistic", [0, 7, 255], "divide them by 255$"),
        ("Beta", [0, 7, 255], "dequantize=True"),
    ],
)
def test_grey_levels_to_255_get_advice_that_works(likelihood, values, remedy, dtype):
    vae = build((3,), 2, hidden=(), likelihood=likelihood)
    with pytest.raises(ValueError, match=f"^likelihood {likelihood} needs x in .*{remedy}"):
        elbo_terms(vae, torch.tensor([values], dtype=dtype))


@pytest.mark.parametrize(
    ("likelihood", "options", "prepare"),
    [
        ("Bernoulli", {}, lambda x: (x / 255).round()),
        ("DiscretizedLogistic", {"levels": 256, "upper": 255.0}, lambda x: x),
        ("ContinuousBernoulli", {}, lambda x: x / 255),
        ("DiscretizedLogistic", {}, lambda x: x / 255),
    ],
)
def test_the_advice_for_grey_levels_is_taken(likelihood, options, prepare):
    vae = build((3,), 2, hidden=(), likelihood={"class": likelihood, **options})
    x = torch.tensor([[0, 7, 255]], dtype=torch.uint8)
    assert elbo_terms(vae, prepare(x)).elbo.isfinite().all()


@pytest.mark.parametrize("name", ["bernoulli", "normal_fixed"])
@pytest.mark.parametrize(("value", "word"), [(math.nan, "NaN"), (math.inf, "infinite values")])
def test_values_that_are_not_finite_are_refused(name, value, word):
    vae, x = make_vae(name), make_x(name)
    x[2, 1, 1] = value
    for enter in everywhere(vae, x):
        with pytest.raises(ValueError, match=f"^x has {word}: 1 of 42 values are not finite. Remove or impute"):
            enter()


def test_the_model_refuses_infinite_values_by_itself():
    with pytest.raises(ValueError, match="^x has infinite values: 42 of 42"):
        poutine.trace(make_vae("normal_fixed").model).get_trace(torch.full((7, *X), math.inf, dtype=torch.float64))


def test_a_wrong_event_shape_is_refused():
    vae = make_vae()
    for enter in everywhere(vae, torch.zeros(7, 3, 2, dtype=torch.float64)):
        with pytest.raises(ValueError, match=r"MLP needs input of shape \(batch, 2, 3\); got \(7, 3, 2\)"):
            enter()
    other = VAE(vae.prior, likelihoods.Bernoulli(nets.MLP(2, (), (3, 2)).double()), vae.posterior)
    for enter in everywhere(other, make_x()):
        with pytest.raises(
            ValueError, match=r"likelihood Bernoulli is over x of shape \(batch, 3, 2\); got \(7, 2, 3\)"
        ):
            enter()


def test_a_context_of_another_length_is_refused():
    vae = make_vae(context=C)
    for enter in everywhere(vae, make_x(), *make_context(C, n=5)):
        with pytest.raises(
            ValueError, match=r"context 0 must have one row per example; got \(5, 4\) for x of shape \(7, 2"
        ):
            enter()


def test_a_context_that_is_no_tensor_is_refused():
    vae, x = make_vae(), make_x()
    with pytest.raises(
        TypeError, match="context 0 must be a tensor, a NumPy array or a table of numbers; got str: 'spherical'"
    ):
        vae.interpolate(x, x, 5, "spherical")


@pytest.mark.parametrize("latent", [1, 3])
def test_a_prior_of_another_dimension_is_refused(latent):
    whole = make_vae()
    vae = VAE(priors.StandardNormal(latent).double(), whole.likelihood, whole.posterior)
    for enter in everywhere(vae, make_x()):
        with pytest.raises(
            ValueError,
            match=rf"prior StandardNormal is over z of shape \({latent},\); got z of shape \(2,\) from posterior "
            "DiagonalNormal. Give both the same latent dimension",
        ):
            enter()
