"""Programs with gradients before a step, or with arguments that carry a graph."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO
from torch import nn

from tests.svi.drop_in.breaking.table import breaks
from tests.svi.drop_in.harness import CHANGE, STEPS, Program
from tests.svi.drop_in.tiny import after, data, guide, latent, model, seen, times


@breaks("gradients", "either")
def accumulated_over_two_batches():
    elbo = Trace_ELBO()

    def steps(svi):
        for _ in range(STEPS):
            elbo.loss_and_grads(model, guide, -data())
            yield svi.step(data())

    return Program(model, guide, steps, loss=elbo)


@breaks("gradients", "either")
def encoder_that_pyro_does_not_know():
    encoder = nn.Linear(3, 1)
    own = torch.optim.SGD(encoder.parameters(), 0.01)

    def conditional(h):
        z = latent()
        with pyro.plate("data", h.shape[0]):
            pyro.sample("x", dist.Normal(z + h, 1.0), obs=torch.ones(5))

    def steps(svi):
        for _ in range(STEPS):
            own.zero_grad()
            yield svi.step(encoder(torch.ones(5, 3))[:, 0])
            own.step()

    return Program(conditional, guide, steps, modules=(encoder,))


@breaks("gradients", "either")
def put_there_by_hand_once():
    def push():
        pyro.param("loc").unconstrained().grad = torch.tensor(50.0)

    return Program(model, guide, after(push))


@breaks("gradients", "either")
def of_a_penalty():
    """A penalty on the weights of a net has its own backward before the step."""
    net = nn.Linear(1, 1)

    def netted(x):
        pyro.module("net", net)
        seen(latent() + net(x[:, None])[:, 0], x)

    def steps(svi):
        for i in range(STEPS):
            if i >= CHANGE:
                (10 * net.weight**2).sum().backward()
            yield svi.step(data())

    return Program(netted, guide, steps, modules=(net,))


@breaks("gradients", "either")
def of_a_tensor_around_that_another_optimiser_steps():
    """A tensor of the closure, which Pyro does not know, requires a gradient."""
    width = torch.tensor(1.0, requires_grad=True)
    own = torch.optim.SGD([width], 0.05)

    def wide(x):
        z = latent()
        with pyro.plate("data", x.shape[0]):
            pyro.sample("x", dist.Normal(z, width.exp()), obs=x)

    def steps(svi):
        for _ in range(STEPS):
            own.zero_grad()
            yield svi.step(data())
            own.step()

    return Program(wide, guide, steps, state=lambda: width)


@breaks("gradients", "either")
def that_pile_up_in_a_net_without_a_name():
    """A net that is not given to ``pyro.module``: nobody zeroes its gradients, and the user reads them."""
    net = nn.Linear(1, 1)

    def netted(x):
        seen(latent() + net(x[:, None])[:, 0], x)

    return Program(netted, guide, times(data()), modules=(net,), state=lambda: net.weight.grad)


@breaks("gradients", "either")
def of_an_argument_that_is_a_leaf():
    shift = torch.zeros(4, requires_grad=True)

    def shifted(x, shift):
        seen(latent() + shift, x)

    return Program(shifted, guide, times(data(), shift), state=lambda: shift.grad)


@breaks("gradients", "either")
def of_an_argument_by_name_in_a_dictionary():
    encoder = nn.Linear(1, 1)
    own = torch.optim.SGD(encoder.parameters(), 0.01)

    def shifted(x, *, extras):
        seen(latent() + extras["h"], x)

    def steps(svi):
        for _ in range(STEPS):
            own.zero_grad()
            yield svi.step(data(), extras={"h": encoder(data()[:, None])[:, 0]})
            own.step()

    return Program(shifted, guide, steps, modules=(encoder,))


@breaks("gradients", "either")
def of_an_argument_from_some_step_on():
    """First detached, as while an encoder is frozen; then with its graph."""
    encoder = nn.Linear(1, 1)
    own = torch.optim.SGD(encoder.parameters(), 0.01)

    def shifted(x, h):
        seen(latent() + h, x)

    def steps(svi):
        for i in range(STEPS):
            own.zero_grad()
            h = encoder(data()[:, None])[:, 0]
            yield svi.step(data(), h if i >= CHANGE else h.detach())
            own.step()

    return Program(shifted, guide, steps, modules=(encoder,))


@breaks("gradients", "either")
def of_a_part_that_is_frozen_and_thawed():
    net = nn.Linear(1, 1).requires_grad_(False)

    def netted(x):
        pyro.module("net", net)
        seen(latent() + net(x[:, None])[:, 0], x)

    return Program(netted, guide, after(lambda: net.requires_grad_(True)), modules=(net,))
