"""Objectives under CompiledSVI: the same losses and weights as under pyro.infer.SVI, to the last bit in mode exact."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import SVI

from pyro_vae import objectives as o
from pyro_vae.svi import CompiledSVI
from tests.conftest import make_vae, make_x

OBJECTIVES = {
    "beta": lambda: o.BetaELBO(0.3),
    "warm-up": lambda: o.BetaELBO(o.Linear(steps=4)),
    "cyclical": lambda: o.BetaELBO(o.Cyclical(period=3)),
    "analytic": lambda: o.BetaELBO(o.Sigmoid(middle=2, width=1), 2, kl="analytic"),
    "capacity": lambda: o.CapacityELBO(o.Linear(end=5.0, steps=4), gamma=10.0),
    "free bits": lambda: o.FreeBits(o.Linear(end=0.5, steps=4)),
    "free bits of a site": lambda: o.FreeBits(0.5, per="site"),
    "geco": lambda: o.GECO(recon=-2.0, rate=0.1),
    "iwae": lambda: o.IWAE(5),
    "iwae one by one": lambda: o.IWAE(3, vectorize_particles=False),
    "miwae": lambda: o.MIWAE(2, 3),
    "ciwae": lambda: o.CIWAE(0.3, 5),
    "piwae": lambda: o.PIWAE(2, 3),
    "renyi": lambda: o.Renyi(0.5, 4),
    "stl": lambda: o.StickingTheLanding(2),
    "dreg": lambda: o.DReG(5),
    "tc": lambda: o.BetaTCVAE(4.0),
    "info": lambda: o.InfoVAE(0.5, 10.0),
}


def test_every_objective_is_here():
    left_out = set(o.OBJECTIVES) - {type(make()).__name__ for make in OBJECTIVES.values()}
    assert not left_out, f"OBJECTIVES in this file lacks {left_out}"


# One of each kind at every run of the tests, the others with the slow ones.
QUICK = ("warm-up", "free bits", "geco", "iwae", "piwae", "dreg", "tc", "info")
NAMES = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in OBJECTIVES]


def trained(make_svi, objective, batches):
    vae = make_vae()
    svi = make_svi(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.01}), objective)
    pyro.set_rng_seed(1)
    losses = [float(svi.step(x)) for x in batches]
    return vae, svi, losses


@pytest.mark.parametrize("name", NAMES)
def test_steps_are_those_of_pyro(name):
    batches = [make_x(n=n) for n in (7, 7, 7, 5, 7, 7)]
    ours, theirs = OBJECTIVES[name](), OBJECTIVES[name]()
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


@pytest.mark.parametrize(
    "name", ["warm-up", "dreg", *[pytest.param(n, marks=pytest.mark.slow) for n in ("geco", "piwae")]]
)
def test_compiled_steps_are_close(name):
    batches = [make_x()] * 5
    _, svi, losses = trained(lambda *args: CompiledSVI(*args, fallback="error"), OBJECTIVES[name](), batches)
    _, _, expected = trained(SVI, OBJECTIVES[name](), batches)
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
