"""Batches: their sizes, their layout in memory, and data that the likelihood refuses."""

from __future__ import annotations

import copy

import pytest
import torch
from pyro.infer import Trace_ELBO

from pyro_vae import build
from pyro_vae.svi import CompiledSVI
from tests.svi.compiled_svi.small import (
    MODES,
    TEN,
    D,
    against_stock,
    batches,
    grey,
    line,
    losses_of,
    make_vae,
    make_x,
    no_latents,
    normalised,
    same,
    slow,
    stock_of,
    svi_of,
    weights,
    with_nan,
)


@MODES
@pytest.mark.usefixtures("uncompiled")
def test_batches_of_any_size(mode):
    """A batch of one row needs its own graph, and Pyro takes the first step of each kind."""
    sizes = (8, 8, 3, 8, 1, 5, 1, 1, 8, 2, 100, 1)
    expected = losses_of(stock_of(make_vae()), batches(sizes))
    svi = svi_of(make_vae(), mode=mode)
    assert losses_of(svi, batches(sizes)) == pytest.approx(expected, rel=1e-12)
    assert svi.captures == 2


@MODES
@pytest.mark.usefixtures("uncompiled")
def test_batches_laid_out_otherwise_in_memory(mode):
    """A slice, a transposed matrix, an expanded row."""

    def calls():
        x = make_x(8)
        return [x, x, make_x(16)[::2], x.T.contiguous().T, x[:1].expand(8, D), torch.cat([x, x], 1)[:, :D], x]

    expected = losses_of(stock_of(make_vae()), calls())
    assert losses_of(svi_of(make_vae(), mode=mode), calls()) == pytest.approx(expected, rel=1e-12)


@slow
def test_images_laid_out_otherwise_in_memory():
    def make():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return build((2, 3, 4), 2, hidden=(6,)).double()

    x = (torch.rand(8, 2, 3, 4, generator=torch.Generator().manual_seed(1)) > 0.5).double()
    calls = [x, x, x.to(memory_format=torch.channels_last), x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)]
    expected = losses_of(stock_of(make()), calls)
    assert losses_of(svi_of(make()), calls) == expected


@slow
def test_the_data_are_not_changed():
    x = make_x()
    before = x.clone()
    svi = svi_of(make_vae())
    for _ in range(4):
        svi.step(x)
    assert torch.equal(x, before)


@slow
def test_too_many_kinds_of_arguments_are_refused_with_a_hint():
    vae = make_vae()
    svi = CompiledSVI(
        lambda x, n: vae.model(x),
        lambda x, n: vae.guide(x),
        torch.optim.Adam(vae.parameters()),
        Trace_ELBO(),
        mode="exact",
    )
    for n in range(8):
        svi.step(make_x(), n)
        svi.step(make_x(), n)
    svi.step(make_x(), 8)
    with pytest.warns(UserWarning, match="structure of its arguments.*pass it as a float or a tensor"):
        svi.step(make_x(), 8)
    assert svi.captures == 8
    assert "structure" in svi.refused


@MODES
@pytest.mark.usefixtures("uncompiled")
def test_one_tensor_in_two_places(mode):
    """Later, two different tensors."""

    def steps(svi):
        return [svi.step(TEN, y) for y in (TEN, TEN, TEN, 3 * TEN + 1, TEN, 3 * TEN + 1, 3 * TEN)]

    against_stock(lambda: (line, no_latents), steps, mode)


def test_an_array_is_refused():
    vae = make_vae()
    svi = CompiledSVI(
        lambda x: vae.model(torch.as_tensor(x)),
        lambda x: vae.guide(torch.as_tensor(x)),
        torch.optim.Adam(vae.parameters(), lr=1e-2),
        Trace_ELBO(),
        mode="exact",
    )
    with pytest.warns(UserWarning, match="an argument is a NumPy array"):
        losses = losses_of(svi, [x.numpy() for x in batches()])
    assert losses == losses_of(stock_of(make_vae()), batches())
    assert svi.captures == 0


@MODES
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize(
    ("bad", "at"),
    [
        (grey, 0),
        (with_nan, 0),
        (grey, 3),
        *(pytest.param(b, n, marks=slow) for b in (grey, with_nan) for n in (1, 2, 4)),
    ],
)
def test_bad_data_are_refused_in_stocks_words_and_change_nothing(mode, bad, at):
    vae, other = make_vae(), make_vae()
    optim = torch.optim.Adam(vae.parameters(), lr=1e-2)
    svi = svi_of(vae, optim, mode)
    losses_of(svi, batches()[:at])
    before, state = weights(vae), copy.deepcopy(optim.state_dict())
    with pytest.raises(ValueError) as expected:  # noqa: PT011  the words are compared below
        stock_of(other).step(bad())
    with pytest.raises(ValueError) as error:  # noqa: PT011
        svi.step(bad())
    assert str(error.value) == str(expected.value)
    with pytest.raises(ValueError, match="x "):
        svi.evaluate_loss(bad())
    same(before, weights(vae))
    for index, of in optim.state_dict()["state"].items():
        same(
            {k: torch.as_tensor(v) for k, v in state["state"][index].items()},
            {k: torch.as_tensor(v) for k, v in of.items()},
        )
    # The training continues as if they had not been there.
    if at:
        losses_of(stock := stock_of(other), batches()[:at])
        expected = losses_of(stock, batches())
        assert losses_of(svi, batches()) == pytest.approx(expected, rel=1e-12)


@MODES
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("bad", [with_nan, pytest.param(grey, marks=slow)])
def test_bad_data_leave_the_running_means_of_batch_normalisation(mode, bad):
    """Pyro refuses NaN before any net sees it, and a graph must not write its results to a buffer."""
    vae = normalised()
    svi = svi_of(vae, mode=mode)
    losses_of(svi, batches()[:3])
    before = weights(vae)
    with pytest.raises(ValueError, match="x "):
        svi.step(bad())
    assert all(torch.isfinite(value).all() for value in vae.state_dict().values())
    if bad is with_nan:  # stock has seen none of it; its encoder has seen grey values
        same(before, weights(vae))
