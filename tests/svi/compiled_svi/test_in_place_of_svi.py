"""CompiledSVI in the place of pyro.infer.SVI: what it gives back, and where Pyro takes the steps."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import os
import statistics
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO

from pyro_vae.svi import CannotCaptureError, CompiledSVI
from pyro_vae.svi.optimizer import SharedOptim
from tests.svi.compiled_svi import small
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
    same,
    slow,
    stock_of,
    svi_of,
    weights,
    with_nan,
)


def test_it_is_an_svi():
    svi = svi_of(make_vae())
    assert isinstance(svi, SVI)
    assert svi.captures == 0
    assert svi.refused is None
    for _ in range(4):
        loss = svi.step(make_x())
        assert type(loss) is float
        assert json.loads(json.dumps(loss)) == loss
        assert statistics.mean([loss, loss]) == loss
        assert {loss: 1}[float(f"{loss!r}")] == 1
    assert svi.captures == 1


@slow
@MODES
@pytest.mark.usefixtures("uncompiled")
def test_losses_are_numbers_that_stay(mode):
    svi, stock = svi_of(make_vae(), mode=mode), stock_of(make_vae())
    kept, total, expected = [], 0.0, 0.0
    pyro.set_rng_seed(0)
    for x in batches():
        loss = svi.step(x)
        kept.append(loss)
        total += loss / len(x)
    pyro.set_rng_seed(0)
    reference = [stock.step(x) for x in batches()]
    for value in reference:
        expected += value / 8
    assert [float(loss) for loss in kept] == pytest.approx(reference, rel=1e-12)
    assert float(total) == pytest.approx(expected, rel=1e-12)
    assert np.mean(kept) == pytest.approx(np.mean(reference), rel=1e-12)


def test_wrong_options():
    vae, optim = make_vae(), pyro.optim.Adam({"lr": 1e-3})
    with pytest.raises(ValueError, match='mode must be "fast" or "exact"; got "slow"'.replace('"slow"', "'slow'")):
        CompiledSVI(vae.model, vae.guide, optim, Trace_ELBO(), mode="slow")
    with pytest.raises(ValueError, match='fallback must be "eager" or "error"; got True'):
        CompiledSVI(vae.model, vae.guide, optim, Trace_ELBO(), fallback=True)


@MODES
@pytest.mark.usefixtures("uncompiled")
def test_evaluate_loss_takes_no_step(mode):
    vae, other = make_vae(), make_vae()
    svi, stock = svi_of(vae, mode=mode), stock_of(other)
    for i, x in enumerate(batches()):
        before = weights(vae)
        pyro.set_rng_seed(i)
        ours = [svi.evaluate_loss(x) for _ in range(3)]
        assert {type(loss) for loss in ours} == {float}
        same(before, weights(vae))
        pyro.set_rng_seed(i)
        assert ours == pytest.approx([stock.evaluate_loss(x) for _ in range(3)], rel=1e-12)
        pyro.set_rng_seed(i)
        loss = svi.step(x)
        pyro.set_rng_seed(i)
        assert float(loss) == pytest.approx(stock.step(x), rel=1e-12)
    assert svi.captures == 2


@MODES
@pytest.mark.usefixtures("uncompiled")
def test_several_steps_at_once(mode):
    vae, x = make_vae(), batches()
    svi, before = svi_of(vae, torch.optim.SGD(vae.parameters(), lr=1e-2), mode=mode), copy.deepcopy(vae.state_dict())
    svi.step(x[0])
    results = []
    for supply in (x, [(b,) for b in x], [[b] for b in x], iter(x)):
        vae.load_state_dict(before)
        pyro.set_rng_seed(3)
        losses = svi.steps(supply)
        assert type(losses) is torch.Tensor
        assert losses.shape == (6,)
        results.append(losses.tolist())
    vae.load_state_dict(before)
    expected = losses_of(stock_of(vae, torch.optim.SGD(vae.parameters(), lr=1e-2)), x)
    assert results[0] == pytest.approx(expected, rel=1e-12)
    assert results == [results[0]] * 4


@MODES
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("sizes", [(8, 8, 8, 3, 8, 8, 1, 8), (8,) * 8])
def test_several_steps_with_a_decaying_rate(mode, sizes):
    """Also batches of several sizes; ``steps`` checks once for all batches only what cannot change."""
    options = {"lr": 1e-2, "lrd": 0.9}
    vae, other = make_vae(), make_vae()
    svi, stock = (
        svi_of(vae, pyro.optim.ClippedAdam(options), mode=mode),
        stock_of(other, pyro.optim.ClippedAdam(options)),
    )
    supply = batches(sizes)
    forms = [supply] if len(set(sizes)) > 1 else [supply, torch.stack(supply)]
    for form in forms:
        expected = losses_of(stock, supply)
        pyro.set_rng_seed(3)
        assert svi.steps(form).tolist() == pytest.approx(expected, rel=1e-12)


@MODES
@pytest.mark.usefixtures("uncompiled")
def test_several_steps_end_at_bad_data(mode):
    vae, other, supply = make_vae(), make_vae(), batches()
    svi = svi_of(vae, mode=mode)
    losses_of(stock_of(other), supply[:4])
    pyro.set_rng_seed(3)
    svi.step(supply[0])
    with pytest.raises(ValueError, match="x has NaN"):
        svi.steps([*supply[1:4], with_nan(), *supply[4:]])
    same(weights(other), weights(vae), rtol=1e-12)


def test_no_steps_at_once():
    losses = svi_of(make_vae()).steps([])
    assert losses.shape == (0,)


def branching():
    vae = make_vae()

    def model(x):
        if x.mean() > 0.5:
            return vae.model(x)
        return vae.model(1 - x)

    return vae, model


def test_fallback_eager_warns_once_and_is_stock():
    vae, model = branching()
    expected = losses_of(
        SVI(model, vae.guide, SharedOptim(torch.optim.Adam(vae.parameters(), lr=1e-2)), Trace_ELBO()), batches()
    )
    after = weights(vae)
    vae, model = branching()
    svi = CompiledSVI(model, vae.guide, torch.optim.Adam(vae.parameters(), lr=1e-2), Trace_ELBO(), mode="exact")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        losses = losses_of(svi, batches())
    assert losses == expected
    same(after, weights(vae))
    assert [w.category for w in caught] == [UserWarning]
    assert "if x.mean() > 0.5:" in str(caught[0].message)
    assert str(caught[0].message).endswith("Pyro runs the steps itself, which is slower")
    assert os.path.basename(__file__) in svi.refused
    assert type(svi.step(make_x())) is float
    assert caught[0].filename == small.__file__  # where the step is called


def test_fallback_error_leaves_the_parameters():
    vae, model = branching()
    optim = torch.optim.Adam(vae.parameters(), lr=1e-2)
    svi = CompiledSVI(model, vae.guide, optim, Trace_ELBO(), mode="exact", fallback="error")
    svi.step(make_x())
    before, state = weights(vae), copy.deepcopy(optim.state_dict()["state"][0])
    for _ in range(2):
        with pytest.raises(CannotCaptureError, match="a branch or a number depends on the value of a tensor"):
            svi.step(make_x())
    same(before, weights(vae))
    same(state, optim.state_dict()["state"][0])
    assert svi.refused is None


@slow
def test_also_is_called_in_each_run():
    vae, noted = make_vae(), []

    def also():
        noted.append(1)
        return torch.tensor([1.0, 2.0])

    svi = svi_of(vae, also=also)
    for x in batches():
        svi.step(x)
        assert svi.noted.tolist() == [1.0, 2.0]


@MODES
@pytest.mark.usefixtures("uncompiled")
def test_an_error_in_a_graph_is_that_of_pyro(mode):
    """The error names the value, here a category that does not exist."""

    def model(x, k):
        logits = pyro.param("logits", torch.zeros(3))
        with pyro.plate("data", x.shape[0]):
            pyro.sample("k", dist.Categorical(logits=logits.expand(x.shape[0], 3)), obs=k)

    errors = []
    for cls in (SVI, functools.partial(CompiledSVI, mode=mode, fallback="error")):
        pyro.clear_param_store()
        svi = cls(model, no_latents, pyro.optim.SGD({"lr": 0.01}), Trace_ELBO())
        for _ in range(3):
            svi.step(TEN, torch.zeros(10).long())
        with pytest.raises((ValueError, RuntimeError, IndexError)) as error:
            svi.step(TEN, torch.full((10,), 7))
        errors.append(type(error.value))
    assert errors[0] is errors[1]


@MODES
@pytest.mark.usefixtures("uncompiled")
def test_handlers_around_a_step(mode):
    def steps(svi):
        for i in range(8):
            with poutine.scale(scale=10.0 if i in (3, 5) else 1.0) if i % 2 else contextlib.nullcontext():
                yield svi.step(TEN, 2 * TEN)

    against_stock(lambda: (line, no_latents), steps, mode)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@MODES
def test_on_a_gpu(mode):
    vae = make_vae().cuda()
    x = [b.cuda() for b in batches((64,) * 40)]
    losses = losses_of(svi_of(vae, mode=mode), x)
    assert losses == pytest.approx(losses_of(stock_of(make_vae().cuda()), x), rel=1e-3)
