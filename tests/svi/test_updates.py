"""The updates that stand in a graph, against the optimisers themselves; in float64."""

from __future__ import annotations

import copy
import math

import pyro
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro.optim.clipped_adam import ClippedAdam

from pyro_vae.svi.execution import run
from pyro_vae.svi.graph import keep_unless
from pyro_vae.svi.optimizer import SharedOptim
from pyro_vae.svi.tracing import capture
from pyro_vae.svi.updates import updates_of

SHAPES = ((3, 2), (4,), ())
RULES = {
    "adam": (torch.optim.Adam, {"lr": 0.03}),
    "adam-options": (
        torch.optim.Adam,
        {"lr": 0.03, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.2, "maximize": True},
    ),
    "adam-decoupled": (torch.optim.Adam, {"lr": 0.03, "weight_decay": 0.2, "decoupled_weight_decay": True}),
    "adam-foreach": (torch.optim.Adam, {"lr": 0.03, "foreach": True}),
    "adamw": (torch.optim.AdamW, {"lr": 0.03}),
    "adamw-options": (torch.optim.AdamW, {"lr": 0.03, "betas": (0.5, 0.99), "weight_decay": 0.3, "maximize": True}),
    "adamw-fused": (torch.optim.AdamW, {"lr": 0.03, "fused": True}),
    "adamw-no-decay": (torch.optim.AdamW, {"lr": 0.03, "weight_decay": 0.0}),
    "clipped": (ClippedAdam, {"lr": 0.03}),
    "clipped-lrd": (ClippedAdam, {"lr": 0.03, "lrd": 0.9, "clip_norm": 0.7}),
    "clipped-centered": (ClippedAdam, {"lr": 0.03, "centered_variance": True, "betas": (0.7, 0.8), "eps": 1e-2}),
    "clipped-decay": (ClippedAdam, {"lr": 0.03, "weight_decay": 0.2, "clip_norm": 0.5, "lrd": 0.99}),
    "sgd": (torch.optim.SGD, {"lr": 0.03}),
    "sgd-momentum": (torch.optim.SGD, {"lr": 0.03, "momentum": 0.9}),
    "sgd-nesterov": (torch.optim.SGD, {"lr": 0.03, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
    "sgd-options": (torch.optim.SGD, {"lr": 0.03, "momentum": 0.5, "weight_decay": 0.2, "maximize": True}),
    "sgd-decay": (torch.optim.SGD, {"lr": 0.03, "weight_decay": 0.2}),
}
every = pytest.mark.parametrize("rule", RULES)


def parameters(seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(s, dtype=dtype, generator=generator).requires_grad_() for s in SHAPES]


def gradients(steps, seed=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(s, dtype=dtype, generator=generator) for s in SHAPES] for _ in range(steps)]


def stock_step(optimizer, params, grads):
    for p, g in zip(params, grads, strict=True):
        p.grad = g.clone()
    optimizer.step()
    for p in params:
        p.grad = None


class Pair:
    """The same parameters under an optimiser, and under the updates that stand for it, after one step of its own."""

    def __init__(self, make, options, started=True, size=1.0, **kwargs):
        self.params, self.other = parameters(**kwargs), parameters(**kwargs)
        self.stock, self.ours = make(self.params, **options), make(self.other, **options)
        if started:
            for params, optimizer in ((self.params, self.stock), (self.other, self.ours)):
                stock_step(optimizer, params, [size * g for g in gradients(1, seed=5, **kwargs)[0]])
        self.renew()

    def renew(self):
        """As for a new graph."""
        self.updates = updates_of(SharedOptim(self.ours), self.other, {})

    def step(self, grads):
        stock_step(self.stock, self.params, grads)
        self.our_step(grads)

    def our_step(self, grads):
        if not self.updates.fit([]):
            self.renew()
        if self.updates is None:  # it steps by itself
            return stock_step(self.ours, self.other, grads)
        numbers = self.updates.numbers()[0]
        assert numbers.dtype == torch.float64
        with torch.no_grad():
            self.updates.apply([g.clone() for g in grads], numbers)
        return self.updates.count()

    def state(self, optimizer, params):
        found = {}
        for i, p in enumerate(params):
            for name, value in optimizer.state[p].items():
                found[f"{name} of {i}"] = torch.as_tensor(value) if value is not None else None
        return found

    def assert_equal(self, rtol=1e-12):
        for p, q in zip(self.params, self.other, strict=True):
            torch.testing.assert_close(q, p, rtol=rtol, atol=rtol)
        expected, found = self.state(self.stock, self.params), self.state(self.ours, self.other)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            if value is None:
                assert found[name] is None
            else:
                torch.testing.assert_close(found[name], value, rtol=rtol, atol=rtol, msg=name)
        for a, b in zip(self.stock.param_groups, self.ours.param_groups, strict=True):
            assert b["lr"] == pytest.approx(a["lr"], rel=1e-14)


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


def test_parameters_in_groups_with_options_of_their_own():
    def make(params, **_):
        groups = [{"params": params[:1], "lr": 0.5, "betas": (0.5, 0.6)}, {"params": params[1:], "weight_decay": 0.4}]
        return torch.optim.AdamW(groups, lr=0.01)

    pair = Pair(make, {})
    for grads in gradients(20):
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


class Steps:
    """The same programs under ``pyro.optim``, which has an optimiser a parameter."""

    def __init__(self, make):
        pyro.clear_param_store()
        self.params = []
        for i, value in enumerate(parameters()):
            pyro.param(f"p{i}", value.detach().clone())
            self.params.append(pyro.get_param_store()._params[f"p{i}"])
        self.optim = make()

    def stock(self, grads):
        for p, g in zip(self.params, grads, strict=True):
            p.grad = g.clone()
        self.optim(self.params)
        for p in self.params:
            p.grad = None


@pytest.mark.parametrize(
    "make",
    [
        lambda: pyro.optim.Adam({"lr": 0.03, "weight_decay": 0.1}),
        lambda: pyro.optim.AdamW({"lr": 0.03}),
        lambda: pyro.optim.ClippedAdam({"lr": 0.03, "lrd": 0.8, "clip_norm": 0.5}),
        lambda: pyro.optim.SGD({"lr": 0.03, "momentum": 0.9, "nesterov": True}),
        lambda: pyro.optim.Adam(lambda name: {"lr": 0.5} if name == "p1" else {"lr": 0.01, "betas": (0.5, 0.6)}),
        lambda: pyro.optim.PyroOptim(
            lambda params, **options: (
                ClippedAdam(params, **options) if options["lr"] > 0.1 else torch.optim.SGD(params, **options)
            ),
            lambda name: {"lr": 0.2 if name == "p0" else 0.05},
        ),
        lambda: pyro.optim.ExponentialLR({"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": 0.5}),
    ],
    ids=["adam", "adamw", "clipped", "sgd", "by-name", "two-classes", "schedule"],
)
def test_optimisers_of_pyro(make):
    try:
        theirs = Steps(make)
        for grads in gradients(9):
            theirs.stock(grads)
            if hasattr(theirs.optim, "step"):
                theirs.optim.step()
        ours = Steps(make)
        for i, grads in enumerate(gradients(9)):
            if i in (0, 5):
                ours.stock(grads)
                steps = {}
                updates = updates_of(ours.optim, ours.params, steps)
            else:
                with torch.no_grad():
                    updates.apply([g.clone() for g in grads], updates.numbers()[0])
                updates.count()
            if hasattr(ours.optim, "step"):
                ours.optim.step()
        for p, q in zip(theirs.params, ours.params, strict=True):
            torch.testing.assert_close(q, p, rtol=1e-12, atol=1e-12)
    finally:
        pyro.clear_param_store()


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (torch.optim.Adam, {"amsgrad": True}),
        (torch.optim.AdamW, {"amsgrad": True}),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
        (torch.optim.Adam, {"lr": torch.tensor(0.1)}),
        (torch.optim.Adagrad, {}),
        (torch.optim.RMSprop, {}),
        (type("MyAdam", (torch.optim.Adam,), {}), {}),
    ],
    ids=["amsgrad", "adamw-amsgrad", "dampening", "lr-in-a-tensor", "adagrad", "rmsprop", "subclass"],
)
def test_what_has_a_rule_of_its_own_is_left_to_itself(make, options):
    assert Pair(make, options).updates is None


