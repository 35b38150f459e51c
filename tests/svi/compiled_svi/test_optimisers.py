"""Every optimiser: of Pyro's and of torch's, changed, shared and replaced between steps."""

from __future__ import annotations

import contextlib
import copy
import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from torch import nn

from pyro_vae.svi import CompiledSVI
from pyro_vae.svi.optimizer import SharedOptim
from tests.svi.compiled_svi.small import (
    MODES,
    TEN,
    against_stock,
    batches,
    line,
    losses_of,
    make_vae,
    make_x,
    no_latents,
    regression,
    same,
    slow,
    stock_of,
    svi_of,
    weights,
)

OPTIMISERS = {
    "adam": lambda vae: torch.optim.Adam(vae.parameters(), lr=1e-2),
    "clipped": lambda vae: pyro.optim.ClippedAdam({"lr": 1e-2, "clip_norm": 0.5, "lrd": 0.9}),
    "grad-clip": lambda vae: pyro.optim.Adam({"lr": 1e-2}, {"clip_norm": 0.5}),
    "adamw-fused": lambda vae: torch.optim.AdamW(vae.parameters(), lr=1e-2, fused=True),
    "sgd": lambda vae: torch.optim.SGD(vae.parameters(), lr=1e-3, momentum=0.9, nesterov=True),
    "class": lambda vae: torch.optim.Adam,
    "pyro-adam": lambda vae: pyro.optim.Adam({"lr": 1e-2}),
    "rmsprop": lambda vae: pyro.optim.RMSprop({"lr": 1e-3}),
    "amsgrad": lambda vae: SharedOptim(torch.optim.Adam(vae.parameters(), lr=1e-2, amsgrad=True)),
    "dampening": lambda vae: torch.optim.SGD(vae.parameters(), lr=1e-3, momentum=0.9, dampening=0.5),
    "tensor-lr": lambda vae: torch.optim.Adam(vae.parameters(), lr=torch.tensor(1e-2)),
    "groups": lambda vae: torch.optim.Adam(
        [{"params": vae.likelihood.parameters(), "lr": 0.1}, {"params": vae.posterior.parameters()}]
    ),
}


@MODES
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("name", [n if n in ("adam", "clipped") else pytest.param(n, marks=slow) for n in OPTIMISERS])
def test_any_optimiser(name, mode):
    """Optimisers of Pyro, optimisers and classes of torch; those without an update in the graph step by themselves."""
    make, vae, other = OPTIMISERS[name], make_vae(), make_vae()
    expected = losses_of(stock_of(other, make(other)), batches())
    assert losses_of(svi_of(vae, make(vae), mode), batches()) == pytest.approx(expected, rel=1e-12)
    same(weights(other), weights(vae), rtol=1e-11)


@pytest.mark.parametrize("optim", [None, 1e-3, "adam", {"lr": 1e-3}, nn.Linear, lambda p: p])
def test_a_wrong_optimiser(optim):
    vae = make_vae()
    with pytest.raises(TypeError, match="optim must be an optimiser of Pyro's, such as pyro.optim.Adam"):
        CompiledSVI(vae.model, vae.guide, optim, Trace_ELBO())


@slow
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize(
    "make",
    [pyro.optim.ClippedAdam, pyro.optim.Adam, pyro.optim.SGD],
)
def test_evaluation_of_a_new_kind_in_between(make):
    """After a loss or a step by Pyro, the graph continues with the optimiser's count of steps."""
    vae, other = make_vae(), make_vae()
    svi, stock = svi_of(vae, make({"lr": 1e-2}), mode="fast"), stock_of(other, make({"lr": 1e-2}))
    for number in (svi, stock):
        losses_of(number, batches())
        pyro.set_rng_seed(0)
        number.evaluate_loss(make_x(5))
        number.step(make_x(1))
        losses_of(number, batches())
    same(weights(other), weights(vae), rtol=1e-11)


@MODES
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("kind", ["momentum-on", *(pytest.param(k, marks=slow) for k in ("lr", "decay-on", "lr-zero"))])
def test_options_of_the_optimiser_changed_between_steps(mode, kind):
    def steps(make):
        vae = make_vae()
        optim = torch.optim.SGD(vae.parameters(), lr=1e-2)
        svi = make(vae, optim)
        losses = losses_of(svi, batches()[:3])
        (group,) = optim.param_groups
        group.update(
            {"lr": {"lr": 0.1}, "momentum-on": {"momentum": 0.9}, "decay-on": {"weight_decay": 0.1}}.get(
                kind, {"lr": 0.0}
            )
        )
        return losses + losses_of(svi, batches()), vae

    expected, other = steps(stock_of)
    losses, vae = steps(lambda vae, optim: svi_of(vae, optim, mode=mode))
    assert losses == pytest.approx(expected, rel=1e-12)
    same(weights(other), weights(vae), rtol=1e-11)


