"""Programs that read easily overlooked things, which the user changes between steps."""

from __future__ import annotations

import array
import collections
import functools
import operator
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch

from tests.svi.drop_in.breaking.table import breaks
from tests.svi.drop_in.harness import CHANGE, STEPS, Program
from tests.svi.drop_in.tiny import after, data, guide, latent, seen


def reading(read: Callable[[], Any], change: Callable[[], Any], state: Callable[[], Any] = lambda: None) -> Program:
    """A prior scaled by a number that each run reads."""

    def model(x):
        seen(latent(read()), x)

    return Program(model, guide, after(change), state=state)


class Holds:
    def __init__(self, beta: Any = 1.0) -> None:
        self.beta = beta

    def scaled(self, factor: float) -> float:
        return factor * self.beta

    doubled = functools.partialmethod(scaled, 2.0)


class Slotted:
    __slots__ = ("beta",)

    def __init__(self, beta: Any) -> None:
        self.beta = beta


# Containers.


@breaks("overlooked", "either")
def order_of_a_dictionary():
    steps = {"double": lambda x: 2 * x, "add": lambda x: x + 1}
    return reading(
        lambda: functools.reduce(lambda x, step: step(x), steps.values(), 1.0),
        lambda: steps.update(double=steps.pop("double")),
        lambda: list(steps),
    )


@breaks("overlooked", "either")
def order_of_an_ordered_dictionary():
    steps = collections.OrderedDict(double=lambda x: 2 * x, add=lambda x: x + 1)
    return reading(
        lambda: functools.reduce(lambda x, step: step(x), steps.values(), 1.0), lambda: steps.move_to_end("double")
    )


@breaks("overlooked", "either")
def type_of_an_element_of_a_set():
    flags = {1}
    return reading(
        lambda: 2.0 if any(flag is True for flag in flags) else 1.0, lambda: (flags.clear(), flags.add(True))
    )


@breaks("overlooked", "either")
def type_of_a_key():
    table = {1: 1.0}
    return reading(
        lambda: 2.0 if any(key is True for key in table) else 1.0, lambda: table.update({True: table.pop(1)})
    )


@breaks("overlooked", "either")
def view_of_a_dictionary():
    options = {"beta": 1.0}
    view = types.MappingProxyType(options)
    return reading(lambda: view["beta"], lambda: options.update(beta=2.0))


@breaks("overlooked", "either")
def values_of_a_dictionary():
    options = {"beta": 1.0}
    values = options.values()
    return reading(lambda: sum(values), lambda: options.update(beta=2.0))


@breaks("overlooked", "either")
def chain_of_dictionaries():
    options = {"beta": 1.0}
    chain = collections.ChainMap({}, options)
    return reading(lambda: chain["beta"], lambda: options.update(beta=2.0))


@breaks("overlooked", "either")
def dictionary_of_users():
    options = collections.UserDict(beta=1.0)
    return reading(lambda: options["beta"], lambda: options.update(beta=2.0))


@breaks("overlooked", "either")
def method_of_a_list():
    levels = [1.0]
    read = levels.__getitem__
    return reading(lambda: read(0), lambda: operator.setitem(levels, 0, 2.0))


@breaks("overlooked", "either")
def bytes_that_grow():
    runs = bytearray()
    return reading(lambda: 1.0 + 0.1 * (runs.append(1) or len(runs)), lambda: None, lambda: list(runs))


@breaks("overlooked", "either")
def array_of_python_that_grows():
    runs = array.array("d")
    return reading(lambda: runs.append(1.0) or 1.0, lambda: None, lambda: list(runs))


# Slots.


@breaks("overlooked", "either")
def sign_of_zero_in_a_slot():
    slotted = Slotted(0.0)
    return reading(lambda: 2.0 if str(slotted.beta) == "-0.0" else 1.0, lambda: setattr(slotted, "beta", -0.0))


@breaks("overlooked", "either")
def type_in_a_slot():
    slotted = Slotted(1)
    return reading(lambda: 2.0 if slotted.beta is True else 1.0, lambda: setattr(slotted, "beta", True))


@breaks("overlooked", "either")
def tensor_in_a_slot():
    slotted = Slotted(torch.ones(2))
    return reading(lambda: slotted.beta.sum(), lambda: setattr(slotted, "beta", torch.full((2,), 2.0)))


@breaks("overlooked", "either")
def tensor_that_runs_put_into_a_slot():
    slotted = Slotted(None)

    def model(x):
        slotted.beta = 2 * x
        seen(latent(), x)

    def steps(svi) -> Iterator[Any]:
        for i in range(STEPS):
            yield svi.step(data() + i)

    return Program(model, guide, steps, state=lambda: slotted.beta)


# Functions and attributes.


@breaks("overlooked", "either")
def default_by_name():
    def beta(*, level=1.0):
        return level

    return reading(lambda: beta(), lambda: beta.__kwdefaults__.update(level=2.0))


@breaks("overlooked", "either")
def defaults_by_name():
    def beta(*, level=1.0):
        return level

    return reading(lambda: beta(), lambda: setattr(beta, "__kwdefaults__", {"level": 2.0}))


@breaks("overlooked", "either")
def variable_without_a_value():
    def model(x):
        if x.shape[0] > 100:
            later()
        seen(latent(), x)

    program = Program(model, guide, after(lambda: None))
    if program is None:
        later = None  # never: it makes a variable of this function, which gets no value
    return program


