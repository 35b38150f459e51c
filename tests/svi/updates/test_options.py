"""Options of an optimiser may change between steps; some need another graph."""

from __future__ import annotations

import pytest
import torch

from tests.svi.updates.pairs import RULES, Pair, every, gradients


@every
def test_the_learning_rate_may_change_between_steps(rule):
    pair = Pair(*RULES[rule])
    schedules = [torch.optim.lr_scheduler.ExponentialLR(o, 0.7) for o in (pair.stock, pair.ours)]
    for i, grads in enumerate(gradients(8)):
        pair.step(grads)
        pair.assert_equal()
        for schedule in schedules:
            if i < 5 and "lrd" not in rule:
                schedule.step()
        for group in (*pair.stock.param_groups, *pair.ours.param_groups):
            if i == 6:
                group["lr"] = 0.5


@pytest.mark.parametrize(
    ("rule", "option", "values"),
    [
        ("adam-options", "betas", [(0.5, 0.9), (0.9, 0.999), (0.0, 0.5)]),
        ("adam-options", "eps", [1e-1, 1e-8]),
        ("adam-options", "weight_decay", [0.5, 0.1]),
        ("adamw", "weight_decay", [0.5, 0.1]),
        ("clipped-lrd", "clip_norm", [0.1, 5.0]),
        ("clipped-lrd", "lrd", [0.5, 1.0]),
        ("sgd-momentum", "momentum", [0.5, 0.1, 0.9]),
        ("sgd-momentum", "momentum", [0.0, 0.5]),
    ],
)
def test_other_options_may_change_between_steps(rule, option, values):
    pair = Pair(*RULES[rule])
    for value in values:
        for group in (*pair.stock.param_groups, *pair.ours.param_groups):
            group[option] = value
        for grads in gradients(3):
            pair.step(grads)
            pair.assert_equal()


@pytest.mark.parametrize(
    ("rule", "option", "value"),
    [
        ("adam", "weight_decay", 0.1),
        ("adam", "maximize", True),
        ("adam", "amsgrad", True),
        ("clipped", "centered_variance", True),
        ("sgd-momentum", "nesterov", True),
        ("sgd-momentum", "dampening", 0.5),
        ("sgd", "momentum", 0.9),
        ("sgd-decay", "weight_decay", 0.0),
        ("sgd", "lr", torch.tensor(0.1)),
    ],
)
def test_an_option_that_needs_another_graph_says_so(rule, option, value):
    updates = (pair := Pair(*RULES[rule])).updates
    assert updates.fit([])
    before = [group[option] for group in pair.ours.param_groups]
    for group in pair.ours.param_groups:
        group[option] = value
    assert not updates.fit([])
    assert not updates.fit([])
    for group, had in zip(pair.ours.param_groups, before, strict=True):
        group[option] = had
    assert updates.fit([])


def test_parameters_in_groups_with_options_of_their_own():
    def make(params, **_):
        groups = [{"params": params[:1], "lr": 0.5, "betas": (0.5, 0.6)}, {"params": params[1:], "weight_decay": 0.4}]
        return torch.optim.AdamW(groups, lr=0.01)

    pair = Pair(make, {})
    for grads in gradients(20):
        pair.step(grads)
        pair.assert_equal()
