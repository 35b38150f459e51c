"""Print the number of combinations at the end."""

from __future__ import annotations


def pytest_terminal_summary(terminalreporter):
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, [])]
    if any("tests/combinations/" in r.nodeid for r in reports):
        from tests.combinations.test_counts import count

        combinations, kinds = count()
        terminalreporter.write_line(f"{combinations} combinations of prior and posterior, {kinds} likelihoods")