@breaks("overlooked", "either")
def attribute_with_a_default():
    holds = Holds()
    return reading(lambda: getattr(holds, "weight", 1.0), lambda: setattr(holds, "weight", 2.0))


@breaks("overlooked", "either")
def attribute_that_may_be_there():
    module = torch.nn.Linear(1, 1)
    module.hot = Holds()
    return reading(lambda: 2.0 if hasattr(module.hot, "warm") else 1.0, lambda: setattr(module.hot, "warm", True))


@breaks("overlooked", "either")
def attribute_by_a_name_that_is_put_together():
    holds = Holds()
    return reading(lambda: holds.__getattribute__(f"{'be'}ta"), lambda: setattr(holds, "beta", 2.0))


@breaks("overlooked", "either")
def attribute_by_a_function_of_operator():
    holds, read = Holds(), operator.attrgetter("beta")
    return reading(lambda: read(holds), lambda: setattr(holds, "beta", 2.0))


@breaks("overlooked", "either")
def attribute_by_a_partial_of_a_method():
    holds = Holds()
    return reading(lambda: holds.doubled(), lambda: setattr(holds, "beta", 2.0))


@breaks("overlooked", "either")
def attribute_of_a_metaclass():
    class Meta(type):
        level = 1.0

        def read(cls):
            return cls.level

    class Child(metaclass=Meta):
        pass

    return reading(lambda: Child.read(), lambda: setattr(Meta, "level", 2.0))


@breaks("overlooked", "either")
def base_of_a_class():
    class One:
        beta = 1.0

    class Two:
        beta = 2.0

    class Child(One):
        pass

    child = Child()
    return reading(lambda: child.beta, lambda: setattr(Child, "__bases__", (Two,)))


@breaks("overlooked", "either")
def what_a_function_remembers():
    options = {"beta": 1.0}

    @functools.lru_cache
    def beta():
        return options["beta"]

    return reading(lambda: beta(), lambda: (options.update(beta=2.0), beta.cache_clear()))


@breaks("overlooked", "either")
def sign_of_an_imaginary_part():
    numbers = [complex(1.0, 0.0)]
    return reading(
        lambda: 2.0 if "-" in str(numbers[0]) else 1.0, lambda: operator.setitem(numbers, 0, complex(1.0, -0.0))
    )


# Modules of the user's.


def a_module(name: str, **variables: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(variables)
    return module


@breaks("overlooked", "either")
def variable_of_a_module_in_a_package():
    settings = a_module("package_of_a_user.settings", BETA=1.0)
    scope = {"package": a_module("package_of_a_user", settings=settings)}
    exec("def read():\n    return package.settings.BETA", scope)
    return reading(scope["read"], lambda: setattr(settings, "BETA", 2.0))


@breaks("overlooked", "either")
def variable_of_a_module_that_is_handed_over():
    settings = a_module("settings_of_a_user", BETA=1.0)
    return reading(lambda: settings.BETA, lambda: setattr(settings, "BETA", 2.0))


@breaks("overlooked", "either")
def variable_of_a_module_in_an_attribute():
    settings = a_module("settings_of_a_user", BETA=1.0)
    holds = Holds(settings)
    return reading(lambda: holds.beta.BETA, lambda: setattr(settings, "BETA", 2.0))


@breaks("overlooked", "either")
def variable_of_a_module_that_a_program_imports():
    settings = a_module("settings_of_a_user", BETA=1.0)

    def read():
        import settings_of_a_user

        return settings_of_a_user.BETA

    def steps(svi) -> Iterator[Any]:
        sys.modules["settings_of_a_user"] = settings
        try:
            for i in range(STEPS):
                settings.BETA = 2.0 if i >= CHANGE else 1.0
                yield svi.step(data())
        finally:
            del sys.modules["settings_of_a_user"]

    return Program(lambda x: seen(latent(read()), x), guide, steps)


# Values of a tensor that the user changes in place.


def of_a_tensor(read: Callable[[torch.Tensor], Any]) -> Program:
    level = torch.tensor(1.0)
    return reading(lambda: read(level), lambda: level.fill_(2.0))


@breaks("overlooked", "either")
def tensor_times_a_constant():
    return of_a_tensor(lambda level: 1.0 if (level * torch.tensor(2.0)).item() < 3 else 2.0)


@breaks("overlooked", "either")
def object_behind_a_weak_reference():
    class Options:
        beta = 1.0

    options = Options()
    reference = weakref.ref(options)
    return reading(lambda: reference().beta, lambda: setattr(options, "beta", 2.0))


@breaks("overlooked", "either")
def tensor_in_words():
    return of_a_tensor(lambda level: 2.0 if "2" in repr(level) else 1.0)


@breaks("overlooked", "either")
def tensor_equal_to_another():
    return of_a_tensor(lambda level: 1.0 if torch.equal(level, torch.tensor(1.0)) else 2.0)


@breaks("overlooked", "either")
def tensor_close_to_another():
    return of_a_tensor(lambda level: 1.0 if torch.allclose(level, torch.tensor(1.0)) else 2.0)


@breaks("overlooked", "either")
def tensor_that_is_not_zero():
    return of_a_tensor(lambda level: 2.0 if (level - 1).is_nonzero() else 1.0)


@breaks("overlooked", "either")
def tensor_in_a_list():
    return of_a_tensor(lambda level: 1.0 if level in [torch.tensor(1.0)] else 2.0)
