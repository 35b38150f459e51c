"""The commands, from training to pictures, on the embedded digits."""

from __future__ import annotations

import functools
import json
import re
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import torch
import yaml
from matplotlib.image import imread

import pyro_vae
from pyro_vae import average_elbo, data, evaluation, load, plots
from pyro_vae.checks import CHECKS, Finding, runner
from pyro_vae.checks.inputs import Check
from pyro_vae.cli import main, pictures
from pyro_vae.cli import runs as runs_of_cli
from pyro_vae.svi import timing
from pyro_vae.training import History
from tests.data.test_images import fake_mnist

QUICK = ["--hidden", "[16]", "--epochs", "2"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A plain run, one with two latent dimensions, one with labels, one with a Normal likelihood."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", *QUICK]) == 0
        assert main(["train", *QUICK, "--latent_dim", "2", "--out", "two"]) == 0
        patch.setattr(pictures, "draw_run", lambda run, vae, dataset: None)  # as pyro-vae plot draws, which is tested
        few = [*QUICK, "--latent_dim", "4"]
        assert main(["train", *few, "--labels", "true", "--out", "labels"]) == 0
        normal = [
            "--likelihood",
            "Normal",
            "--likelihood.scale",
            "per_element",
            "--dequantize",
            "true",
            "--dtype",
            "float64",
        ]
        assert main(["train", *few, *normal, "--out", "normal"]) == 0
    return folder


@pytest.fixture
def here(runs, monkeypatch):
    monkeypatch.chdir(runs)
    return runs


def test_train_ends_with_elbo_run_and_pictures(here, capsys):
    assert main(["train", *QUICK, "--data", "digits"]) == 0
    out = capsys.readouterr().out
    assert "StandardNormal prior, Bernoulli likelihood, DiagonalNormal posterior" in out
    assert "digits: 1,297 images of 1 x 8 x 8 to train on, binarised (dynamic); 2 epochs" in out
    assert re.search(r"test elbo -\d+\.\d\d ± \d\.\d\d nats per image \(recon -.*kl .*; 300 images\)", out)
    for name in ("training", "codes", "reconstructions", "samples", "interpolations"):
        assert f"runs/digits-2/figures/{name}.png" in out
        assert imread(here / f"runs/digits-2/figures/{name}.png").std() > 0.01


def test_the_run_folder_is_complete(here):
    assert {p.name for p in (here / "runs/digits-1").iterdir()} == {
        "config.yaml",
        "data.json",
        "weights.safetensors",
        "last.safetensors",
        "history.jsonl",
        "figures",
    }
    config = yaml.safe_load((here / "runs/digits-1/config.yaml").read_text())
    assert config["hidden"] == [16]
    assert config["epochs"] == 2
    assert len(History.read(here / "runs/digits-1/history.jsonl")) == 2


@pytest.mark.usefixtures("without_pictures")
def test_the_same_options_give_the_same_bits_and_the_configuration_repeats_them(here):
    assert main(["train", "--config", "runs/digits-1/config.yaml", "--out", "again"]) == 0
    assert main(["train", "--config", "runs/digits-1/config.yaml", "--seed", "1", "--out", "other"]) == 0
    weights = [(here / run / "weights.safetensors").read_bytes() for run in ("runs/digits-1", "again", "other")]
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.usefixtures("without_pictures")
def test_resume_goes_on(here, capsys):
    assert main(["train", *QUICK, "--schedule", "constant", "--out", "short"]) == 0
    assert main(["train", "--resume", "short", "--epochs", "4"]) == 0
    assert [r.epoch for r in History.read(here / "short/history.jsonl")] == [1, 2, 3, 4]
    assert main(["train", *QUICK, "--schedule", "constant", "--epochs", "4", "--out", "long"]) == 0
    assert (here / "short/weights.safetensors").read_bytes() == (here / "long/weights.safetensors").read_bytes()
    assert main(["train", "--resume", "short", "--out", "elsewhere"]) == 2
    assert "resume goes on in its own folder, short; leave --out 'elsewhere' away" in capsys.readouterr().err


