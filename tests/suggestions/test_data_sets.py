"""The first suggestion and the alternatives for data sets of many kinds, and whether they take the data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyro_vae import build, data
from pyro_vae.suggestions import suggest
from tests.suggestions.cases import CASES, DIGITS, mixed_table, rng


@pytest.mark.parametrize("name", CASES)
def test_data_sets_of_every_kind(name):
    arguments, likelihood, reason, prepare = CASES[name]
    first = suggest(*arguments)[0]
    assert first.likelihood == likelihood, str(first)
    assert reason in first.reason
    assert (prepare in first.prepare) if prepare else (first.prepare == "")


def alternatives(name):
    return [str(s).split(":")[0].split("(")[0] for s in suggest(*CASES[name][0])]


def test_the_simpler_likelihood_stands_beside_the_richer():
    assert alternatives("Poisson counts") == ["Poisson", "NegativeBinomial"]
    assert alternatives("negative binomial counts") == ["NegativeBinomial", "Poisson"]
    assert alternatives("counts with extra zeros") == ["ZeroInflatedNegativeBinomial", "NegativeBinomial", "Poisson"]
    assert alternatives("bag of words") == ["Multinomial", "NegativeBinomial", "Poisson"]
    assert alternatives("Student-t draws") == ["StudentT", "Laplace"]
    assert alternatives("lognormal draws") == ["Normal", "StudentT", "Gamma"]
    assert alternatives("beta draws") == ["Beta", "LogitNormal", "ContinuousBernoulli"]


def test_levels_come_with_what_dequantised_data_would_take():
    of_images, of_tensor = suggest(data.load("digits")), suggest(DIGITS.images / 16)
    names = ["Categorical", "DiscretizedLogistic", "DiscretizedLogisticMixture", "ContinuousBernoulli", "LogitNormal"]
    for found in (of_images, of_tensor, suggest(DIGITS.images)):
        assert [str(s).split(":")[0].split("(")[0] for s in found] == names
        assert all(s.prepare == "" for s in found[:3])
    assert of_images[3].prepare == "Dequantise: data.load(..., dequantize=True)"
    assert of_tensor[3].prepare == "Dequantise: (16 * x + torch.rand_like(x)) / 17"
    assert suggest(DIGITS.images)[3].prepare == "Dequantise: (x + torch.rand_like(x)) / 17"


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case[-1]])
def test_every_suggestion_without_preparation_takes_the_data(name):
    """The model of the VAE from ``build`` checks the support."""
    source = CASES[name][0][0]
    if isinstance(source, data.DataSet):
        source = source.train
    if isinstance(source, data.Images):
        x = source.to_x(source.pixels, torch.float32, torch.Generator().manual_seed(0))
    else:
        x = torch.as_tensor(source).float()
    ready = [s for s in suggest(*CASES[name][0]) if not s.prepare]
    assert ready
    for suggestion in ready:
        vae = build(tuple(x.shape[1:]), likelihood=suggestion.likelihood, hidden=(4,), latent_dim=2)
        vae.model(x[:200])


def test_a_mixed_table_with_missing_values_trains_as_it_is_told():
    x, names = mixed_table()
    vae = build((6,), likelihood=suggest(x, names)[0].likelihood, hidden=(4,), latent_dim=2, missing=True)
    vae.model(torch.as_tensor(x).float())


@pytest.mark.parametrize(
    ("scale", "shape", "prepare"),
    [
        (1.0, (500, 3), ""),
        (1.0, (500, 1, 2, 2), ""),
        (400.0, (500, 3), "Divide each column by its mean"),
        (400.0, (500, 1), "Divide by the mean"),
    ],
)
def test_a_gamma_for_positive_and_skewed_reals_without_a_logarithm(scale, shape, prepare):
    x = scale * rng().gamma(2.0, 0.5, shape)
    found = suggest(x)[-1]
    assert (found.likelihood, found.prepare) == ("Gamma", prepare)
    assert found.reason.startswith("positive and skewed values from ")
    ready = x / x.mean(0) if prepare else x
    assert suggest(ready)[-1].prepare == ""
    vae = build(shape[1:], likelihood="Gamma", hidden=(4,), latent_dim=2)
    vae.model(torch.as_tensor(ready).float())


def test_no_gamma_for_a_zero_a_symmetric_column_or_what_single_precision_makes_a_zero():
    x = rng().gamma(2.0, 0.5, (500, 2))
    tiny = x.copy()
    tiny[0, 0] = 1e-60
    for other in (tiny, np.where(x < 0.1, 0, x), np.c_[x, rng().normal(50, 5, 500)], -x):
        assert "Gamma" not in [s.likelihood for s in suggest(other)]


@pytest.mark.parametrize("name", ["grey digits as a table", "raw digits"])
def test_what_is_to_be_done_first_does_what_it_is_for(name):
    (array,), *_ = CASES[name]
    x = torch.as_tensor(array).float()
    for suggestion in suggest(array)[3:]:
        formula, *clamp = suggestion.prepare.removeprefix("Dequantise: ").split(", and clamp to ")
        ready = eval(formula, {"torch": torch, "x": x})
        ready = ready.clamp(1e-6, 1 - 1e-6) if clamp else ready
        vae = build(tuple(x.shape[1:]), likelihood=suggestion.likelihood, hidden=(4,), latent_dim=2)
        vae.model(ready)
