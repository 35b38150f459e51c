"""Properties of every suggestion, and draws of each family."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_vae import build
from pyro_vae.suggestions import suggest
from tests.suggestions.cases import negative_binomial, rng

TABLES = {
    "counts": lambda g: g.poisson(4, (60, 3)),
    "binary": lambda g: g.random((60, 3)) < 0.3,
    "reals": lambda g: g.normal(size=(60, 3)),
    "codes": lambda g: np.c_[g.integers(0, 5, 60), g.integers(0, 2, 60), g.random(60)],
}


@given(kind=st.sampled_from(sorted(TABLES)), seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_neither_the_order_of_rows_nor_the_container_matters(kind, seed):
    x = TABLES[kind](rng(seed)).astype(float)
    shuffled = rng(seed + 1).permutation(x)
    assert suggest(x) == suggest(shuffled) == suggest(torch.from_numpy(x))


@given(p=st.floats(0, 1), shape=st.sampled_from([(5,), (40, 3), (9, 1, 4, 4), (7, 150)]), seed=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_zeros_and_ones_are_always_bernoulli(p, shape, seed):
    for dtype in (bool, np.uint8, np.int64, np.float32):
        (only,) = suggest((rng(seed).random(shape) < p).astype(dtype))
        assert (only.likelihood, only.prepare) == ("Bernoulli", "")


# Each family with parameters at which 400 × 4 draws tell it from the next. The thresholds lie four standard errors
# out, and 20 seeds of each are fixed: a family fails by chance about once in a thousand.
FAMILIES = {
    "Poisson": (lambda g, a: g.poisson(0.2 + 15 * a, (400, 4)), "Poisson"),
    "NegativeBinomial": (
        lambda g, a: negative_binomial(2 + 15 * a, 1 + 3 * a)(g, (400, 4)),
        "NegativeBinomial",
    ),
    "ZeroInflatedNegativeBinomial": (
        lambda g, a: negative_binomial(8 + 8 * a, 4)(g, (400, 4)) * (g.random((400, 4)) >= 0.3 + 0.3 * a),
        "ZeroInflatedNegativeBinomial",
    ),
    "Normal": (lambda g, a: g.normal(a, 1 + a, (400, 4)), "Normal"),
    "StudentT": (lambda g, a: g.standard_t(1.5 + a, (400, 4)), "StudentT"),
    "Beta": (lambda g, a: np.clip(g.beta(0.5 + 4 * a, 1 + a, (400, 4)), 1e-6, 1 - 1e-6), "Beta"),
    "codes": (lambda g, a: g.integers(0, 3 + int(20 * a), (400, 4)), "Categorical"),
    "grey": (lambda g, a: g.integers(0, 40 + int(200 * a), (400, 4)) / (39 + int(200 * a)), "DiscretizedLogistic"),
}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("family", FAMILIES)
def test_draws_of_each_family_are_recognised(family, seed):
    draw, expected = FAMILIES[family]
    generator = rng(seed)
    first = suggest(draw(generator, generator.random()))[0]
    name = first.likelihood if isinstance(first.likelihood, str) else first.likelihood["class"]
    assert name == expected, f"{first}"


@given(
    rows=st.lists(
        st.lists(
            st.one_of(st.floats(-1e3, 1e3), st.integers(0, 300), st.sampled_from([0.0, 0.5, 1.0])),
            min_size=3,
            max_size=3,
        ),
        min_size=2,
        max_size=12,
    )
)
@settings(max_examples=60, deadline=None)
def test_whatever_the_table_no_suggestion_excludes_it(rows):
    x = torch.tensor(rows, dtype=torch.float64).float()
    if (x == x[0, 0]).all() and x[0, 0] not in (0, 1):
        return
    for suggestion in suggest(x):
        assert suggestion.reason
        if not suggestion.prepare:
            build((3,), likelihood=suggestion.likelihood, hidden=(4,), latent_dim=2).model(x)


@given(where=st.lists(st.booleans(), min_size=30, max_size=30))
@settings(max_examples=20, deadline=None)
def test_missing_values_are_left_out_and_said(where):
    x = rng().poisson(4.0, (100, 3)).astype(float)
    x[:10][np.array(where).reshape(10, 3)] = np.nan
    for suggestion in suggest(x):
        assert suggestion.prepare.endswith("Values are missing: build(..., missing=True)") == any(where)
    assert suggest(x)[0].likelihood == "Poisson"
