"""The report: what it says, on paper, as JSON and to a program."""

from __future__ import annotations

import io
import json
import math

import pytest
from rich.console import Console

from pyro_vae.checks import Finding, Line, Report
from pyro_vae.checks.report import worst


def line(name, verdict="passed", section="One", about="", **values):
    return Line(name, section, f"what {name} compares", f"why {name} holds.", Finding(verdict, **values), about)


def on_paper(shown, width=110):
    text = io.StringIO()
    Console(width=width, file=text, color_system=None).print(shown)
    return text.getvalue()


def one_line(text):
    return " ".join(text.split())


@pytest.fixture
def report():
    return Report(
        (
            line("shapes"),
            line("kl", difference=0.25, standard_error=0.125, tolerance=0.5, p_value=0.046),
            line("gradient", "failed", "Two", detail="[0] is wrong", difference=math.inf, tolerance=1e-4),
            line("evidence", "skipped", "Two", "whether the bound is true", detail="no way to know"),
            line("enum-elbo", "skipped", "Two", "a finite sum", detail="z is not discrete", applies=False),
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
    assert len(report) == 6
    with pytest.raises(
        KeyError, match="there is no line 'kll'; there are shapes, kl, gradient, evidence, enum-elbo, calibration"
    ):
        report["kll"]


def test_the_summary_counts_and_names_what_was_not_checked_and_what_to_mend(report):
    assert report.summary() == (
        '2 passed, 1 failed, 1 noted, 1 not applicable, 1 not checked: whether the bound is true. Fix "gradient" first'
    )


def test_a_line_that_does_not_apply_is_no_gap(report):
    assert [x.name for x in report.gaps] == ["evidence"]
    others = Report(tuple(x for x in report if x.name in ("shapes", "enum-elbo")), "", 0, 1e-4)
    assert others.summary() == "1 passed, 1 not applicable"
    assert "Not checked" not in str(others)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (["a", "a", "b"], "a and b"),
        (["a", "b", "c", "d", "e"], "a, b, c and 2 more"),
    ],
)
def test_gaps_are_listed_in_words(about, said):
    lines = tuple(line(str(i), "skipped", about=words) for i, words in enumerate(about))
    assert Report(lines, "", 0, 1e-4).summary() == f"{len(about)} not checked: {said}"


def test_a_gap_without_words_of_its_own_is_what_was_compared():
    assert Report((line("kl", "skipped"),), "", 0, 1e-4).summary().endswith("not checked: what kl compares")


def test_what_is_not_supported_has_neither_failed_nor_passed():
    detail = "not supported: the model has two latent sites"
    later = line("kl", "skipped", detail="not checked, because model and guide are not supported")
    report = Report((line("sites", "skipped", detail=detail), later), "two functions", 0, 1e-4)
    assert not report.failures
    assert not report.passed
    assert report.unsupported == detail
    assert report.summary() == f"nothing was checked: {detail}"
    assert one_line(str(report)) == f"two functions Nothing was checked: {detail}."
    assert json.loads(report.to_json())["unsupported"] == detail


@pytest.mark.parametrize("width", [80, 110])
def test_failures_come_first_and_what_passed_is_folded(report, width):
    text = on_paper(report, width)
    parts = [
        "a VAE, on 3 examples",
        "Failed",
        "gradient",
        "[0] is wrong",
        "inf, allowed 0.0001",
        "why gradient holds",
        "Not checked",
        "evidence",
        "whether the bound is true: no way to know",
        "Noted",
        "calibration",
        "Too narrow.",
        "Passed (2) shapes, kl",
        "Does not apply (1) enum-elbo",
        "2 passed, 1 failed",
    ]
    places = [one_line(text).index(part) for part in parts]
    assert places == sorted(places)
    assert max(map(len, text.splitlines())) <= width
    assert "what kl compares" not in text  # folded
    assert "why evidence holds" not in text  # what was not compared needs no reason
    assert "fix gradient first" not in text  # there are no others


