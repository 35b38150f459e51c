"""Programs with state behind a wrapper, which the user changes between steps."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, config_enumerate
from torch import nn

from tests.svi.drop_in.breaking.table import breaks
from tests.svi.drop_in.harness import CHANGE, STEPS, Program
from tests.svi.drop_in.tiny import Net, after, annealed, data, guide, latent, rows, seen

BETA = 1.0


class Weighted:
    """A program with a weight that the user turns down between steps."""

    def __init__(self) -> None:
        self.beta = 1.0

    def model(self, x):
        seen(latent(self.beta), x)

    def guide(self, x):
        guide(x)

    def turn(self):
        self.beta = 0.1


@breaks("wrapped", "graph")
def scaled_methods_of_a_vae():
    net, scaled = Net(), poutine.scale(scale=0.1)

    def turn():
        net.beta = 20.0

    return Program(scaled(net.model), scaled(net.guide), after(turn, rows()), modules=(net,))


def enumerated(wrap) -> Program:
    w = Weighted()
    return Program(wrap(w.model), wrap(w.guide), after(w.turn), loss=TraceEnum_ELBO(max_plate_nesting=1))


@breaks("wrapped", "graph")
def without_config_enumerate():
    return enumerated(lambda program: program)


@breaks("wrapped", "graph")
def with_config_enumerate():
    return enumerated(config_enumerate)


@breaks("wrapped", "graph")
def partial():
    w = Weighted()
    return Program(functools.partial(w.model), guide, after(w.turn))


@breaks("wrapped", "either")
def keyword_of_a_partial():
    def weighted(x, beta):
        seen(latent(beta), x)

    bound = functools.partial(weighted, beta=1.0)
    return Program(bound, guide, after(lambda: bound.keywords.update(beta=0.1)))


@breaks("wrapped", "graph")
def anonymous_function():
    w = Weighted()
    return Program(lambda x: w.model(x), lambda x: w.guide(x), after(w.turn))


@breaks("wrapped", "either")
def closures_within_closures():
    w = Weighted()

    def outer(program):
        def middle():
            def inner(x):
                return program(x)

            return inner

        return middle()

    return Program(outer(outer(w.model)), guide, after(w.turn))


@breaks("wrapped", "either")
def decorated():
    w = Weighted()

    def logged(program):
        @functools.wraps(program)
        def run(*args, **kwargs):
            return program(*args, **kwargs)

        return run

    @logged
    def weighted(x):
        w.model(x)

    return Program(weighted, guide, after(w.turn))


@breaks("wrapped", "graph")
def callable_object():
    class Called(Weighted):
        def __call__(self, x):
            self.model(x)

    called = Called()
    return Program(called, guide, after(called.turn))


@breaks("wrapped", "either")
def masked_by_a_flag():
    w = SimpleNamespace(on=True)

    def flagged(x):
        with poutine.mask(mask=w.on):
            z = latent()
        seen(z, x)

    def turn():
        w.on = False

    return Program(poutine.mask(flagged, mask=torch.tensor(True)), poutine.mask(guide, mask=True), after(turn))


@breaks("wrapped", "either")
def conditioned_on_a_dictionary():
    values = {"y": torch.tensor(1.0)}

    def joint():
        y_and_z = latent()
        pyro.sample("y", dist.Normal(y_and_z, 1.0))

    def turn():
        values["y"] = torch.tensor(-3.0)

    return Program(poutine.condition(lambda x: joint(), data=values), guide, after(turn))


@breaks("wrapped", "either")
def method_of_what_holds_the_module():
    class Trainer:
        def __init__(self) -> None:
            self.net = nn.Linear(1, 1)
            self.net.temperature = 1.0

        def model(self, x):
            pyro.module("net", self.net)
            seen(latent() * self.net.temperature + self.net(x[:, None])[:, 0], x)

    trainer = Trainer()

    def turn():
        trainer.net.temperature = 0.2

    return Program(poutine.scale(trainer.model, scale=0.5), guide, after(turn), modules=(trainer.net,))


@breaks("wrapped", "either")
def static_method_with_a_variable_of_the_file():
    global BETA
    BETA = 1.0

    class Static:
        @staticmethod
        def model(x):
            seen(latent(BETA), x)

    def turn():
        global BETA
        BETA = 0.1

    return Program(Static.model, guide, after(turn))


@breaks("wrapped", "either")
def class_method():
    class Classed:
        beta = 1.0

        @classmethod
        def model(cls, x):
            seen(latent(cls.beta), x)

    def turn():
        Classed.beta = 0.1

    return Program(Classed.model, guide, after(turn))


@breaks("wrapped", "either")
def slots():
    class Slotted:
        __slots__ = ("beta",)

        def __init__(self) -> None:
            self.beta = 1.0

        def model(self, x):
            seen(latent(self.beta), x)

    slotted = Slotted()

    def turn():
        slotted.beta = 0.1

    return Program(slotted.model, guide, after(turn))


@breaks("wrapped", "either")
def property_of_another_object():
    class Schedule:
        def __init__(self) -> None:
            self._epoch = 0

        @property
        def beta(self) -> float:
            return 1 / (1 + self._epoch)

    schedule = Schedule()

    def turn():
        schedule._epoch = 4

    return annealed(lambda: schedule.beta, lambda: schedule._epoch, turn)


@breaks("wrapped", "either")
def attributes_made_up_on_the_way():
    class Options:
        def __init__(self) -> None:
            self.__dict__["values"] = {"beta": 1.0}

        def __getattr__(self, name):
            return self.__dict__["values"][name]

    options = Options()
    return annealed(lambda: options.beta, lambda: options.values, lambda: options.__dict__["values"].update(beta=0.1))


@breaks("wrapped", "either")
def handler_with_an_attribute():
    """``poutine.scale`` holds its number in the handler's object, which the user keeps."""
    handler = poutine.scale_messenger.ScaleMessenger(scale=1.0)

    def turn():
        handler.scale = 0.1

    return Program(handler(lambda x: seen(latent(), x)), guide, after(turn))


@breaks("wrapped", "either")
def handler_of_the_users_own():
    class Tempered(poutine.messenger.Messenger):
        beta = 1.0

        def _pyro_sample(self, msg):
            if not msg["is_observed"]:
                msg["scale"] = msg["scale"] * self.beta

    tempered = Tempered()

    def turn():
        tempered.beta = 0.1

    return Program(tempered(lambda x: seen(latent(), x)), guide, after(turn))


@breaks("wrapped", "either")
def size_of_a_plate():
    plates = SimpleNamespace(size=40)

    def sized(x):
        z = latent()
        with pyro.plate("data", plates.size, subsample=torch.arange(x.shape[0])):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def turn():
        plates.size = 400

    return Program(lambda x: sized(x), guide, after(turn))


@breaks("wrapped", "either")
def turned_twice_and_back():
    """A graph from an earlier capture fits again."""
    w = Weighted()

    def steps(svi):
        for i in range(STEPS + 4):
            w.beta = 0.1 if CHANGE <= i < STEPS else 1.0
            yield svi.step(data())

    return Program(functools.partial(w.model), guide, steps)
