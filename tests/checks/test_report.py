"""The report: what it says, on paper, as JSON and to a program."""

from __future__ import annotations

import json
import math

import pytest
from rich.console import Console

from pyro_vae.checks import Finding, Line, Report


def line(name, verdict="passed", section="One", **values):
    return Line(name, section, f"what {name} compares", f"why {name} holds", Finding(verdict, **values))


@pytest.fixture
def report():
    return Report(
        (
            line("shapes"),
            line("kl", difference=0.25, standard_error=0.125, tolerance=0.5, p_value=0.046),
            line("gradient", "failed", "Two", detail="[0] is wrong", difference=math.inf, tolerance=1e-4),
            line("evidence", "skipped", "Two", detail="no way to know"),
            line("calibration", "noted", "Two", detail="too narrow"),
        ),
        "a VAE, on 3 examples",
        seed=7,
        level=1e-4,
    )


def test_it_passes_where_nothing_failed(report):
    assert not report.passed
    assert [x.name for x in report.failures] == ["gradient"]
    assert Report(tuple(x for x in report if x.verdict != "failed"), "", 0, 1e-4).passed


def test_lines_by_name(report):
    assert report["kl"].finding.standard_error == 0.125
    assert len(report) == 5
    with pytest.raises(KeyError, match="there is no line 'kll'; there are shapes, kl, gradient, evidence, calibration"):
        report["kll"]


def test_the_summary_counts_and_names_what_to_mend(report):
    assert report.summary() == "2 passed, 1 failed, 1 noted, 1 skipped. Mend gradient first"


def test_on_paper(report):
    text = str(report)
    for part in (
        "a VAE, on 3 examples",
        "what kl compares",
        "why kl holds",
        "0.25 ± 0.1",
        "0.5",
        "[0] is wrong",
        "inf",
    ):
        assert part in text
    assert text.index("One") < text.index("kl") < text.index("Two") < text.index("gradient")
    assert max(map(len, text.splitlines())) <= 110
    assert "why evidence holds" not in text  # what was not compared needs no reason
    assert "no way to know" in text


def test_without_reasons_only_what_needs_a_look_is_explained(report):
    console = Console(width=110, color_system=None, record=True, quiet=False)
    with console.capture() as capture:
        console.print(report.table(why=False))
    text = capture.get()
    assert "why kl holds" not in text
    assert "too narrow" in text


def test_as_json(report):
    found = json.loads(report.to_json())
    assert (found["passed"], found["seed"], found["level"]) == (False, 7, 1e-4)
    assert found["summary"] == report.summary()
    by_name = {x["name"]: x for x in found["lines"]}
    assert by_name["kl"] == {
        "name": "kl",
        "section": "One",
        "compared": "what kl compares",
        "why": "why kl holds",
        "verdict": "passed",
        "detail": "",
        "difference": 0.25,
        "standard_error": 0.125,
        "tolerance": 0.5,
        "p_value": 0.046,
    }
    assert by_name["gradient"]["difference"] is None  # JSON has no infinity
