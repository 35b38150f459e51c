"""What containers, arrays, generators and modules hold."""

from __future__ import annotations

import array
import collections
import functools
import operator
import random
import types

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.nn import PyroSample
from torch import nn

from pyro_vae.svi.reachable import reach
from tests.svi.reachable.things import Net, Plain

MUTABLE = {
    "list": (lambda: [0.0], lambda x: x.append(1.0)),
    "dictionary": (lambda: {"a": 0.0}, lambda x: x.update(a=1.0)),
    "set": (lambda: {1}, lambda x: x.add(2)),
    "deque": (lambda: collections.deque([0.0]), lambda x: x.append(1.0)),
    "default dictionary": (lambda: collections.defaultdict(float), lambda x: x["a"]),
    "nested": (lambda: {"a": [({"b": [0.0]},)]}, lambda x: x["a"][0][0]["b"].append(1.0)),
    "in a tuple": (lambda: ([0.0],), lambda x: x[0].append(1.0)),
    "array": (lambda: np.zeros(3), lambda x: x.fill(1.0)),
    "0-d array": (lambda: np.array(0.0), lambda x: x.fill(1.0)),
    "bytes": (lambda: bytearray(b"abc"), lambda x: operator.setitem(x, 0, 0)),
    "more bytes": (lambda: bytearray(b"abc"), lambda x: x.append(0)),
    "view of bytes": (lambda: memoryview(bytearray(b"abc")), lambda x: operator.setitem(x, 0, 0)),
    "array of Python's": (lambda: array.array("d", [0.0]), lambda x: operator.setitem(x, 0, 1.0)),
    "longer array of Python's": (lambda: array.array("d", [0.0]), lambda x: x.append(1.0)),
    "random.Random": (lambda: random.Random(0), lambda x: x.random()),
    "NumPy's generator": (lambda: np.random.default_rng(0), lambda x: x.normal()),
    "NumPy's old generator": (lambda: np.random.RandomState(0), lambda x: x.normal()),
    "a view of a dictionary": (lambda: types.MappingProxyType({"a": [0.0]}), lambda x: x["a"].append(1.0)),
    "a chain of dictionaries": (lambda: collections.ChainMap({}, {"a": 0.0}), lambda x: x.update(a=1.0)),
    "UserDict": (lambda: collections.UserDict(a=0.0), lambda x: x.update(a=1.0)),
}


@pytest.mark.parametrize(("make", "change"), MUTABLE.values(), ids=MUTABLE)
@pytest.mark.parametrize("held_by", ["a variable", "an attribute", "a dictionary"])
def test_what_changes_inside(make, change, held_by):
    thing = make()
    owner, table = Plain(thing), {"thing": [thing]}
    root = {"a variable": lambda: thing, "an attribute": owner.model, "a dictionary": lambda: table}[held_by]
    places = reach([root])
    assert places.same()
    change(thing)
    assert not places.same()


@pytest.mark.parametrize("name", [n for n in MUTABLE if "view" not in n and "chain" not in n and n != "UserDict"])
def test_what_changed_inside_is_put_back(name):
    make, change = MUTABLE[name]
    thing, other = make(), make()
    places = reach([lambda: thing])
    change(thing)
    places.restore()
    assert places.same()
    if isinstance(thing, np.ndarray):
        assert np.array_equal(thing, other)
    elif isinstance(thing, (random.Random, np.random.Generator, np.random.RandomState)):
        draw = "normal" if hasattr(thing, "normal") else "random"
        assert getattr(thing, draw)() == getattr(other, draw)()
    else:
        assert thing == other


NETS = {
    "a number": lambda net: setattr(net, "scale", 2.0),
    "another part": lambda net: operator.setitem(net.layers, 1, nn.Sigmoid()),
    "a part more": lambda net: net.layers.append(nn.Tanh()),
    "another parameter": lambda net: setattr(net.layers[0], "bias", nn.Parameter(torch.zeros(2))),
    "another buffer": lambda net: setattr(net, "level", torch.ones(())),
    "another prior": lambda net: setattr(net, "prior", PyroSample(dist.Normal(0.0, 2.0))),
    "a hook": lambda net: net.layers[0].register_forward_hook(lambda *args: None),
    "a hook before": lambda net: net.layers[0].register_forward_pre_hook(lambda *args: None),
    "a hook backwards": lambda net: net.layers[1].register_full_backward_hook(lambda *args: None),
    "another forward": lambda net: setattr(net.layers[1], "forward", torch.sin),
    "an option of a part of torch's": lambda net: setattr(net.layers[0], "in_features", 3),
}


@pytest.mark.parametrize("change", NETS.values(), ids=NETS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_a_module_holds(change, wrapped):
    net = Net()
    root = poutine.scale(functools.partial(lambda net, x: net(x), net), scale=1.0) if wrapped else net
    places = reach([root])
    assert places.same()
    change(net)
    assert not places.same()


def test_hooks_of_a_parameter():
    net = nn.Linear(2, 2)
    for register in ("register_hook", "register_post_accumulate_grad_hook"):
        places = reach([net], net.parameters())
        assert places.same()
        getattr(net.weight, register)(lambda *args: None)
        assert not places.same()


def test_a_second_hook_of_a_parameter():
    p = torch.zeros(2, requires_grad=True)
    p.register_hook(lambda g: g)
    places = reach([], [p])
    p.register_hook(lambda g: 2 * g)
    assert not places.same()


def test_hooks_of_all_modules():
    places = reach([lambda: None])
    hook = nn.modules.module.register_module_forward_hook(lambda *args: None)
    try:
        assert not places.same()
    finally:
        hook.remove()
    assert places.same()
