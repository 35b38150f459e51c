"""What fit() writes into its run folder, and what is read from there."""

from __future__ import annotations

import copy
import os

import numpy as np
import pyro
import pytest
import torch
import yaml
from torch import nn

from pyro_vae import VAE, build, data, fit, likelihoods, load
from pyro_vae.training import History
from tests.conftest import make_vae, make_x
from tests.training.fitting.conftest import records, same, train, weights


def test_a_run_folder_gives_the_vae_back(tmp_path):
    digits = data.load("digits", binarize="dynamic", labels=True)
    vae = build(digits.event_shape, latent_dim=2, hidden=(8,), context_features=10)
    history = fit(vae, digits.train[:100], valid=digits.valid, epochs=2, out=tmp_path / "run", progress=False)
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "config.yaml",
        "data.json",
        "weights.safetensors",
        "last.safetensors",
        "history.jsonl",
    }
    again = load(tmp_path / "run")
    assert same(weights(again), weights(vae))
    assert type(again.prior) is type(vae.prior)
    assert records(History.read(tmp_path / "run" / "history.jsonl")) == records(history)
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (config["data"], config["binarize"], config["labels"]) == ("digits", "dynamic", True)
    assert config["shapes"] == {"x": [1, 8, 8], "context": 10}
    assert (config["epochs"], config["seed"], config["dtype"]) == (2, 0, "float32")


def test_float64_comes_back_as_float64(tmp_path):
    vae = make_vae("normal_learned")
    train(vae, make_x("normal_learned", n=20), out=tmp_path, epochs=1)
    again = load(tmp_path)
    assert next(again.parameters()).dtype == torch.float64
    assert same(weights(again), weights(vae))


def test_parts_without_a_name_are_said_at_load_and_the_vae_can_be_given(tmp_path):
    whole = make_vae()
    vae = VAE(
        lambda: pyro.distributions.Laplace(torch.zeros(2).double(), 1.0).to_event(1), whole.likelihood, whole.posterior
    )
    train(vae, out=tmp_path, epochs=1)
    with pytest.raises(ValueError, match=r"the prior of .* cannot be built .*<lambda>.*load\(run, vae=vae\)"):
        load(tmp_path)
    other = copy.deepcopy(vae)
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    assert same(weights(load(tmp_path, vae=other)), weights(vae))


def test_numbers_of_numpy_are_numbers(tmp_path):
    vae = VAE(
        make_vae().prior,
        likelihoods.Normal(make_vae("normal_fixed").likelihood.net, scale=np.float64(0.3)),
        make_vae().posterior,
    )
    options = {
        "epochs": np.int64(2),
        "batch_size": np.int64(16),
        "lr": np.float64(1e-3),
        "seed": np.int64(1),
        "patience": np.int64(5),
    }
    train(vae, make_x("normal_fixed", n=40), out=tmp_path, **options)
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert [config[name] for name in options] == [2, 16, 1e-3, 1, 5]
    assert config["likelihood"]["scale"] == 0.3
    assert same(weights(load(tmp_path)), weights(vae))


def test_a_configuration_that_cannot_be_written_is_refused_before_the_training(tmp_path):
    with pytest.raises(ValueError, match="config must hold plain numbers, text, lists and mappings"):
        train(make_vae(), out=tmp_path, config={"a": object()})


def test_shared_modules_are_said_at_load(tmp_path):
    whole = make_vae()

    class Aggregate(nn.Module):
        """As a VampPrior does, it holds the posterior."""

        def __init__(self, posterior):
            super().__init__()
            self.posterior, self.x = posterior, nn.Parameter(make_x(n=1))

        def forward(self):
            return self.posterior(self.x)

    vae = VAE(Aggregate(whole.posterior), whole.likelihood, whole.posterior)
    train(vae, out=tmp_path, epochs=1)
    with pytest.raises(
        ValueError, match="the posterior of .* cannot be built .*shares a module with the prior|the prior of"
    ):
        load(tmp_path)
    assert same(weights(load(tmp_path, vae=copy.deepcopy(vae))), weights(vae))


def test_what_the_command_line_does_not_have_is_recorded(tmp_path):
    train(make_vae(), out=tmp_path, optimizer=torch.optim.SGD)
    text = (tmp_path / "config.yaml").read_text()
    assert "optimizer: SGD" in text
    assert "from: python" in text.splitlines()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(FileExistsError, match=r"is not empty. Choose another out, or go on with its run: resume=True"):
        train(make_vae(), out=tmp_path)
    with pytest.raises(FileExistsError, match="out must be a folder; .*precious.txt is a file"):
        train(make_vae(), out=tmp_path / "precious.txt")
    assert os.listdir(tmp_path) == ["precious.txt"]
