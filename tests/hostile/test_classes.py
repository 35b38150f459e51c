"""Run folders that name classes: what is on no list is neither imported nor executed, whatever reads the folder."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pyro_vae import build, load
from pyro_vae.cli import main
from pyro_vae.cli.arguments import modules_named
from pyro_vae.cli.sweeps import Sweep
from pyro_vae.config import make_objective
from pyro_vae.registry import NotAllowedError, allowing, searching
from tests.hostile.conftest import change

SHELL = {"class": "subprocess.Popen", "args": "touch executed", "shell": True}
NORMAL = {"class": "DiagonalNormal"}


def mlp(**arguments):
    return {**NORMAL, "net": {"class": "MLP", **arguments}}


# Options of config.yaml, and the name that the refusal must have in it.
NAMED = [
    ({"posterior": {**NORMAL, "net": SHELL}}, "net 'subprocess.Popen'"),
    ({"prior": SHELL}, "prior 'subprocess.Popen'"),
    ({"prior": "sys.exit"}, "prior 'sys.exit'"),
    ({"missing": True, "mask_likelihood": SHELL}, "mask_likelihood 'subprocess.Popen'"),
    ({"missing": True, "mask_likelihood": {"class": "net", "net": SHELL}}, "net 'subprocess.Popen'"),
    ({"prior": {"class": "io.FileIO", "name": "victim", "mode": "w"}}, "prior 'io.FileIO'"),
    ({"likelihood": "evil.Likelihood"}, "likelihood 'evil.Likelihood'"),
    ({"prior": {"class": "logging.FileHandler", "filename": "victim"}}, "prior 'logging.FileHandler'"),
    ({"likelihood": {"class": "Bernoulli", "net": "evil.Likelihood"}}, "net 'evil.Likelihood'"),
    ({"posterior": "evil_package.parts.Prior"}, "posterior 'evil_package.parts.Prior'"),
    ({"likelihood": "run.Likelihood"}, "likelihood 'run.Likelihood'"),
    ({"posterior": mlp(activation="evil.Activation")}, "activation 'evil.Activation'"),
    ({"posterior": mlp(normalization="evil.Activation")}, "normalization 'evil.Activation'"),
    ({"posterior": mlp(activation={**SHELL})}, "net 'subprocess.Popen'"),
    ({"activation": "evil.Activation", "posterior": "normal"}, "activation 'evil.Activation'"),
    ({"prior": {"class": "Conditional", "prior": "evil.Prior"}}, "prior 'evil.Prior'"),
    ({"prior": {"class": "Conditional", "prior": SHELL}}, "prior 'subprocess.Popen'"),
    ({"prior": {"class": "mixture", "components": SHELL}}, "net 'subprocess.Popen'"),
    ({"prior": {"class": "zuko.flows.NICE", "features": 2, "activation": SHELL}}, "net 'subprocess.Popen'"),
    ({"likelihood": {"class": "mixed", "columns": dict.fromkeys("abcd", "evil.Likelihood")}}, "'evil.Likelihood'"),
    ({"likelihood": {"class": "mixed", "columns": dict.fromkeys("abcd", SHELL)}}, "'subprocess.Popen'"),
    ({"prior": "torch.nn.modules.module.sys.exit"}, "prior 'torch.nn.modules.module.sys.exit'"),
    ({"prior": "torch.nn.functional.relu"}, "prior 'torch.nn.functional.relu'"),
    ({"prior": "torch.nn.DataParallel"}, "prior 'torch.nn.DataParallel'"),
    ({"prior": {"class": "torch.hub.load", "repo_or_dir": "a/b", "model": "c"}}, "prior 'torch.hub.load'"),
    ({"prior": "zuko.flows.torch.nn.Linear"}, "prior 'zuko.flows.torch.nn.Linear'"),
    ({"prior": {"class": "zuko.flows.UnconditionalDistribution", "f": "id"}}, "'zuko.flows.Unconditional"),
    ({"prior": "pyro_vae.registry.importlib.import_module"}, "'pyro_vae.registry.importlib.import_module'"),
    ({"prior": "pyro_vae.cli.main"}, "prior 'pyro_vae.cli.main'"),
    ({"prior": {"class": "pyro_vae.checkpoints.load", "run": "run"}}, "prior 'pyro_vae.checkpoints.load'"),
    ({"prior": "builtins.exec"}, "prior 'builtins.exec'"),
    ({"prior": "\u0435vil.Prior"}, "prior '\u0435vil.Prior'"),  # a Cyrillic letter
    ({"prior": "evil.Prior.forward"}, "prior 'evil.Prior.forward'"),
    ({"prior": "evil"}, "unknown prior 'evil'"),
    ({"prior": "evil."}, "prior 'evil.' is not a dotted path"),
    ({"prior": ".evil.Prior"}, "prior '.evil.Prior' is not a dotted path"),
    ({"prior": "evil:Prior.x"}, "prior 'evil:Prior.x' is not a dotted path"),
    ({"prior": "evil/../evil.Prior"}, "is not a dotted path"),
    ({"prior": {"class": ["evil.Prior"]}}, r"prior must be the name of a class; got ['evil.Prior']"),
    ({"prior": {"class": {"class": "evil.Prior"}}}, "prior must be the name of a class; got {'class': 'evil.Prior'}"),
    ({"prior": {"class": None}}, "prior must be the name of a class; got None"),
    ({"prior": ["evil.Prior"]}, "prior must be a name, or a mapping with a name under class"),
    ({"posterior": {**NORMAL, "net": ["evil.Prior"]}}, "net must be a name, or a mapping"),
    ({"nets": "evil.nets"}, "nets must be one of mlp, gated_mlp, conv, resnet"),
    ({"nets": ["mlp"]}, "nets must be a name"),
    ({"dtype": "load"}, "dtype must be one of float32, float64"),
]

OBJECTIVES = [
    ({"class": "beta", "beta": SHELL}, "beta: schedule 'subprocess.Popen'"),
    ({"class": "beta", "beta": {"class": "evil.schedule"}}, "beta: schedule 'evil.schedule'"),
    ("evil.Objective", "objective 'evil.Objective'"),
    ({**SHELL}, "objective 'subprocess.Popen'"),
    ("pyro.infer.traceenum_elbo.warnings.warn", "objective 'pyro.infer.traceenum_elbo.warnings.warn'"),
]


@pytest.mark.parametrize(("options", "refusal"), NAMED, ids=lambda case: case if isinstance(case, str) else "")
def test_load_refuses_it_by_name(here, options, refusal):
    change(here / "run", **options)
    with pytest.raises(
        ValueError, match="prior|likelihood|posterior|net|column|activation|normalization|dtype"
    ) as refused:
        load("run")
    assert refusal in str(refused.value)


def test_the_refusal_says_both_ways(here):
    change(here / "run", likelihood="evil_package.parts.Likelihood")
    with pytest.raises(NotAllowedError) as refused:
        load("run")
    for way in ('load(run, allow=["evil_package.parts"])', "load(run, vae=vae)"):
        assert way in str(refused.value)


@pytest.mark.parametrize(("spec", "refusal"), OBJECTIVES)
def test_objectives_of_a_file_are_refused_by_name(here, spec, refusal):
    with allowing([]), pytest.raises(NotAllowedError) as refused:
        make_objective(spec, build(4, 2, hidden=(3,)))
    assert refusal in str(refused.value)


COMMANDS = {
    "evaluate": ["evaluate", "digits"],
    "check": ["check", "digits", "--n", "4"],
    "sample": ["sample", "digits"],
    "reconstruct": ["reconstruct", "digits"],
    "interpolate": ["interpolate", "digits"],
    "plot": ["plot", "digits"],
    "resume": ["train", "--resume", "digits", "--epochs", "2"],
    "config": ["train", "--config", "digits/config.yaml", "--out", "again"],
}
OF_A_PART = [NAMED[i] for i in (0, 4)]  # one that would execute, and one that would be imported


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("case", range(len(OF_A_PART)))
def test_every_command_refuses_it_by_name(here, capsys, command, case):
    options, refusal = OF_A_PART[case]
    change(here / "digits", **options)
    assert main(COMMANDS[command]) == 2
    error = capsys.readouterr().err
    assert refusal in error
    assert "Traceback" not in error
    assert "unexpected" not in error
    assert not (here / "again").exists()


@pytest.mark.parametrize("command", ["evaluate", "check", "resume", "config"])
@pytest.mark.parametrize(("objective", "refusal"), [OBJECTIVES[0], OBJECTIVES[2]])
def test_commands_that_use_the_objective_refuse_it_by_name(here, capsys, command, objective, refusal):
    change(here / "digits", objective=objective)
    assert main(COMMANDS[command]) == 2
    assert refusal in capsys.readouterr().err


def test_a_sweep_refuses_it_before_anything_is_trained(here, capsys):
    change(here / "digits", likelihood="evil.Likelihood")
    assert main(["sweep", "swept", "seed=0,1", "--config", "digits/config.yaml"]) == 2
    assert "likelihood 'evil.Likelihood'" in capsys.readouterr().err
    assert not (here / "swept").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("allow", ["evil"]), ("out", "victim"), ("resume", "digits"), ("root", "/"), ("config", "digits/config.yaml")],
)
def test_a_file_of_options_cannot_say_what_is_the_users_to_say(here, capsys, option, value):
    change(here / "digits", **{option: value})
    for name in ("resume", "config"):
        assert main(COMMANDS[name]) == 1
        assert f"must not hold {option!r}, which is for the command line alone" in capsys.readouterr().err


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system ['touch executed']", "!!python/name:evil.Prior ''"])
def test_tags_of_yaml_make_no_objects(here, capsys, tag):
    with (here / "digits/config.yaml").open("a") as file:
        file.write(f"prior: {tag}\n")
    with pytest.raises(ValueError, match=r"config.yaml cannot be read: it is not plain YAML in line \d+"):
        load("digits")
    for command in ("evaluate", "config"):
        assert main(COMMANDS[command]) == 1
        assert "it is not plain YAML in line" in capsys.readouterr().err


# What a user names is imported, and that alone.

OWN = """
import subprocess, os
from os import makedirs
import torch
import pyro.distributions as dist
class Own(torch.nn.Module):
    def __init__(self, latent_dim, width=1.0):
        super().__init__()
        self.latent_dim, self.width = latent_dim, width
    def forward(self, *context):
        return dist.Normal(torch.zeros(self.latent_dim), self.width).to_event(1)
    class Inner(torch.nn.Module):
        def forward(self, *context):
            return dist.Normal(torch.zeros(2), 1.0).to_event(1)
