"""Parameters and buffers whose ``.data`` is of another shape or stride, often at the same address."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import nn

from tests.svi.drop_in.breaking.table import breaks
from tests.svi.drop_in.harness import Program
from tests.svi.drop_in.tiny import after, guide, latent, rows, seen


class Sums(nn.Module):
    """A sum fits any shape."""

    def __init__(self, weight: torch.Tensor, buffer: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.register_buffer("buffer", buffer)

    def model(self, x):
        pyro.module("sums", self)
        seen(latent() + self.weight.sum() * self.buffer.sum(), x)

    def program(self, change, *args, **options) -> Program:
        return Program(self.model, guide, after(lambda: change(self), *args), modules=(self,), **options)


def sums() -> Sums:
    return Sums(torch.linspace(0.1, 0.6, 6), torch.linspace(0.0, 0.5, 6))


@breaks("storage", "either")
def parameter_cut_short():
    def cut(module):
        module.weight.grad = None  # it is of the shape before
        module.weight.data = module.weight.data[:2]

    return sums().program(cut)


@breaks("storage", "either")
def parameter_grown_at_the_same_address():
    whole = torch.linspace(0.1, 0.9, 9)

    def grow(module):
        module.weight.grad = None
        module.weight.data = whole

    return Sums(whole[:3], torch.ones(2)).program(grow)


@breaks("storage", "either")
def buffer_cut_short():
    def cut(module):
        module.buffer.data = module.buffer.data[:1]

    return sums().program(cut)


@breaks("storage", "either")
def buffer_that_is_one_number_over_and_over():
    def expand(module):
        module.buffer.data = module.buffer.data[3:4].expand(6)

    return sums().program(expand)


@breaks("storage", "either")
def buffer_of_one_number_at_the_same_address():
    """Same shape, stride 0."""
    whole = torch.linspace(1.0, 2.0, 4)

    def expand(module):
        module.buffer.data = module.buffer.data[:1].expand(4)

    return Sums(torch.linspace(0.1, 0.6, 6), whole).program(expand)


@breaks("storage", "either")
def buffer_resized():
    def resize(module):
        module.buffer.resize_(2)

    return sums().program(resize)


@breaks("storage", "either")
def buffer_that_another_tensor_is_set_into():
    def replace(module):
        module.buffer.set_(torch.full((3,), 2.0))

    return sums().program(replace)


@breaks("storage", "either")
def buffer_reshaped():
    """The same number of elements, in another shape."""
    shift = torch.linspace(0.0, 2.0, 20)
    module = Sums(torch.ones(1), shift)

    def broadcast(x):
        pyro.module("sums", module)
        seen(latent() + module.weight + module.buffer.flatten()[: x.shape[0]] * module.buffer.shape[0], x)

    def reshape():
        module.buffer.data = module.buffer.data.reshape(4, 5)

    return Program(broadcast, guide, after(reshape), modules=(module,))


@breaks("storage", "either")
def weight_of_a_net_turned():
    """A square weight: same address, same shape, another stride."""
    net = nn.Linear(3, 3)

    def turned(x):
        pyro.module("net", net)
        z = latent()
        with pyro.plate("data", x.shape[0]):
            pyro.sample("x", dist.Normal(z + net(x), 1.0).to_event(1), obs=x + torch.tensor([0.0, 1.0, 2.0]))

    def turn():
        net.weight.data = net.weight.data.t()

    return Program(turned, guide, after(turn, rows()), modules=(net,))


@breaks("storage", "either")
def parameter_of_the_store_as_a_column_of_another():
    """A view of a larger storage, with its stride and offset."""
    table = torch.linspace(-1.0, 1.0, 8).reshape(4, 2)

    def wide_guide(x):
        locs = pyro.param("locs", torch.zeros(4))
        pyro.sample("z", dist.Normal(locs.sum(), 0.1))

    def view():
        pyro.param("locs").data = table[:, 1]

    return Program(lambda x: seen(latent(), x), wide_guide, after(view))


@breaks("storage", "either")
def buffer_of_another_dtype():
    def cast(module):
        module.buffer.data = module.buffer.data.double() * (1 + 1e-9)

    return sums().program(cast)


@breaks("storage", "either", raises=RuntimeError)
def parameter_that_no_longer_fits():
    """Stock raises, and so must a graph, instead of reading past the end."""
    net = nn.Linear(3, 3)

    def fits(x):
        pyro.module("net", net)
        z = latent()
        with pyro.plate("data", x.shape[0]):
            pyro.sample("x", dist.Normal(z + net(x), 1.0).to_event(1), obs=x)

    def cut():
        net.weight.grad = None
        net.weight.data = net.weight.data[:2]

    return Program(fits, guide, after(cut, rows()), modules=(net,))


@breaks("storage", "either")
def argument_of_a_buffer_that_shrinks():
    """The batch is a view of the user's buffer, which changes its size later."""
    whole = torch.linspace(0.0, 3.0, 8)
    x = whole[:6]

    def cut():
        x.data = whole[4:]

    return Program(lambda x: seen(latent(), x), guide, after(cut, x))
