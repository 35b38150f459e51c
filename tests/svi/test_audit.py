"""When a graph is audited, by a clock of the tests' own, and what makes two runs differ."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_vae.svi import audit
from pyro_vae.svi.audit import AuditSchedule, Difference, RunResult, difference

POWERS = [2**i for i in range(15)]


class Run:
    """Steps of a graph that take ``step`` seconds each, and audits that take ``audit`` seconds more."""

    def __init__(self, monkeypatch, step=1, audit_=1, start=0):
        self.now, self.step, self.audit, self.number = 0.0, step, audit_, start
        monkeypatch.setattr(audit, "time", SimpleNamespace(perf_counter=lambda: self.now))
        self.audits = AuditSchedule(start)

    def until(self, number):
        """Return the numbers of the audited steps."""
        audited = []
        while self.number < number:
            self.number += 1
            if self.audits.due(self.number):
                self.now += self.audit
                self.audits.passed(self.number, self.audit)
                audited.append(self.number)
            self.now += self.step
        return audited


@pytest.mark.parametrize("start", [0, 1, 5, 1000, 123_457])
def test_the_numbers_of_the_audits_after_a_capture(monkeypatch, start):
    assert [n - start for n in Run(monkeypatch, start=start, audit_=10**6).until(start + 20_000)] == POWERS


@pytest.mark.parametrize(
    ("step", "seconds", "gap"),
    [
        (1, 0, 1024),
        (1, 5, 1024),  # 5 of 1,024 seconds are less than 0.5 %
        (1, 6, 2048),  # and 6 are not
        (1, 10, 2048),
        (1, 11, 4096),
        (10, 51, 1024),
        (10, 52, 2048),
    ],
)
def test_the_gap_that_stays_is_the_first_that_costs_little(monkeypatch, step, seconds, gap):
    audited = Run(monkeypatch, step, seconds).until(6 * gap)
    assert audited == [n for n in POWERS if n <= gap] + [k * gap for k in range(2, 7)]


@given(st.integers(1, 50), st.integers(0, 3000), st.integers(0, 10**6))
def test_the_gap_that_stays_for_any_costs(step, seconds, start):
    """Skip the steps in between; ``left`` says how many there are."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        run = Run(monkeypatch, step, seconds, start)
        gaps, last = [], start
        for _ in range(30):
            run.now += step * run.audits.left(run.number)
            run.number += run.audits.left(run.number)
            gaps.append(run.number + 1 - last)
            (last,) = run.until(run.number + 1)
    stays = next(2**i for i in range(10, 40) if seconds <= 0.005 * 2**i * step)
    growing = [1] + [2**i for i in range(40) if 2**i < stays]
    assert gaps == (growing + [stays] * 30)[:30]


def test_the_gap_stays_when_steps_get_faster(monkeypatch):
    run = Run(monkeypatch, step=10, audit_=50)
    run.until(4096)
    run.step, run.audit = 1, 500
    assert run.until(8192) == [5120, 6144, 7168, 8192]


def test_what_is_left_before_an_audit(monkeypatch):
    run = Run(monkeypatch, start=10)
    assert run.audits.left(10) == 0
    lefts = []
    for number in range(11, 21):
        run.until(number)
        lefts.append(run.audits.left(number))
    assert lefts == [0, 1, 0, 3, 2, 1, 0, 7, 6, 5]
    assert run.audits.left(10_000) == 0


def test_an_audit_that_came_late_is_due_at_once(monkeypatch):
    """Another SVI has taken steps with the optimiser."""
    run = Run(monkeypatch)
    run.until(2)
    run.number = 99
    assert run.until(100) == [100]
    assert run.until(200) == [200]


def test_the_last_that_agreed(monkeypatch):
    run = Run(monkeypatch, start=10)
    assert run.audits.agreed == 10
    run.until(15)
    assert run.audits.agreed == 14


def test_no_audits(monkeypatch):
    def read():
        raise AssertionError("the clock is not to be read")

    monkeypatch.setattr(audit, "time", SimpleNamespace(perf_counter=read))
    audits = AuditSchedule(5, on=False)
    assert not any(audits.due(number) for number in (5, 6, 7, 10**12))
    assert audits.left(6) == math.inf


# The results of two runs.


def did(losses=(1.5,), gradients=None, tensors=None, generators=((1, 2),)):
    return RunResult(losses, gradients or {}, tensors or {}, [torch.tensor(g) for g in generators])


def next_to(x: float, dtype: torch.dtype = torch.float64) -> float:
    return float(torch.nextafter(torch.tensor(x, dtype=dtype), torch.tensor(math.inf, dtype=dtype)))


G = torch.tensor([1.0, -2.0, 4.0])


@pytest.mark.parametrize(
    "run",
    [
        did(),
        did(losses=(math.nan,)),
        did(losses=(math.inf, -math.inf)),
        did(gradients={"w": G}),
        did(gradients={"w": torch.tensor([math.nan, 1.0])}),
        did(gradients={"w": torch.empty(0)}),
        did(tensors={"count": torch.tensor(3)}),
        did(tensors={"mask": torch.tensor([True, False])}),
        did(tensors={"wave": torch.tensor([1j])}),
    ],
)
def test_the_same_to_the_bit_is_no_difference(run):
    copy = RunResult(
        list(run.losses),
        *({name: t.clone() for name, t in part.items()} for part in (run.gradients, run.tensors)),
        [g.clone() for g in run.generators],
    )
    assert difference(run, copy) is None