class Plain: ...
"""


@pytest.fixture
def own(here):
    """A module of the user's own."""
    (here / "own_parts.py").write_text(OWN)
    importlib.invalidate_caches()
    sys.modules.pop("own_parts", None)
    yield "own_parts"
    sys.modules.pop("own_parts", None)


def test_a_class_of_the_users_own_is_loaded_where_its_module_is_allowed(here, own):
    change(here / "run", prior={"class": "own_parts.Own", "width": 2.0})
    for allow in ((), ["evil_package"], ["own"], ["own_parts.Own2"]):
        with pytest.raises(NotAllowedError, match="prior 'own_parts.Own' is not one of this library's"):
            load("run", allow=allow)
    with pytest.raises(NotAllowedError, match=r"if this call names it \(named: own, evil_package\)\. If you trust it"):
        load("run", allow=["own", "evil_package"])
    assert own not in sys.modules
    for allow in ("own_parts", ["own_parts"]):
        assert load("run", allow=allow).prior.width == 2.0
    assert load("run", weights="last", allow=[own]).prior.width == 2.0
    change(here / "run", prior="own_parts.Own.Inner")
    assert type(load("run", allow=[own]).prior).__name__ == "Inner"
    change(here / "run", prior="evil.Prior")
    vae = build((4,), latent_dim=2, hidden=(3,))
    assert load("run", vae=vae) is vae


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_parts.subprocess.Popen", "is not a class or function of own_parts"),
        ("own_parts.os.system", "is not a class or function of own_parts"),
        ("own_parts.makedirs", "was defined in os, not in own_parts"),
        ("own_parts.torch.nn.Linear", "is not a class or function of own_parts"),
        ("own_parts.Plain", "must be a subclass of torch.nn.Module"),
        ("own_parts.Own.forward.__globals__", "is not a class or function"),
        ("own_parts.Gone", "cannot be imported"),
    ],
)
def test_a_module_that_is_allowed_gives_its_own_parts_alone(here, own, name, message):
    change(here / "run", prior=name)
    with pytest.raises(ValueError, match=message):
        load("run", allow=[own])


