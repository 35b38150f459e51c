"""What the README shows is true: its Python runs, its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pyro
import pytest
import torch

from pyro_vae import build, check
from pyro_vae.cli import main
from tests.checks.mutants import MUTANTS

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_python_blocks_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 4
    names: dict = {}
    try:
        for block in blocks:
            exec(compile(block, "README.md", "exec"), names)
    finally:
        pyro.clear_param_store()


def test_the_two_commands_stand_there_word_for_word():
    assert "\n    pip install -e . && pyro-vae train\n" in README
    assert "\n    pip install -e '.[test]' && pytest\n" in README


@pytest.mark.parametrize("path", re.findall(r"\]\(([\w/.]+)\)", README))
def test_what_it_links_to_is_there(path):
    assert (Path(__file__).parents[2] / path).is_file()


def test_the_error_it_quotes_is_the_error(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--binarize", "none", "--hidden", "[4]"]) == 2
    said = " ".join(capsys.readouterr().err.split("needs x in")[1].split())
    quoted = " ".join(README.split("needs x in")[1].split("\n\n")[0].split())
    assert said == quoted


def test_the_refusal_it_quotes_is_the_refusal(capsys):
    assert main(["train", "--prior", "sphere", "--hidden", "[4]"]) == 2
    said = " ".join(capsys.readouterr().err.split("prior UniformOnSphere")[1].split())
    quoted = " ".join(README.split("ValueError: prior UniformOnSphere")[1].split("\n\n")[0].split())
    # A prior that is added need not be named there too.
    said, quoted = (re.fullmatch(r"(.* go the priors )(.*)(; with this prior .*)", text) for text in (said, quoted))
    assert said.group(1, 3) == quoted.group(1, 3)
    assert set(quoted[2].split(", ")) <= set(said[2].split(", "))


def test_the_bugs_it_counts_are_those_of_the_tests():
    assert f"The tests hold {len(MUTANTS)} classic bugs" in README


def test_the_options_of_check_that_it_names():
    report = check(build(6, 2, hidden=()), torch.ones(8, 6), level=1e-4, latent="z", observed="x", only=["sites"])
    assert report.passed


def test_the_finding_it_quotes_is_the_finding():
    """But for the numbers, which depend on the weights that the VAE starts with."""
    block = next(b for b in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "my_loss" in b)
    torch.manual_seed(0)
    names = {"vae": build((1, 8, 8), latent_dim=2, hidden=(32,)).double()}
    names["x"] = torch.rand(32, 1, 8, 8, dtype=torch.float64).round()
    exec(compile(block, "README.md", "exec"), names)
    quoted = README.split("    the objective is ")[1].split("\n\n")[0]
    pattern = r"-?\d+\.\d+"
    said = names["report"].failures[0].finding.detail.removeprefix("the objective is ")
    assert re.sub(pattern, "0", said) == re.sub(pattern, "0", " ".join(quoted.split()))


def test_what_is_there_is_there(capsys):
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    for name in re.findall(r"`([A-Z]\w+)`", README.split("## What is there")[1].split("| networks")[0]):
        assert name in listed
