"""Every combination of prior and posterior, and every likelihood, with Pyro's own tools."""

from __future__ import annotations

import copy
import math
from functools import cache

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, RenyiELBO, Trace_ELBO

from pyro_vae import elbo_terms
from pyro_vae.config import build, describe, make_objective
from tests.combinations.parts import (
    COMBINATIONS,
    LIKELIHOODS,
    ONE_HOT,
    POSTERIORS,
    PRIORS,
    C,
    D,
    N,
    X,
    make_context,
    make_likelihood_vae,
    make_vae,
    make_x,
    name_of,
    partner,
)

CASES = [*COMBINATIONS, *LIKELIHOODS]
every = pytest.mark.parametrize("case", CASES, ids=name_of)


def fresh(case, seed=0):
    """(vae, x, *context) of a combination, or of a likelihood with the plain prior and posterior."""
    if isinstance(case, str):
        return make_likelihood_vae(case, seed)
    return make_vae(*case, seed=seed), make_x(), *make_context(case[0])


@cache
def shared(case):
    """The same, for tests that do not change it."""
    return fresh(case)


def is_discrete(case):
    return not isinstance(case, str) and POSTERIORS[case[1]].space == ONE_HOT


def missed(case) -> bool:
    """True if some parameters may have no gradient for a batch.

    Zuko's networks have four ReLUs each here, and a layer whose ReLUs are all off passes no gradient on.
    """
    return not isinstance(case, str) and any("Flow" in name for name in case)


@every
def test_a_step_reaches_every_parameter(case):
    """The usual objective is finite, the gradient of each parameter is finite and not zero, and a step moves them all.

    StandardNormal and UniformOnSphere have no parameters. In flows, single layers may be at rest: at most a quarter.
    """
    vae, x, *c = fresh(case)
    objective = make_objective("auto", vae)
    parameters = dict(vae.named_parameters())
    for seed in (0, 1):
        pyro.set_rng_seed(seed)
        batch = x if isinstance(case, str) or seed == 0 else make_x(seed=9)
        loss = objective.differentiable_loss(vae.model, vae.guide, batch, *c)
        assert math.isfinite(loss.item())
        loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in parameters.values())
    at_rest = [name for name, p in parameters.items() if not p.grad.abs().sum() > 0]
    assert len(at_rest) <= (len(parameters) // 4 if missed(case) else 0), at_rest
    assert all("layers" in name or "maps" in name for name in at_rest)
    before = copy.deepcopy(vae.state_dict())
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), loss=objective)
    assert math.isfinite(svi.step(x, *c))
    moved = [name for name, p in parameters.items() if not torch.equal(p, before[name])]
    # With other noise, other units of a flow's layers may be inactive.
    allowed = len(parameters) // 4 if missed(case) else 0
    assert len(set(parameters) - set(moved) - set(at_rest)) <= allowed


@every
def test_the_terms_are_pyros_loss(case):
    """Sampled with the same noise; discrete codes are summed over, by TraceEnum_ELBO and here by hand."""
    vae, x, *c = shared(case)
    if is_discrete(case):
        q, p = vae.encode(x, *c), vae.prior_of(*c)
        z = q.enumerate_support()
        inputs = (t.expand(len(z), *t.shape) for t in c)
        log_x = vae.likelihood(z, *inputs).log_prob(x)
        log_q = q.log_prob(z)
        ours = (log_q.exp() * (log_x + p.log_prob(z) - log_q)).sum().item()
        loss = make_objective("auto", vae).loss(vae.model, vae.guide, x, *c)
    else:
        ours = elbo_terms(vae, x, *c, kl="sampled", seed=5).elbo.sum().item()
        pyro.set_rng_seed(5)
        loss = Trace_ELBO().loss(vae.model, vae.guide, x, *c)
    assert ours == pytest.approx(-loss, rel=1e-9, abs=1e-9)