def test_a_likelihood_for_a_table_is_looked_up_as_allow_says(here):
    """Its kind decides what the schema says, before anything is built."""
    with pytest.raises(NotAllowedError, match="evil.Likelihood"):
        build(data=pd.DataFrame({"a": [0.1, 0.7, 0.3, 0.2]}), likelihood="evil.Likelihood", allow=[])


@pytest.mark.parametrize("allow", ["./own_parts", "own-parts", "", ["own_parts", 3], [""], ["a b"]])
def test_what_names_no_module_is_not_allowed(here, allow):
    with pytest.raises(ValueError, match="allow must name modules, such as my_module"):
        load("run", allow=allow)


QUICK = ["--epochs", "1", "--hidden", "3", "--latent_dim", "2", "--batch_size", "512"]


@pytest.mark.usefixtures("without_pictures")
def test_a_run_with_a_class_of_the_users_own_from_training_to_pictures(here, own, capsys):
    assert main(["train", *QUICK, "--prior", "own_parts.Own", "--prior.width", "2", "--out", "mine"]) == 0
    assert "evaluate mine --allow own_parts" in capsys.readouterr().out
    del sys.modules[own]
    commands = (
        ["sample", "mine", "--n", "2"],
        ["train", "--resume", "mine", "--epochs", "2"],
        ["train", "--config", "mine/config.yaml", "--out", "other"],
    )
    for command in commands:
        assert main(command) == 2
        assert "--allow own_parts" in capsys.readouterr().err
        assert main([*command, "--allow", "evil_package"]) == 2
    assert own not in sys.modules
    for allow in (["--allow", "own_parts"], ["--allow=evil,own_parts"], ["--allow", "evil", "--allow", "own_parts"]):
        assert main([*commands[0], *allow]) == 0
    for command in commands:
        assert main([*command, "--allow", "[own_parts]"]) == 0


