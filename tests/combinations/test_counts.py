"""Completeness: every class is in the tables, and every pair is accepted or refused correctly."""

from __future__ import annotations

import inspect
import re

import pytest
import torch

from pyro_vae import likelihoods, posteriors, priors
from pyro_vae.parts import words_for
from tests.combinations.parts import (
    COMBINATIONS,
    DENSITIES,
    INCOMPATIBLE,
    LIKELIHOODS,
    PAIRS,
    POSTERIORS,
    PRIORS,
    C,
    D,
    N,
    make_context,
    make_vae,
    name_of,
    raw_vae,
    shared_vae,
)


@pytest.mark.parametrize(
    ("room", "table", "place"),
    [
        (priors, PRIORS, "PRIORS in tests/combinations/parts.py"),
        (posteriors, POSTERIORS, "POSTERIORS in tests/combinations/parts.py"),
        (likelihoods, LIKELIHOODS, "CASES in tests/likelihoods/cases.py"),
    ],
    ids=["p", "q", "x"],
)
def test_every_class_is_in_the_tables(room, table, place):
    tested = {part.cls.__name__ for part in table.values()}
    left_out = sorted(set(room.__all__) - tested)
    assert not left_out, f"enter {left_out} in {place}"
    assert tested <= set(room.__all__)


def test_every_part_has_a_combination_and_a_density():
    assert {p for p, _ in COMBINATIONS} == set(PRIORS)
    assert {q for _, q in COMBINATIONS} == set(POSTERIORS)
    assert {d.prior for d in DENSITIES if d.room == "prior"} == set(PRIORS)
    assert {d.posterior for d in DENSITIES if d.room == "posterior"} == set(POSTERIORS) - {"Delta"}


def count() -> tuple[int, int]:
    """Combinations of prior and posterior, each with its options; classes of likelihoods."""
    return len(COMBINATIONS), len({case.cls for case in LIKELIHOODS.values()})


@pytest.mark.parametrize("pair", COMBINATIONS, ids=name_of)
def test_a_part_says_what_its_codes_are(pair):
    vae = shared_vae(*pair)
    space = PRIORS[pair[0]].space or POSTERIORS[pair[1]].space
    assert words_for(vae.prior.support) == words_for(vae.posterior.support) == space
    z = vae.prior_of(*make_context(pair[0])).sample()  # codes of the one are codes of the other
    assert z.dtype == torch.float64
    q = vae.encode(torch.zeros(N, 4, dtype=torch.float64), *make_context(pair[0]))
    if "Flow" not in pair[1]:  # Zuko's flows do not say their support
        assert q.support.check(z).all()


def names(text):
    return text.split(", ")


@pytest.mark.parametrize("pair", INCOMPATIBLE, ids=name_of)
def test_an_incompatible_pair_is_refused_with_what_goes_together(pair):
    """The message names both parts, and only parts over the right kind of codes."""
    prior, posterior = (PRIORS[pair[0]], POSTERIORS[pair[1]])
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        make_vae(*pair).prior_of(*make_context(pair[0]))
    message = str(caught.value)
    assert posterior.cls.__name__ in message
    assert f"prior {prior.cls.__name__}" in message
    if prior.cls in (priors.VampPrior, priors.Exemplar):
        assert "Use priors." in message
        return
    if prior.space == posterior.space:
        remedy = re.search(r"Give (both the same classes|the posterior classes=4)$", message)
        assert (remedy[1] == "both the same classes") == ("classes" in inspect.signature(prior.cls).parameters)
        return
    advice = re.search(r"This posterior goes with the priors (.*); this prior goes with the posteriors (.*)", message)
    for name in names(advice[1]):
        assert posterior.space in {
            part.space or posterior.space for part in PRIORS.values() if part.cls.__name__ == name
        }
    for name in names(advice[2]):
        assert prior.space in {part.space for part in POSTERIORS.values() if part.cls.__name__ == name}


def test_an_incompatible_pair_is_refused_when_it_is_built_and_not_later():
    for pair in INCOMPATIBLE:
        with pytest.raises(ValueError, match=PRIORS[pair[0]].cls.__name__):
            raw_vae(*pair)


def test_the_numbers_of_pairs_add_up():
    assert len(COMBINATIONS) + len(INCOMPATIBLE) == len(PAIRS) == len(PRIORS) * len(POSTERIORS)
    assert len(set(COMBINATIONS)) == len(COMBINATIONS)
    assert (D, C) == (4, 2)
