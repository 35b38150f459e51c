"""What a user changes between steps: modes, buffers, weights, parts, attributes."""

from __future__ import annotations

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from torch import nn

from pyro_vae.svi import CompiledSVI
from tests.svi.compiled_svi.small import (
    MODES,
    TEN,
    D,
    against_stock,
    batches,
    line,
    losses_of,
    make_vae,
    no_latents,
    normalised,
    same,
    slow,
    stock_of,
    svi_of,
    weights,
)


@MODES
@pytest.mark.usefixtures("uncompiled")
def test_train_and_eval_mode(mode):
    """Each mode has a graph, and dropout and batch normalisation work in it as in Pyro."""

    def steps(make):
        vae = normalised()
        svi, losses = make(vae), []
        for i, x in enumerate(batches((8,) * 12)):
            vae.train(i // 3 % 2 == 0)
            pyro.set_rng_seed(i)
            losses.append(float(svi.step(x)))
        return losses, vae, svi

    expected, other, _ = steps(stock_of)
    losses, vae, svi = steps(lambda vae: svi_of(vae, mode=mode))
    assert losses == pytest.approx(expected, rel=1e-12)
    same(weights(other), weights(vae), rtol=1e-11)
    assert svi.captures == 2


@slow
def test_the_mode_of_one_module_alone():
    vae, other = normalised(), normalised()
    svi, stock = svi_of(vae), stock_of(other)
    assert losses_of(svi, batches()) == losses_of(stock, batches())
    for v in (vae, other):
        v.posterior.net.layers[3].eval()
    assert losses_of(svi, batches()) == losses_of(stock, batches())
    assert svi.captures == 2


@MODES
@pytest.mark.usefixtures("uncompiled")
def test_buffers_and_weights_changed_in_place(mode):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.tensor(1.0, dtype=torch.float64))
            self.linear = nn.Linear(D, 4).double()

        def forward(self, x):
            return self.scale * self.linear(x)

    def steps(make):
        vae = make_vae()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            vae.posterior.net = Scaled()
        svi, losses = make(vae), []
        for i, x in enumerate(batches()):
            vae.posterior.net.scale.fill_(1 + i / 3)
            if i == 4:
                with torch.no_grad():
                    vae.posterior.net.linear.weight.mul_(0.5)
            if i == 5:
                vae.load_state_dict({name: 0.7 * value for name, value in vae.state_dict().items()})
            pyro.set_rng_seed(i)
            losses.append(float(svi.step(x)))
        return losses, svi

    expected, _ = steps(stock_of)
    losses, svi = steps(lambda vae: svi_of(vae, mode=mode))
    assert losses == pytest.approx(expected, rel=1e-12)
    assert svi.captures == 1


@MODES
@pytest.mark.usefixtures("uncompiled")
def test_parameters_frozen_between_steps(mode):
    """With requires_grad off, steps of Pyro and of a graph leave a parameter unchanged."""

    def steps(make):
        vae = make_vae()
        svi = make(vae, torch.optim.SGD(vae.parameters(), lr=1e-2))
        losses = losses_of(svi, batches())
        vae.likelihood.requires_grad_(False)
        before = weights(vae.likelihood)
        losses += losses_of(svi, batches())
        same(before, weights(vae.likelihood))
        vae.likelihood.requires_grad_(True)
        return losses + losses_of(svi, batches()), vae

    expected, other = steps(stock_of)
    losses, vae = steps(lambda vae, optim: svi_of(vae, optim, mode=mode))
    assert losses == pytest.approx(expected, rel=1e-12)
    same(weights(other), weights(vae), rtol=1e-11)


def test_a_part_put_in_the_place_of_another():
    """As with Pyro, other parameters than those of the graph are trained."""

    def steps(make):
        vae = make_vae()
        svi = make(vae, pyro.optim.SGD({"lr": 1e-2}))
        losses = losses_of(svi, batches())
        vae.posterior = make_vae(seed=9).posterior
        return losses + losses_of(svi, batches()), vae

    expected, other = steps(stock_of)
    losses, vae = steps(svi_of)
    assert losses == expected
    same(weights(other), weights(vae))


