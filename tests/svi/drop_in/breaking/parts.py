"""Programs in which the user replaces something between steps."""

from __future__ import annotations

from types import MethodType, SimpleNamespace

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroParam, PyroSample
from torch import nn

from tests.svi.drop_in.breaking.table import breaks
from tests.svi.drop_in.harness import CHANGE, STEPS, Program
from tests.svi.drop_in.tiny import after, data, guide, latent, model, seen


class Bayesian(PyroModule):
    def __init__(self) -> None:
        super().__init__()
        self.z = PyroSample(dist.Normal(0.0, 1.0))

    def forward(self, x):
        seen(self.z, x)


@breaks("parts", "either")
def prior_of_a_pyro_module():
    net = Bayesian()

    def replace():
        net.z = PyroSample(dist.Normal(0.0, 0.1))

    return Program(net, guide, after(replace))


@breaks("parts", "either")
def prior_of_a_pyro_module_by_a_function():
    net = Bayesian()
    net.width = 1.0
    net.z = PyroSample(lambda self: dist.Normal(0.0, self.width))

    def replace():
        net.z = PyroSample(lambda self: dist.Normal(2.0, self.width))

    return Program(net, guide, after(replace))


class Located(PyroModule):
    """A guide with its own parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = PyroParam(torch.tensor(3.0))
        self.scale = PyroParam(torch.tensor(0.1), constraints.positive)

    def forward(self, x):
        pyro.sample("z", dist.Normal(self.loc, self.scale))


@breaks("parts", "either")
def parameter_of_a_pyro_module():
    located = Located()

    def replace():
        located.loc = PyroParam(torch.tensor(-2.0))

    return Program(model, located, after(replace))


@breaks("parts", "either")
def constraint_of_a_pyro_module():
    located = Located()

    def replace():
        del located.scale
        located.scale = PyroParam(torch.tensor(0.5), constraints.interval(0.2, 0.9))

    return Program(model, located, after(replace))


@breaks("parts", "either")
def location_of_an_automatic_guide():
    automatic = AutoNormal(model)

    def replace():
        automatic.locs.z = nn.Parameter(torch.tensor(-2.0))

    return Program(model, automatic, after(replace))


class Netted(nn.Module):
    """A model that is a method of a module."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(1, 1)
        self.shift = nn.Parameter(torch.tensor(0.5))
        self.layers = nn.ModuleList([nn.Tanh()])
        self.prior = dist.Normal(0.0, 1.0)

    def model(self, x):
        pyro.module("netted", self)
        z = pyro.sample("z", self.prior)
        seen(z + self.moved(self.layers[0](self.net(x[:, None])[:, 0])), x)

    def moved(self, y):
        return y + self.shift

    def program(self, change) -> Program:
        return Program(self.model, guide, after(lambda: change(self)), modules=(self,))


@breaks("parts", "either")
def parameter_of_a_module():
    def replace(netted):
        netted.shift = nn.Parameter(torch.tensor(-1.0))

    return Netted().program(replace)


@breaks("parts", "either")
def module_of_a_module():
    def replace(netted):
        netted.net = nn.Linear(1, 1)

    return Netted().program(replace)


@breaks("parts", "either")
def module_of_a_list():
    def replace(netted):
        netted.layers[0] = nn.Softplus()

    return Netted().program(replace)


@breaks("parts", "either")
def distribution_in_an_attribute():
    def replace(netted):
        netted.prior = dist.Laplace(1.0, 0.5)

    return Netted().program(replace)


@breaks("parts", "either")
def location_of_a_distribution():
    """The same distribution object, with another tensor."""

    def replace(netted):
        netted.prior.loc = torch.tensor(2.0)

    return Netted().program(replace)


@breaks("parts", "either")
def distribution_changed_in_place():
    def change(netted):
        netted.prior.loc = netted.prior.loc.clone()
        netted.prior.loc.fill_(2.0)

    return Netted().program(change)


