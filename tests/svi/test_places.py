"""Places in Python: a change is seen at once, what is equal to any program is none, and all of it can be put back."""

from __future__ import annotations

import array
import collections
import copy
import functools
import random
from collections.abc import Callable
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from pyro_vae.svi.places import ABSENT, Change, Places


class Kind(NamedTuple):
    """A place that holds one thing: a way to look at it, to read it and to write it; and to empty it."""

    add: Callable[[Places], None]
    get: Callable[[], Any]
    put: Callable[[Any], None]
    empty: Callable[[], None] | None = None


class Slotted:
    __slots__ = ("x",)


def attribute(value):
    owner = SimpleNamespace(x=value)
    return Kind(
        lambda places: places.attribute(owner, "x", "'x' of owner", True),
        lambda: getattr(owner, "x", ABSENT),
        functools.partial(setattr, owner, "x"),
        lambda: delattr(owner, "x"),
    )


def class_attribute(value):
    owner = type("Owner", (), {"x": value})
    return Kind(
        lambda places: places.attribute(owner, "x", "'x' of class Owner", True),
        lambda: getattr(owner, "x", ABSENT),
        functools.partial(setattr, owner, "x"),
        lambda: delattr(owner, "x"),
    )


def a_global(value):
    variables = {"x": value}
    return Kind(
        lambda places: places.variable(variables, "x", "the global 'x'"),
        lambda: variables.get("x", ABSENT),
        functools.partial(variables.__setitem__, "x"),
        lambda: variables.pop("x"),
    )


def cell(value):
    x = value

    def read():
        try:
            return x
        except NameError:
            return ABSENT

    def put(new):
        nonlocal x
        x = new

    def empty():
        nonlocal x
        del x

    shared = read.__closure__[0]
    return Kind(lambda places: places.cell(shared, "'x' of read"), read, put, empty)


def slot(value):
    owner = Slotted()
    owner.x = value
    return Kind(
        lambda places: places.slot(owner, Slotted.x, "'x' of Slotted"),
        lambda: getattr(owner, "x", ABSENT),
        functools.partial(setattr, owner, "x"),
        lambda: delattr(owner, "x"),
    )


def element(thing, key, value):
    thing[key] = value
    return Kind(
        lambda places: places.container(thing, "thing", True),
        lambda: thing[key],
        functools.partial(thing.__setitem__, key),
    )


KINDS = {
    "attribute": attribute,
    "class attribute": class_attribute,
    "global": a_global,
    "cell": cell,
    "slot": slot,
    "dict": functools.partial(element, {"a": 0, "x": 0}, "x"),
    "list": functools.partial(element, [0, 0], 1),
    "deque": functools.partial(element, collections.deque([0, 0], maxlen=2), 1),
}
EACH_KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def noted(kind: Kind) -> Places:
    places = Places()
    kind.add(places)
    places.note()
    return places


TENSOR = torch.zeros(2)
OTHERS = [
    (0.0, -0.0),
    (True, 1),
    (1, 1.0),
    (True, 1.0),
    (False, 0.0),
    (1.0, np.float64(1.0)),
    (np.float32(1.0), np.float64(1.0)),
    (np.float64(0.0), np.float64(-0.0)),
    (0j, complex(0.0, -0.0)),
    (1 + 0j, complex(1.0, -0.0)),
    (0.3, 0.1 + 0.2),
    (1000, 1001),
    ("a", "b"),
    ("a", b"a"),
    (None, 0),
    (None, False),
    (torch.float32, torch.float64),
    (TENSOR, TENSOR.clone()),
    (TENSOR, TENSOR.view(2)),
    ([1], [1]),
    (Fraction(1, 2), Fraction(1, 2)),
]


@EACH_KIND
@pytest.mark.parametrize(("then", "now"), [*OTHERS, *(pair[::-1] for pair in OTHERS)])
def test_what_is_another_is_seen_at_once_and_put_back(kind, then, now):
    place = kind(then)
    places = noted(place)
    assert places.same()
    place.put(now)
    assert not places.same()
    (change,) = places.changes()
    assert change.by_user
    assert change.now is now
    places.restore()
    assert place.get() is then
    assert places.same()
    assert places.changes() == []


EQUAL = [
    (1000.5, "1000.5"),
    (10**20, "10 ** 20"),
    (-0.0, "-0.0"),
    ("weights", "''.join(['wei', 'ghts'])"),
    (b"weights", "b''.join([b'wei', b'ghts'])"),
    (1 + 2j, "complex(1, 2)"),
    (np.float32(1.5), "np.float32(1.5)"),
    (torch.Size([3, 4]), "torch.Size([3, 4])"),
]


