"""A VAE's weights on disk."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from pyro_vae import VAE, likelihoods, nets, posteriors, priors
from tests.conftest import C, make_vae


def test_weights_come_back(case, tmp_path):
    vae, x, *context = case
    vae.save_weights(tmp_path / "w.safetensors")
    other = copy.deepcopy(vae)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1.0)
    assert torch.equal(
        other.load_weights(tmp_path / "w.safetensors").reconstruct(x, *context), vae.reconstruct(x, *context)
    )


def test_tied_weights_come_back(tmp_path):
    net = nets.MLP(2, (), 4)
    vae = VAE(
        priors.StandardNormal(2),
        likelihoods.Normal(net),
        posteriors.DiagonalNormal(nn.Sequential(nn.Linear(4, 2), net)),
    )
    vae.save_weights(tmp_path / "w.safetensors")
    expected = net.layers[0].weight.clone()
    net.layers[0].weight.data.zero_()
    vae.load_weights(tmp_path / "w.safetensors")
    assert torch.equal(net.layers[0].weight, expected)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    vae, path = make_vae(), tmp_path / "w.safetensors"
    vae.save_weights(path)
    good = path.read_bytes()

    def half(tensors, filename):
        Path(filename).write_bytes(good[:50])
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.torch.save_model", half)
    with pytest.raises(OSError, match="disk full"):
        vae.save_weights(path)
    assert path.read_bytes() == good


def test_a_truncated_weights_file_is_refused(tmp_path):
    vae, path = make_vae(), tmp_path / "w.safetensors"
    vae.save_weights(path)
    path.write_bytes(path.read_bytes()[:-10])
    before = copy.deepcopy(vae.state_dict())
    with pytest.raises(ValueError, match=r"w\.safetensors cannot be read .*damaged or was cut short"):
        vae.load_weights(path)
    assert all(torch.equal(before[name], value) for name, value in vae.state_dict().items())


def test_weights_of_another_vae_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    make_vae(context=C).save_weights(path)
    with pytest.raises(ValueError, match=r"belong to another VAE: \S+ has shape \(\d+, \d+\) there and"):
        make_vae().load_weights(path)
    make_vae("normal_fixed").save_weights(path)
    with pytest.raises(ValueError, match="belong to another VAE: there is no likelihood.raw_scale in the file"):
        make_vae("normal_learned").load_weights(path)


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights at .*nothing.safetensors"):
        make_vae().load_weights(tmp_path / "nothing.safetensors")
