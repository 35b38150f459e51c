"""What the README and the pages of docs/ show is true: their Python runs, what they quote is said, their links lead on."""

from __future__ import annotations

import re
from contextlib import chdir
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pyro
import pytest
import torch

from pyro_vae import build, check, data, fit, likelihoods, nets, posteriors, priors
from pyro_vae.cli import main
from pyro_vae.cli.words import with_options

SOURCE = Path(__file__).parents[2]
README = (SOURCE / "README.md").read_text(encoding="utf-8")
PAGES = {"README.md": README} | {
    page.relative_to(SOURCE).as_posix(): page.read_text(encoding="utf-8")
    for page in sorted((SOURCE / "docs").rglob("*.md"))
}


def blocks(text):
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def quoted(page, start):
    """The lines of a page from ``start`` to the end of its paragraph, as one."""
    return " ".join((start + PAGES[page].split(start)[1].split("\n\n")[0]).split())


@cache
def run(page):
    """What the Python blocks of a page leave behind, run one after the other in a folder of their own."""
    names: dict = {}
    with TemporaryDirectory() as folder, chdir(folder):
        try:
            for block in blocks(PAGES[page]):
                exec(compile(block, page, "exec"), names)
        finally:
            pyro.clear_param_store()
    return names


@pytest.mark.parametrize(
    "page",
    [page for page, text in PAGES.items() if blocks(text) and "your-data" not in page],  # see test_walks.py
)
def test_the_python_blocks_of_a_page_run_one_after_the_other(page):
    assert run(page)


@pytest.mark.parametrize(
    "page", ["index", "swapping", "data", "objectives", "compiled-svi", "cross-check", "evaluation", "scikit-learn"]
)
def test_a_guide_has_python(page):
    assert blocks(PAGES[f"docs/{page}.md"])


def test_the_readme_is_short():
    lines = README.splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_two_commands_stand_there_word_for_word(page):
    assert "\n    pip install -e . && pyro-vae train\n" in PAGES[page]
    assert "\n    pip install -e '.[test]' && pytest\n" in PAGES[page]


@pytest.mark.parametrize(
    ("page", "link"), [(page, link) for page, text in PAGES.items() for link in re.findall(r"\]\(([\w./#-]+)\)", text)]
)
def test_a_link_leads_to_a_file_and_to_a_heading_in_it(page, link):
    path, _, anchor = link.partition("#")
    target = (SOURCE / page).parent / path
    assert target.is_file()
    headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8") if anchor else "", re.MULTILINE)
    assert not anchor or anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}


def test_the_error_it_quotes_is_the_error(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    digits = data.load("digits").train
    with pytest.raises(ValueError, match="needs x in") as error:
        fit(build(digits.event_shape, hidden=(4,)), digits, epochs=1, progress=False)
    said = quoted("docs/swapping.md", "needs x in")
    assert said in f"ValueError: {error.value}"
    assert main(["train", "--binarize", "none", "--hidden", "[4]"]) == 2
    assert with_options(said).removeprefix("ValueError: ") in " ".join(capsys.readouterr().err.split())


def test_the_refusal_it_quotes_is_the_refusal(capsys):
    assert main(["train", "--prior", "sphere", "--hidden", "[4]"]) == 2
    said = " ".join(capsys.readouterr().err.split("prior UniformOnSphere")[1].split())
    in_docs = quoted("docs/swapping.md", "prior UniformOnSphere").removeprefix("prior UniformOnSphere ")
    # A prior that is added need not be named there too.
    said, in_docs = (re.fullmatch(r"(.* goes with the priors )(.*)(; this prior .*)", text) for text in (said, in_docs))
    assert said.group(1, 3) == in_docs.group(1, 3)
    assert set(in_docs[2].split(", ")) <= set(said[2].split(", "))


def test_the_options_of_check_that_it_names():
    report = check(build(6, 2, hidden=()), torch.ones(8, 6), level=1e-4, latent="z", observed="x", only=["sites"])
    assert report.passed


def test_the_finding_it_quotes_is_the_finding():
    """But for the numbers, which depend on the weights that the VAE starts with."""
    said = run("docs/cross-check.md")["report"].failures[0].finding.detail
    pattern = r"-?\d+\.\d+"
    assert re.sub(pattern, "0", quoted("docs/cross-check.md", "the objective is ")) == re.sub(pattern, "0", said)


def test_what_is_there_is_there():
    table = PAGES["docs/index.md"].split("## Overview")[1].split("\n| [data]")[0]
    there = {name for room in (priors, likelihoods, posteriors, nets) for name in room.__all__}
    named = set(re.findall(r"`([A-Z]\w+)`", table))
    assert len(named) > 20
    assert named <= there