@EACH_KIND
@pytest.mark.parametrize(("value", "code"), EQUAL)
def test_an_equal_number_or_string_that_is_another_object_is_no_change(kind, value, code):
    place, again = kind(value), eval(code, {"np": np, "torch": torch})
    places = noted(place)
    assert again is not value
    place.put(again)
    assert places.changes() == []
    assert places.same()
    place.put(ABSENT)
    assert not places.same()


@pytest.mark.parametrize("name", ["attribute", "class attribute", "global", "cell", "slot"])
def test_what_is_taken_away_is_seen_and_put_back(name):
    place = KINDS[name](1.5)
    places = noted(place)
    place.empty()
    assert not places.same()
    (change,) = places.changes()
    assert change.now is ABSENT
    assert str(change).endswith("from 1.5 to nothing")
    places.restore()
    assert place.get() == 1.5


@pytest.mark.parametrize("name", ["attribute", "class attribute", "global", "cell", "slot"])
def test_what_was_not_there_is_seen_and_taken_away(name):
    place = KINDS[name](1.5)
    place.empty()
    places = noted(place)
    assert places.same()
    place.put(2.5)
    assert not places.same()
    places.restore()
    assert place.get() is ABSENT
    assert places.same()


CONTAINERS = {
    "dict: one more": ({"a": 1}, lambda d: d.update(b=2)),
    "dict: one less": ({"a": 1, "b": 2}, lambda d: d.pop("a")),
    "dict: other keys": ({"a": 1}, lambda d: (d.clear(), d.update(b=1))),
    "dict: first": ({}, lambda d: d.update(a=1)),
    "dict: the order": ({"a": 1, "b": 2}, lambda d: d.update(a=d.pop("a"))),
    "dict: a key of another type": ({1: 2}, lambda d: (d.clear(), d.update({True: 2}))),
    "dict: all": ({"a": 1}, dict.clear),
    "OrderedDict": (collections.OrderedDict(a=1), lambda d: d.update(b=2)),
    "Counter": (collections.Counter("aab"), lambda d: d.update("b")),
    "list: one more": ([1], lambda x: x.append(2)),
    "list: one less": ([1, 2], list.pop),
    "list: turned": ([1, 2], list.reverse),
    "list: first": ([], lambda x: x.append(None)),
    "deque: one more": (collections.deque([1]), lambda x: x.appendleft(0)),
    "deque: turned": (collections.deque([1, 2]), lambda x: x.rotate()),
    "deque: full": (collections.deque([1, 2], maxlen=2), lambda x: x.append(3)),
    "set: one more": ({1}, lambda s: s.add(2)),
    "set: one less": ({1, 2}, lambda s: s.discard(1)),
    "set: another type": ({1}, lambda s: (s.clear(), s.add(True))),
    "set: another": ({"a"}, lambda s: (s.clear(), s.add("b"))),
}


@pytest.mark.parametrize(("thing", "change"), CONTAINERS.values(), ids=CONTAINERS)
def test_what_a_container_gets_and_loses(thing, change):
    thing = copy.copy(thing)
    before, places = copy.copy(thing), noted(Kind(lambda p: p.container(thing, "thing", True), None, None))
    assert places.same()
    change(thing)
    assert not places.same()
    assert places.changes()
    places.restore()
    assert places.same()
    assert thing == before
    assert list(map(repr, thing)) == list(map(repr, before))
    assert type(thing) is type(before)


def test_the_size_of_what_is_too_large_to_look_into():
    thing = list(range(2000))
    places = noted(Kind(lambda p: p.size(thing, "elements of thing", True), None, None))
    thing[0] = -1
    assert places.same()
    thing.append(0)
    assert not places.same()
    (change,) = places.changes()
    assert str(change) == "the number of elements of thing from 2000 to 2001"
    assert change.by_user