def listen():
    """A shell that runs the tests in the background has its children ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.usefixtures("without_pictures")
def test_ctrl_c_on_the_command_line_says_how_to_go_on(here):
    command = [sys.executable, "-m", "pyro_vae", "train", "--epochs", "100000", "--hidden", "[4]", "--out", "stopped"]
    command += ["--engine", "pyro"]  # so many epochs would be worth a compilation
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listen)
    line = next(line for line in process.stdout if line.startswith("epoch"))
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.fullmatch(
        r"pyro-vae train: stopped; epoch \d+ of 100000 is kept in stopped. Go on with: "
        "pyro-vae train --resume stopped",
        err.strip(),
    ), line + err
    kept = History.read(here / "stopped/history.jsonl")[-1].epoch
    assert main(["train", "--resume", "stopped", "--epochs", str(kept + 2)]) == 0
    assert History.read(here / "stopped/history.jsonl")[-1].epoch == kept + 2


def test_evaluate_prints_what_train_printed_and_what_python_computes(here, capsys):
    assert main(["evaluate", "runs/digits-1"]) == 0
    printed = capsys.readouterr().out
    test = data.load("digits", binarize="dynamic").test
    found = average_elbo(load("runs/digits-1"), test)
    assert f"test elbo {found.elbo:.2f} ± {found.standard_error:.2f} nats per image" in printed
    assert main(["evaluate", "runs/digits-1", "--split", "valid", "--kl", "analytic", "--num_particles", "3"]) == 0
    assert "200 images" in capsys.readouterr().out


def test_evaluate_with_draws_prints_what_python_computes(here, capsys):
    assert main(["evaluate", "runs/digits-1", "--importance_particles", "20", "--n", "30", "--seed", "3"]) == 0
    printed = capsys.readouterr().out
    test = data.load("digits", binarize="dynamic").test
    x, *_ = next(iter(data.batches(test[:30], 30, seed=3)))
    found = evaluation.importance_sampling(load("runs/digits-1"), x, num_particles=20, seed=3)
    assert f"test log p(x) {found.mean:.2f} ± " in printed
    said = f"± {found.mean_standard_error:.3f}, bias about {found.mean_bias:.3f}\n"
    assert f"(30 images, 20 particles)\nerror of the draws: {said}" in printed
    assert "Pareto k" not in printed  # 20 draws do not tell
    assert f"median {found.effective_sample_size.median():.0f}" in printed
    written = json.loads((here / "runs/digits-1/evaluation-test.json").read_text())
    assert written["log_prob"]["mean"] == pytest.approx(found.mean)
    assert written["log_prob"]["standard_error"] == pytest.approx(found.data_standard_error)
    assert written["log_prob"]["standard_error_of_the_draws"] == pytest.approx(found.mean_standard_error)
    assert written["log_prob"]["pareto_k"] is None
    x, *_ = next(iter(data.batches(test, 300, seed=3)))
    codes = evaluation.latent_use(load("runs/digits-1"), x, seed=3)
    rate = f"kl {codes.kl:.2f} ± {codes.kl_standard_error:.2f} = I(x; z) {codes.mutual_information:.2f} ± "
    assert f"active units {codes.active_units} of 20; {rate}" in printed
    assert sum(written["codes"]["kl_of_dimensions"]) == pytest.approx(written["codes"]["kl"], rel=1e-5)
    assert written["codes"]["mutual_information"] == pytest.approx(codes.mutual_information)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that k is large, which is printed
        assert main(["evaluate", "runs/digits-1", "--importance_particles", "100", "--n", "30", "--seed", "3"]) == 0
        found = evaluation.importance_sampling(load("runs/digits-1"), x[:30], num_particles=100, seed=3).pareto_k
    printed = capsys.readouterr().out
    assert f"Pareto k̂ of the weights: median {found.double().median():.2f}, worst {found.max():.2f}, above " in printed
    written = json.loads((here / "runs/digits-1/evaluation-test.json").read_text())["log_prob"]["pareto_k"]
    assert written["share_above_0.7"] == pytest.approx((found > 0.7).double().mean().item())
    for option, value in (("--importance_particles", "-1"), ("--n", "0"), ("--n", "301")):
        assert main(["evaluate", "runs/digits-1", option, value]) == 2
        out, err = capsys.readouterr()
        assert f"{option[2:]} must be" in err
        assert not out


def test_two_dimensions_give_a_manifold(here):
    assert imread(here / "two/figures/manifold.png").std() > 0.01
    vae = load("two")
    axis = pictures._manifold(vae, size=3).axes[0]
    grid = axis.images[0].get_array()
    assert [t.get_text() for t in axis.get_xticklabels()] == ["-2.0", "0.0", "2.0"]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["2.0", "0.0", "-2.0"]
    upper_left = vae.decode(torch.tensor([[-1.959964, 1.959964]])).mean[0, 0]
    np.testing.assert_allclose(grid[:8, :8], upper_left.detach(), atol=1e-5)
    assert not (here / "runs/digits-1/figures/manifold.png").exists()


def test_runs_with_labels_evaluate_and_sample_one_class_after_the_other(here, capsys):
    assert main(["evaluate", "labels"]) == 0
    assert main(["sample", "labels", "--n", "20", "--out", "labels.npy"]) == 0
    x = np.load(here / "labels.npy")
    expected = load("labels").sample(20, torch.eye(10)[torch.arange(20) % 10], mean=True, seed=0)
    np.testing.assert_array_equal(x, expected.numpy())


def test_reconstructions_and_walks_are_of_the_first_test_images(here, monkeypatch):
    vae, test = load("labels"), data.load("digits", binarize="dynamic", labels=True).test
    x, c = next(iter(data.batches(test[:6], 6)))
    assert main(["interpolate", "labels", "--n", "3", "--steps", "4", "--out", "i.npy"]) == 0
    np.testing.assert_array_equal(np.load(here / "i.npy"), vae.interpolate(x[:3], x[3:], 4, c[:3]).numpy())
    assert main(["reconstruct", "labels", "--n", "6", "--out", "r.npy"]) == 0
    np.testing.assert_array_equal(np.load(here / "r.npy"), vae.reconstruct(x, c).numpy())
    drawn = []
    monkeypatch.setattr(plots, "reconstructions", lambda *pair: drawn.extend(pair) or plots.samples(pair[0]))
    assert main(["reconstruct", "labels", "--n", "6", "--out", "r.PNG"]) == 0
    assert torch.equal(drawn[0], x)
    assert torch.equal(drawn[1], vae.reconstruct(x, c))


@pytest.mark.usefixtures("without_pictures")
def test_densities_over_real_pixels_get_dequantised_ones(here):
    assert main(["train", *QUICK, "--likelihood", "Normal", "--out", "grey"]) == 0
    assert yaml.safe_load((here / "grey/config.yaml").read_text())["dequantize"] == "auto"
    levels = runs_of_cli.open_run("grey", None, None, "cpu")[1].test
    assert levels.dequantize
    assert levels.binarize is None
    assert not runs_of_cli.open_run("two", None, None, "cpu")[1].test.dequantize


@pytest.mark.parametrize(
    ("likelihood", "form", "recorded"),
    [
        ("poisson", "whole numbers to 16", {"class": "poisson"}),
        ("discretized_logistic", "grey, 17 levels", {"class": "discretized_logistic", "levels": 17}),
        ("beta", "grey, dequantised", {"class": "beta"}),
        ("bernoulli", "binarised (dynamic)", {"class": "bernoulli"}),
    ],
)
def test_each_likelihood_gets_the_pixels_that_it_is_over(here, capsys, likelihood, form, recorded):
    assert main(["train", *QUICK, "--likelihood", likelihood, "--out", likelihood]) == 0
    assert f"to train on, {form}; " in capsys.readouterr().out
    assert yaml.safe_load((here / likelihood / "config.yaml").read_text())["likelihood"] == recorded
    assert main(["evaluate", likelihood]) == 0


def test_a_likelihood_is_chosen_by_looking(here, capsys):
    assert main(["train", *QUICK, "--likelihood", "auto", "--out", "auto"]) == 0
    said = capsys.readouterr().out
    assert "likelihood Categorical(levels=17): grey values from 0 to 1 in steps of 1/16." in said
    assert "also possible: DiscretizedLogistic" in said
    assert yaml.safe_load((here / "auto/config.yaml").read_text())["likelihood"] == {
        "class": "Categorical",
        "levels": 17,
    }
    assert main(["train", *QUICK, "--likelihood", "auto", "--binarize", "dynamic", "--out", "auto2"]) == 0
    assert "likelihood Bernoulli: 0 and 1 are the only values." in capsys.readouterr().out


def test_parts_by_short_names_with_their_options(here, capsys):
    arguments = ["--prior", "vamp", "--prior.components", "9", "--posterior", "low_rank", "--posterior.rank", "3"]
    assert main(["train", *QUICK, *arguments, "--nets", "conv", "--out", "by_name"]) == 0
    assert "VampPrior prior, Bernoulli likelihood, LowRankNormal posterior" in capsys.readouterr().out
    vae = pyro_vae.load("by_name")
    assert (vae.prior.components, vae.posterior.rank) == (9, 3)
    assert type(vae.likelihood.net).__name__ == "ConvDecoder"
    assert main(["sample", "by_name"]) == 0
    assert main(["train", "--resume", "by_name", "--epochs", "3"]) == 0


def test_discrete_codes_are_summed_over(here, capsys):
    codes = ["--latent_dim", "6", "--prior", "categorical", "--posterior", "categorical"]
    assert main(["train", *QUICK, *codes, "--out", "codes"]) == 0
    assert yaml.safe_load((here / "codes/config.yaml").read_text())["objective"] == {"class": "auto"}
    assert main(["evaluate", "codes", "--kl", "analytic"]) == 0
    assert main(["train", *QUICK, *codes, "--objective", "Trace_ELBO"]) == 2
    assert "Use TraceEnum_ELBO(max_plate_nesting=1), which sums" in capsys.readouterr().err


def test_spherical_and_topic_codes(here):
    for i, pair in enumerate((("sphere", "power_spherical"), ("dirichlet", "logistic_normal"))):
        # With two dimensions too, there is no plane of codes to draw.
        options = ["--prior", pair[0], "--posterior", pair[1], "--latent_dim", str(2 + i), "--out", f"pair{i}"]
        assert main(["train", *QUICK, *options]) == 0
        assert not (here / f"pair{i}" / "figures" / "manifold.png").exists()
        assert main(["interpolate", f"pair{i}", "--path", "spherical"]) == 0


@pytest.mark.parametrize("run", ["runs/digits-1", "labels", "normal"])
def test_sample_reconstruct_interpolate_and_plot(here, run, capsys):
    for command, name, shape in (
        (["sample", run, "--n", "10", "--mean", "false"], "s", (10, 1, 8, 8)),
        (["reconstruct", run, "--n", "5"], "r", (5, 1, 8, 8)),
        (["interpolate", run, "--n", "3", "--steps", "4", "--path", "spherical"], "i", (3, 4, 1, 8, 8)),
    ):
        assert main([*command, "--out", f"{name}.npy"]) == 0
        assert np.load(here / f"{name}.npy").shape == shape
        assert main([*command, "--out", f"{name}.png"]) == 0
        assert imread(here / f"{name}.png").std() > 0.01
        assert main(command) == 0
    assert "figures/interpolations.png" in capsys.readouterr().out
    assert main(["plot", run]) == 0


# The same lines for any run; those of the other runs are in tests/checks and tests/combinations.
@pytest.mark.parametrize(
    "run", ["labels", *(pytest.param(r, marks=pytest.mark.slow) for r in ("runs/digits-1", "normal"))]
)
def test_check_prints_and_writes_a_report(here, run, capsys):
    """Every line is in the table and in the file; the figure is there."""
    assert main(["check", run, "--n", "12", "--out", "check.json", "--seed", "1"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    found = json.loads((here / "check.json").read_text())
    assert found["passed"]
    assert found["seed"] == 1
    assert f"{found['summary']}" in out
    assert "written to check.json and calibration.png" in out
    by_name = {line["name"]: line for line in found["lines"]}
    for name, line in by_name.items():
        assert name in out
        assert line["verdict"] != "failed"
    assert by_name["objective"]["verdict"] == "passed"  # what the run was trained with
    assert "12 examples of shape (1, 8, 8)" in out
    assert imread(here / "calibration.png").std() > 0.01


@pytest.mark.parametrize("run", ["runs/digits-1", "normal"])
def test_check_of_some_lines_in_the_run_folder(here, run, capsys):
    assert main(["check", run, "--only", "trace-elbo, kl", "--why", "false", "--n", "8"]) == 0
    out = capsys.readouterr().out
    assert "so only rounding differs" not in out
    assert "2 passed" in out
    assert not (here / run / "checks.json").exists()  # where a whole report goes
    assert main(["check", run, "--only", "kl", "--n", "8", "--out", "kl.json"]) == 0
    assert [x["name"] for x in json.loads((here / "kl.json").read_text())["lines"]] == ["kl"]


def test_check_prints_every_line_where_it_is_asked_to(here, capsys):
    options = ["check", "runs/digits-1", "--only", "trace-elbo,kl", "--n", "8"]
    assert main(options) == 0
    assert "so only rounding differs" not in capsys.readouterr().out
    assert main([*options, "--all", "true"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "so only rounding differs" in out
    assert "2 passed" in out


def test_check_of_what_is_not_supported_is_neither_right_nor_wrong(here, capsys, monkeypatch):
    detail = "not supported: model and guide share two latent sites"
    lines = (Check("sites", "", "sites", "They must be there.", lambda _: Finding("skipped", detail)), *CHECKS[1:])
    monkeypatch.setattr(runner, "CHECKS", lines)
    assert main(["check", "runs/digits-1", "--n", "8", "--out", "not.json"]) == 2
    captured = capsys.readouterr()
    assert f"error: nothing was checked: {detail}" in captured.err
    assert "failed" not in captured.out
    assert not json.loads((here / "not.json").read_text())["passed"]


@pytest.mark.usefixtures("without_pictures")
def test_check_fails_where_a_line_fails(here, capsys):
    """Weights so large that densities have no number, as a training that was not watched leaves."""
    assert main(["train", *QUICK, "--out", "broken"]) == 0
    vae = pyro_vae.load("broken")
    with torch.no_grad():
        vae.posterior.net.layers[-1].bias.fill_(1e30)
    vae.save_weights("broken/weights.safetensors")
    assert main(["check", "broken", "--n", "8"]) == 1
    captured = capsys.readouterr()
    assert "lines failed; fix " in captured.err
    assert not json.loads((here / "broken/checks.json").read_text())["passed"]


@pytest.mark.usefixtures("uncompiled")
def test_bench_times_pyro_and_the_graphs_side_by_side(capsys, monkeypatch):
    monkeypatch.setattr(timing, "time_steps", functools.partial(timing.time_steps, rounds=3, seconds=0))
    assert main(["bench", "--hidden", "8", "--latent-dim", "2", "--batch-size", "4"]) == 0
    out = capsys.readouterr().out
    assert "784-8-2, batch 4" in out
    rows = [line for line in out.splitlines() if re.search(r"\d\.\d+-\d+\.\d+", line)]
    names = ["pyro.infer.SVI", "CompiledSVI, exact", "CompiledSVI", "CompiledSVI.steps"]
    assert [re.split(r"\s{2,}", row.strip())[0] for row in rows] == names
    assert re.split(r"\s{2,}", rows[0].strip())[3] == "1.0"


def test_list_names_everything_that_can_be_swapped(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for name in (
        "StandardNormal",
        "Bernoulli",
        "Normal",
        "DiagonalNormal",
        "MLP",
        "TraceMeanField_ELBO",
        "fashion_mnist",
    ):
        assert name in out
    assert "dotted path" in out
    assert "  VampPrior(components=500)  or vamp\n" in out
    assert "  PowerSpherical()\n" in out
    assert "      Over vectors of length 1.\n" in out
    assert "  Mixed(columns)\n" in out


@pytest.mark.usefixtures("without_pictures")
def test_a_users_own_prior_by_dotted_path(here, capsys):
    (here / "my_priors.py").write_text(
        "import torch, pyro.distributions as dist\n"
        "class Wide(torch.nn.Module):\n"
        "    def __init__(self, latent_dim, width=1.0):\n"
        "        super().__init__()\n"
        "        self.latent_dim, self.width = latent_dim, width\n"
        "        self.loc = torch.nn.Parameter(torch.zeros(latent_dim))\n"
        "    def forward(self, *context):\n"
        "        return dist.Normal(self.loc, self.width).to_event(1)\n"
    )
    assert main(["train", *QUICK, "--prior", "my_priors.Wide", "--prior.width", "3", "--out", "wide"]) == 0
    config = yaml.safe_load((here / "wide/config.yaml").read_text())
    assert config["prior"] == {"class": "my_priors.Wide", "width": 3}
    assert main(["evaluate", "wide"]) == 2
    assert "--allow my_priors" in capsys.readouterr().err
    assert main(["evaluate", "wide", "--allow", "my_priors"]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "--data", "minst"], 2, "unknown data set 'minst'; there are digits, mnist"),
        (["train", "--lr", "-0.1"], 2, "lr must be a finite number above 0, such as 1e-3; got -0.1"),
        (["train", "--prior", "StandardNormale"], 2, "Did you mean 'StandardNormal'?"),
        (["train", "--likelihood.scale", "3"], 2, "likelihood Bernoulli has no argument 'scale'"),
        (["train", "--objective", "ELBOW"], 2, "unknown objective 'ELBOW'"),
        (["train", "--binarize", "none"], 2, "likelihood Bernoulli needs x in {0, 1}; got values in [0, 1]"),
        (["train", "--device", "toaster"], 2, "device 'toaster' cannot be used here"),
        (["train", "--out", "two"], 2, "two is not empty"),
        (["train", "--seed", "-3"], 2, "seed must be an integer of at least 0; got -3"),
        (["train", "--epochs", "0"], 2, "epochs must be an integer of at least 1; got 0"),
        (["evaluate", "nowhere"], 2, "nowhere is not a run folder"),
        (["sample", "two", "--out", "x.jpg"], 2, "out must end in .png (a picture) or .npy (an array); got 'x.jpg'"),
        (["sample", "two", "--n", "0"], 2, "n must be an integer of at least 1; got 0"),
        (["bench", "--batch_size", "0"], 2, "batch_size must be an integer of at least 1; got 0"),
        (["bench", "--latent_dim", "0"], 2, "latent_dim must be an integer of at least 1; got 0"),
        (["bench", "--hidden", "0"], 2, "hidden must"),
        (["check", "nowhere"], 2, "nowhere is not a run folder"),
        (["check", "two", "--n", "0"], 2, "the number of images must be from 1 to 300, which is all of them; got 0"),
        (["check", "two", "--out", "no/where.json"], 2, "out: there is no folder no to write where.json into"),
        (["check", "two", "--seed", "-1"], 2, "seed must be an integer of at least 0; got -1"),
        (["check", "two", "--only", "kll"], 2, "only names the line 'kll'; there are sites, shapes"),
        (
            ["reconstruct", "two", "--n", "0"],
            2,
            "must be from 1 to 300, which is all of them; got 0",
        ),
        (
            ["interpolate", "two", "--n", "151"],
            2,
            "n must be from 1 to 150, two images for each walk; got 151",
        ),
        (["interpolate", "two", "--steps", "1"], 2, "steps must be an integer of at least 2; got 1"),
    ],
)
def test_bad_requests_are_refused(here, capsys, arguments, code, message):
    before = sorted(p.name for p in here.iterdir())
    extra = QUICK[:2] if arguments[0] == "train" else []
    assert main([*arguments, *extra]) == code
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert sorted(p.name for p in here.iterdir()) == before


def test_no_network_is_a_failure_that_names_the_folder(tmp_path, monkeypatch, capsys):
    def unreachable(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    assert main(["train", "--data", "mnist", "--root", str(tmp_path)]) == 1
    assert f"MNIST is not in {tmp_path} and could not be downloaded" in capsys.readouterr().err


def test_a_damaged_run_is_a_failure(here, capsys, tmp_path):
    import shutil

    shutil.copytree("two", tmp_path / "two")
    weights = tmp_path / "two/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:50])
    assert main(["evaluate", str(tmp_path / "two")]) == 1
    assert "damaged or was cut short" in capsys.readouterr().err


def test_a_run_of_data_without_a_name_says_so(here, capsys, tmp_path):
    from pyro_vae import build, fit

    fit(build((4,), hidden=(3,)), torch.rand(20, 4).round(), epochs=1, out=tmp_path / "r", progress=False)
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "r")]) == 2
    assert "was trained from Python on data without a name" in capsys.readouterr().err
    assert main(["sample", str(tmp_path / "r"), "--out", str(tmp_path / "s.npy")]) == 0


def test_mnist_from_files(here, tmp_path, capsys):
    fake_mnist(tmp_path)
    assert main(["train", "--data", "mnist", "--root", str(tmp_path), *QUICK, "--out", str(tmp_path / "m")]) == 0
    assert "mnist: 10 images of 1 x 28 x 28" in capsys.readouterr().out
