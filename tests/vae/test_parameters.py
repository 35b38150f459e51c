"""A VAE's parameters stay in its modules: nothing global changes."""

from __future__ import annotations

import copy
import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.nn import PyroModule, PyroParam

from pyro_vae import VAE, elbo_terms
from tests.conftest import C, X, make_context, make_vae, make_x
from tests.vae.doors import everywhere


def test_parameters_stay_out_of_pyros_store_and_of_the_module():
    vae, x = make_vae(), make_x()
    SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), loss=Trace_ELBO()).step(x)
    assert len(pyro.get_param_store()) == 0
    assert not any(hasattr(p, "unconstrained") for p in vae.parameters())
    restored = pickle.loads(pickle.dumps(vae))
    assert torch.equal(restored.reconstruct(x), vae.reconstruct(x))


def test_the_model_called_by_itself_draws_from_the_prior():
    vae = make_vae("normal_fixed", context=C)
    assert vae.model(None, *make_context(C)).shape == (7, *X)
    assert make_vae().model().shape == (1, *X)


def test_frozen_parameters_stay_as_they_are():
    vae, x = make_vae(), make_x()
    vae.posterior.requires_grad_(False)
    before = copy.deepcopy(vae.state_dict())
    SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-1}), loss=Trace_ELBO()).step(x)
    after = vae.state_dict()
    assert all(torch.equal(before[name], after[name]) == name.startswith("posterior") for name in before)


def test_interleaved_training_of_two_vaes_gives_what_each_gives_alone():
    x = make_x(n=30)

    def start(seed):
        vae = make_vae(seed=seed)
        return vae, SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-2}), loss=Trace_ELBO())

    def step(svi, number):
        pyro.set_rng_seed(number)
        return svi.step(x)

    (a, svi_a), (b, svi_b) = start(1), start(2)
    alone = [[step(svi, i) for i in range(20)] for svi in (svi_a, svi_b)]
    (c, svi_c), (d, svi_d) = start(1), start(2)
    in_turns = list(zip(*((step(svi_c, i), step(svi_d, i)) for i in range(20)), strict=True))
    assert [list(losses) for losses in in_turns] == alone
    for one, other in ((a, c), (b, d)):
        assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


class ScaledPrior(PyroModule):
    """A prior of Pyro's own kind of module."""

    def __init__(self, scale):
        super().__init__()
        self.scale = PyroParam(torch.tensor([scale, scale]).double(), torch.distributions.constraints.positive)

    def forward(self):
        return dist.Normal(torch.zeros(2).double(), self.scale).to_event(1)


def test_pyro_modules_of_the_same_names_do_not_share():
    whole, x = make_vae(), make_x()
    a, b = (VAE(ScaledPrior(s), make_vae().likelihood, whole.posterior) for s in (1.0, 5.0))
    alone = elbo_terms(b, x, kl="sampled", seed=1).elbo
    for vae in (a, b):
        SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), loss=Trace_ELBO()).step(x)
    assert ((a.prior.scale - 1.0).abs() < 0.01).all()
    assert ((b.prior.scale - 5.0).abs() < 0.01).all()
    assert not torch.equal(b.prior.scale, torch.full((2,), 5.0).double())  # trained, by its own gradient
    torch.testing.assert_close(elbo_terms(b, x, kl="sampled", seed=1).elbo, alone, rtol=0.01, atol=0.1)


def test_parameters_in_pyros_store_are_refused():
    whole = make_vae()

    def prior():
        return dist.Normal(pyro.param("loc", torch.zeros(2).double()), 1.0).to_event(1)

    for enter in everywhere(VAE(prior, whole.likelihood, whole.posterior), make_x()):
        with pytest.raises(ValueError, match="prior prior keeps the parameter 'loc' in Pyro's parameter store"):
            enter()
