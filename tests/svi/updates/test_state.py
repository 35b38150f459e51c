"""The state of an optimiser may be loaded or cleared, and the optimiser may step by itself."""

from __future__ import annotations

import copy

import pytest
import torch
from pyro.optim.clipped_adam import ClippedAdam

from tests.svi.updates.pairs import RULES, Pair, every, gradients, parameters, stock_step


@pytest.mark.parametrize("rule", ["adam", "adamw", "clipped"])
def test_parameters_that_have_parted_ways_need_another_graph(rule):
    """One has taken a step more than those it shared its numbers with."""
    pair = Pair(*RULES[rule])
    assert pair.updates.fit([])
    for params, optimizer in ((pair.params, pair.stock), (pair.other, pair.ours)):
        for p in params:
            p.grad = None
        params[0].grad = torch.ones_like(params[0])
        optimizer.step()
        params[0].grad = None
    assert not pair.updates.fit([])
    for grads in gradients(4):
        pair.step(grads)
        pair.assert_equal()


@every
def test_a_loaded_state_is_taken_up(rule):
    pair = Pair(*RULES[rule])
    first, second = gradients(4), gradients(5, seed=2)
    for grads in first:
        pair.step(grads)
    saved = [copy.deepcopy(o.state_dict()) for o in (pair.stock, pair.ours)]
    for grads in second:
        pair.step(grads)
    for optimizer, state in zip((pair.stock, pair.ours), saved, strict=True):
        optimizer.load_state_dict(state)
    for grads in second:
        pair.step(grads)
        pair.assert_equal()


@every
def test_a_state_of_stock_is_taken_up_and_ours_by_stock(rule):
    pair = Pair(*RULES[rule])
    for grads in gradients(3):
        pair.step(grads)
    theirs, ours = pair.stock.state_dict(), copy.deepcopy(pair.ours.state_dict())
    pair.ours.load_state_dict(copy.deepcopy(theirs))
    pair.stock.load_state_dict(ours)
    for grads in gradients(5, seed=2):
        pair.step(grads)
        pair.assert_equal()


@every
def test_a_graph_holds_the_loaded_tensors(rule):
    """``fit`` puts the tensors that were loaded in the place of the old, in the list that a graph reads."""
    pair = Pair(*RULES[rule])
    names = [n for n, t in pair.ours.state[pair.other[0]].items() if isinstance(t, torch.Tensor)]
    held = [*pair.other, *(pair.ours.state[p][n] for p in pair.other for n in names)]
    pair.ours.load_state_dict(copy.deepcopy(pair.ours.state_dict()))
    assert pair.updates.fit(held)
    wanted = [*pair.other, *(pair.ours.state[p][n] for p in pair.other for n in names)]
    assert len(held) == len(wanted)
    assert all(a is b for a, b in zip(held, wanted, strict=True))


@every
def test_a_cleared_state_starts_anew(rule):
    pair = Pair(*RULES[rule])
    for grads in gradients(3):
        pair.step(grads)
    for optimizer in (pair.stock, pair.ours):
        optimizer.state.clear()
    for grads in gradients(4, seed=2):
        pair.step(grads)
    for p, q in zip(pair.params, pair.other, strict=True):
        torch.testing.assert_close(q, p, rtol=1e-12, atol=1e-12)


@every
def test_the_state_from_before_the_first_step_starts_anew(rule):
    """As ``fit`` does: the state dictionary of an optimiser that has not stepped is loaded after two steps."""
    pair = Pair(*RULES[rule])
    empty = [RULES[rule][0](parameters(), **RULES[rule][1]).state_dict() for _ in range(2)]
    for optimizer, state in zip((pair.stock, pair.ours), empty, strict=True):
        optimizer.load_state_dict(state)
    for grads in gradients(4, seed=2):
        pair.step(grads)
    for p, q in zip(pair.params, pair.other, strict=True):
        torch.testing.assert_close(q, p, rtol=1e-12, atol=1e-12)


@every
def test_the_optimiser_itself_may_take_over(rule):
    """After steps of the graph, the optimiser goes on from its own state."""
    pair = Pair(*RULES[rule])
    for grads in gradients(3):
        pair.step(grads)
    for grads in gradients(3, seed=2):
        stock_step(pair.stock, pair.params, grads)
        stock_step(pair.ours, pair.other, grads)
    pair.assert_equal()


@every
def test_steps_of_the_optimiser_itself_in_between(rule):
    """The graph goes on from what the optimiser has done in the meantime."""
    pair = Pair(*RULES[rule])
    for i, grads in enumerate(gradients(9)):
        if i % 3 == 1:
            stock_step(pair.stock, pair.params, grads)
            stock_step(pair.ours, pair.other, grads)
            pair.updates.steps.clear()  # as CompiledSVI does after a step by Pyro
        else:
            pair.step(grads)
        pair.assert_equal()


def test_parameters_of_one_group_that_have_taken_different_numbers_of_steps():
    """One that joins later has corrections of its own."""
    for make, options in (
        (torch.optim.Adam, {"lr": 0.1}),
        (ClippedAdam, {"lr": 0.1, "lrd": 0.8}),
    ):
        pair = Pair(make, options)
        for params, optimizer in ((pair.params, pair.stock), (pair.other, pair.ours)):
            for g in gradients(5):
                params[0].grad = g[0].clone()
                optimizer.step()
                params[0].grad = None
        pair.renew()
        for grads in gradients(10, seed=2):
            pair.step(grads)
            pair.assert_equal()


def test_steps_that_part_ways_after_the_graph_is_made():
    """A state is loaded in which one parameter has taken more steps than the others of its group."""
    pair = Pair(torch.optim.Adam, {"lr": 0.1})
    pair.step(gradients(1)[0])
    for optimizer in (pair.stock, pair.ours):
        state = copy.deepcopy(optimizer.state_dict())
        state["state"][1]["step"] += 7
        optimizer.load_state_dict(state)
    for grads in gradients(5, seed=2):
        pair.step(grads)
        pair.assert_equal()


def test_momentum_that_has_not_begun_is_left_to_the_optimiser_or_done_right():
    """SGD with momentum whose state was cleared before the graph was made."""
    pair = Pair(torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, started=False)
    if pair.updates is None:
        return
    for grads in gradients(4):
        pair.step(grads)
    for p, q in zip(pair.params, pair.other, strict=True):
        torch.testing.assert_close(q, p, rtol=1e-12, atol=1e-12)