@slow
@MODES
@pytest.mark.usefixtures("uncompiled")
def test_parameters_that_get_other_data(mode):
    """The same parameter objects get other data, of the same shape and dtype or not."""

    def steps(make):
        vae = make_vae()
        svi = make(vae, pyro.optim.SGD({"lr": 1e-2}))
        losses = losses_of(svi, batches())
        for p in vae.parameters():
            p.data = p.data.clone() + 0.1
        losses += losses_of(svi, batches())
        vae.float()
        losses += losses_of(svi, batches(dtype=torch.float32))
        vae.double()
        return losses + losses_of(svi, batches()), vae

    expected, other = steps(stock_of)
    losses, vae = steps(lambda vae, optim: svi_of(vae, optim, mode=mode))
    assert losses == pytest.approx(expected, rel=1e-6)
    same(weights(other), weights(vae), rtol=1e-6)
    assert next(vae.parameters()).dtype == torch.float64


@MODES
@pytest.mark.usefixtures("uncompiled")
def test_a_step_without_gradients_in_between(mode):
    def steps(svi):
        for i in range(8):
            with torch.set_grad_enabled(i not in (1, 2)):
                yield svi.step(TEN, 2 * TEN)

    against_stock(lambda: (line, no_latents), steps, mode)


class Attributes(nn.Module):
    """A model of y whose parts a user changes in Python."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1))
        self.y, self.beta, self.function = 2 * TEN, 1.0, torch.tanh

    def model(self, x):
        pyro.module("net", self.net)
        with pyro.plate("data", x.shape[0]), poutine.scale(scale=self.beta):
            mean = self.function(self.net(x[:, None])[:, 0])
            pyro.sample("y", dist.Normal(mean, 0.5), obs=self.y)


CHANGED = {
    "a tensor": lambda m: setattr(m, "y", -TEN),
    "a number": lambda m: setattr(m, "beta", 0.3),
    "a function": lambda m: setattr(m, "function", torch.sin),
    "a part more": lambda m: m.net.append(nn.Linear(1, 1)),
    "a part less": lambda m: m.net.pop(1),
    "a hook": lambda m: m.net[0].register_forward_hook(lambda module, args, out: 2 * out),
    "a new attribute of a part": lambda m: setattr(m.net[1], "forward", torch.sin),
}
SOON = ("a tensor", "a number", "a part more", "a hook")


@MODES
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("change", [c if c in SOON else pytest.param(c, marks=slow) for c in CHANGED])
@pytest.mark.parametrize("plain", [False, pytest.param(True, marks=slow)])
def test_what_a_module_holds_is_changed_between_steps(mode, change, plain):
    """Also if an object that is no module holds it."""

    def make():
        module = Attributes()
        if not plain:
            return module.model, no_latents, module
        owner = type("Plain", (), {"model": Attributes.model})()
        owner.net, owner.y, owner.beta, owner.function = module.net, module.y, module.beta, module.function
        return owner.model, no_latents, owner

    def steps(svi, owner):
        for i in range(7):
            if i == 4:
                CHANGED[change](owner)
            yield svi.step(TEN)

    against_stock(make, steps, mode)


@MODES
@pytest.mark.usefixtures("uncompiled")
def test_parameters_of_another_dtype_get_another_graph(mode):
    """The arguments stay the same, but compiled code would read the memory wrongly."""

    class Line(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(0.3))

        def model(self, x):
            pyro.module("line", self)
            with pyro.plate("data", x.shape[0]):
                pyro.sample("x", dist.Normal(self.weight * x, 0.5), obs=2 * x)

    found = []
    for make in (SVI, functools.partial(CompiledSVI, mode=mode, fallback="error")):
        pyro.clear_param_store()
        line = Line()
        svi = make(line.model, no_latents, pyro.optim.SGD({"lr": 0.01}), Trace_ELBO())
        losses = [float(svi.step(TEN.double())) for _ in range(4)]
        line.double()
        found.append(losses + [float(svi.step(TEN.double())) for _ in range(4)])
    assert found[1] == pytest.approx(found[0], rel=1e-6)
    assert svi.captures == 2


@MODES
@pytest.mark.usefixtures("uncompiled")
def test_autocast_switched_on_between_steps(mode):
    def steps(make, on=True):
        vae = make_vae(dtype=torch.float32)
        svi, losses = make(vae, pyro.optim.SGD({"lr": 1e-2})), []
        for i, x in enumerate(batches((8,) * 12, dtype=torch.float32)):
            with torch.autocast("cpu", torch.bfloat16, enabled=on and i // 3 % 2 == 1):
                pyro.set_rng_seed(i)
                losses.append(float(svi.step(x)))
        return losses

    expected, losses = steps(stock_of), steps(lambda vae, optim: svi_of(vae, optim, mode=mode))
    assert losses == pytest.approx(expected, rel=1e-5)
    assert expected != pytest.approx(steps(stock_of, on=False), rel=1e-5)
