"""Watching a model and a guide."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from torch.distributions import kl_divergence

from pyro_vae import build, elbo_terms, objectives
from pyro_vae.training.step_terms import StepTerms


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


OBJECTIVES = {
    "Trace_ELBO": Trace_ELBO,
    "particles": lambda: Trace_ELBO(num_particles=4),
    "particles in a plate": lambda: Trace_ELBO(num_particles=4, vectorize_particles=True, max_plate_nesting=2),
    "BetaELBO": objectives.BetaELBO,
    "BetaELBO of four": lambda: objectives.BetaELBO(1.0, 4),
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_several_sites_and_plates_add_up_to_the_loss(objective):
    """Two latent sites, two observed ones, and a plate of one of these."""
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def model(x):
        with pyro.plate("data", 7, dim=-2):
            a = pyro.sample("a", dist.Normal(x.new_zeros(7, 1), 1.0))
            b = pyro.sample("b", dist.Normal(a, 2.0))
            pyro.sample("y", dist.Poisson(a.exp()), obs=x.new_ones(7, 1))
            with pyro.plate("elements", 3, dim=-1):
                pyro.sample("x", dist.Normal(b, 0.5), obs=x)

    def guide(x):
        with pyro.plate("data", 7, dim=-2):
            a = pyro.sample("a", dist.Normal(x[:, :1], 0.5))
            pyro.sample("b", dist.Normal(a + x[:, 1:2], 0.7))

    terms, loss = StepTerms(), OBJECTIVES[objective]()
    programs = terms.watch(model, guide, loss)
    value = loss.loss(*programs, x)
    recon, kl = terms.take().tolist()
    assert recon - kl == pytest.approx(-float(value) / 7, rel=1e-6)


class Counted(dist.Normal):
    """A normal that counts how often its density is asked for."""

    asked = 0

    def log_prob(self, value):
        Counted.asked += 1
        return super().log_prob(value)


@pytest.mark.parametrize(
    ("make", "times"), [(objectives.BetaELBO, 1), (lambda: objectives.IWAE(3), 1), (Trace_ELBO, 2)]
)
def test_how_often_a_step_works_out_a_density(make, times):
    def model(x):
        with pyro.plate("data", 7):
            z = pyro.sample("z", dist.Normal(x.new_zeros(7), 1.0))
            pyro.sample("x", Counted(z, 0.5), obs=x)

    def guide(x):
        with pyro.plate("data", 7):
            pyro.sample("z", dist.Normal(0.5 * x, 0.5))

    terms, loss, x = StepTerms(), make(), torch.zeros(7)
    programs = terms.watch(model, guide, loss)
    loss.loss(*programs, x)  # an objective may run the programs once more at first, to count their plates
    Counted.asked = 0
    loss.loss(*programs, x)
    assert Counted.asked == times
