"""What functions reach: what they share, name, wrap and have by default."""

from __future__ import annotations

import functools
import operator
import types

import pytest
from pyro import poutine
from pyro.infer import config_enumerate
from pyro.poutine.scale_messenger import ScaleMessenger

from pyro_vae.svi.reachable import reach
from tests.svi.reachable.things import Make, table

LEVEL = 1.0
OPTIONS = {"beta": {"now": 1.0}}


FOUND: dict[str, Make] = {}
found = table(FOUND)


def set_global(name, value):
    """Until the end of the test, by a fixture."""
    globals()[name] = value


@pytest.fixture(autouse=True)
def _globals():
    before = LEVEL
    yield
    set_global("LEVEL", before)
    OPTIONS["beta"]["now"] = 1.0


@found
def a_variable_that_functions_share():
    level = 1.0

    def model():
        return level

    def change():
        nonlocal level
        level = 2.0

    return model, change


@found
def a_function_in_a_function_in_a_function():
    level = [1.0]

    def inner():
        return level[0]

    def middle():
        return inner()

    return lambda: middle(), lambda: level.append(2.0)


@found
def a_function_made_in_a_program():
    def model():
        return [(lambda: LEVEL)() for _ in range(2)]

    return model, lambda: set_global("LEVEL", 2.0)


@found
def a_partial_of_a_partial():
    level = {"now": 1.0}
    partial = functools.partial(functools.partial(lambda x, y: x["now"] + y, level), y=1.0)
    return partial, lambda: level.update(now=2.0)


@found
def a_keyword_of_a_partial():
    partial = functools.partial(lambda x: x, x=1.0)
    return partial, lambda: partial.keywords.update(x=2.0)


@found
def behind_a_decorator():
    level = [1.0]

    def twice(function):
        @functools.wraps(function)
        def wrapper(*args):
            return 2 * function(*args)

        return wrapper

    @twice
    def model():
        return level[0]

    return model, lambda: operator.setitem(level, 0, 2.0)


@found
def behind_a_cache():
    level = [1.0]

    @functools.lru_cache
    def read():
        return level[0]

    return lambda: read(), lambda: operator.setitem(level, 0, 2.0)


@found
def a_function_for_another_type():
    @functools.singledispatch
    def read(thing):
        return 1.0

    return lambda: read(LEVEL), lambda: read.register(float, lambda thing: 2.0)


@found
def behind_handlers():
    level = [1.0]

    @poutine.scale(scale=2.0)
    @poutine.mask(mask=True)
    @config_enumerate
    def model():
        return level[0]

    return model, lambda: operator.setitem(level, 0, 2.0)


@found
def a_handler():
    handler = ScaleMessenger(2.0)
    return handler(lambda: 1.0), lambda: setattr(handler, "scale", 3.0)


@found
def a_default():
    def model(levels=[1.0]):  # noqa: B006  what is tested
        return levels[0]

    return model, lambda: model.__defaults__[0].append(2.0)


@found
def a_default_by_name():
    def model(*, levels=[1.0]):  # noqa: B006  what is tested
        return levels[0]

    return model, lambda: model.__kwdefaults__["levels"].append(2.0)


@found
def another_default():
    def model(level=1.0):
        return level

    return model, lambda: setattr(model, "__defaults__", (2.0,))


@found
def another_default_by_name():
    def model(*, level=1.0):
        return level

    return model, lambda: model.__kwdefaults__.update(level=2.0)


@found
def an_attribute_of_a_function():
    def model():
        return model.level

    model.level = 1.0
    return model, lambda: setattr(model, "level", 2.0)


@found
def other_code():
    def helper():
        return 1.0

    return lambda: helper(), lambda: setattr(helper, "__code__", (lambda: 2.0).__code__)


@found
def a_global():
    return lambda: LEVEL, lambda: set_global("LEVEL", 2.0)


@found
def a_dictionary_in_a_global():
    return lambda: OPTIONS["beta"]["now"], lambda: OPTIONS["beta"].update(now=2.0)


@found
def a_global_of_a_module_of_the_users():
    library = types.ModuleType("a_library_of_the_users")
    exec("LEVEL = 1.0\ndef level():\n    return LEVEL\n", vars(library))
    scope = {"library": library}
    exec("def model():\n    return library.level()\n", scope)
    return scope["model"], lambda: setattr(library, "LEVEL", 2.0)


@pytest.mark.parametrize("make", FOUND.values(), ids=FOUND)
def test_what_a_program_reaches_is_seen(make):
    root, change = make()
    places = reach([root])
    assert places.same()
    change()
    assert not places.same()
    assert places.changes()
