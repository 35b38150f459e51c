"""CompiledSVI in the place of pyro.infer.SVI: the same, or a warning and the same, or an error."""

from __future__ import annotations

import pytest

from tests.svi.drop_in.breaking import BREAKING
from tests.svi.drop_in.common import COMMON
from tests.svi.drop_in.harness import Case, compiled, difference, run, verdict

CASES = COMMON | BREAKING
FIRST = {case.kind: name for name, case in reversed(CASES.items())}  # one of each kind


def every(slow: bool = False) -> list:
    """Return all cases; if ``slow``, mark all but one of each kind as slow."""
    marks = {name: [pytest.mark.slow] if slow and FIRST[case.kind] != name else [] for name, case in CASES.items()}
    return [pytest.param(case, id=f"{case.kind}-{name}", marks=marks[name]) for name, case in CASES.items()]


@pytest.mark.slow  # it tests the programs, not what runs them
@pytest.mark.parametrize("case", every())
def test_stock_runs_the_program_twice_alike(case: Case):
    once, again = run(case), run(case)
    assert (once.error and type(once.error)) is case.raises, once.error
    assert len(once.moments) > 2
    assert difference([*map(tuple, once.moments)], [*map(tuple, again.moments)]) is None


@pytest.mark.one_in(3)
@pytest.mark.parametrize("case", every())
def test_exact(case: Case):
    verdict(case, compiled("exact"))


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("case", every(slow=True))
def test_fast(case: Case):
    verdict(case, compiled("fast"), loss_rtol=1e-5, rtol=1e-4)
