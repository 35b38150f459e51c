"""Sweeps: what is trained, going on after an end in the middle, and runs side by side."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import yaml
from matplotlib.image import imread

from pyro_vae.cli import comparison, main, sweeps, worker
from pyro_vae.cli.sweeps import Sweep, combinations, parse_vary
from pyro_vae.training import History

SMALL = ["--epochs", "2", "--hidden", "8", "--latent_dim", "2"]


def called(command):
    """The exit code of a command, with what it printed and its errors."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = main(command)
    return code, out.getvalue(), err.getvalue()


class AtOnce:
    """A pool that runs what it is given when it gets it."""

    def __init__(self, workers):
        assert workers == 1

    def __enter__(self):
        return self

    def __exit__(self, *error): ...

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future


class Ended:
    """A training of a sweep, in this process: a new one imports torch and Pyro for seconds."""

    stdin = None

    def __init__(self, sweep, member, workers):
        with sweep._log(member).open("a") as log, redirect_stdout(log), redirect_stderr(log):
            self.code = worker.work(sweep._commands(member))

    def wait(self):
        return self.code


@contextmanager
def in_this_process():
    """Trainings of sweeps, which have processes of their own elsewhere, run one by one in this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sweep, "_start", lambda *arguments: Ended(*arguments))
        patch.setattr(sweeps, "ThreadPoolExecutor", AtOnce)
        yield


@pytest.fixture
def one_by_one():
    with in_this_process():
        yield


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep over two weights, and what it printed."""
    here = tmp_path_factory.mktemp("swept")
    command = ["sweep", "beta", "objective.beta=0.5,2e0", *SMALL]
    command += ["--objective", "beta", "--evaluate_on", "test", "--importance_particles", "10"]
    with chdir(here), in_this_process():
        code, out, err = called(command)
    assert code == 0, err
    return here, command, out


def test_each_with_each_is_trained_and_evaluated(swept):
    here, _, printed = swept
    names = ["beta=0.5", "beta=2"]
    for name in names:
        run = here / "beta" / name
        config = yaml.safe_load((run / "config.yaml").read_text())
        assert f"beta={config['objective']['beta']:g}" == name
        assert (config["epochs"], config["hidden"], config["latent_dim"]) == (2, 8, 2)
        assert json.loads((run / "evaluation-test.json").read_text())["log_prob"]["num_particles"] == 10
        assert f"beta/{name} " in printed
    with (here / "beta" / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == [f"beta/{name}" for name in names]
    found = json.loads((here / "beta" / names[0] / "evaluation-test.json").read_text())
    assert float(rows[0]["rate"]) == found["elbo"]["kl"]
    assert float(rows[0]["distortion"]) == -found["elbo"]["recon"]
    assert float(rows[0]["log_prob"]) == found["log_prob"]["mean"]
    assert float(rows[0]["objective.beta"]) == 0.5
    assert imread(here / "beta" / "rate_distortion.png").std() > 0.01


@pytest.mark.usefixtures("one_by_one")
def test_what_is_done_is_not_done_again_and_values_may_be_added(swept, monkeypatch):
    here, command, _ = swept
    monkeypatch.chdir(here)
    names = ("weights.safetensors", "evaluation-test.json")
    before = {path: path.stat().st_mtime for name in names for path in here.glob(f"beta/*/{name}")}
    assert len(before) == 4
    more = [f"{word},3" if word.startswith("objective.beta") else word for word in command]
    _, out, err = called(more)
    assert "3 trainings, 2 of them done before" in out, err
    assert {path: path.stat().st_mtime for path in before} == before
    assert len(list(here.glob("beta/*/evaluation-test.json"))) == 3
    other = [word if word != "8" else "9" for word in command]
    code, _, err = called(other)
    assert code == 2
    assert "the sweep in beta was made with hidden = 8; got 9. Go on with the same" in err


@pytest.mark.usefixtures("one_by_one")
def test_a_sweep_that_was_killed_goes_on_where_it_was(tmp_path, monkeypatch):
    """SIGKILL, as for want of memory: the trainings under it end by themselves, with their last epoch kept.

    They are run with SIGINT ignored, as by ``nohup ... &`` in a script.
    """
    monkeypatch.chdir(tmp_path)
    command = ["sweep", "s", "seed=0", "--epochs", "40", "--hidden", "256", "--engine", "pyro"]
    background = signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = subprocess.Popen([sys.executable, "-m", "pyro_vae", *command], stdout=subprocess.DEVNULL)
    signal.signal(signal.SIGINT, background)
    with process:
        deadline = time.monotonic() + 300
        log = tmp_path / "s" / ".logs" / "seed=0.log"
        while not (log.is_file() and "/40  elbo" in log.read_text()) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.kill()
    while "Go on with" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    kept = History.read(tmp_path / "s" / "seed=0" / "history.jsonl")
    assert 0 < len(kept) < 40
    assert main(command) == 0
    finished = History.read(tmp_path / "s" / "seed=0" / "history.jsonl")
    assert len(finished) == 40
    assert finished[: len(kept)] == kept


def test_failures_are_told_at_the_end_and_tried_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    command = ["sweep", "s", "lr=1e-3,1e30", *SMALL, "--workers", "2"]
    assert main(command) == 1
    out, err = capsys.readouterr()
    assert "lr=1e+30  failed: pyro-vae train: error: the" in out
    assert "1 of 2 trainings failed: lr=1e+30" in err
    assert Path("s/lr=0.001/evaluation-valid.json").is_file()
    assert "s/lr=0.001" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["beta"], "vary must be NAME=VALUE,VALUE,..., such as objective.beta=0.5,1,2; got 'beta'"),
        (["beta="], "vary must be NAME=VALUE"),
        (["lr=[1"], "vary must be NAME=VALUE"),
        (["lr=1,2", "lr=3"], "vary names lr twice; give all its values at once"),
        (["lr=1e-3,0.001"], "two trainings would have the same folder, lr=0.001; vary other values"),
        (["objective=a/b,A_b"], "have the same folder, objective=a_b"),
        (
            ["lr=1,2", "--validate", "false"],
            "--validate false trains on the validation data too; add --evaluate_on test",
        ),
        (
            ["lr=1,2", "seed=0,1,2", "--together", "true"],
            "together needs as many values of each option; lr has 2, seed",
        ),
        (["no_such=1,2"], "no_such"),
        (["lr=small,large"], "lr"),
        (["lr=1,2", "--workers", "0"], "workers must be an integer of at least 1; got 0"),
        (
            ["lr=1,2", "--importance_particles", "-1"],
            "importance_particles must be an integer of at least 0, 0 for none; got -1",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", "s", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("one_by_one")
def test_a_training_killed_before_its_first_epoch_starts_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "s" / "seed=0"
    assert main(["sweep", "s", "seed=0", *SMALL]) == 0
    for path in [*run.glob("last*"), *run.glob("history*"), *run.glob("evaluation*"), *run.glob("figures/*")]:
        path.unlink()
    (run / "figures").rmdir()
    (run / "weights.safetensors.partial").write_bytes(b"half")
    assert main(["sweep", "s", "seed=0", *SMALL]) == 0
    assert len(History.read(run / "history.jsonl")) == 2
    assert main(["sweep", "s", "lr=1,2", *SMALL]) == 2
    assert "the sweep in s varies seed; got lr. Vary the same, or choose another folder" in capsys.readouterr().err


@pytest.mark.usefixtures("one_by_one")
def test_a_finished_training_is_evaluated_again_where_the_draws_differ(swept, monkeypatch):
    here, command, _ = swept
    monkeypatch.chdir(here)
    other = [word if word != "10" else "20" for word in command]
    assert main(other) == 0
    for name in ("beta=0.5", "beta=2"):
        found = json.loads((here / "beta" / name / "evaluation-test.json").read_text())
        assert found["log_prob"]["num_particles"] == 20
    log = (here / "beta" / ".logs" / "beta=0.5.log").read_text()
    assert log.count("epoch 2/2") == 1
    assert log.count("evaluation-test.json") == 2


def test_a_folder_of_something_else_is_left_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "letter.txt").write_text("dear")
    assert main(["sweep", "s", "seed=0,1"]) == 2
    assert "s is not empty and holds no sweep; choose another folder" in capsys.readouterr().err
    assert os.listdir(tmp_path / "s") == ["letter.txt"]


