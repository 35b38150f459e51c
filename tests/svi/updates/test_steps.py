"""Updates in a graph take the steps of the optimisers themselves."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro.optim.clipped_adam import ClippedAdam

from pyro_vae.svi.capture import capture
from pyro_vae.svi.execution import run
from pyro_vae.svi.graph import keep_unless
from pyro_vae.svi.optimizer import SharedOptim
from pyro_vae.svi.updates import updates_of
from tests.svi.updates.pairs import RULES, Pair, every, gradients, stock_step

unit = st.floats(0.0, 0.999)


@every
def test_twenty_steps(rule):
    pair = Pair(*RULES[rule])
    before = copy.deepcopy(pair.params)
    for grads in gradients(20):
        pair.step(grads)
        pair.assert_equal()
    assert all((p - b).abs().max() > 1e-3 for p, b in zip(pair.params, before, strict=True))


def test_adam_by_hand():
    """Kingma and Ba (2014), algorithm 1, for one number."""
    p = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([p], lr=0.1, betas=(0.6, 0.8), eps=1e-4)
    grads = [0.3, -1.2, 0.05, 2.0]
    stock_step(optimizer, [p], [torch.tensor(grads[0], dtype=torch.float64)])
    updates = updates_of(SharedOptim(optimizer), [p], {})
    for g in grads[1:]:
        with torch.no_grad():
            updates.apply([torch.tensor(g, dtype=torch.float64)], updates.numbers()[0])
        updates.count()
    value, m, v = 0.7, 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        m, v = 0.6 * m + 0.4 * g, 0.8 * v + 0.2 * g * g
        value -= 0.1 * (m / (1 - 0.6**t)) / (math.sqrt(v / (1 - 0.8**t)) + 1e-4)
    assert p.item() == pytest.approx(value, rel=1e-12)


@every
def test_float32_is_as_good_as_float32_is(rule):
    pair = Pair(*RULES[rule], dtype=torch.float32)
    for grads in gradients(20, dtype=torch.float32):
        pair.step(grads)
    pair.assert_equal(rtol=1e-5)
    assert all(q.dtype == torch.float32 for q in pair.other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("beta", [0.0, 0.3, 0.5, 0.9])
def test_small_gradients_after_large_ones(beta, dtype):
    """With a short memory the mean of gradients a million times smaller is theirs, not what cancels in the large."""
    pair = Pair(torch.optim.Adam, {"lr": 0.1, "betas": (beta, beta)}, dtype=dtype)
    for grads in gradients(3, dtype=dtype):
        pair.step([1e-6 * g for g in grads])
    pair.assert_equal(rtol=100 * torch.finfo(dtype).eps)


@every
def test_bad_data_change_nothing(rule):
    """Where a result is false, parameters and the tensors of the state stay as they were, to the bit, also with NaN."""
    pair = Pair(*RULES[rule])
    for grads in gradients(2):
        pair.step(grads)
    params, state = copy.deepcopy(pair.other), copy.deepcopy(pair.state(pair.ours, pair.other))

    def program(ok, *grads_and_numbers):
        *grads, numbers = grads_and_numbers
        pair.updates.apply(grads, numbers)
        return ok.clone(), grads[0].sum()

    with torch.no_grad():
        graph = capture(program, [torch.tensor(True), *gradients(1)[0]], [pair.updates.numbers()[0]])
    keep_unless(graph, 0)
    bad = [torch.full_like(g, math.nan) for g in gradients(1)[0]]
    for grads in (bad, gradients(1)[0]):
        run(graph, [torch.tensor(False), *grads, pair.updates.numbers()[0]])
        assert all(torch.equal(p, q) for p, q in zip(params, pair.other, strict=True))
        for name, value in pair.state(pair.ours, pair.other).items():
            assert value is None or torch.equal(value, state[name])
    for grads in gradients(3, seed=3):
        stock_step(pair.stock, pair.params, grads)
        run(graph, [torch.tensor(True), *grads, pair.updates.numbers()[0]])
        pair.updates.count()
        pair.assert_equal()


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from([torch.optim.Adam, torch.optim.AdamW, ClippedAdam, torch.optim.SGD]),
    lr=st.floats(1e-6, 1.0),
    betas=st.tuples(unit, unit),
    eps=st.floats(1e-10, 1.0),
    decay=st.sampled_from([0.0, 1e-3, 0.5]),
    maximize=st.booleans(),
    momentum=st.sampled_from([0.0, 0.3, 0.99]),
    nesterov=st.booleans(),
    clip=st.floats(1e-3, 10.0),
    lrd=st.floats(0.5, 1.0),
    centered=st.booleans(),
    size=st.floats(1e-6, 1e6),
)
def test_any_options(kind, lr, betas, eps, decay, maximize, momentum, nesterov, clip, lrd, centered, size):
    options = {"lr": lr, "weight_decay": decay}
    if kind is torch.optim.SGD:
        options |= {"momentum": momentum, "nesterov": nesterov and momentum > 0, "maximize": maximize}
    else:
        options |= {"betas": betas, "eps": eps}
    if kind is ClippedAdam:
        options |= {"clip_norm": clip, "lrd": lrd, "centered_variance": centered}
    elif kind is not torch.optim.SGD:
        options |= {"maximize": maximize}
    pair = Pair(kind, options, size=size)
    for grads in gradients(6):
        pair.step([size * g for g in grads])
    for p, q in zip(pair.params, pair.other, strict=True):
        # Relative to the largest number, since a sum may cancel.
        torch.testing.assert_close(q, p, rtol=1e-10, atol=1e-11 * max(1.0, p.abs().max().item()))
