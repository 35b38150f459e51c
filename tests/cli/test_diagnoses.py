"""What evaluate says beyond the bound: the same as Python computes, and written down."""

from __future__ import annotations

import functools
import json

import pytest
import torch
from matplotlib.image import imread

from pyro_vae import data, evaluation, load
from pyro_vae.cli import diagnoses, main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose codes carry something."""
    folder = tmp_path_factory.mktemp("diagnoses") / "run"
    options = ["--latent_dim", "4", "--hidden", "64", "--epochs", "30", "--engine", "pyro"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyro_vae.cli.pictures.draw_run", lambda run, vae, dataset: None)
        assert main(["train", *options, "--out", str(folder)]) == 0
    return folder


def evaluated(run, capsys, *options):
    assert main(["evaluate", str(run), *options]) == 0
    return capsys.readouterr().out, json.loads((run / "evaluation-test.json").read_text())


def test_the_probe_and_bits(run, capsys):
    out, written = evaluated(run, capsys)
    digits, vae = data.load("digits", binarize="dynamic"), load(run)
    parts = []
    for split in (digits.train, digits.test):
        (x,) = next(iter(data.batches(split, len(split), seed=0)))
        parts += [vae.codes(x), split.labels]
    found = evaluation.linear_probe(*parts)
    assert found.accuracy > 0.5
    assert f"labels from codes by a linear classifier: {found.accuracy:.1%}" in out
    assert written["probe"]["accuracy"] == found.accuracy
    assert "at most" in out
    assert written["bits_per_dim"] == pytest.approx(evaluation.bits_per_dim(written["elbo"]["elbo"], 64))
    assert written["codes"]["collapse"] is None
    assert "collapse" not in out


def test_gaps_strangers_and_copies(run, capsys, monkeypatch):
    few = functools.partial(evaluation.inference_gaps, steps=100)  # of the search, where the default is 1,000
    monkeypatch.setattr(diagnoses, "inference_gaps", few)
    options = ["--gaps", "20", "--importance_particles", "50", "--n", "20", "--against", "digits", "--samples", "40"]
    out, written = evaluated(run, capsys, *options)
    digits, vae = data.load("digits", binarize="dynamic"), load(run)
    (x,) = next(iter(data.batches(digits.test[:20], 20, seed=0)))
    found = few(vae, x, importance_particles=50)
    assert written["gaps"]["amortisation"] == pytest.approx(found.means["amortisation"], rel=1e-4)
    assert f"amortisation gap {found.means['amortisation']:.2f} (the encoder; 20 images)" in out
    (x,) = next(iter(data.batches(digits.test, 300)))
    reference = -evaluation.outlier_scores(vae, x[:150])["log_prob"]
    inside, outside = (evaluation.outlier_scores(vae, part, reference=reference) for part in (x[150:], x[:150]))
    expected = evaluation.separation(inside, outside)
    assert expected["log_prob"] != 0.5
    assert written["out_of_distribution"]["auroc"] == pytest.approx(expected)
    assert "digits against digits, area under the ROC curve (0.5 is chance): log_prob 0." in out
    (train,) = next(iter(data.batches(digits.train, 1297, seed=0)))
    copies = evaluation.memorisation(vae.sample(40, seed=0), train, next(iter(data.batches(digits.test, 300)))[0][:40])
    for name in ("fraction", "threshold", "sample_median", "test_median"):
        assert written["memorisation"][name] == pytest.approx(getattr(copies, name))
    assert imread(run / "figures" / "nearest.png").std() > 0.01


@pytest.mark.usefixtures("without_pictures")
def test_a_collapse_is_named_with_its_remedies(tmp_path, capsys):
    options = ["--likelihood", "Normal", "--likelihood.scale", "1", "--latent_dim", "3", "--hidden", "16"]
    run = tmp_path / "run"
    assert main(["train", *options, "--epochs", "60", "--engine", "pyro", "--out", str(run)]) == 0
    capsys.readouterr()
    out, written = evaluated(run, capsys)
    assert written["codes"]["collapse"] == "posterior"
    assert "posterior collapse:" in out
    assert "the likelihood Normal has the fixed scale 1; the standard deviation of the data is" in out
    assert "try a scale that follows the data (with a fixed scale of 1, smaller errors" in out
    assert '--objective beta --objective.beta \'{"class": "linear", "steps": 198}' in out  # 0.3 of 60 x 11
    # 300 test images: log2(17) more than the density's bits.
    assert written["bits_per_dim"] == pytest.approx(evaluation.bits_per_dim(written["elbo"]["elbo"], 64, levels=17))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gaps", "-1"], "gaps must be an integer of at least 0, 0 for none; got -1"),
        (["--gaps", "301"], "gaps must be at most 300, the number of images; got 301"),
        (["--samples", "1000"], "samples must be at most 300, the number of images; got 1000"),
        (["--against", "mnists"], "unknown data set 'mnists'"),
        (["--samples", "10", "--split", "train"], "samples need held-out examples of the run's own data"),
        (["--samples", "10", "--data", "digits"], "samples need held-out examples of the run's own data"),
    ],
)
def test_bad_input(run, options, message, capsys):
    assert main(["evaluate", str(run), *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("without_pictures")
def test_labels_as_context_are_not_probed(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", "--labels", "true", "--hidden", "8", "--epochs", "1", "--out", str(run)]) == 0
    capsys.readouterr()
    out, written = evaluated(run, capsys)
    assert written["probe"] is None
    assert "labels from codes" not in out
    out, written = evaluated(run, capsys, "--samples", "10")
    assert written["memorisation"]["samples"] == 10, "they get the labels of training examples"
    assert torch.isfinite(torch.tensor(written["elbo"]["elbo"]))


@pytest.mark.usefixtures("without_pictures")
def test_gaps_of_discrete_codes_are_refused_before_anything_long(tmp_path, capsys):
    run = tmp_path / "run"
    parts = ["--prior", "categorical", "--posterior", "categorical", "--latent_dim", "4"]
    assert main(["train", *parts, "--hidden", "8", "--epochs", "1", "--out", str(run)]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), "--gaps", "5"]) == 2
    out, err = capsys.readouterr()
    assert "needs a posterior whose draws have a gradient" in err
    assert not out


@pytest.mark.usefixtures("without_pictures")
def test_images_that_were_trained_on_are_not_held_out(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", "--validate", "false", "--hidden", "8", "--epochs", "1", "--out", str(run)]) == 0
    assert main(["evaluate", str(run), "--split", "valid"]) == 2
    assert "was trained on the validation data too (validate: false); use --split test" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--samples", "20"]) == 0
    digits, vae = data.load("digits", binarize="dynamic"), load(run)
    seen, held_out = digits.train_and_valid, digits.test[:20]
    (train,), (test,) = (next(iter(data.batches(part, len(part), seed=0))) for part in (seen, held_out))
    expected = evaluation.memorisation(vae.sample(20, seed=0), train, test)
    written = json.loads((run / "evaluation-test.json").read_text())["memorisation"]
    assert written["sample_median"] == pytest.approx(expected.sample_median)
    assert main(["evaluate", str(run), "--split", "train"]) == 0
    assert "linear classifier" not in capsys.readouterr().out.split("evaluation-test.json")[1]
