"""The cross-check passes on every combination of prior and posterior, and on every likelihood."""

from __future__ import annotations

import pytest

from pyro_vae.checks import check
from tests.combinations.parts import (
    COMBINATIONS,
    LIKELIHOODS,
    POSTERIORS,
    make_context,
    make_likelihood_vae,
    make_vae,
    make_x,
    name_of,
)

# A few of each kind for every run of the tests: a flow, directions, a simplex, categories, a point.
FEW = [
    ("MixtureOfNormals", "Flow-NICE"),
    ("UniformOnSphere", "PowerSpherical"),
    ("Dirichlet", "RelaxedCategorical"),
    ("VampPrior", "Categorical-groups"),
    ("StandardNormal", "Delta"),
    "multinomial",
    "mixed",
]
CASES = [c if c in FEW else pytest.param(c, marks=pytest.mark.slow) for c in [*COMBINATIONS, *LIKELIHOODS]]


def test_the_few_are_there():
    assert set(FEW) <= {*COMBINATIONS, *LIKELIHOODS}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_correct_vae_passes(case):
    """About 20 lines compare estimates, each at one false alarm in 10,000 seeds; the seed is fixed."""
    if isinstance(case, str):
        vae, x = make_likelihood_vae(case)
        context = ()
    else:
        vae, x, context = make_vae(*case, POSTERIORS[case[1]].small_dim), make_x(6), make_context(case[0], 6)
    report = check(vae, x, *context, repeats=20)
    assert report.passed, [(line.name, line.finding.detail) for line in report.failures]
    looked = {line.name for line in report if line.verdict != "skipped"}
    assert {"sites", "shapes", "supports", "parameters", "reach", "gradient"} <= looked
    assert looked & {"trace-elbo", "enum-elbo"}
