"""What is ignored: what no code names, what is too far away, and objects that raise when inspected."""

from __future__ import annotations

import functools
import sys
import time

import numpy as np
import pyro.optim
import pytest
import torch

from pyro_vae.svi.reachable import reach
from tests.svi.reachable.things import Make, Net, Plain, table

NOT_FOUND: dict[str, Make] = {}
not_found = table(NOT_FOUND)


@not_found
def an_attribute_that_no_code_names():
    plain = Plain()
    return plain.model, lambda: setattr(plain, "unread_too", 2.0)


@not_found
def an_attribute_of_a_class_that_no_code_names():
    return Plain().model, lambda: setattr(Plain, "unread", 2.0)


@not_found
def what_a_trainer_notes():
    plain = Plain()
    return plain.model, plain.fit


@not_found
def what_a_module_notes():
    net = Net()
    return net, lambda: setattr(net, "epoch", 1)


@not_found
def a_new_attribute_that_no_code_names():
    plain = Plain()
    return plain.model, lambda: setattr(plain, "best_loss", 2.0)


@not_found
def an_optimiser():
    p = torch.zeros(2, requires_grad=True)
    optim = torch.optim.Adam([p])
    p.grad = torch.ones(2)

    def model():
        return optim

    return model, optim.step


@not_found
def an_optimiser_of_pyros():
    optim = pyro.optim.Adam({"lr": 0.1})
    return lambda: optim, lambda: optim.pt_optim_args.update(lr=0.2)


@not_found
def the_values_of_a_tensor():
    tensor = torch.zeros(3)
    return lambda: tensor, lambda: tensor.fill_(1.0)


@not_found
def the_values_of_a_parameter():
    net = Net()
    return net, lambda: net.layers[0].weight.data.fill_(1.0)


@not_found
def what_a_generator_of_torchs_draws():
    generator = torch.Generator()
    return lambda: generator, lambda: torch.rand(1, generator=generator)


def walked(root):
    start = time.process_time()
    places = reach([root])
    for _ in range(10):
        assert places.same()
    return time.process_time() - start


def a_chain(length):
    link = None
    for _ in range(length):
        link = [link]
    return link


LARGE = {
    "list": lambda: list(range(10**6)),
    "dictionary": lambda: dict.fromkeys(range(10**6)),
    "set": lambda: set(range(10**6)),
    "tuple": lambda: tuple(range(10**6)),
    "array": lambda: np.zeros(10**7),
    "lists in a list": lambda: [[i] for i in range(10**5)],
    "objects": lambda: [[Plain(j) for j in range(100)] for _ in range(900)],
    "chain": lambda: a_chain(10**5),
}


@pytest.mark.parametrize("make", LARGE.values(), ids=LARGE)
def test_the_walk_through_a_large_thing_ends_quickly(make):
    thing = make()
    assert walked(lambda: thing) < 5.0
    if isinstance(thing, list):
        places = reach([lambda: thing])
        thing.append(0)
        assert not places.same()
    while isinstance(thing, list) and len(thing) == 2 and thing[0] is not None:  # Python would free a chain recursively
        thing = thing[0]


def test_the_walk_through_a_cycle_ends():
    plain, inner, table = Plain(), [], {}
    inner.append(inner)
    table["self"], table["plain"], plain.level = table, plain, table
    places = reach([plain.model, lambda: (inner, table)])
    assert places.same()
    inner.append(0)
    assert [change.where for change in places.changes()] == [
        "the length of 'inner' of test_the_walk_through_a_cycle_ends.<locals>.<lambda>"
    ]


def test_what_lies_beyond_the_most_links_is_left_to_the_audit():
    link = bottom = [0]
    for _ in range(10):
        link = [link]
    places = reach([lambda: link])
    bottom.append(1)
    assert not places.same()
    link = bottom = [0]
    for _ in range(40):
        link = [link]
    places = reach([lambda: link])
    bottom.append(1)
    assert places.same()


class Touchy:
    """It counts the questions, and raises."""

    asked: list[str] = []  # noqa: RUF012  a list of all

    def __init__(self):
        self.level = 1.0

    def __getattr__(self, name):
        self.asked.append(name)
        raise KeyError(name)

    @property
    def lazy(self):
        self.asked.append("lazy")
        raise ValueError("too early")

    @functools.cached_property
    def kept(self):
        self.asked.append("kept")
        return 1.0

    def __eq__(self, other):
        self.asked.append("==")
        raise TypeError("not comparable")

    def __bool__(self):
        self.asked.append("bool")
        raise TypeError("neither true nor false")

    def __len__(self):
        self.asked.append("len")
        raise TypeError("no length")

    def __iter__(self):
        self.asked.append("iter")
        raise TypeError("not iterable")

    def __call__(self):
        return self.level, self.lazy, self.kept, self.missing

    __hash__ = None


@pytest.mark.parametrize("held_by", ["root", "variable", "attribute", "list", "dictionary", "method", "partial"])
def test_objects_are_not_asked(held_by):
    Touchy.asked.clear()
    touchy = Touchy()
    plain, held, table = Plain(touchy), [touchy], {"touchy": touchy}
    root = {
        "root": touchy,
        "variable": lambda: (touchy.level, touchy.lazy, touchy.missing, touchy.kept),
        "attribute": lambda: (plain.level.lazy, plain.level.level),
        "list": lambda: held[0].level,
        "dictionary": lambda: table["touchy"].level,
        "method": touchy.__call__,
        "partial": functools.partial(touchy),
    }[held_by]
    places = reach([root])
    assert places.same()
    touchy.level = 2.0
    assert not places.same()
    assert places.changes()
    places.restore()
    assert vars(touchy) == {"level": 1.0}
    assert Touchy.asked == []


def test_a_variable_without_a_value():
    def model():
        return later()

    places = reach([model])
    assert places.same()
    if not places:  # never: so that there is such a variable
        del later  # noqa: F821

    def later():
        return 1.0

    assert not places.same()
    places.restore()
    with pytest.raises(NameError):
        model()


def test_modules_of_libraries_are_not_entered():
    places = reach([lambda: (np.zeros(3), torch.zeros(3), sys.path)])
    sys.path.append("/nowhere")
    try:
        assert places.same()
    finally:
        sys.path.remove("/nowhere")


@pytest.mark.parametrize("make", NOT_FOUND.values(), ids=NOT_FOUND)
def test_what_no_program_reads_is_let_be(make):
    root, change = make()
    places = reach([root])
    change()
    assert places.same()
