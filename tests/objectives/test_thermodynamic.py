"""The thermodynamic objective lies between the ELBO and IWAE's bound at each set of draws."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_vae import objectives as o
from pyro_vae.seeds import seeded
from tests.conftest import make_vae, make_x


def bound(objective, vae, x):
    with seeded(4):  # the same draws for all
        return -float(objective.loss(vae.model, vae.guide, x))


@settings(max_examples=15, deadline=None)
@given(intervals=st.integers(1, 40), first=st.floats(1e-4, 0.99), seed=st.integers(0, 50))
def test_it_lies_between_the_elbo_and_iwae(intervals, first, seed):
    vae, x = make_vae(seed=seed), make_x()
    elbo, iwae = (bound(objective, vae, x) for objective in (o.BetaELBO(1.0, 8), o.IWAE(8)))
    assert elbo - 1e-9 <= bound(o.TVO(intervals, first, 8), vae, x) <= iwae + 1e-9


def test_with_one_interval_it_is_the_elbo_and_with_many_iwae():
    vae, x = make_vae(), make_x()
    assert bound(o.TVO(1, num_particles=8), vae, x) == pytest.approx(bound(o.BetaELBO(1.0, 8), vae, x), rel=1e-12)
    iwae, gaps = bound(o.IWAE(8), vae, x), []
    for intervals in (200, 2000):
        gaps.append(iwae - bound(o.TVO(intervals, 1e-5, 8), vae, x))
    assert 0 < gaps[1] < gaps[0] / 5  # the error of a Riemann sum falls as the length of its intervals


@pytest.mark.parametrize(
    ("options", "words"), [({"intervals": 0}, "intervals must be"), ({"first": 1.0}, "first must be")]
)
def test_bad_arguments_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        o.TVO(**options)
