"""Randomness and other state of Python: what a capture leaves alone, and what a run changes."""

from __future__ import annotations

import copy
import functools
import math
import random
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from torch import nn

from pyro_vae.svi import CannotCaptureError, CompiledSVI
from pyro_vae.svi.arguments import take_apart
from tests.svi.compiled_svi.small import (
    MODES,
    TEN,
    make_vae,
    make_x,
    no_latents,
    normalised,
    same,
    slow,
    svi_of,
    weights,
)


def test_a_capture_draws_no_random_numbers():
    vae = make_vae()
    svi = svi_of(vae)
    svi.step(make_x())
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    weights_before = weights(vae)
    svi._capture("step", next(iter(svi._first_runs)), take_apart((make_x(),), {}))
    assert svi.captures == 1
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    same(weights_before, weights(vae))


@slow
def test_a_capture_leaves_buffers_and_validation_alone():
    vae = normalised()
    svi = svi_of(vae)
    svi.step(make_x())
    before = weights(vae)
    for enabled in (True, False):
        with pyro.validation_enabled(enabled):
            was = torch.distributions.Distribution._validate_args
            svi._capture("step", next(iter(svi._first_runs)), take_apart((make_x(),), {}))
            assert torch.distributions.Distribution._validate_args == was
            same(before, weights(vae))
            svi.step(make_x())
            assert torch.distributions.Distribution._validate_args == was
            vae.load_state_dict(before)
    assert torch.distributions.Distribution._validate_args


def stateful(change):
    """A VAE whose model reads a number from ``change`` in each run."""
    vae = make_vae()

    def model(x):
        with poutine.scale(scale=change()):
            return vae.model(x)

    return vae, model


def counter():
    runs = [0]

    def change():
        runs[0] += 1
        return 1.0 + runs[0] / 10

    return change


def tensor_counter():
    count = counter()
    return lambda: torch.tensor(count(), dtype=torch.float64)


def own_generator():
    generator = np.random.default_rng(0)
    return lambda: float(generator.uniform(1, 2))


def own_generator_in_a_tensor():
    generator = random.Random(0)
    return lambda: torch.tensor(generator.uniform(1, 2), dtype=torch.float64)


def own_generator_in_a_vector():
    generator = random.Random(0)
    return lambda: torch.tensor([generator.uniform(1, 2), 1.0], dtype=torch.float64).mean()


CHANGES = {
    "a-counter": (counter, "does something else when it runs again"),
    "a-counter-in-a-tensor": (tensor_counter, "does something else when it runs again"),
    "random": (lambda: lambda: random.uniform(1, 2), "."),
    "random-in-a-tensor": (
        lambda: lambda: torch.tensor(random.uniform(1, 2), dtype=torch.float64),
        "(does something else when it runs again|Python's or NumPy's)",
    ),
    "numpy": (lambda: lambda: float(np.random.uniform(1, 2)), "."),  # noqa: NPY002
    "numpy-in-a-tensor": (
        lambda: lambda: torch.as_tensor(np.random.uniform(1, 2)),  # noqa: NPY002
        "(does something else when it runs again|Python's or NumPy's)",
    ),
    "a-generator": (own_generator, "does something else when it runs again"),
    "a-generator-in-a-tensor": (own_generator_in_a_tensor, "does something else when it runs again"),
    "a-generator-in-a-vector": (own_generator_in_a_vector, "does something else when it runs again"),
}
IN_TENSORS = ("a-counter", "a-counter-in-a-tensor", "random-in-a-tensor", "a-generator-in-a-vector")


@pytest.mark.parametrize("name", [n if n in IN_TENSORS else pytest.param(n, marks=slow) for n in CHANGES])
def test_what_changes_from_run_to_run_in_python_is_refused(name):
    make, reason = CHANGES[name]
    vae, model = stateful(make())
    svi = CompiledSVI(
        model, vae.guide, torch.optim.Adam(vae.parameters()), Trace_ELBO(), mode="exact", fallback="error"
    )
    svi.step(make_x())
    before = weights(vae)
    with pytest.raises(CannotCaptureError, match=f"cannot be captured as one graph: .*{reason}"):
        svi.step(make_x())
    same(before, weights(vae))
    assert svi.captures == 0


