"""Objectives under CompiledSVI: the same losses and weights as under pyro.infer.SVI, to the last bit in mode exact."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import SVI

from pyro_vae import objectives as o
from pyro_vae.svi import CompiledSVI
from tests.conftest import make_vae, make_x
from tests.objectives.cases import CASES

# One of each kind at every run of the tests, the others with the slow ones.
NAMES = [pytest.param(name, marks=[] if case.quick else pytest.mark.slow) for name, case in CASES.items()]


def trained(make_svi, objective, batches):
    vae = make_vae()
    svi = make_svi(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.01}), objective)
    pyro.set_rng_seed(1)
    losses = [float(svi.step(x)) for x in batches]
    return vae, svi, losses


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", NAMES)
def test_steps_are_those_of_pyro(name):
    batches = [make_x(n=n) for n in (7, 7, 7, 5, 7, 7)]
    ours, theirs = CASES[name].make(), CASES[name].make()
    exact = lambda *args: CompiledSVI(*args, mode="exact", fallback="error")  # noqa: E731
    vae, svi, losses = trained(exact, ours, batches)
    stock, _, expected = trained(SVI, theirs, batches)
    assert losses == expected
    for a, b in zip(vae.parameters(), stock.parameters(), strict=True):
        assert torch.equal(a, b)
    for place, other in ((ours.terms, theirs.terms), (ours.state, theirs.state)):
        assert {k: v.item() for k, v in place.items()} == {k: v.item() for k, v in other.items()}
    assert ours.state["steps"].item() == len(batches)
    assert svi.captures <= 2


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    "name", ["warm-up", "dreg", *[pytest.param(n, marks=pytest.mark.slow) for n in ("geco", "piwae")]]
)
def test_compiled_steps_are_close(name):
    batches = [make_x()] * 5
    _, svi, losses = trained(lambda *args: CompiledSVI(*args, fallback="error"), CASES[name].make(), batches)
    _, _, expected = trained(SVI, CASES[name].make(), batches)
    assert losses == pytest.approx(expected, rel=1e-9)
    assert svi.captures == 1


def test_a_tensor_of_a_weight_may_change_between_steps():
    beta = torch.tensor(0.0, dtype=torch.float64)
    vae, x, objective = make_vae(), make_x(), o.BetaELBO(beta)
    svi = CompiledSVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.0}), objective, mode="exact", fallback="error")
    for value in (0.0, 1.0, 2.0, 0.5):
        beta.fill_(value)
        loss = float(svi.step(x))
        terms = {name: term.item() for name, term in objective.terms.items()}
        assert loss == pytest.approx(-len(x) * (terms["recon"] - value * terms["kl"]), rel=1e-12)
        assert terms["beta"] == value
    assert svi.captures == 1


def test_a_number_of_the_objective_that_changes_makes_another_graph(uncompiled):
    vae, x, objective = make_vae(), make_x(), o.BetaELBO(0.0)
    svi = CompiledSVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.0}), objective, fallback="error")
    for value in (0.0, 0.0, 3.0, 3.0, 3.0):
        objective.beta = value
        loss = float(svi.step(x))
        terms = {name: term.item() for name, term in objective.terms.items()}
        assert loss == pytest.approx(-len(x) * (terms["recon"] - value * terms["kl"]), rel=1e-9)
    assert svi.captures == 2