@pytest.mark.one_in(3)
@every
@pytest.mark.parametrize("parallel", [True, False], ids=["parallel", "one-by-one"])
def test_predictive(case, parallel):
    """Codes given x, data from the prior, and data from the posterior."""
    vae, x, *c = shared(case)
    d = vae.prior_of(*c).event_shape[0]
    vae.eval()
    n = 3 if parallel else 2
    options = {"num_samples": n, "parallel": parallel}
    codes = Predictive(vae.model, guide=vae.guide, **options)(x, *c)
    assert codes["z"].shape == (n, N, d)
    free = Predictive(poutine.uncondition(vae.model), guide=vae.guide, **options)(x, *c)
    assert free["x"].shape == (n, *x.shape)
    assert vae.likelihood(free["z"][0], *c).support.check(free["x"][0]).all()
    drawn = Predictive(vae.model, **options)(None, *c)
    rows = N if c else 1
    assert drawn["z"].shape == (n, rows, d)
    assert drawn["x"].shape == (n, rows, *x.shape[1:])
    assert torch.isfinite(drawn["x"]).all()
    vae.train()


@every
def test_the_importance_weighted_bound(case):
    """RenyiELBO(0) is −Σ log mean w, w = p(x|z) p(z) / q(z|x), with the same draws; its gradient is finite."""
    vae, x, *c = shared(case)
    vae.zero_grad()
    num_particles = 3
    objective = RenyiELBO(alpha=0, num_particles=num_particles, vectorize_particles=True, max_plate_nesting=1)
    pyro.set_rng_seed(5)
    loss = objective.loss(vae.model, vae.guide, x, *c)
    pyro.set_rng_seed(5)
    q, p = vae.encode(x, *c), vae.prior_of(*c)
    z = q.expand((num_particles, N)).rsample() if q.has_rsample else q.expand((num_particles, N)).sample()
    likelihood = vae.likelihood(vae.decoder_input(z), *(t.expand(num_particles, *t.shape) for t in c))
    log_w = likelihood.log_prob(x) + p.log_prob(z) - q.log_prob(z)
    expected = -(log_w.logsumexp(0) - math.log(num_particles)).sum().item()
    assert loss == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert math.isfinite(objective.loss_and_grads(vae.model, vae.guide, x, *c))
    gradients = [g.grad for g in vae.parameters() if g.grad is not None]
    assert gradients
    assert all(torch.isfinite(g).all() for g in gradients)
    vae.zero_grad()
    one_by_one = RenyiELBO(alpha=0, num_particles=num_particles, vectorize_particles=False, max_plate_nesting=1)
    assert math.isfinite(one_by_one.loss(vae.model, vae.guide, x, *c))


@every
def test_weights_go_to_a_file_and_back(case, tmp_path):
    vae, x, *c = shared(case)
    other = fresh(case, seed=1)[0]
    before = elbo_terms(other, x, *c, kl="sampled", seed=5).elbo
    expected = elbo_terms(vae, x, *c, kl="sampled", seed=5)
    vae.save_weights(tmp_path / "w.safetensors")
    other.load_weights(tmp_path / "w.safetensors")
    terms = elbo_terms(other, x, *c, kl="sampled", seed=5)
    assert torch.equal(terms.recon, expected.recon)
    assert torch.equal(terms.kl, expected.kl)
    assert not torch.equal(before, expected.elbo)


EACH_ONCE = [
    *(partner(prior=p) for p in PRIORS),
    *(partner(posterior=q) for q in POSTERIORS),
    *LIKELIHOODS,
]


@pytest.mark.parametrize("case", dict.fromkeys(EACH_ONCE), ids=name_of)
def test_a_description_builds_it_again(case):
    """Each prior, posterior and likelihood, with its options."""
    vae, x, *c = shared(case)
    parts = {"prior": describe(vae.prior, vae.posterior), "posterior": describe(vae.posterior)}
    parts["likelihood"] = describe(vae.likelihood)
    shape, d = (x.shape[1:], 2) if isinstance(case, str) else (X, D)
    again = build(shape, d, context_features=C if c else 0, **parts).double()
    again.load_state_dict(vae.state_dict())
    ours, theirs = (elbo_terms(v, x, *c, kl="sampled", seed=5).elbo for v in (vae, again))
    np.testing.assert_array_equal(ours.detach(), theirs.detach())
    assert describe(again.prior, again.posterior) == parts["prior"]
    assert describe(again.posterior) == parts["posterior"]
