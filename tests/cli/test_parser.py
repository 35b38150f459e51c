"""From arguments to a command and an exit code, without torch where none is needed."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys

import pytest

from pyro_vae import build, fit
from pyro_vae.cli import main, parser
from pyro_vae.cli.arguments import FLAGS, normalised
from pyro_vae.cli.commands.data import reading


@pytest.fixture
def called(monkeypatch):
    """What a command was called with."""
    calls = {}
    monkeypatch.setattr(parser, "_run_command", lambda name, values: calls.update({name: values}))
    return calls


def test_defaults_and_types(called):
    assert main(["train"]) == 0
    values = called["train"]
    assert (values["data"], values["latent_dim"], values["hidden"], values["epochs"]) == (
        "digits",
        20,
        [512, 512],
        None,
    )
    assert main(["evaluate", "runs/x", "--num_particles", "5", "--kl=analytic"]) == 0
    assert (called["evaluate"]["run"], called["evaluate"]["num_particles"], called["evaluate"]["kl"]) == (
        "runs/x",
        5,
        "analytic",
    )


def test_dashes_and_underscores_are_the_same(called):
    assert main(["train", "--batch-size", "64", "--latent-dim=2"]) == 0
    assert (called["train"]["batch_size"], called["train"]["latent_dim"]) == (64, 2)


def test_classes_by_name_with_their_arguments(called):
    assert main(["train", "--likelihood", "Normal", "--likelihood.scale", "0.1", "--prior=my.Prior"]) == 0
    assert called["train"]["likelihood"] == {"class": "Normal", "scale": 0.1}
    assert called["train"]["prior"] == {"class": "my.Prior"}
    assert main(["train", "--objective.num_particles", "5"]) == 0
    assert called["train"]["objective"] == {"class": "auto", "num_particles": 5}
    assert main(["train", "--prior", '{"class": "A", "b": [1, 2]}']) == 0
    assert called["train"]["prior"] == {"class": "A", "b": [1, 2]}


def test_the_order_of_options_does_not_matter(called, tmp_path):
    (tmp_path / "c.yaml").write_text("likelihood: Normal\nlatent_dim: 3\n")
    for arguments in (
        ["--likelihood", "Normal", "--likelihood.scale", "0.2"],
        ["--likelihood.scale", "0.2", "--likelihood", "Normal"],
        ["--config", str(tmp_path / "c.yaml"), "--likelihood.scale", "0.2"],
        ["--likelihood.scale=0.2", "--config", str(tmp_path / "c.yaml")],
    ):
        assert main(["train", *arguments]) == 0
        assert called["train"]["likelihood"] == {"class": "Normal", "scale": 0.2}


@pytest.mark.parametrize("hidden", ["64", "[64]"])
def test_one_hidden_layer_needs_no_brackets(called, hidden):
    assert main(["train", "--hidden", hidden]) == 0
    assert called["train"]["hidden"] in (64, [64])


def test_a_configuration_with_overrides(called, tmp_path):
    (tmp_path / "c.yaml").write_text("data: mnist\nlatent_dim: 3\nlikelihood: {class: Normal, scale: 0.5}\n")
    assert main(["train", "--config", str(tmp_path / "c.yaml"), "--latent_dim", "4", "--likelihood.scale", "0.2"]) == 0
    values = called["train"]
    assert (values["data"], values["latent_dim"], values["likelihood"]) == (
        "mnist",
        4,
        {"class": "Normal", "scale": 0.2},
    )
    assert main(["train", "--config", str(tmp_path / "c.yaml"), "--likelihood", "Bernoulli"]) == 0
    assert called["train"]["likelihood"] == {"class": "Bernoulli"}


def test_resume_takes_the_runs_configuration(called, tmp_path):
    (tmp_path / "config.yaml").write_text("epochs: 7\nlr: 0.5\nshapes: {x: [1], context: 0}\n")
    assert main(["train", "--resume", str(tmp_path), "--epochs", "9"]) == 0
    assert (called["train"]["epochs"], called["train"]["lr"], called["train"]["resume"]) == (9, 0.5, str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "a command is missing, such as train"),
        (["trian"], "there is no command 'trian'; there are train, "),
        (["train", "--latent_dim", "two"], "--latent_dim must be a whole number; got two\n"),
        (["train", "--epochs", "x"], "--epochs must be a whole number or null; got x\n"),
        (["train", "--lr", "x"], "--lr must be a number; got x\n"),
        (["train", "--hidden", "[3,x]"], "whole numbers such as [512,256]; got [3, 'x']\n"),
        (["train", "--dequantize", "x"], "--dequantize must be true, false or auto; got x\n"),
        (
            ["train", "--hidden", "64,a"],
            "--hidden must be a whole number or a list of whole numbers such as [512,256]; got 64,a\n",
        ),
        (["train", "--binarize", "often"], "--binarize must be auto, dynamic, threshold or none; got often\n"),
        (["train", "--nonsense", "1"], "--nonsense"),
        (["train", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["train", "--resume"], "expected one argument"),
        (["train", "--prior"], "expected one argument"),
        (
            ["evaluate"],
            "pyro-vae evaluate: error: evaluate needs a run folder, such as runs/digits-1\nSee: pyro-vae evaluate",
        ),
        (["compare"], "compare needs run folders, such as runs/*\n"),
        (
            ["sweep"],
            "sweep needs a folder for its runs and options with their values, such as objective.beta=0.5,1,2\n",
        ),
    ],
)
def test_bad_usage_is_one_paragraph_and_exit_code_2(arguments, message, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "error:" in err
    assert message in err
    assert re.fullmatch(r"pyro-vae[^\n]* error: [^\n]+\nSee: pyro-vae[ a-z]* --help\n", err)
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("lr must be\nabove 0"), 2, "pyro-vae list: error: lr must be above 0"),
        (FileNotFoundError("no weights"), 2, "error: no weights"),
        (OSError("disk full"), 1, "error: disk full"),
        (RuntimeError("diverged"), 1, "error: diverged"),
        (KeyboardInterrupt("stopped; go on with ..."), 1, "pyro-vae list: stopped; go on with ..."),
        (ZeroDivisionError("x"), 1, "error: unexpected ZeroDivisionError: x. Run again with --debug"),
    ],
)
def test_errors_are_one_paragraph_with_their_exit_code(monkeypatch, capsys, error, code, said):
    def fail(name, values):
        raise error

    monkeypatch.setattr(parser, "_run_command", fail)
    path = list(sys.path)
    assert main(["list"]) == code
    assert said in capsys.readouterr().err
    assert sys.path == path
    with pytest.raises(type(error)):
        main(["list", "--debug"])


def test_damaged_files_are_failures_of_the_run(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("[")
    assert main(["evaluate", str(tmp_path)]) == 1
    assert "config.yaml cannot be read" in capsys.readouterr().err


# argparse itself drops the rest of a help that nobody reads.
@pytest.mark.parametrize(("arguments", "codes"), [(["list"], {1}), (["train", "--help"], {0, 1})])
def test_output_that_nobody_reads_ends_a_command_in_silence(arguments, codes):
    with subprocess.Popen(
        [sys.executable, "-m", "pyro_vae", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode in codes


def test_a_broken_pipe_within_a_command_is_a_failure_that_is_told(monkeypatch, capsys):
    def fail(name, values):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(parser, "_run_command", fail)
    assert main(["list"]) == 1
    assert "pyro-vae list: error: [Errno 32] Broken pipe" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_help_needs_no_torch_and_answers_within_a_second(arguments):
    code = "import sys; from pyro_vae.cli import main; "
    code += f"code = main({arguments!r}); sys.exit(code + 50 * ('torch' in sys.modules))"
    seconds = []
    for _ in range(3):
        before = os.times()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
        after = os.times()  # of the processor: other work on the machine does not count
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
        assert done.returncode == 0, done.stderr
        assert done.stdout
    assert min(seconds) < 1


def test_help_of_every_command_explains_every_option(capsys):
    for name, (function, _) in parser._COMMANDS.items():
        assert main([name, "--help"]) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert " ".join(function.__doc__.split("Args:")[0].split()) in text
        for option in set(inspect.signature(function).parameters) - {"options", "how", "check"}:
            (explained,) = re.findall(rf"^ +{option}: (\S+ \S+)", function.__doc__, re.MULTILINE)
            assert explained in text, f"{name}: {option}"


def test_flags_need_no_value(called):
    """The options that are false by default are true if they are named."""
    for words, wanted in (
        (["--labels", "--lr", "0.1"], (True, False)),
        (["--labels", "--skip-bad"], (True, True)),
        (["--labels", "false", "--skip_bad=false"], (False, False)),
    ):
        assert main(["train", *words]) == 0
        assert (called["train"]["labels"], called["train"]["skip_bad"]) == wanted
    assert normalised(["data", "--skip_bad", "photos"]) == ["data", "--skip_bad", "true", "photos"]
    functions = [command for command, _ in parser._COMMANDS.values()]
    parameters = [p for of in (*functions, reading, fit, build) for p in inspect.signature(of).parameters.values()]
    false = {f"--{p.name}" for p in parameters if p.default is False and str(p.annotation) == "bool"}
    assert set(FLAGS) <= false <= {*FLAGS, "--has_context", "--missing", "--resume"}  # the others are no options


def test_the_module_runs_too():
    done = subprocess.run([sys.executable, "-m", "pyro_vae", "--version"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "0.1" in done.stdout
