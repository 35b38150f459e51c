"""What no rule can know, the audit finds."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor

from pyro_vae.svi import CompiledSVI
from tests.svi.drop_in.harness import Case, Program, compiled
from tests.svi.drop_in.stale import CHANGED, STALE
from tests.svi.drop_in.tiny import data, guide, model

# The first audit after CHANGED of those 1, 2, 4, 8, 16, 32 steps after a capture, which the second step makes.
AUDITED = 2 + 32

CASES = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in STALE.items()])


class State(NamedTuple):
    """Return what the next step depends on: SGD has no state."""

    parameters: dict[str, Tensor]
    generator: Tensor

    def restore(self) -> None:
        with torch.no_grad():
            for name, p in pyro.get_param_store()._params.items():
                p.copy_(self.parameters[name])
        torch.set_rng_state(self.generator)


class Step(NamedTuple):
    """A step, and the state after it."""

    loss: float
    state: State
    refused: str | None
    warned: int


def state() -> State:
    return State({n: p.detach().clone() for n, p in pyro.get_param_store()._params.items()}, torch.get_rng_state())


def start(case: Case, make_svi: Callable[..., Any]) -> tuple[Program, Any]:
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    program = case.make()
    return program, make_svi(program.model, program.guide, program.optim, program.loss)


def steps_of(case: Case, make_svi: Callable[..., Any]) -> tuple[list[Step], list[str], Any]:
    """All steps, the warnings, and the SVI."""
    steps = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        program, svi = start(case, make_svi)
        with contextlib.closing(program.steps(svi)) as losses:
            for loss in losses:
                steps.append(Step(loss, state(), getattr(svi, "refused", None), len(caught)))
    return steps, [str(w.message) for w in caught], svi


def continued(case: Case, step: int, before: State) -> list[float]:
    """Return the losses of stock from a step on, starting from another's state."""
    program, svi = start(case, SVI)
    with contextlib.closing(program.steps(svi)) as losses:
        for _ in range(1, step):
            next(losses)
        before.restore()
        return list(losses)


@CASES
def test_stock_sees_the_change(case):
    steps, warned, _ = steps_of(case, SVI)
    again, _, _ = steps_of(case, SVI)
    assert [s.loss for s in steps] == [s.loss for s in again]
    assert not warned
    losses = [step.loss for step in steps]
    assert losses[CHANGED - 1] > max(losses[CHANGED - 6 : CHANGED - 1]) + 5


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("mode", ["exact", pytest.param("fast", marks=pytest.mark.slow)])
@CASES
def test_no_rule_sees_the_change(case, mode):
    """Without the audit the graph keeps the value of the capture."""
    stock, _, _ = steps_of(case, SVI)
    steps, warned, svi = steps_of(case, compiled(mode, audit=False))
    assert svi.captures == 1
    assert svi.refused is None
    assert not warned
    assert steps[CHANGED - 1].loss < stock[CHANGED - 1].loss - 5


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("mode", ["exact", "fast"])
@CASES
def test_the_audit_sees_the_change(case, mode):
    steps, warned, svi = steps_of(case, compiled(mode))
    assert svi.captures == 1
    given_up = next(number for number, step in enumerate(steps, 1) if step.refused is not None)
    assert CHANGED <= given_up <= AUDITED
    assert len(warned) == 1
    assert "audit" in warned[0]
    assert [step.warned for step in steps] == [0] * (given_up - 1) + [1] * (len(steps) - given_up + 1)
    expected = continued(case, given_up, steps[given_up - 2].state)
    assert [step.loss for step in steps[given_up - 1 :]] == expected


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_the_audit_sees_a_hook_of_autograd(mode):
    """Hooks where a gradient accumulates; the node does not show them."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    svi = CompiledSVI(model, guide, pyro.optim.SGD({"lr": 0.01}), Trace_ELBO(), mode=mode)
    for _ in range(20):
        svi.step(data(4))
    loc = pyro.get_param_store()._params["loc"]
    node = loc.view_as(loc).grad_fn.next_functions[0][0]  # it lives as long as somebody holds it
    node.register_prehook(lambda grads: tuple(0.1 * g for g in grads))
    with pytest.warns(UserWarning, match="audit found .*at step 33, the gradient of loc is 0.1"):
        svi.steps(data(4).expand(20, 4))
    assert "From step 18 on" in svi.refused
