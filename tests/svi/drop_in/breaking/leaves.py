"""Programs that leave something in the user's objects."""

from __future__ import annotations

import random
from collections import deque
from types import SimpleNamespace

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule, PyroParam
from torch import nn

from tests.svi.drop_in.breaking.table import breaks
from tests.svi.drop_in.harness import STEPS, Program
from tests.svi.drop_in.tiny import data, guide, latent, model, seen, times


def growing(svi):
    """Each batch is a new tensor."""
    for i in range(STEPS):
        yield svi.step(data() * i)


def kept(carried: bool) -> Program:
    state = {"h": torch.zeros(())}

    def recurrent(x):
        h = torch.tanh(state["h"] + x.mean()) if carried else x.mean()
        state["h"] = h.detach()
        z = pyro.sample("z", dist.Normal(h, 1.0))
        seen(z, x)

    return Program(recurrent, guide, growing, state=lambda: state)


@breaks("leaves", "either", notes=True)
def in_a_dictionary_written_only():
    return kept(carried=False)


@breaks("leaves", "either")
def in_a_dictionary_carried():
    return kept(carried=True)


@breaks("leaves", "either", notes=True)
def in_an_attribute_written_only():
    class Notes(nn.Module):
        def model(self, x):
            z = latent()
            self.last = z.detach()
            seen(z, x)

    notes = Notes()
    return Program(notes.model, guide, growing, state=lambda: notes.last)


@breaks("leaves", "either")
def in_an_attribute_carried():
    class Averages(nn.Module):
        mean = torch.zeros(())

        def model(self, x):
            self.mean = 0.9 * self.mean + 0.1 * x.mean()
            seen(latent() + self.mean, x)

    averages = Averages()
    return Program(averages.model, guide, growing, state=lambda: averages.mean)


@breaks("leaves", "either", notes=True)
def in_a_place_of_a_list():
    slots = [torch.zeros(()), None]

    def slotted(x):
        z = latent()
        slots[1] = z.detach()
        seen(z, x)

    return Program(slotted, guide, growing, state=lambda: slots)


@breaks("leaves", "either")
def in_a_list_that_grows():
    draws = []

    def noted(x):
        z = latent()
        draws.append(z.detach())
        seen(z, x)

    return Program(noted, guide, growing, state=lambda: draws)


@breaks("leaves", "either", notes=True)
def in_a_deque_of_full_length():
    draws = deque([torch.zeros(()), torch.zeros(())], maxlen=2)

    def noted(x):
        z = latent()
        draws.append(z.detach())
        seen(z, x)

    return Program(noted, guide, growing, state=lambda: draws)


@breaks("leaves", "either", notes=True)
def in_an_attribute_of_the_guide():
    class Encoder(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.loc = PyroParam(torch.tensor(3.0))

        def forward(self, x):
            self.q = dist.Normal(self.loc + x.mean(), 0.1)
            pyro.sample("z", self.q)

    encoder = Encoder()
    return Program(model, encoder, growing, state=lambda: encoder.q.loc.detach())


@breaks("leaves", "either", notes=True)
def in_an_object_of_an_object():
    results = SimpleNamespace(of=SimpleNamespace(z=None))

    def noted(x):
        results.of.z = latent()
        seen(results.of.z, x)

    return Program(noted, guide, growing, state=lambda: results.of.z.detach())


@breaks("leaves", "either", notes=True)
def in_an_attribute_of_a_tensor():
    """Tensors take attributes too."""
    shift = torch.zeros(())

    def noted(x):
        shift.seen = x.mean()
        seen(latent() + shift, x)

    return Program(noted, guide, growing, state=lambda: shift.seen)


@breaks("leaves", "graph")
def in_a_buffer_in_place():
    class Averages(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(()))

        def model(self, x):
            self.mean.mul_(0.9).add_(0.1 * x.mean())
            seen(latent() + self.mean, x)

    averages = Averages()
    return Program(averages.model, guide, growing, modules=(averages,))


@breaks("leaves", "graph")
def in_a_tensor_around_in_place():
    running = torch.zeros(())

    def noted(x):
        running.lerp_(x.mean(), 0.1)
        seen(latent() + running, x)

    return Program(noted, guide, growing, state=lambda: running)


@breaks("leaves", "either")
def random_numbers_of_python_where_a_capture_fails():
    """A refused run leaves the generators unchanged."""

    def drawn(x):
        shift = random.gauss(0.0, 1.0)
        if x.mean() > 100:
            shift = 0.0
        seen(latent() + shift, x)

    return Program(drawn, guide, times(data()))


@breaks("leaves", "either")
def random_numbers_of_numpy_where_a_capture_fails():
    counts = []

    def drawn(x):
        counts.append(int(np.random.poisson(3)))  # noqa: NPY002  as users do
        seen(latent() + counts[-1] * float(x.mean().item() > 0), x)

    return Program(drawn, guide, times(data()), state=lambda: counts)


@breaks("leaves", "either")
def random_numbers_of_torch_where_a_capture_fails():
    def drawn(x):
        shift = torch.randn(())
        if shift > 0:
            shift = -shift
        seen(latent() + shift, x)

    return Program(drawn, guide, times(data()))


@breaks("leaves", "either")
def counters_where_a_capture_fails():
    """The run stops half-way, between the two counters."""
    counts = {"before": 0, "after": 0}

    def counted(x):
        counts["before"] += 1
        level = x.mean().item()
        counts["after"] += 1
        seen(latent() + 0.1 * level * counts["after"], x)

    return Program(counted, guide, times(data()), state=lambda: counts)


@breaks("leaves", "either")
def parameters_where_a_capture_fails():
    """A run that stops leaves only those parameters in the store that stock's run leaves."""

    def makes(x):
        late = pyro.param(f"late_{len(pyro.get_param_store())}", torch.tensor(0.1))
        seen(latent() + late, x)

    return Program(makes, guide, times(data(), n=4), state=lambda: sorted(pyro.get_param_store().keys()))
