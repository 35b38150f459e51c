"""What objects of the user's reach: attributes that code names, of them and of their classes."""

from __future__ import annotations

import argparse
import functools
import operator
import types
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import pytest
import torch

from pyro_vae.svi.reachable import reach
from tests.svi.reachable import things
from tests.svi.reachable.things import Make, Plain, table

FOUND: dict[str, Make] = {}
found = table(FOUND)


@found
def an_attribute_by_a_method():
    plain = Plain()
    return plain.model, lambda: setattr(plain, "level", 2.0)


@found
def an_attribute_of_what_is_called():
    plain = Plain()
    return plain, lambda: setattr(plain, "level", 2.0)


@found
def an_attribute_of_an_attribute():
    plain = Plain(Plain())
    return lambda: plain.level.level, lambda: setattr(plain.level, "level", 2.0)


@found
def an_attribute_by_a_property():
    plain = Plain()
    return lambda: plain.doubled, lambda: setattr(plain, "level", 2.0)


@found
def an_attribute_by_its_name_as_a_string():
    plain = Plain()
    return lambda: getattr(plain, "unread_too"), lambda: setattr(plain, "unread_too", 2.0)  # noqa: B009


@found
def an_attribute_by_any_name():
    plain, name = Plain(), "".join(["un", "read_", "too"])
    return lambda: vars(plain)[name], lambda: setattr(plain, "unread_too", 2.0)


@found
def an_attribute_that_was_not_there():
    plain = Plain()
    return lambda: getattr(plain, "bias", 0.0), lambda: setattr(plain, "bias", 2.0)


@found
def an_attribute_of_a_class():
    return Plain().model, lambda: setattr(Plain, "shared", 2.0)


@found
def an_attribute_that_hides_that_of_its_class():
    plain = Plain()
    return plain.model, lambda: setattr(plain, "shared", 2.0)


@found
def an_attribute_of_a_base():
    class Child(Plain):
        pass

    return Child().model, lambda: setattr(Plain, "shared", 2.0)


@found
def a_class_method():
    return Plain.of_class, lambda: setattr(Plain, "shared", 2.0)


@found
def a_static_method():
    return Plain().of_nothing, lambda: setattr(things, "LEVEL", 2.0)


@found
def a_method_put_in_the_place_of_another():
    class Child(Plain):
        def helper(self):
            return 1.0

    child = Child()
    return lambda: child.helper(), lambda: setattr(Child, "helper", lambda self: 2.0)


@found
def a_method_of_one_object():
    plain = Plain()
    return lambda: plain.model(), lambda: setattr(plain, "model", lambda: 2.0)


@found
def an_attribute_that_hasattr_asks_for():
    plain = Plain()
    return lambda: hasattr(plain, "warm"), lambda: setattr(plain, "warm", True)


@found
def an_attribute_by_a_name_that_is_put_together():
    plain = Plain()
    return lambda: plain.__getattribute__(f"{'unread'}_too"), lambda: setattr(plain, "unread_too", 2.0)


@found
def an_attribute_by_a_function_of_operator():
    plain, get = Plain(), operator.attrgetter("unread_too")
    return lambda: get(plain), lambda: setattr(plain, "unread_too", 2.0)


@found
def a_method_by_a_function_of_operator():
    plain, call = Plain(), operator.methodcaller("model")
    return lambda: call(plain), lambda: setattr(plain, "level", 2.0)


@found
def an_attribute_of_a_metaclass():
    class Meta(type):
        level = 1.0

        def read(cls):
            return cls.level

    class Child(metaclass=Meta):
        pass

    return lambda: Child.read(), lambda: setattr(Meta, "level", 2.0)


@found
def a_partial_of_a_method():
    class Child(Plain):
        def scaled(self, factor):
            return factor * self.unread_too

        twice = functools.partialmethod(scaled, 2)

    child = Child()
    return lambda: child.twice(), lambda: setattr(child, "unread_too", 2.0)


@found
def what_a_descriptor_holds():
    class Always:
        def __init__(self):
            self.level = 1.0

        def __get__(self, owner, kind):
            return self.level

    class Child:
        rate = Always()

    child = Child()
    return lambda: child.rate, lambda: setattr(vars(Child)["rate"], "level", 2.0)


@found
def a_pattern_that_is_matched():
    class Point:
        __match_args__ = ("a",)

        def __init__(self):
            self.a = 1.0

    point = Point()

    def model():
        match point:
            case Point(a):
                return a

    return model, lambda: setattr(point, "a", 2.0)


@found
def a_method_of_a_base_by_super():
    class Child(Plain):
        def model(self):
            return super().model()

    return Child().model, lambda: setattr(Plain, "shared", 2.0)


@found
def a_class_that_a_program_makes_objects_of():
    class Made:
        def __init__(self):
            self.level = things.LEVEL

    return lambda: Made().level, lambda: setattr(things, "LEVEL", 2.0)


class Slotted:
    __slots__ = ("inner", "level")

    def __init__(self):
        self.level, self.inner = 1.0, [1.0]


@found
def a_slot():
    slotted = Slotted()
    return lambda: slotted.level, lambda: setattr(slotted, "level", 2.0)


@found
def a_list_in_a_slot():
    slotted = Slotted()
    return lambda: slotted.inner, lambda: slotted.inner.append(2.0)


@dataclass
class Settings:
    level: float = 1.0
    inner: dict[str, Any] = field(default_factory=lambda: {"now": [1.0]})


@found
def a_data_class():
    settings = Settings()
    return lambda: settings.level, lambda: setattr(settings, "level", 2.0)


@found
def what_a_data_class_holds():
    settings = Settings()
    return lambda: settings.inner, lambda: settings.inner["now"].append(2.0)


class Pair(NamedTuple):
    a: Any
    b: Any


@found
def what_a_named_tuple_holds():
    pair = Pair(1.0, [Settings()])
    return lambda: pair.b[0].level, lambda: setattr(pair.b[0], "level", 2.0)


class Mode(Enum):
    WARM = 1
    COLD = 2

    def __init__(self, number):
        self.level = 1.0


@found
def a_member_of_an_enumeration():
    member = Mode.WARM
    before = member.level

    def change():
        member.level = before + 1.0

    return lambda: member.level, change


@found
def a_namespace():
    space = types.SimpleNamespace(level=1.0)
    return lambda: space.level, lambda: setattr(space, "level", 2.0)


@found
def options_of_a_command_line():
    space = argparse.Namespace(level=[1.0])
    return lambda: space.level[0], lambda: space.level.append(2.0)


@found
def a_dictionary_with_attributes():
    class Config(dict):
        __getattr__ = dict.__getitem__

    config = Config(level=1.0)
    return lambda: config.level, lambda: config.update(level=2.0)


@found
def an_attribute_of_a_list():
    class Levels(list):
        pass

    levels = Levels([1.0])
    levels.level = 1.0
    return lambda: levels.level, lambda: setattr(levels, "level", 2.0)


@found
def an_attribute_of_a_tensor():
    tensor = torch.zeros(2)
    tensor.level = 1.0
    return lambda: tensor.level, lambda: setattr(tensor, "level", 2.0)


@pytest.mark.parametrize("make", FOUND.values(), ids=FOUND)
def test_what_a_program_reaches_is_seen(make):
    root, change = make()
    places = reach([root])
    assert places.same()
    change()
    assert not places.same()
    assert places.changes()
