"""Programs with numbers that the user changes between steps, and that are no ``int`` or ``float``."""

from __future__ import annotations

import enum
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import nn

from tests.svi.drop_in.breaking.table import breaks
from tests.svi.drop_in.harness import Program
from tests.svi.drop_in.tiny import after, annealed, data, guide, latent, seen


class Holds(nn.Module):
    """A module with an object that returns the weight of the prior."""

    def __init__(self, thing, weight=float) -> None:
        super().__init__()
        self.thing, self.weight = thing, weight

    def model(self, x):
        seen(latent(self.weight(self.thing)), x)


def held(thing, other, weight=float) -> Program:
    """The user replaces it."""
    module = Holds(thing, weight)

    def change():
        module.thing = other

    return Program(module.model, guide, after(change))


@breaks("numbers", "either")
def numpy_numbers_of_a_linspace():
    module = Holds(None, lambda beta: beta)

    def steps(svi):
        for beta in np.linspace(0.1, 1.0, 7):
            module.thing = beta
            yield svi.step(data())

    return Program(module.model, guide, steps)


@breaks("numbers", "either")
def numpy_float32():
    return held(np.float32(1.0), np.float32(0.1))


@breaks("numbers", "either")
def numpy_int64():
    return held(np.int64(1), np.int64(7))


@breaks("numbers", "either")
def numpy_bool():
    return held(np.bool_(True), np.bool_(False), lambda on: 1.0 if on else 0.1)


@breaks("numbers", "either")
def array_of_no_dimensions():
    return held(np.array(1.0), np.array(0.1))


@breaks("numbers", "either")
def array_changed_in_place():
    module = Holds(np.ones(3), lambda array: float(array[1]))

    def change():
        module.thing[1] = 0.1

    return Program(module.model, guide, after(change), state=lambda: module.thing)


@breaks("numbers", "either")
def array_whose_values_become_a_tensor():
    module = Holds(np.zeros(4, dtype=np.float32))

    def shifted(x):
        seen(latent() + torch.tensor(module.thing), x)

    def change():
        module.thing += 1.5

    return Program(shifted, guide, after(change))


@breaks("numbers", "either")
def tensor_over_the_memory_of_an_array():
    """The user changes the array; the tensor, which the graph reads, changes with it."""
    array = np.zeros(4, dtype=np.float32)
    shift = torch.from_numpy(array)

    def shifted(x):
        seen(latent() + shift, x)

    def change():
        array[:] = 2.0

    return Program(shifted, guide, after(change))


@breaks("numbers", "either")
def tuple_of_numbers():
    return held((0.5, 1.0), (0.5, 0.1), lambda pair: pair[1])


@breaks("numbers", "either")
def list_changed_in_place():
    module = Holds([0.5, 1.0], lambda pair: pair[1])

    def change():
        module.thing[1] = 0.1

    return Program(module.model, guide, after(change))


@breaks("numbers", "either")
def dictionary_changed_in_place():
    module = Holds({"prior": {"beta": 1.0}}, lambda options: options["prior"]["beta"])
    return Program(module.model, guide, after(lambda: module.thing["prior"].update(beta=0.1)))


@breaks("numbers", "either")
def object_in_an_object():
    module = Holds(SimpleNamespace(prior=SimpleNamespace(beta=1.0)), lambda options: options.prior.beta)

    def change():
        module.thing.prior.beta = 0.1

    return Program(module.model, guide, after(change))


@breaks("numbers", "either")
def attribute_of_a_class():
    class Options:
        beta = 1.0

    class Inherits(Options):
        pass

    module = Holds(Inherits(), lambda options: options.beta)

    def change():
        Options.beta = 0.1

    return Program(module.model, guide, after(change))


@breaks("numbers", "either")
def enumeration():
    class Phase(enum.Enum):
        WARM = 0.1
        FULL = 1.0

    return held(Phase.WARM, Phase.FULL, lambda phase: phase.value)


@breaks("numbers", "either")
def fraction():
    return held(Fraction(1, 1), Fraction(1, 7))


@breaks("numbers", "either")
def decimal():
    return held(Decimal("1.0"), Decimal("0.1"))


@breaks("numbers", "either")
def complex_number():
    return held(1 + 2j, 1 + 0.1j, lambda number: number.imag)


@breaks("numbers", "either")
def named_tuple():
    class Options(NamedTuple):
        beta: float

    options = Options(1.0)
    return held(options, options._replace(beta=0.1), lambda options: options.beta)


@breaks("numbers", "either")
def range_of_numbers():
    return held(range(1, 3), range(1, 9), len)


@breaks("numbers", "either")
def name_of_a_likelihood():
    """A string in a container selects a distribution."""
    options = {"prior": "Normal"}

    def chosen(x):
        seen(pyro.sample("z", getattr(dist, options["prior"])(0.0, 1.0)), x)

    return Program(chosen, guide, after(lambda: options.update(prior="Laplace")))


@breaks("numbers", "either")
def bytes_changed_in_place():
    weights = bytearray([10, 1])

    def change():
        weights[0] = 1

    return annealed(lambda: weights[0] / weights[1], lambda: list(weights), change)


@breaks("numbers", "either")
def set_changed_in_place():
    on = {"prior"}
    return annealed(lambda: 1.0 if "prior" in on else 0.1, lambda: on, on.clear)


@breaks("numbers", "either")
def nan_for_nothing():
    """A NaN differs from itself, but it is no change."""
    return held(float("nan"), 0.1, lambda beta: 1.0 if beta != beta else beta)
