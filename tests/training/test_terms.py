"""Watching a model and a guide."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from torch.distributions import kl_divergence

from pyro_vae import build, elbo_terms
from pyro_vae.training.terms import StepTerms


def test_the_terms_of_a_run_are_those_of_elbo_terms(case):
    vae, *batch = case
    terms = StepTerms()
    model, guide = terms.watch(vae.model, vae.guide, Trace_ELBO())
    expected = elbo_terms(vae, *batch, kl="sampled", seed=5)
    for _ in range(2):  # the second time from a fresh start
        pyro.set_rng_seed(5)
        loss = Trace_ELBO().loss(model, guide, *batch)
        recon, kl = terms.take().tolist()
        assert recon == pytest.approx(expected.recon.mean().item(), rel=1e-12)
        assert kl == pytest.approx(expected.kl.mean().item(), rel=1e-12)
        assert recon - kl == pytest.approx(-loss / 7, rel=1e-12)


def test_codes_that_are_summed_over_count_with_their_probability():
    codes = {"class": "categorical", "classes": 3}
    vae = build((3,), 6, hidden=(5,), prior=codes, posterior=codes).double()
    with torch.no_grad():
        vae.prior.logits.normal_()
    x, terms = torch.rand(7, 3).round().double(), StepTerms()
    model, guide = terms.watch(vae.model, vae.guide, TraceEnum_ELBO())
    loss = TraceEnum_ELBO(max_plate_nesting=1).loss(model, guide, x)
    recon, kl = terms.take().tolist()
    assert 7 * (kl - recon) == pytest.approx(loss, rel=1e-12)
    assert kl == pytest.approx(kl_divergence(vae.encode(x), vae.prior_of()).mean().item(), rel=1e-12)