def test_a_file_of_options_does_not_name_for_the_command_line(here, own, capsys):
    """Naming one part does not allow another module; and what is named on the command line need not be in the file."""
    (here / "options.yaml").write_text(yaml.safe_dump({"likelihood": "evil.Likelihood", "hidden": 3}))
    assert main(["train", *QUICK, "--config", "options.yaml", "--prior", "own_parts.Own"]) == 2
    assert "likelihood 'evil.Likelihood'" in capsys.readouterr().err
    assert main(["train", *QUICK, "--config", '{"likelihood": "evil.Likelihood"}']) == 2
    assert "likelihood 'evil.Likelihood'" in capsys.readouterr().err


def test_parts_are_named_in_every_way_that_options_are_given(here, own):
    nested = '{"class": "DiagonalNormal", "net": {"class": "MLP", "activation": "own_parts.Own"}}'
    for arguments in (
        ["train", "--prior", "own_parts.Own"],
        ["train", "--prior=own_parts.Own"],
        ["train", "--prior", '{"class": "own_parts.Own"}'],
        ["train", "--posterior", nested],
        ["train", "--posterior.net", "own_parts.Own"],
        ["train", "--activation", "own_parts.Own"],
        ["sweep", "s", "prior=StandardNormal,own_parts.Own"],
        ["sweep", "s", "--workers", "2", "prior=own_parts.Own"],
    ):
        assert modules_named(arguments) == ["own_parts"], arguments
    for arguments in (
        ["train", "--config", "own_parts.Own"],
        ["train", "--config", '{"prior": "own_parts.Own"}'],
        ["train", "--resume", "own_parts.Own"],
        ["train", "--out", "own_parts.Own"],
        ["train", "--priority", "own_parts.Own"],
        ["train", "--prior", "torch.nn.Linear", "--prior.width", "0.5"],
        ["sweep", "own_parts.Own", "seed=0"],
    ):
        assert modules_named(arguments) == [], arguments