@pytest.mark.parametrize(
    ("pyro", "graph", "rounding"),
    [
        (1.0, next_to(1.0), True),
        (1.0, 1.0 + 0.9e-5, True),
        (1.0, 1.0 + 1.1e-5, False),
        (-1.0, 1.0, False),
        (1.0, math.nan, False),
        (math.nan, 1.0, False),
        (math.inf, 1.0, False),
        (math.inf, -math.inf, False),
        (0.0, 1e-300, False),
    ],
)
def test_a_loss_that_is_another(pyro, graph, rounding):
    found = difference(did(losses=(pyro,)), did(losses=(graph,)))
    assert found.rounding is rounding
    assert found.words == f"the loss is {pyro:.9g} in Pyro and {graph:.9g} in the graph"


def test_one_of_two_losses():
    found = difference(did(losses=(1.0, 2.0)), did(losses=(1.0, 3.0)))
    assert not found.rounding
    assert "2 in Pyro" in found.words
    assert "3 in the graph" in found.words


def test_a_loss_more_is_a_difference():
    for pair in ((1.0,), (1.0, 1.0)), ((1.0, 1.0), (1.0,)):
        assert not difference(*(did(losses=losses) for losses in pair)).rounding


@pytest.mark.parametrize(
    ("dtype", "apart", "rounding"),
    [
        (torch.float64, 0.9e-5, True),
        (torch.float64, 1.1e-5, False),
        (torch.float32, 0.9e-5, True),
        (torch.float32, 1.2e-5, False),
        (torch.bfloat16, 0.9e-2, True),
        (torch.bfloat16, 3e-2, False),
        (torch.float16, 0.9e-2, True),
        (torch.float16, 1.5e-2, False),
    ],
)
def test_a_gradient_that_is_another_by_rounding_or_more(dtype, apart, rounding):
    """Measured by the largest element, here 4."""
    ours = G.to(dtype)
    theirs = ours.double().add(torch.tensor([0.0, 4 * apart, 0.0])).to(dtype)
    found = difference(did(gradients={"w": theirs}), did(gradients={"w": ours}))
    assert found.rounding is rounding
    assert found.words.startswith("the gradient of w differs by up to ")
    assert found.words.endswith(" between Pyro and the graph")


def test_a_gradient_of_zeros_has_no_rounding():
    found = difference(did(gradients={"w": torch.full((2,), 1e-30)}), did(gradients={"w": torch.zeros(2)}))
    assert not found.rounding


def test_what_is_more_than_rounding_is_named_first():
    pyro = did((next_to(1.0),), {"a": G, "b": G + 1, "c": G})
    graph = did((1.0,), {"a": G * (1 + 1e-6), "b": G, "c": G})
    found = difference(pyro, graph)
    assert found.words.startswith("the gradient of b differs by up to ")
    assert not found.rounding
    pyro = did((next_to(1.0),), {"a": G})
    graph = did((1.0,), {"a": G * (1 + 1e-6)})
    assert difference(pyro, graph) == Difference("the loss is 1 in Pyro and 1 in the graph", True)


@pytest.mark.parametrize("part", ["gradients", "tensors"])
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (torch.zeros(3), torch.zeros(2)),
        (torch.zeros(3), torch.zeros(3, 1)),
        (torch.zeros(3), torch.zeros(0)),
        (torch.tensor([math.nan, 0.0]), torch.tensor([0.0, math.nan])),
        (torch.tensor([math.nan, 1.0]), torch.tensor([math.nan, 2.0])),
        (torch.tensor([1.0]), torch.tensor([math.nan])),
        (torch.tensor(3), torch.tensor(4)),
        (torch.tensor([1j]), torch.tensor([2j])),
    ],
    ids=["shape", "dimensions", "empty", "NaN", "beside NaN", "NaN in one", "integers", "complex"],
)
def test_tensors_that_are_others_by_more_than_rounding(part, theirs, ours):
    found = difference(did(**{part: {"w": theirs}}), did(**{part: {"w": ours}}))
    assert not found.rounding
    assert "the gradient of w " in found.words if part == "gradients" else "after the step, w " in found.words


def test_flags_that_are_others():
    found = difference(*(did(tensors={"mask": torch.tensor([True, last])}) for last in (True, False)))
    assert not found.rounding
    assert "after the step, mask " in found.words


def test_a_gradient_that_is_there_in_one_of_them_only():
    both, one = did(gradients={"a": G, "b": G}), did(gradients={"a": G})
    for pair in (both, one), (one, both):
        found = difference(*pair)
        assert not found.rounding
        assert "the gradient of b " in found.words


def test_other_random_numbers():
    found = difference(did(losses=(2.0,)), did(generators=((1, 3),)))
    assert found == Difference("Pyro and the graph draw different random numbers", False)
