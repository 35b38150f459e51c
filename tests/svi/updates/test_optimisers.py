"""Optimisers of Pyro, and optimisers that have no update in a graph."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.optim.clipped_adam import ClippedAdam

from pyro_vae.svi.optimizer import SharedOptim
from pyro_vae.svi.updates import updates_of
from tests.svi.updates.pairs import Pair, Steps, gradients, parameters


@pytest.mark.parametrize(
    "make",
    [
        lambda: pyro.optim.Adam({"lr": 0.03, "weight_decay": 0.1}),
        lambda: pyro.optim.AdamW({"lr": 0.03}),
        lambda: pyro.optim.ClippedAdam({"lr": 0.03, "lrd": 0.8, "clip_norm": 0.5}),
        lambda: pyro.optim.SGD({"lr": 0.03, "momentum": 0.9, "nesterov": True}),
        lambda: pyro.optim.Adam(lambda name: {"lr": 0.5} if name == "p1" else {"lr": 0.01, "betas": (0.5, 0.6)}),
        lambda: pyro.optim.PyroOptim(
            lambda params, **options: (
                ClippedAdam(params, **options) if options["lr"] > 0.1 else torch.optim.SGD(params, **options)
            ),
            lambda name: {"lr": 0.2 if name == "p0" else 0.05},
        ),
        lambda: pyro.optim.ExponentialLR({"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": 0.5}),
    ],
    ids=["adam", "adamw", "clipped", "sgd", "by-name", "two-classes", "schedule"],
)
def test_optimisers_of_pyro(make):
    try:
        theirs = Steps(make)
        for grads in gradients(9):
            theirs.stock(grads)
            if hasattr(theirs.optim, "step"):
                theirs.optim.step()
        ours = Steps(make)
        for i, grads in enumerate(gradients(9)):
            if i in (0, 5):
                ours.stock(grads)
                steps = {}
                updates = updates_of(ours.optim, ours.params, steps)
            else:
                with torch.no_grad():
                    updates.apply([g.clone() for g in grads], updates.numbers()[0])
                updates.count()
            if hasattr(ours.optim, "step"):
                ours.optim.step()
        for p, q in zip(theirs.params, ours.params, strict=True):
            torch.testing.assert_close(q, p, rtol=1e-12, atol=1e-12)
    finally:
        pyro.clear_param_store()


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (torch.optim.Adam, {"amsgrad": True}),
        (torch.optim.AdamW, {"amsgrad": True}),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
        (torch.optim.Adam, {"lr": torch.tensor(0.1)}),
        (torch.optim.Adagrad, {}),
        (torch.optim.RMSprop, {}),
        (type("MyAdam", (torch.optim.Adam,), {}), {}),
    ],
    ids=["amsgrad", "adamw-amsgrad", "dampening", "lr-in-a-tensor", "adagrad", "rmsprop", "subclass"],
)
def test_what_has_a_rule_of_its_own_is_left_to_itself(make, options):
    assert Pair(make, options).updates is None


def test_what_else_is_left_to_itself():
    assert Pair(torch.optim.Adam, {}, started=False).updates is None, "no state to go on from"
    assert Pair(torch.optim.Adam, {}).updates is not None

    def hooked(params, **options):
        optimizer = torch.optim.Adam(params, **options)
        optimizer.register_step_post_hook(lambda *_: None)
        return optimizer

    assert Pair(hooked, {}).updates is None
    p = torch.zeros(2, dtype=torch.complex64, requires_grad=True)
    assert updates_of(SharedOptim(torch.optim.SGD([p], lr=0.1)), [p], {}) is None
    stranger = torch.zeros(2, requires_grad=True)
    assert updates_of(SharedOptim(torch.optim.SGD([stranger], lr=0.1)), parameters(), {}) is None


def test_gradient_clipping_of_pyro_is_left_to_itself():
    try:
        steps = Steps(lambda: pyro.optim.Adam({"lr": 0.1}, {"clip_norm": 1.0}))
        steps.stock(gradients(1)[0])
        assert updates_of(steps.optim, steps.params, {}) is None
    finally:
        pyro.clear_param_store()
