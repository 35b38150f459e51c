"""Parameters in Pyro's store, and out of it."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import nn

from pyro_vae.svi import CompiledSVI
from tests.svi.compiled_svi.small import (
    MODES,
    TEN,
    D,
    against_stock,
    batches,
    losses_of,
    make_vae,
    no_latents,
    regression,
    same,
    stock_of,
    svi_of,
    weights,
)


@MODES
@pytest.mark.usefixtures("uncompiled")
def test_a_cleared_store_starts_anew(mode):
    def steps(make):
        pyro.clear_param_store()
        loc = torch.zeros(D)

        def guide(x):
            mean = pyro.param("loc", loc)
            scale = pyro.param("scale", torch.ones(D), constraint=dist.constraints.positive)
            pyro.sample("w", dist.Normal(mean, scale).to_event(1))

        optim = pyro.optim.Adam({"lr": 0.1})
        svi = make(regression, guide, optim, Trace_ELBO())
        losses = losses_of(svi, batches())
        pyro.clear_param_store()
        losses += losses_of(svi, batches())
        return losses, pyro.param("loc").detach().clone()

    expected, loc = steps(SVI)
    losses, ours = steps(lambda *args: CompiledSVI(*args, mode=mode, fallback="error"))
    assert losses == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(ours, loc, rtol=1e-5, atol=1e-5)


def test_our_vaes_leave_the_store_alone_and_each_other():
    one, two = make_vae(0), make_vae(1)
    svis = [svi_of(one), svi_of(two)]
    assert len(pyro.get_param_store()) == 0
    losses = [[], []]
    for j, x in enumerate(batches()):
        for i, svi in enumerate(svis):
            losses[i] += losses_of(svi, [x], seed=j)
            assert len(pyro.get_param_store()) == 0
    stocks = [stock_of(make_vae(0)), stock_of(make_vae(1))]
    reference = [[losses_of(stock, [x], seed=j)[0] for j, x in enumerate(batches())] for stock in stocks]
    assert losses == reference
    before = weights(two)
    losses_of(svis[0], batches())
    same(before, weights(two))


@MODES
@pytest.mark.usefixtures("uncompiled")
def test_a_net_under_two_names(mode):
    """Its weights are updated once per step."""

    def make():
        net = nn.Linear(1, 1)

        def model(x):
            pyro.module("of_model", net)
            with pyro.plate("data", x.shape[0]):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                pyro.sample("x", dist.Normal(net(z[:, None])[:, 0], 1.0), obs=x)

        def guide(x):
            pyro.module("of_guide", net)
            with pyro.plate("data", x.shape[0]):
                pyro.sample("z", dist.Normal(net(x[:, None])[:, 0], 0.5))

        return model, guide

    against_stock(make, lambda svi: [svi.step(TEN) for _ in range(8)], mode)


@MODES
@pytest.mark.usefixtures("uncompiled")
def test_a_store_cleared_under_two_structures(mode):
    def model(x, first):
        pyro.sample("x", dist.Normal(pyro.param("a" if first else "b", torch.tensor(0.0)), 1.0), obs=x)

    def steps(svi):
        for i in range(12):
            if i == 8:
                pyro.clear_param_store()
            yield svi.step(TEN[0], i % 2 == 0)
        assert set(pyro.get_param_store()) == {"a", "b"}

    against_stock(lambda: (model, no_latents), steps, mode)