class Keeps(nn.Module):
    """Puts tensors of a run into attributes."""

    def __init__(self, reads):
        super().__init__()
        self.net, self.reads = nn.Linear(1, 1), reads
        self.register_buffer("mean", torch.zeros(()))
        self.last = None

    def model(self, x):
        pyro.module("net", self.net)
        y = self.net(x[:, None])[:, 0]
        if self.reads:
            self.mean = 0.9 * self.mean + 0.1 * y.detach().mean()
            y = y - self.mean
        self.last = y.detach().mean()
        with pyro.plate("data", x.shape[0]):
            pyro.sample("y", dist.Normal(y, 0.5), obs=2 * x)


@MODES
@pytest.mark.usefixtures("uncompiled")
def test_state_that_a_run_rebinds_is_refused_and_left_as_it_was(mode):
    module = Keeps(reads=True)
    svi = CompiledSVI(module.model, no_latents, pyro.optim.SGD({"lr": 0.01}), Trace_ELBO(), mode=mode, fallback="error")
    svi.step(TEN)
    before, last = weights(module), module.last
    with pytest.raises(CannotCaptureError, match="reads the tensor 'mean' of Keeps and puts another in its place"):
        svi.step(TEN)
    same(before, weights(module))
    assert module.last is last
    copy.deepcopy(module)


@MODES
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.filterwarnings("ignore:.*change that in place")
def test_state_that_a_run_rebinds_is_left_to_pyro(mode):
    losses = []
    for make in (SVI, functools.partial(CompiledSVI, mode=mode)):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        svi = make(Keeps(reads=True).model, no_latents, pyro.optim.SGD({"lr": 0.01}), Trace_ELBO())
        losses.append([float(svi.step(TEN)) for _ in range(5)])
    assert losses[0] == losses[1]
    assert "change that in place" in svi.refused


@MODES
@pytest.mark.usefixtures("uncompiled")
def test_what_a_run_notes_in_an_attribute_is_stocks(mode):
    """It is the tensor of the last step, and later steps do not change it."""

    def steps(make):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        module, noted = Keeps(reads=False), []
        svi = make(module.model, no_latents, pyro.optim.SGD({"lr": 0.01}), Trace_ELBO())
        for _ in range(5):
            svi.step(TEN)
            noted.append(module.last)
        return noted, svi

    expected, _ = steps(SVI)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        noted, svi = steps(functools.partial(CompiledSVI, mode=mode, fallback="error"))
    assert [type(t) for t in noted] == [torch.Tensor] * 5
    assert not any(t.requires_grad for t in noted)
    assert torch.equal(torch.stack(noted), torch.stack(expected))
    assert len(set(map(float, noted))) == 5
    assert svi.captures == 1


@pytest.mark.parametrize(
    "read",
    [float, int, bool, torch.Tensor.item, math.exp, lambda t: [1.0, 2.0, 3.0][int(t)]],
    ids=["float", "int", "bool", "item", "math", "index"],
)
def test_the_value_of_a_tensor_that_a_model_holds_is_not_read(read):
    """A graph would keep the value of the capture."""
    level = torch.tensor(1.0)

    def model(x):
        pyro.sample("x", dist.Normal(read(level), 1.0).expand([len(x)]).to_event(1), obs=x)  # <- here

    svi = CompiledSVI(model, no_latents, pyro.optim.SGD({"lr": 0.01}), Trace_ELBO(), fallback="error")
    svi.step(torch.zeros(3))
    with pytest.raises(CannotCaptureError, match=r"value of a tensor is read.*test_state.py"):
        svi.step(torch.zeros(3))


@MODES
@pytest.mark.usefixtures("uncompiled")
def test_a_generator_of_the_models_own_is_refused(mode):
    own = torch.Generator().manual_seed(0)

    def model(x):
        weight = pyro.param("weight", torch.tensor(0.3))
        noise = torch.randn(x.shape, generator=own)
        pyro.sample("x", dist.Normal(weight + noise, 1.0).to_event(1), obs=x)

    svi = CompiledSVI(model, no_latents, pyro.optim.SGD({"lr": 0.01}), Trace_ELBO(), mode=mode, fallback="error")
    svi.step(TEN)
    with pytest.raises(CannotCaptureError, match="it uses a Generator of its own"):
        svi.step(TEN)
