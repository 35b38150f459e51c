"""Run folders to spoil, in a working directory full of traps."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml

from pyro_vae import build, fit
from pyro_vae.cli import main

TRAP = """
import pathlib
pathlib.Path({canary!r}).write_text("imported")
import torch
class Likelihood(torch.nn.Module): ...
class Prior(torch.nn.Module): ...
Activation = torch.nn.ReLU
def schedule(step): return 1.0
"""


def four_numbers():
    """The data of the first run."""
    return torch.rand(20, 4, generator=torch.Generator().manual_seed(0)).round()


@pytest.fixture(scope="session")
def runs_to_copy(tmp_path_factory):
    """A run of fit over vectors of four numbers, and one of pyro-vae train on the digits, both as small as can be."""
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    vae = build((4,), latent_dim=2, hidden=(3,))
    fit(vae, four_numbers(), epochs=1, out=folder / "run", progress=False, seed=0)
    options = ["--epochs", "1", "--hidden", "3", "--latent_dim", "2", "--batch_size", "512"]
    assert main(["train", *options, "--out", str(folder / "digits")]) == 0
    assert main(["evaluate", str(folder / "digits")]) == 0
    return folder


@pytest.fixture
def here(runs_to_copy, tmp_path, monkeypatch):
    """The working directory: copies of the runs, modules that must not be imported, a file that must stay as it is."""
    for name in ("run", "digits"):
        shutil.copytree(runs_to_copy / name, tmp_path / name)
    canary = str(tmp_path / "canary")
    for path in ("evil.py", "evil_package/__init__.py", "evil_package/parts.py", "run/__init__.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(TRAP.format(canary=canary))
    (tmp_path / "victim").write_text("a secret: [")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    assert (tmp_path / "victim").read_text() == "a secret: ["
    assert not (tmp_path / "canary").exists(), "a module of the working directory was imported"
    assert not any(name.startswith("evil") for name in set(sys.modules) - before)
    assert not list(tmp_path.glob("*executed*"))


def change(run: Path, **options) -> None:
    """Puts options into the config.yaml of a run."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, **options}))