def test_a_file_that_is_allowed_for_its_data_allows_no_class(here):
    change(here / "run", prior="evil.py.Prior")
    with pytest.raises(NotAllowedError, match="prior 'evil.py.Prior'"):
        load("run", allow=["evil.py"])


def test_names_in_a_call_of_build_are_the_callers_own(own):
    assert build(4, 2, hidden=(3,), prior="own_parts.Own").prior.width == 1.0
    cls = sys.modules[own].Own
    for spec in (cls, {"class": cls, "width": 3.0}):
        assert type(build(4, 2, hidden=(3,), prior=spec).prior) is cls
    with pytest.raises(NotAllowedError, match="prior 'own_parts.Own' is not one of this library's"):
        build(4, 2, hidden=(3,), prior="own_parts.Own", allow=[])
    assert type(build(4, 2, hidden=(3,), prior="own_parts.Own", allow=[own]).prior) is cls
    for name in ("subprocess.Popen", "io.FileIO", "sys.exit", "own_parts.Plain"):
        with pytest.raises(ValueError, match=f"prior '{name}'"):
            build(4, 2, prior=name)


# Modules that lie in the working directory.


def test_the_working_directory_is_looked_through_last_and_only_where_a_module_is_named():
    before = list(sys.path)
    with searching(Path.cwd()):
        assert sys.path == [*before, os.getcwd()]
    with searching(None):
        assert sys.path == before
    assert sys.path == before


def test_modules_of_the_working_directory_do_not_hide_packages(here):
    """As python -m, which puts the working directory in front."""
    for name in ("torch", "pyro", "zuko", "yaml", "safetensors", "numpy", "jsonargparse"):
        (here / f"{name}.py").write_text((here / "evil.py").read_text())
    (here / "own_parts.py").write_text(OWN)
    command = [sys.executable, "-m", "pyro_vae", "sample", "digits", "--n", "2", "--allow", "own_parts"]
    change(here / "digits", prior="own_parts.Own")
    done = subprocess.run(command, cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_trainings_of_a_sweep_do_not_import_from_the_working_directory(here, monkeypatch):
    for name in ("torch", "pyro", "yaml"):
        (here / f"{name}.py").write_text((here / "evil.py").read_text())
    sweep = Sweep(
        here / "swept", {}, {"seed": [0]}, False, {"split": "test", "importance_particles": 0}, allow=["own_parts"]
    )
    (member,) = sweep.members
    assert [command[-2:] for command in sweep._commands(member)] == 2 * [["--allow", "own_parts"]]
    monkeypatch.setattr(Sweep, "_commands", lambda self, member: [["list"]])
    sweep.open()
    process = sweep._start(member, 1)
    assert process.wait(timeout=120) == 0, sweep._log(member).read_text()
    process.stdin.close()
    assert "StandardNormal" in sweep._log(member).read_text()


@pytest.mark.parametrize(
    "source", ["evil:schedule", "evil.py:schedule", "./evil.py:schedule", "evil_package.parts:schedule", "os:getcwd"]
)
def test_a_function_that_a_folder_names_as_data_is_not_called(here, capsys, source):
    change(here / "digits", data=source)
    home = source.rpartition(":")[0].removeprefix("./")
    commands = [command for name, command in COMMANDS.items() if name != "sample"]
    sweep = ["sweep", "swept", "seed=0,1", "--config", "digits/config.yaml"]
    for command in (*commands, [*COMMANDS["evaluate"], "--allow", "evil2", "--allow", "evil_too.py"], sweep):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert f"data '{source}' is a function" in error or f"/{home}:" in error
        assert "If you trust it, add --allow " in error
    assert not (here / "again").exists()
    assert not (here / "swept").exists()
