"""The check against bugs that people make: each is found and named, and each right twin passes."""

from __future__ import annotations

import pyro
import pytest
import torch

from pyro_vae.checks import CHECKS, check
from tests.checks.mutants import MUTANTS

REPEATS = 20  # draws of each gradient: these bugs are large

# Lines that are never the first to fail here, and why.
SECOND = {
    "mean-field-elbo": "what it compares with Pyro's loss, trace-elbo and kl compare before it",
    "renyi-elbo": "what it compares with Pyro's loss, trace-elbo compares before it",
    "order": "the log of a mean is never below the mean of logs; only draws that are no draws of q turn it round",
    "evidence": "a bound above log p(x) comes from a density of another mass or from wrong draws, which come before it",
    "gradient-analytic-kl": "a second witness to kl and gradient",
    "gradient-score": "a second witness to gradient and posterior-draws",
    "gradient-landing": "a second witness to posterior-draws",
    "gradient-doubly": "a second witness to posterior-draws",
}


@pytest.fixture(autouse=True)
def _empty_store():
    """Bugs may leave something in Pyro's store: that is one of them."""
    yield
    pyro.clear_param_store()


NAMES = [line.name for line in CHECKS]
SEE_THE_LOSS = ["clamps", *(line.name for line in CHECKS if line.section == "Objective")]


def first_to_fail(mutant, only):
    setup = mutant.make(True)
    report = check(setup.vae, setup.x, **({"only": only, "repeats": REPEATS} | setup.options))
    assert not report.passed, f"not found: {mutant.bug}"
    first = report.failures[0]
    assert first.name == mutant.line, f"{mutant.bug}: {first.finding.detail}"
    assert mutant.says in first.finding.detail
    assert f'Fix "{mutant.line}" first' in report.summary()


# The first bug of each line that sees the loss runs all lines before it by default.
FIRST = {m.line: m for m in reversed(MUTANTS) if m.line in SEE_THE_LOSS[1:]}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m is not FIRST.get(m.line)], ids=lambda m: m.name)
def test_a_bug_is_found_and_named(mutant):
    """Runs the lines up to the one that must fail; later ones do not change which is the first.

    A wrong loss runs only the lines that see the loss, because the model and the guide are right; those of FIRST, and
    the slow test, run all.
    """
    before = NAMES[: NAMES.index(mutant.line) + 1]
    first_to_fail(mutant, [name for name in before if mutant.line not in SEE_THE_LOSS[1:] or name in SEE_THE_LOSS])


def test_lines_that_do_not_see_the_loss_find_the_same_without_it():
    setup = next(m for m in MUTANTS if m.name == "kl_left_out").make(True)
    only = [name for name in NAMES if name not in SEE_THE_LOSS]
    options = {"only": only, "repeats": REPEATS} | setup.options
    found = check(setup.vae, setup.x, **options)
    assert options.pop("objective") is not None
    assert found.lines == check(setup.vae, setup.x, **options).lines


WRONG_LOSSES = [
    pytest.param(m, id=m.name, marks=[] if m is FIRST[m.line] else [pytest.mark.slow])  # each takes seconds
    for m in MUTANTS
    if m.line in SEE_THE_LOSS[1:]
]


@pytest.mark.parametrize("mutant", WRONG_LOSSES)
def test_no_line_before_the_objective_names_a_wrong_loss(mutant):
    first_to_fail(mutant, NAMES[: NAMES.index(mutant.line) + 1])


# Every fourth by default: the whole check of each takes a second or two, and tests/checks/right has many more programs.
TWINS = [
    pytest.param(m, id=m.name, marks=[pytest.mark.slow] if i % 4 else [])
    for i, m in enumerate(m for m in MUTANTS if not m.twin)
]


@pytest.mark.parametrize("mutant", TWINS)
def test_its_twin_without_the_bug_passes(mutant):
    setup = mutant.make(False)
    report = check(setup.vae, setup.x, **({"repeats": REPEATS} | setup.options))
    assert report.passed, {line.name: line.finding.detail for line in report.failures}
    assert report[mutant.line].verdict == "passed"  # and not skipped


def test_there_are_many_bugs_of_many_kinds():
    assert len(MUTANTS) >= 50
    assert len({m.name for m in MUTANTS}) == len(MUTANTS)
    assert {m.twin for m in MUTANTS if m.twin} <= {m.name for m in MUTANTS if not m.twin}


def test_every_line_is_named_by_a_bug_or_said_to_be_a_second_witness():
    named = {m.line for m in MUTANTS}
    assert {line.name for line in CHECKS} == named | set(SECOND)
    assert not named & set(SECOND)


def test_second_witnesses_speak_as_well():
    """Draws of q that do not follow its density: found by the estimators too that share neither."""
    wrong = next(m for m in MUTANTS if m.name == "variance_as_scale_in_draws").make(True)
    names = ["evidence", "gradient-score", "gradient-landing", "gradient-doubly"]
    report = check(wrong.vae, wrong.x, only=names, repeats=REPEATS)
    assert [line.name for line in report.failures] == names


def test_making_a_mutant_leaves_torch_generators_alone():
    state = torch.get_rng_state()
    for mutant in MUTANTS:
        mutant.make(False)
    assert torch.equal(state, torch.get_rng_state())
