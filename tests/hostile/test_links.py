"""Links and other files that are none in run folders: not followed, neither to read nor to write."""

from __future__ import annotations

import os
import shutil

import pytest

from pyro_vae import load
from pyro_vae.checks import Finding, Line, Report
from pyro_vae.cli import main
from pyro_vae.cli.sweeps import Sweep
from pyro_vae.files import CheckpointError

COMMANDS = {
    "evaluate": ["evaluate", "digits"],
    "check": ["check", "digits", "--n", "4", "--only", "trace-elbo"],
    "sample": ["sample", "digits", "--n", "2"],
    "reconstruct": ["reconstruct", "digits", "--n", "2"],
    "interpolate": ["interpolate", "digits", "--n", "2"],
    "plot": ["plot", "digits"],
    "resume": ["train", "--resume", "digits", "--epochs", "2"],
    "config": ["train", "--config", "digits/config.yaml", "--out", "again"],
    "compare": ["compare", "digits"],
}


def link(path, target):
    path.unlink(missing_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_configuration_that_is_a_link_is_refused_and_not_shown(here, capsys, command):
    link(here / "digits/config.yaml", here / "victim")
    assert main(COMMANDS[command]) == 1
    out, err = capsys.readouterr()
    assert "digits/config.yaml is a link, which is not followed" in err
    assert "secret" not in out + err
    with pytest.raises(CheckpointError, match=r"config.yaml is a link, which is not followed"):
        load("digits")


def test_a_configuration_that_is_no_yaml_is_not_shown(here, capsys):
    """A copy of another file, as a hard link is."""
    os.unlink(here / "digits/config.yaml")
    os.link(here / "victim", here / "digits/config.yaml")
    for command in ("evaluate", "resume", "config", "compare"):
        assert main(COMMANDS[command]) == 1
        out, err = capsys.readouterr()
        assert "digits/config.yaml cannot be read: it is not plain YAML in line 1" in err
        assert "secret" not in out + err


@pytest.mark.parametrize(
    ("name", "commands"),
    [
        ("weights.safetensors", ["evaluate", "check", "sample", "plot", "resume"]),
        ("last.safetensors", ["resume"]),
        ("history.jsonl", ["plot", "resume", "compare"]),
        ("evaluation-test.json", ["compare"]),
    ],
)
def test_files_that_are_links_are_refused_by_name(here, capsys, name, commands):
    """Also links to what would be right."""
    shutil.move(here / "digits" / name, here / "elsewhere")
    link(here / "digits" / name, here / "elsewhere")
    for command in commands:
        assert main(COMMANDS[command]) == 1
        assert f"digits/{name} is a link, which is not followed" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["config.yaml", "weights.safetensors", "last.safetensors", "history.jsonl"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "link to nothing"])
def test_what_is_no_file_is_refused_and_not_waited_for(here, capsys, name, kind):
    path = here / "digits" / name
    path.unlink()
    {"pipe": os.mkfifo, "folder": os.mkdir, "link to nothing": lambda p: os.symlink("nowhere", p)}[kind](path)
    assert main(COMMANDS["resume"]) == 1
    assert f"digits/{name} is a {kind.split()[0]}" in capsys.readouterr().err


WRITTEN = {
    "evaluate": ["evaluation-test.json"],
    "check": ["checks.json"],
    "sample": ["figures/samples.png"],
    "reconstruct": ["figures/reconstructions.png"],
    "interpolate": ["figures/interpolations.png"],
    "plot": ["figures/codes.png", "figures/training.png"],
    "resume": ["config.yaml", "weights.safetensors", "last.safetensors", "history.jsonl"],
}


@pytest.mark.parametrize("command", WRITTEN)
def test_nothing_is_written_through_a_link(here, command, monkeypatch):
    """Neither where a file is begun, nor in its place."""
    report = Report((Line("kl", "ELBO", "a", "b", Finding("passed")),), "a VAE", 0, 1e-4)
    monkeypatch.setattr("pyro_vae.checks.check", lambda *args, **options: report)
    paths = [here / "digits" / name for name in WRITTEN[command]]
    for path in paths:
        link(path.with_name(path.name + ".partial"), here / "victim")
        if command != "resume":  # which reads them first, and refuses links
            link(path, here / "victim")
    arguments = [word for word in COMMANDS[command] if word not in ("--only", "trace-elbo")]
    assert main(arguments) == 0
    assert (here / "victim").read_text() == "a secret: ["
    for path in paths:
        assert path.is_file()
        assert not path.is_symlink()
        assert not os.path.lexists(path.with_name(path.name + ".partial"))


@pytest.mark.parametrize("command", ["sample", "reconstruct", "interpolate", "plot", "resume"])
def test_a_folder_of_figures_that_is_a_link_is_refused(here, capsys, command):
    shutil.rmtree(here / "digits/figures")
    (here / "outside").mkdir()
    (here / "digits/figures").symlink_to(here / "outside")
    assert main(COMMANDS[command]) == 1
    assert "digits/figures is a link, into which nothing is written" in capsys.readouterr().err
    assert not list((here / "outside").iterdir())


def test_a_run_folder_may_be_a_link_which_the_user_names(here):
    (here / "mine").symlink_to(here / "run")
    assert load("mine").sample(2, seed=0).shape == (2, 4)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda swept, outside: (swept / "sweep.yaml").symlink_to(outside / "victim"),
        lambda swept, outside: (swept / ".logs").symlink_to(outside),
        lambda swept, outside: (swept / "seed=0").symlink_to(outside),
        lambda swept, outside: ((swept / ".logs").mkdir(), (swept / ".logs/seed=0.log").symlink_to(outside / "victim")),
    ],
)
def test_a_sweep_does_not_follow_links(here, capsys, spoil):
    (here / "swept").mkdir()
    (here / "outside").mkdir()
    for name in ("victim", "config.yaml", "weights.safetensors"):
        (here / "outside" / name).write_text("a secret: [")
    spoil(here / "swept", here / "outside")
    if not os.path.lexists(here / "swept/sweep.yaml"):
        (here / "swept/sweep.yaml").write_text("vary: {seed: [0]}\ntogether: false\noptions: {}\n")
    sweep = Sweep(here / "swept", {}, {"seed": [0]}, False, {"split": "test", "importance_particles": 0})

    def go():
        sweep.open()
        sweep._start(sweep.members[0], 1)

    with pytest.raises(CheckpointError, match="is a link"):
        go()
    assert all(path.read_text() == "a secret: [" for path in (here / "outside").iterdir())
    assert len(list((here / "outside").iterdir())) == 3