def test_of_several_failures_the_first_is_to_be_mended_first():
    report = Report((line("sites", "failed", detail="one"), line("kl", "failed", detail="two")), "", 0, 1e-4)
    text = str(report)
    assert "Failed: fix sites first; it may cause the others" in text
    assert text.index("One.") < text.index("Two.")


def test_gaps_of_one_reason_are_one_entry():
    lines = tuple(line(name, "skipped", about=f"the {name}", detail="sites failed") for name in ("kl", "order"))
    assert "kl, order the kl and the order: sites failed" in one_line(str(Report(lines, "", 0, 1e-4)))


def test_what_one_failure_stops_is_named_once():
    stopped = [line(name, "skipped", detail='not checked, because "sites" failed', about=name) for name in "abcd"]
    report = Report((line("sites", "failed"), *stopped, line("kl", "skipped", about="the KL")), "", 0, 1e-4)
    assert report.summary() == (
        '1 failed, 1 not checked: the KL; 4 not checked, because "sites" failed. Fix "sites" first'
    )
    text = one_line(str(report))
    assert 'Not checked, because "sites" failed (4) a, b, c, d' in text
    assert text.count("a, b, c") == 1
    assert len(report.gaps) == 5


def test_a_difference_is_told_where_something_is_allowed():
    bare = Report((line("a", "failed", difference=16.0),), "", 0, 1e-4)
    beside = Report((line("a", "failed", difference=16.0, tolerance=1.0),), "", 0, 1e-4)
    assert "Difference" not in str(bare)
    assert "Difference 16, allowed 1." in str(beside)


def test_without_reasons_what_failed_is_still_explained(report):
    text = on_paper(report.brief(why=False))
    assert "why gradient holds" not in text
    assert "[0] is wrong" in text


def test_what_was_cut_is_said(report):
    assert "Fewer than usual" not in str(report)
    cut = Report(report.lines, report.subject, 7, 1e-4, cut=("2 examples and not 8",))
    assert "2 examples and not 8. Small mistakes" in " ".join(str(cut).split())  # lines are wrapped
    assert json.loads(cut.to_json())["cut"] == ["2 examples and not 8"]


def test_in_a_notebook(report):
    html = report._repr_html_()
    assert html.startswith("<pre")
    assert "<span" in html
    assert "[0] is wrong" in html


def test_the_width_of_print_is_that_of_the_terminal_up_to_110(report, monkeypatch):
    long = Report((line("kl", "noted", detail="word " * 200),), "a VAE", 0, 1e-4)
    for columns, width in (("80", 80), ("300", 110)):
        monkeypatch.setenv("COLUMNS", columns)
        assert width - 10 < max(map(len, str(long).splitlines())) <= width


def test_the_table_has_every_line_in_order(report):
    text = on_paper(report.table())
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
    assert "why evidence holds" not in text
    assert "no way to know" in text
    assert "n/a" in text


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
        "why": "why kl holds.",
        "about": "",
        "applies": True,
        "verdict": "passed",
        "detail": "",
        "difference": 0.25,
        "standard_error": 0.125,
        "tolerance": 0.5,
        "p_value": 0.046,
    }
    assert not by_name["enum-elbo"]["applies"]
    assert found["gaps"] == ["evidence"]
    assert by_name["gradient"]["difference"] is None  # JSON has no infinity


def test_of_parts_that_were_skipped_a_gap_counts_most():
    point, gap = Finding("skipped", "a point", applies=False), Finding("skipped", "a torus")
    assert worst([point, gap]) is gap
    assert worst([point, Finding("passed")]) == Finding("passed")


def test_a_part_that_passed_does_not_hide_one_that_could_not_be_looked_at():
    found = worst(
        [Finding("passed", "good", p_value=0.5), Finding("skipped", "a torus"), Finding("skipped", "a torus")]
    )
    assert found.verdict == "passed"
    assert found.detail == "good; 2 of 3 parts were not checked: a torus"


def test_a_report_is_one_line_in_a_console():
    report = Report((Line("kl", "ELBO", "a", "b", Finding("passed")),), "a VAE", 0, 1e-4)
    assert repr(report) == "Report(a VAE: 1 passed)"
