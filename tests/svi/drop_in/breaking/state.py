"""Programs that change something in Python in a run, and read it."""

from __future__ import annotations

import itertools
import random
from collections import deque
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pyro
import torch
from pyro.infer import Trace_ELBO
from torch import nn

from tests.svi.drop_in.breaking.table import breaks
from tests.svi.drop_in.harness import CHANGE, STEPS, Program
from tests.svi.drop_in.tiny import annealed, data, guide, latent, model, seen, times

RUNS = 0


class Warming(nn.Module):
    """A weight of the prior that grows with the runs."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0

    def model(self, x):
        self.runs += 1
        seen(latent(min(1.0, self.runs / 10)), x)


@breaks("state", "either")
def counter_of_a_module():
    module = Warming()
    return Program(module.model, guide, times(data(), n=12), state=lambda: module.runs)


@breaks("state", "either")
def counter_of_a_plain_object_that_a_module_holds():
    module = Warming()
    module.clock = SimpleNamespace(time=0)

    def ticking(x):
        module.clock.time += 1
        seen(latent(1 / module.clock.time), x)

    return Program(ticking, guide, times(data()), state=lambda: module.clock.time)


@breaks("state", "either")
def counter_of_a_class():
    class Counting:
        runs = 0

        def model(self, x):
            type(self).runs += 1
            seen(latent(1 / self.runs), x)

    return Program(Counting().model, guide, times(data()), state=lambda: Counting.runs)


@breaks("state", "either")
def list_that_grows():
    history = []

    def beta():
        history.append(len(history))
        return 1 / len(history)

    return annealed(beta, lambda: history)


@breaks("state", "either")
def dictionary_that_counts():
    counts = {"runs": 0}

    def beta():
        counts["runs"] += 1
        return 1 / counts["runs"]

    return annealed(beta, lambda: counts)


@breaks("state", "either")
def list_in_a_dictionary_in_a_list():
    nested = [{"of": {"runs": [0]}}]

    def beta():
        nested[0]["of"]["runs"][0] += 1
        return 1 / nested[0]["of"]["runs"][0]

    return annealed(beta, lambda: nested)


@breaks("state", "either")
def set_that_grows():
    known = set()

    def beta():
        known.add(len(known))
        return 1 / len(known)

    return annealed(beta, lambda: known)


@breaks("state", "either")
def deque_that_turns():
    """Of the same contents and length, in another order."""
    scales = deque([0.1, 0.5, 1.0])

    def beta():
        scales.rotate(1)
        return scales[0]

    return annealed(beta, lambda: scales)


@breaks("state", "either")
def variable_of_the_function_around():
    runs = 0

    def beta():
        nonlocal runs
        runs += 1
        return 1 / runs

    return annealed(beta, lambda: runs)


@breaks("state", "either")
def variable_of_the_file():
    global RUNS
    RUNS = 0

    def beta():
        global RUNS
        RUNS += 1
        return 1 / RUNS

    return annealed(beta, lambda: RUNS)


@breaks("state", "either")
def field_of_a_dataclass():
    @dataclass
    class Schedule:
        beta: float = 0.1

    schedule = Schedule()

    def beta():
        schedule.beta *= 1.2
        return schedule.beta

    return annealed(beta, lambda: schedule.beta)


@breaks("state", "either")
def generator_that_is_taken_from():
    schedule = (1 / n for n in range(1, 100))
    return annealed(lambda: next(schedule), lambda: None)


@breaks("state", "either")
def iterator_of_a_cycle():
    schedule = itertools.cycle([0.1, 0.1, 1.0])
    return annealed(lambda: next(schedule), lambda: None)


@breaks("state", "either")
def random_numbers_of_its_own():
    own = random.Random(3)
    return annealed(lambda: own.uniform(0.1, 1.0), lambda: own.getstate())


@breaks("state", "either")
def numpy_generator_of_its_own():
    own = np.random.default_rng(3)
    return annealed(lambda: float(own.uniform(0.1, 1.0)), lambda: str(own.bit_generator.state))


@breaks("state", "either")
def attribute_of_a_function():
    def beta():
        beta.runs += 1
        return 1 / beta.runs

    beta.runs = 0
    return annealed(beta, lambda: beta.runs)


@breaks("state", "either")
def default_argument_that_grows():
    def beta(history=[]):  # noqa: B006  the mistake is the point
        history.append(0)
        return 1 / len(history)

    return annealed(beta, lambda: list(beta.__defaults__[0]))


@breaks("state", "either")
def flag_that_flips_in_each_run():
    """After two more runs, everything is as before."""

    class Flips:
        flag = False

        def model(self, x):
            self.flag = not self.flag
            seen(latent(1.0 if self.flag else 0.2), x)

    flips = Flips()
    return Program(flips.model, guide, times(data(), n=STEPS + 1), state=lambda: flips.flag)


@breaks("state", "either")
def counter_of_the_guide_that_the_model_reads():
    clock = SimpleNamespace(runs=0)

    def ticking(x):
        clock.runs += 1
        guide()

    return Program(lambda x: seen(latent(1 / clock.runs), x), ticking, times(data()), state=lambda: clock.runs)


@breaks("state", "either")
def counter_of_a_loss():
    class Annealed(Trace_ELBO):
        runs = 0

        def differentiable_loss(self, model, guide, *args, **kwargs):
            self.runs += 1
            return super().differentiable_loss(model, guide, *args, **kwargs) / self.runs

        def loss_and_grads(self, model, guide, *args, **kwargs):
            loss = self.differentiable_loss(model, guide, *args, **kwargs)
            loss.backward()
            return loss

    loss = Annealed()
    return Program(model, guide, times(data()), loss=loss, state=lambda: loss.runs)


@breaks("state", "either")
def counter_that_nothing_depends_on():
    """No loss shows it; it must be right when the user prints it."""

    class Counting:
        runs = 0

        def model(self, x):
            self.runs += 1
            seen(latent(), x)

    counting = Counting()
    return Program(counting.model, guide, times(data()), state=lambda: counting.runs)


@breaks("state", "either")
def counter_that_evaluations_move_too():
    module = Warming()

    def steps(svi):
        for _ in range(4):
            yield svi.step(data())
            yield svi.evaluate_loss(data())

    return Program(module.model, guide, steps, state=lambda: module.runs)


@breaks("state", "either")
def counter_that_comes_to_rest():
    """After the third run nothing changes."""
    rest = SimpleNamespace(runs=0)

    def beta():
        if rest.runs < 4:
            rest.runs += 1
        return rest.runs / 4

    return annealed(beta, lambda: rest.runs)


@breaks("state", "either")
def epoch_that_the_last_batch_counts():
    """Only a smaller batch changes something, and every run reads it."""
    clock = SimpleNamespace(epoch=0)

    def epochs(x):
        if x.shape[0] < 4:
            clock.epoch += 1
        seen(latent(1 / (1 + clock.epoch)), x)

    def steps(svi):
        for _ in range(4):
            for n in (4, 4, 3):
                yield svi.step(data(n))

    return Program(epochs, guide, steps, state=lambda: clock.epoch)


@breaks("state", "graph")
def set_up_in_the_first_run():
    class Lazy:
        ready = False

        def model(self, x):
            if not self.ready:
                self.ready, self.scale = True, 0.5
            seen(latent(self.scale), x)

    lazy = Lazy()
    return Program(lazy.model, guide, times(data()), state=lambda: [lazy.ready, lazy.scale])


@breaks("state", "graph")
def cache_that_the_first_run_fills():
    cache = {}

    def cached(x):
        if "steps" not in cache:
            cache["steps"] = torch.linspace(0.0, 0.1, x.shape[0])
        seen(latent() + cache["steps"], x)

    return Program(cached, guide, times(data(4)), state=lambda: cache)


@breaks("state", "graph")
def trainer_that_counts_outside():
    class Trainer:
        def __init__(self) -> None:
            self.epoch, self.losses, self.best = 0, [], None

        def model(self, x):
            seen(latent(), x)

        def guide(self, x):
            guide(x)

        def epochs(self, svi):
            for _ in range(STEPS):
                self.losses.append(svi.step(data()))
                self.epoch += 1
                self.best = min(self.losses)
                yield self.losses[-1]

    trainer = Trainer()
    return Program(
        trainer.model, trainer.guide, trainer.epochs, state=lambda: [trainer.epoch, trainer.losses, trainer.best]
    )


@breaks("state", "graph")
def module_that_keeps_its_history():
    class Fitted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(1, 1)
            self.history = {"loss": [], "time": 0.0}

        def model(self, x):
            pyro.module("net", self.net)
            seen(latent() + self.net(x[:, None])[:, 0], x)

        def fit(self, svi):
            for i in range(STEPS):
                loss = svi.step(data())
                self.history["loss"].append(loss)
                self.history["time"] += 0.1
                if i == CHANGE:
                    self.history["best"] = loss
                yield loss

    fitted = Fitted()
    return Program(fitted.model, guide, fitted.fit, modules=(fitted,), state=lambda: fitted.history)


@breaks("state", "graph")
def losses_in_a_variable_of_the_file_that_trains():
    """The programs are methods of the object that holds the SVI, the optimiser and a log."""

    class Experiment:
        def __init__(self) -> None:
            self.log = deque(maxlen=3)
            self.step = 0

        def model(self, x):
            seen(latent(), x)

        def train(self, svi):
            self.svi = svi
            for self.step in range(STEPS):
                loss = self.svi.step(data())
                self.log.append({"step": self.step, "loss": loss})
                yield loss

    experiment = Experiment()
    return Program(experiment.model, guide, experiment.train, state=lambda: [experiment.step, experiment.log])