@breaks("parts", "either")
def method_of_an_object():
    def replace(netted):
        netted.moved = MethodType(lambda self, y: y - 2 * self.shift, netted)

    return Netted().program(replace)


@breaks("parts", "either")
def method_of_a_class():
    class Here(Netted):
        pass

    def replace(netted):
        Here.moved = lambda self, y: y - 2 * self.shift

    return Here().program(replace)


@breaks("parts", "either")
def forward_of_a_sub_module():
    def replace(netted):
        netted.net.forward = lambda h: 2 * h

    return Netted().program(replace)


@breaks("parts", "either")
def class_of_an_object():
    class Otherwise(Netted):
        def moved(self, y):
            return y - self.shift

    def replace(netted):
        netted.__class__ = Otherwise

    return Netted().program(replace)


@breaks("parts", "either")
def weight_with_a_parametrisation():
    class Doubled(nn.Module):
        def forward(self, weight):
            return 2 * weight

    def replace(netted):
        nn.utils.parametrize.register_parametrization(netted.net, "weight", Doubled())

    return Netted().program(replace)


@breaks("parts", "either")
def net_in_a_variable_around():
    net = nn.Linear(1, 1)
    other = nn.Linear(1, 1)

    def netted(x):
        pyro.module("net", net)
        seen(latent() + net(x[:, None])[:, 0], x)

    def replace():
        nonlocal net
        net = other

    return Program(netted, guide, after(replace), modules=(net, other))


@breaks("parts", "either")
def function_in_a_dictionary():
    links = {"link": torch.tanh}

    def linked(x):
        seen(links["link"](latent()), x)

    return Program(linked, guide, after(lambda: links.update(link=torch.exp)))


@breaks("parts", "either")
def function_behind_a_name():
    """The same function object, with other code."""

    def link(z):
        return z.tanh()

    def other(z):
        return z + 1

    def replace():
        link.__code__ = other.__code__

    return Program(lambda x: seen(link(latent()), x), guide, after(replace))


@breaks("parts", "either")
def default_of_a_function():
    def shifted(x, shift=0.0):
        seen(latent() + shift, x)

    def replace():
        shifted.__defaults__ = (2.0,)

    return Program(shifted, guide, after(replace))


@breaks("parts", "either")
def method_of_a_loss():
    elbo = Trace_ELBO()

    def replace():
        whole = elbo._differentiable_loss_particle

        def half(model_trace, guide_trace):
            loss, surrogate = whole(model_trace, guide_trace)
            return loss, surrogate / 2

        elbo._differentiable_loss_particle = half

    return Program(model, guide, after(replace), loss=elbo)


@breaks("parts", "either")
def particles_of_a_loss():
    elbo = Trace_ELBO(num_particles=1)

    def replace():
        elbo.num_particles = 3

    return Program(model, guide, after(replace), loss=elbo)


@breaks("parts", "either")
def guide_of_the_svi():
    def laplace(x):
        pyro.sample("z", dist.Laplace(pyro.param("loc", torch.tensor(3.0)), 0.5))

    def steps(svi):
        for i in range(STEPS):
            if i == CHANGE:
                svi.guide = laplace
            yield svi.step(data())

    return Program(model, guide, steps)


@breaks("parts", "either")
def parameter_of_the_store():
    def replace():
        pyro.get_param_store()["loc"] = torch.tensor(-2.0)

    return Program(model, guide, after(replace))


@breaks("parts", "either")
def state_of_the_store():
    """As when a checkpoint is loaded."""
    saved = SimpleNamespace()

    def steps(svi):
        for i in range(STEPS):
            if i == 3:
                saved.state = pyro.get_param_store().get_state()
                loc = saved.state["params"]["loc"]
                saved.state["params"] = {"loc": loc.detach().clone().requires_grad_()}
            if i == CHANGE:
                pyro.get_param_store().set_state(saved.state)
            yield svi.step(data())

    return Program(model, guide, steps)
