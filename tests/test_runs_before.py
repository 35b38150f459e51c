"""Runs that older versions made load, evaluate and go on.

They are of commit 6d0e439, before run folders were read as a stranger's; ``images`` is of commit 70fb862, before
convolutional and residual networks became one class.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from pyro_vae import build, fit, load, objectives
from pyro_vae.cli import main
from pyro_vae.training import History

FOLDER = Path(__file__).parent / "runs_before"
RUNS = ["default", "vamp", "flows", "zuko", "mixed", "python", "images"]


@pytest.fixture
def before(tmp_path, monkeypatch):
    """Copies of the runs, in the working directory."""
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("my_old_parts", None)


@pytest.mark.parametrize("run", RUNS)
def test_they_load(before, run):
    held = safetensors.torch.load_file(before / run / "weights.safetensors")
    vae = load(run)
    assert {name: value.tolist() for name, value in vae.state_dict().items()} == {
        n: v.tolist() for n, v in held.items()
    }
    assert torch.isfinite(load(run, weights="last").sample(3, seed=0)).all()


def test_one_with_a_class_of_the_users_own_loads_where_its_module_is_allowed(before, monkeypatch):
    with pytest.raises(ValueError, match="prior 'my_old_parts.Wide' is not one of this library's"):
        load("own")
    monkeypatch.syspath_prepend(str(before))
    assert load("own", allow=["my_old_parts"]).prior.width == 3


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("run", ["vamp", "zuko", "own"])
def test_the_command_line_evaluates_them_and_goes_on(before, run):
    allow = ["--allow", "my_old_parts"] if run == "own" else []
    assert main(["evaluate", run, *allow]) == 0
    assert main(["train", "--resume", run, "--epochs", "2", *allow]) == 0
    assert [record.epoch for record in History.read(before / run / "history.jsonl")] == [1, 2]


def test_fit_goes_on(before):
    vae = build(4, 2, hidden=(4,), activation="Tanh", posterior="full", prior={"class": "mixture", "components": 3})
    objective = objectives.BetaELBO(objectives.Cyclical(period=10))
    options = {"objective": objective, "out": "python", "resume": True, "progress": False}
    assert len(fit(vae, torch.rand(8, 4).round(), epochs=3, **options)) == 3
