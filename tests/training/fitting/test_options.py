"""Options that fit() refuses."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro.infer import JitTrace_ELBO, ReweightedWakeSleep

from pyro_vae import VAE, data, fit
from tests.conftest import make_vae
from tests.training.fitting.conftest import train


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"lr": -1e-3}, ValueError, "lr must be a finite number above 0, such as 1e-3; got -0.001"),
        ({"lr": 0.0}, ValueError, "lr must be a finite number above 0, such as 1e-3; got 0.0"),
        ({"lr": math.nan}, ValueError, "lr must be a finite number above 0, such as 1e-3; got nan"),
        ({"epochs": 0}, ValueError, "epochs must be an integer of at least 1; got 0"),
        ({"epochs": 1.5}, ValueError, "epochs must be an integer of at least 1; got 1.5"),
        ({"batch_size": 0}, ValueError, "batch_size must be an integer of at least 1; got 0"),
        ({"schedule": "linear"}, ValueError, 'schedule must be "cosine", "constant" or "staircase"; got \'linear\''),
        ({"patience": 0}, ValueError, "patience must be an integer of at least 1; got 0"),
        ({"seed": -1}, ValueError, "seed must be an integer of at least 0; got -1"),
        ({"resume": True}, ValueError, "resume needs out="),
        ({"objective": "Trace_ELBO"}, TypeError, "objective must be a Pyro ELBO"),
        ({"objective": JitTrace_ELBO()}, TypeError, "fit cannot minimise JitTrace_ELBO"),
        ({"objective": ReweightedWakeSleep()}, TypeError, "fit cannot minimise ReweightedWakeSleep"),
        ({"valid": data.batches(torch.zeros(2, 2, 3))}, TypeError, "valid must be the data themselves, not batches"),
        ({"optimizer": pyro.optim.Adam({"lr": 1e-3})}, TypeError, "optimizer must make a torch optimiser"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        train(make_vae(), **options)


def test_a_vae_without_parameters_is_refused():
    normal = pyro.distributions.Normal
    vae = VAE(
        lambda: normal(torch.zeros(2), 1.0).to_event(1),
        lambda z: normal(z, 1.0).to_event(1),
        lambda x: normal(x, 1.0).to_event(1),
    )
    with pytest.raises(ValueError, match="the VAE has no parameters to train"):
        fit(vae, torch.zeros(3, 2))