def test_values_are_read_as_yaml():
    vary = parse_vary(["latent-dim=2,10", "hidden=[64],[512,512]", "prior=StandardNormal,VampPrior", "lr=1e-3,.1"])
    assert vary == {
        "latent_dim": [2, 10],
        "hidden": [[64], [512, 512]],
        "prior": ["StandardNormal", "VampPrior"],
        "lr": [0.001, 0.1],
    }
    assert parse_vary(["patience=null,5", "seed=2026-01-01"]) == {"patience": [None, 5], "seed": ["2026-01-01"]}
    assert len(combinations(vary, together=False)) == 16
    assert combinations(vary, together=True)[1] == {
        "latent_dim": 10,
        "hidden": [512, 512],
        "prior": "VampPrior",
        "lr": 0.1,
    }


def test_compare_sorts_and_writes_and_names_what_is_missing(swept, monkeypatch, capsys):
    here, _, _ = swept
    monkeypatch.chdir(here)
    runs = [str(p) for p in sorted(Path("beta").iterdir()) if not p.name.startswith(".")]  # files among them
    assert main(["compare", *runs, "--sort", "elbo", "--out", "table.json"]) == 0
    out = capsys.readouterr().out
    found = json.loads(Path("table.json").read_text())
    elbos = [row["elbo"] for row in found]
    assert elbos == sorted(elbos, reverse=True)
    assert set(found[0]) >= {"objective.beta", "rate", "distortion", "information", "log_prob", "minutes"}
    assert "hidden" not in found[0]
    assert f"{elbos[0]:.2f}" in out
    assert main(["compare", *runs, "--split", "valid"]) == 0
    assert "not evaluated on valid data: beta/beta=0.5, " in capsys.readouterr().out
    for arguments, message in (
        (["--split", "valid", "--out", "f.png"], "a figure needs evaluated runs, and there are none"),
        (["--out", "table.txt"], "out must end in .png (a figure), .json or .csv; got 'table.txt'"),
    ):
        assert main(["compare", *runs, *arguments]) == 2
        assert message in capsys.readouterr().err
    Path("folder").mkdir()
    assert main(["compare", "--split", "test", "folder", runs[0]]) == 0  # options in front
    assert "left out, because they are not run folders: folder\n" in capsys.readouterr().out
    assert main(["compare", "nowhere"]) == 2
    assert "nowhere is not a run folder" in capsys.readouterr().err


def test_options_are_compared_by_dotted_names(tmp_path):
    for name, prior in (("a", {"class": "StandardNormal"}), ("b", {"class": "VampPrior", "components": 3})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump({"data": "digits", "prior": prior, "seed": 0}))
    rows = comparison.read_rows([str(tmp_path / "a"), str(tmp_path / "b")], "test")
    assert comparison.varied(rows) == ["prior", "prior.components"]
    assert rows[1].options == {"data": "digits", "prior": "VampPrior", "prior.components": 3, "seed": 0}