STATES = {
    "random.Random": (
        random.Random(0),
        lambda g: (g.getstate, g.setstate),
        lambda g: g.random(),
        lambda g: g.getstate(),
    ),
    "bytearray": (
        bytearray(b"abc"),
        lambda b: (lambda: bytes(b), lambda value: b.__setitem__(slice(None), value)),
        lambda b: b.__setitem__(0, 0),
        bytes,
    ),
    "array.array": (
        array.array("d", [1.0, 0.0]),
        lambda a: (a.tobytes, lambda value: memoryview(a).cast("B").__setitem__(slice(None), value)),
        lambda a: a.__setitem__(1, -0.0),
        lambda a: a.tobytes(),
    ),
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_that_is_kept_inside(name):
    thing, how, change, read = STATES[name]
    before = read(thing)
    places = noted(Kind(lambda p: p.state(id(thing), *how(thing), "a state"), None, None))
    assert places.same()
    change(thing)
    assert not places.same()
    assert [c.where for c in places.changes()] == ["a state"]
    places.restore()
    assert read(thing) == before
    assert places.same()


@pytest.mark.parametrize(
    ("values", "change"),
    [
        (np.zeros((2, 3)), lambda a: a.__setitem__((1, 2), 1e-300)),
        (np.zeros(3), lambda a: a.__setitem__(0, -0.0)),
        (np.array(2.0, dtype=np.float32), lambda a: a.fill(3)),
        (np.arange(4), lambda a: a.__iadd__(1)),
        (np.array([True, False]), lambda a: a.__setitem__(0, False)),
        (np.arange(6.0).reshape(2, 3).T, lambda a: a.__setitem__((2, 1), 0.0)),
        (np.array(["a", "b"]), lambda a: a.__setitem__(0, "c")),
    ],
    ids=["matrix", "sign", "0-d", "integers", "flags", "transposed", "strings"],
)
def test_the_values_of_an_array(values, change):
    values = values.copy(order="K")
    before = values.tobytes()
    places = noted(Kind(lambda p: p.array(values, "values"), None, None))
    assert places.same()
    change(values)
    assert not places.same()
    places.restore()
    assert values.tobytes() == before
    assert places.same()


def test_the_shape_of_an_array():
    values = np.arange(4)
    places = noted(Kind(lambda p: p.array(values, "values"), None, None))
    values.shape = (2, 2)
    assert not places.same()
    places.restore()
    assert values.shape == (4,)
    assert places.same()


def test_nan_in_an_array_is_no_change():
    values = np.full(2, np.nan)
    places = noted(Kind(lambda p: p.array(values, "values"), None, None))
    values[:] = np.nan
    assert places.same()


class Before:
    pass


class After:
    pass


@pytest.mark.parametrize("late", [False, True])
def test_hooks_of_a_parameter(late):
    p = torch.zeros(2, requires_grad=True)
    places = noted(Kind(lambda places: places.hooks(p), None, None))
    assert places.same()
    (p.register_post_accumulate_grad_hook if late else p.register_hook)(lambda g: None)
    assert not places.same()
    (change,) = places.changes()
    assert change.where == "the hooks of a parameter"


def test_the_code_of_a_function_its_defaults_and_the_class_of_an_object():
    def function(x=1.0):
        return x

    thing = Before()
    places = Places()
    places.function(function)
    places.kind(thing)
    places.note()
    assert places.same()
    function.__code__ = (lambda x=1.0: 2 * x).__code__
    assert [c.where for c in places.changes()] == ["the code of a function"]
    places.note()
    function.__defaults__ = (2.0,)
    assert [c.where for c in places.changes()] == ["the defaults of a function"]
    places.note()
    thing.__class__ = After
    assert [c.where for c in places.changes()] == ["the class of an object"]
    assert not places.same()


def test_note_takes_what_is_there():
    place = attribute(1.0)
    places = noted(place)
    place.put(2.0)
    places.note()
    assert places.same()
    place.put(1.0)
    assert not places.same()
    places.restore()
    assert place.get() == 2.0


@EACH_KIND
def test_without_looks_no_more_at_a_place(kind):
    place, other = kind(1.0), attribute(1.0)
    places = Places()
    place.add(places)
    other.add(places)
    places.note()
    place.put(2.0)
    keys = [change.key for change in places.changes()]
    places.without(keys)
    places.note()
    place.put(3.0)
    assert places.same()
    other.put(2.0)
    assert not places.same()
    places.restore()
    assert place.get() == 3.0
    assert other.get() == 1.0


def test_without_one_entry_of_a_dictionary_looks_at_the_others():
    thing = {"a": 1.0, "b": 1.0}
    places = noted(Kind(lambda p: p.container(thing, "thing", True), None, None))
    places.without([(id(thing), "a")])
    places.note()
    thing["a"] = 2.0
    assert places.same()
    thing["b"] = 2.0
    assert [change.where for change in places.changes()] == ["'b' of thing"]


@pytest.mark.parametrize(
    ("then", "now", "of_tensors"),
    [
        (TENSOR, TENSOR + 1, True),
        (None, TENSOR, True),
        (ABSENT, TENSOR, True),
        (TENSOR, None, False),
        (1.0, TENSOR, False),
        ([TENSOR, 1], [TENSOR + 1, 1], True),
        ([TENSOR, 1], [TENSOR + 1, 2], False),
        ([TENSOR], [TENSOR, TENSOR], False),
        ({"a": TENSOR}, {"a": TENSOR + 1}, True),
        ({"a": TENSOR}, {"b": TENSOR + 1}, False),
        ((TENSOR,), [TENSOR], False),
        (1.0, 2.0, False),
    ],
)
def test_whether_only_tensors_are_others(then, now, of_tensors):
    assert Change((0, "x"), "x", True, then, now, lambda value: None).of_tensors is of_tensors
    assert not Change((0, "x"), "x", True, then, now).of_tensors