@MODES
@pytest.mark.usefixtures("uncompiled")
def test_the_state_of_the_optimiser_saved_and_loaded(mode):
    def steps(make):
        vae = make_vae()
        optim = torch.optim.Adam(vae.parameters(), lr=1e-2)
        svi = make(vae, optim)
        losses = losses_of(svi, batches()[:3])
        saved = copy.deepcopy((vae.state_dict(), optim.state_dict()))
        losses += losses_of(svi, batches())
        vae.load_state_dict(saved[0])
        optim.load_state_dict(saved[1])
        losses += losses_of(svi, batches())
        optim.load_state_dict(torch.optim.Adam(vae.parameters(), lr=2e-2).state_dict())  # anew
        return losses + losses_of(svi, batches()), vae, optim

    expected, other, reference = steps(stock_of)
    losses, vae, optim = steps(lambda vae, optim: svi_of(vae, optim, mode=mode))
    assert losses == pytest.approx(expected, rel=1e-12)
    same(weights(other), weights(vae), rtol=1e-11)
    found = optim.state_dict()["state"]
    for i, state in reference.state_dict()["state"].items():
        same(state, found[i], rtol=1e-11)


@MODES
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("both", [False, pytest.param(True, marks=slow)], ids=["with-stock", "with-another"])
def test_one_optimiser_under_two_svi_in_turn(mode, both):
    """Each continues with the count of steps that the other has left in the optimiser."""

    def steps(make, make_other):
        vae = make_vae()
        optim = torch.optim.Adam(vae.parameters(), lr=1e-2)
        one, two = make(vae, optim), make_other(vae, optim)
        losses = []
        for i in range(3):
            losses += losses_of(one, batches(), seed=i) + losses_of(two, batches(), seed=10 + i)
        return losses

    expected = steps(stock_of, stock_of)
    ours = functools.partial(svi_of, mode=mode)
    assert steps(ours, ours if both else stock_of) == pytest.approx(expected, rel=1e-10)


@pytest.mark.usefixtures("uncompiled")
def test_options_by_the_name_of_a_parameter():
    def steps(make):
        pyro.clear_param_store()
        guide = AutoNormal(regression)
        optim = pyro.optim.Adam(lambda name: {"lr": 0.3 if "loc" in name else 0.01, "weight_decay": 0.1})
        return losses_of(make(regression, guide, optim, Trace_ELBO()), batches()), pyro.get_param_store().get_state()[
            "params"
        ]

    expected, params = steps(SVI)
    losses, ours = steps(lambda *args: CompiledSVI(*args, fallback="error"))
    assert losses == pytest.approx(expected, rel=1e-5)
    same(params, ours, rtol=1e-5)


@MODES
@pytest.mark.usefixtures("uncompiled")
def test_parameters_that_a_step_by_pyro_has_no_use_for(mode):
    """Adam keeps moving them, as after a step with a gradient of zero."""

    def model(x, first):
        a, b = pyro.param("a", torch.tensor(0.0)), pyro.param("b", torch.tensor(0.5))
        pyro.sample("x", dist.Normal(a if first else b, 1.0), obs=x)

    def steps(svi):
        for i in range(16):
            with poutine.scale(scale=2.0) if i % 3 == 0 else contextlib.nullcontext():
                yield svi.step(TEN[0], i % 4 < 2)
        yield from (pyro.param("a").detach(), pyro.param("b").detach())

    against_stock(lambda: (model, no_latents), steps, mode)


@MODES
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("change", ["optim", "optim_objs"])
def test_another_optimiser_takes_over(mode, change):
    def steps(svi):
        for i in range(9):
            if i == 5 and change == "optim":
                svi.optim = pyro.optim.SGD({"lr": 0.01})
            if i == 5 and change == "optim_objs":
                svi.optim.optim_objs = {}
            yield svi.step(TEN, 2 * TEN)
        assert len(svi.optim.get_state()) == 1

    against_stock(lambda: (line, no_latents), steps, mode)


def test_hooks_on_gradients():
    """A hook that changes a gradient does so in the graph too."""

    def steps(make):
        vae = make_vae()
        for p in vae.likelihood.parameters():
            p.register_hook(lambda g: 0.1 * g.clamp(-1, 1))
        return losses_of(make(vae, torch.optim.SGD(vae.parameters(), lr=1e-2)), batches())

    assert steps(svi_of) == steps(stock_of)