def test_what_else_is_left_to_itself():
    assert Pair(torch.optim.Adam, {}, started=False).updates is None, "no state to go on from"
    assert Pair(torch.optim.Adam, {}).updates is not None

    def hooked(params, **options):
        optimizer = torch.optim.Adam(params, **options)
        optimizer.register_step_post_hook(lambda *_: None)
        return optimizer

    assert Pair(hooked, {}).updates is None
    p = torch.zeros(2, dtype=torch.complex64, requires_grad=True)
    assert updates_of(SharedOptim(torch.optim.SGD([p], lr=0.1)), [p], {}) is None
    stranger = torch.zeros(2, requires_grad=True)
    assert updates_of(SharedOptim(torch.optim.SGD([stranger], lr=0.1)), parameters(), {}) is None


def test_momentum_that_has_not_begun_is_left_to_the_optimiser_or_done_right():
    """SGD with momentum whose state was cleared before the graph was made."""
    pair = Pair(torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, started=False)
    if pair.updates is None:
        return
    for grads in gradients(4):
        pair.step(grads)
    for p, q in zip(pair.params, pair.other, strict=True):
        torch.testing.assert_close(q, p, rtol=1e-12, atol=1e-12)


def test_gradient_clipping_of_pyro_is_left_to_itself():
    try:
        steps = Steps(lambda: pyro.optim.Adam({"lr": 0.1}, {"clip_norm": 1.0}))
        steps.stock(gradients(1)[0])
        assert updates_of(steps.optim, steps.params, {}) is None
    finally:
        pyro.clear_param_store()


unit = st.floats(0.0, 0.999)


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
        # Relative to the largest, since a sum may cancel.
        torch.testing.assert_close(q, p, rtol=1e-10, atol=1e-11 * max(1.0, p.abs().max().item()))
