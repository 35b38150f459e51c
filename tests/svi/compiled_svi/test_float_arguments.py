"""Floats among the arguments."""

from __future__ import annotations

import gc
import warnings

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO

from pyro_vae.svi import CompiledSVI
from pyro_vae.svi.optimizer import as_pyro_optim
from tests.svi.compiled_svi.small import MODES, batches, make_vae, slow


def annealed(vae):
    def model(x, beta=1.0):
        with poutine.scale(scale=beta):
            return vae.model(x)

    def guide(x, beta=1.0):
        with poutine.scale(scale=beta):
            return vae.guide(x)

    return model, guide


@MODES
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize(
    "number",
    [float, *(pytest.param(n, marks=slow) for n in (np.float64, np.float32, torch.tensor))],
    ids=["float", "float64", "float32", "tensor"],
)
def test_a_number_that_changes_at_each_step(mode, number):
    def steps(make):
        vae = make_vae()
        optim = torch.optim.Adam(vae.parameters(), lr=1e-2)
        svi = make(*annealed(vae), as_pyro_optim(optim), Trace_ELBO())
        losses = []
        for i, x in enumerate(batches()):
            pyro.set_rng_seed(i)
            losses.append(float(svi.step(x, beta=number((i + 1) / 8))))
        return losses, svi

    expected, _ = steps(SVI)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # if it is refused, Pyro runs it
        losses, svi = steps(lambda *args: CompiledSVI(*args, mode=mode))
    assert losses == pytest.approx(expected, rel=1e-12)
    if number is not np.float32:
        assert svi.captures == 1


@slow
def test_settings_that_live_for_one_step():
    """Objects of the user's that hold numbers, a new one in each step."""

    class Settings:
        def __init__(self, beta):
            self.beta = beta

    def steps(make):
        vae = make_vae()
        model, guide = annealed(vae)
        optim = as_pyro_optim(torch.optim.Adam(vae.parameters(), lr=1e-2))
        svi = make(lambda x, s: model(x, s.beta), lambda x, s: guide(x, s.beta), optim, Trace_ELBO())
        losses = []
        for i, x in enumerate(batches()):
            pyro.set_rng_seed(i)
            losses.append(float(svi.step(x, Settings((i + 1) / 8))))
            gc.collect()
        return losses

    expected = steps(SVI)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert steps(lambda *args: CompiledSVI(*args, mode="exact")) == expected
