"""Watching a model and a guide."""

from __future__ import annotations

import pyro
import pytest
from pyro.infer import Trace_ELBO

from pyro_vae import elbo_terms
from pyro_vae.training.terms import Terms


def test_the_terms_of_a_run_are_those_of_elbo_terms(case):
    vae, *batch = case
    terms = Terms()
    model, guide = terms.watch_model(vae.model), terms.watch_guide(vae.guide)
    expected = elbo_terms(vae, *batch, kl="sampled", seed=5)
    for _ in range(2):  # the second time from a fresh start
        pyro.set_rng_seed(5)
        loss = Trace_ELBO().loss(model, guide, *batch)
        recon, kl = terms.take().tolist()
        assert recon == pytest.approx(expected.recon.mean().item(), rel=1e-12)
        assert kl == pytest.approx(expected.kl.mean().item(), rel=1e-12)
        assert recon - kl == pytest.approx(-loss / 7, rel=1e-12)
