"""The modules around a program: wherever Python lets it find them."""

from __future__ import annotations

import functools

import pytest
from pyro import poutine
from pyro.infer import config_enumerate
from torch import nn

from pyro_vae.model_guide import modules_around
from tests.conftest import make_vae

GLOBAL = nn.Linear(1, 1)
UNUSED = nn.Linear(1, 1)


class Methods:
    """No module, but it holds some."""

    def __init__(self):
        self.net = nn.Linear(1, 1)
        self.others = {"more": [nn.Linear(1, 1)]}

    def model(self, x):
        return self.net(x)

    def __call__(self, x):
        return self.net(x)


def in_closure():
    decoder = nn.Linear(1, 1)
    return (lambda x: decoder(x)), {"decoder": decoder}


def in_a_function_of_a_function():
    decoder = nn.Linear(1, 1)

    def helper(x):
        return decoder(x)

    return (lambda x: [helper(row) for row in x]), {"decoder": decoder}


def in_globals():
    return (lambda x: GLOBAL(x)), {"GLOBAL": GLOBAL}


def in_an_inner_function():
    return (lambda x: (lambda y: GLOBAL(y))(x)), {"GLOBAL": GLOBAL}


def in_a_default():
    decoder = nn.Linear(1, 1)
    return (lambda x, net=decoder: net(x)), {"net": decoder}


def in_a_partial():
    decoder = nn.Linear(1, 1)
    return functools.partial(lambda net, x: net(x), decoder), {"": decoder}


def in_an_object():
    methods = Methods()
    return methods.model, {"net": methods.net, "more": methods.others["more"][0]}


def in_an_object_that_is_called():
    methods = Methods()
    return methods, {"net": methods.net, "more": methods.others["more"][0]}


def within_handlers():
    decoder = nn.Linear(1, 1)
    return config_enumerate(poutine.scale(lambda x: decoder(x), 2.0)), {"decoder": decoder}


def in_a_list():
    nets = [nn.Linear(1, 1), nn.Linear(1, 1)]
    return (lambda x: nets[1](nets[0](x))), {"nets": nets[0], "nets_1": nets[1]}


def within_another():
    net = nn.Sequential(nn.Linear(1, 1))
    first = net[0]
    return (lambda x: net(x) + first(x)), {"net": net}


def of_a_method():
    vae = make_vae()
    return vae.model, {"": vae}


def nowhere():
    return (lambda x: x), {}


@pytest.mark.parametrize(
    "make",
    [
        *(in_closure, in_a_function_of_a_function, in_globals, in_an_inner_function, in_a_default, in_a_partial),
        *(in_an_object, in_an_object_that_is_called, within_handlers, in_a_list, within_another, of_a_method, nowhere),
    ],
)
def test_modules_are_found_by_name(make):
    program, expected = make()
    found = modules_around(model=program)
    assert found.keys() == expected.keys()
    assert all(found[name] is module for name, module in expected.items())


def test_those_of_two_programs_have_names_of_their_own():
    a, b = nn.Linear(1, 1), nn.Linear(1, 1)

    def program(net):
        return lambda x: net(x)

    assert modules_around(model=program(a), guide=program(b)) == {"net": a, "net_1": b}
    assert modules_around(model=program(a), guide=program(a)) == {"net": a}
    assert modules_around(model=a, guide=b) == {"model": a, "guide": b}


def test_a_variable_without_a_value_is_passed_over():
    def program(x):
        return later(x)

    assert modules_around(model=program) == {}
    later = GLOBAL
    assert modules_around(model=program) == {"later": later}
