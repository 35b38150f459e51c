"""The table of compare on terminals of several widths."""

from __future__ import annotations

import functools
import re

import pytest
from rich.console import Console

from pyro_vae.cli import comparison
from pyro_vae.cli.comparison import Row, print_rows, varied
from pyro_vae.cli.tables import print_table


def runs():
    return [
        Row(
            f"runs/photos-{i}",
            {
                "data": f"/home/somebody/data/photos{i % 2}",
                "prior": ["StandardNormal", "VampPrior"][i % 2],
                "prior.components": 50 if i % 2 else None,
                "objective.beta": i / 4,
                "objective.beta.steps": i * 100,
                "posterior.net.hidden": [64, 32 * i],
            },
            {"elbo": -100.5 - i, "rate": 20.25 + i, "log_prob": -99.75 - i, "bits_per_dim": 1.5},
            200 + i,
            12.5,
        )
        for i in range(6)
    ]


@pytest.mark.parametrize("width", [60, 80, 120, 250])
def test_every_value_is_there_whole_at_every_width(width, monkeypatch, capsys):
    terminal = functools.partial(Console, force_terminal=True, width=width, color_system=None)
    monkeypatch.setattr(comparison, "Console", terminal)
    rows = runs()
    print_rows(rows, varied(rows), "test")
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= width
    for row in rows:
        words = " ".join(line for line in printed.splitlines() if line.startswith(row.run))
        for value in (row.figures["elbo"], row.figures["rate"], row.figures["log_prob"]):
            assert f" {value:.2f}" in words
        assert str(row.options["posterior.net.hidden"]) in words
        assert row.options["prior"] in words
        assert f"photos{row.options['data'][-1]}" in words.split()
    titles = " ".join(line for line in printed.splitlines() if line.startswith("run "))
    for title in ("data", "prior", "components", "beta", "steps", "hidden", "elbo", "rate", "log p(x)", "bits/dim"):
        assert title in titles


def test_names_that_would_be_the_same_stay_whole():
    rows = [Row(f"r{i}", {"prior.scale": i * "abcdefghij", "likelihood.scale": i}, {}, 1, 0.0) for i in range(3)]
    blocks = comparison._blocks(comparison._columns(rows, varied(rows)), varied(rows), 30)
    assert [title for block in blocks for title in block if title != "run"] == [
        *("prior.scale", "likelihood.scale", "trained", "minutes"),
    ]


def test_data_are_named_by_the_last_part_of_their_paths(capsys):
    for paths, shown in ((("/a/x.csv", "/a/y.csv"), ("x.csv", "y.csv")), (("/a/x.csv", "/b/x.csv"), ("/a/x.csv",))):
        print_rows([Row(f"r{i}", {"data": path}, {}, 1, 0.0) for i, path in enumerate(paths)], ["data"], "test")
        words = capsys.readouterr().out.split()
        assert all(word in words for word in shown)


def test_long_names_keep_their_start_and_paths_their_end():
    assert comparison._shortened("ZeroInflatedNegativeBinomial") == "ZeroInflatedNegativeBin…"
    assert comparison._shortened("/home/of/somebody/with/data/photos").endswith("with/data/photos")
    assert comparison._shortened("x" * 24) == "x" * 24


def test_square_brackets_are_plain_text(capsys):
    words = ["[bold]", "[/]", "[link=x]y", "\\[red]"]
    print_table("[title]", {"class": words, "[1]": ["[2]"] * 4})
    print_rows([Row(word, {}, {}, 1, 0.0) for word in words], [], "test")
    printed = capsys.readouterr().out
    for word in words:
        assert len(re.findall(rf"^{re.escape(word)} ", printed, re.MULTILINE)) == 2
    assert "[title]" in printed
    assert printed.count("[2]") == 4
