"""On a GPU, where there is one."""

from __future__ import annotations

import copy

import pytest
import torch

from pyro_vae import average_elbo, build, data, fit, load

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_training_on_a_gpu_reaches_what_a_cpu_reaches_and_comes_back(tmp_path):
    digits = data.load("digits", binarize="dynamic")
    test = data.load("digits", binarize="threshold").test  # the same on both: they draw other binarisations
    torch.manual_seed(0)
    vae = build(digits.event_shape, latent_dim=4, hidden=(64,))
    twin = copy.deepcopy(vae)
    before = torch.cuda.get_rng_state()
    fit(vae, digits.train, valid=digits.valid, epochs=20, device="cuda", out=tmp_path, progress=False)
    assert torch.equal(before, torch.cuda.get_rng_state())
    fit(twin, digits.train, valid=digits.valid, epochs=20, progress=False)
    assert next(vae.parameters()).is_cuda
    gpu, cpu = (average_elbo(v, test, num_particles=100).elbo for v in (vae, twin))
    assert gpu == pytest.approx(cpu, abs=0.5)
    again = load(tmp_path)
    assert average_elbo(again, test, num_particles=100).elbo == pytest.approx(gpu, abs=0.1)
    history = fit(
        vae, digits.train, valid=digits.valid, epochs=22, device="cuda", out=tmp_path, resume=True, progress=False
    )
    assert len(history) == 22
