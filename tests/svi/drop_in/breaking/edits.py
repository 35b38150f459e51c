"""Programs whose loss, optimiser or hooks change what a step does."""

from __future__ import annotations

import pyro
import torch
from pyro.infer import Trace_ELBO
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from tests.svi.drop_in.breaking.table import breaks
from tests.svi.drop_in.harness import CHANGE, STEPS, Program
from tests.svi.drop_in.tiny import after, data, guide, latent, model, seen, times


def loc():
    return pyro.param("loc").unconstrained()


@breaks("edits", "either")
def loss_that_clips_gradients():
    class Clipped(Trace_ELBO):
        def loss_and_grads(self, model, guide, *args, **kwargs):
            loss = super().loss_and_grads(model, guide, *args, **kwargs)
            torch.nn.utils.clip_grad_norm_([p for _, p in pyro.get_param_store().named_parameters()], 1.0)
            return loss

    return Program(model, guide, times(data()), loss=Clipped())


@breaks("edits", "either")
def pyro_optimiser_with_a_call_of_its_own():
    class Sign(pyro.optim.PyroOptim):
        def __call__(self, params, *args, **kwargs):
            params = list(params)
            for p in params:
                p.grad.sign_()
            super().__call__(params, *args, **kwargs)

    return Program(model, guide, times(data()), optim=Sign(torch.optim.SGD, {"lr": 0.01}))


@breaks("edits", "either")
def hook_on_a_gradient():
    return Program(model, guide, after(lambda: loc().register_hook(lambda g: g.clamp(-1, 1))))


@breaks("edits", "either")
def hook_that_only_looks():
    norms = []
    return Program(
        model, guide, after(lambda: loc().register_hook(lambda g: norms.append(float(g)))), state=lambda: norms
    )


@breaks("edits", "either")
def hook_after_a_gradient_is_there():
    def shrink(p):
        p.grad.mul_(0.1)

    return Program(model, guide, after(lambda: loc().register_post_accumulate_grad_hook(shrink)))


@breaks("edits", "either")
def hook_taken_away():
    handles = []

    def steps(svi):
        for i in range(STEPS + 3):
            if i == 1:
                handles.append(loc().register_hook(lambda g: g.clamp(-1, 1)))
            if i == CHANGE:
                handles.pop().remove()
            yield svi.step(data())

    return Program(model, guide, steps)


@breaks("edits", "either")
def loss_that_reads_gradients():
    """They exist between ``backward`` and the optimiser."""
    norms = []

    def loss_and_grads(model, guide, *args):
        loss = Trace_ELBO().loss_and_grads(model, guide, *args)
        norms.append(float(loc().grad))
        return loss

    return Program(
        model, guide, times(data()), loss=Trace_ELBO().loss, loss_and_grads=loss_and_grads, state=lambda: norms
    )


@breaks("edits", "either")
def loss_that_adds_noise_to_gradients():
    def loss_and_grads(model, guide, *args):
        loss = Trace_ELBO().differentiable_loss(model, guide, *args)
        loss.backward()
        loc().grad.add_(torch.randn(()))
        return loss.item()

    return Program(model, guide, times(data()), loss=Trace_ELBO().loss, loss_and_grads=loss_and_grads)


@breaks("edits", "either")
def pyro_optimiser_that_warms_up():
    class Warm(pyro.optim.PyroOptim):
        calls = 0

        def __call__(self, params, *args, **kwargs):
            self.calls += 1
            for p in params:
                p.grad.mul_(min(1.0, self.calls / 5))
            super().__call__(params, *args, **kwargs)

    optim = Warm(torch.optim.Adam, {"lr": 0.01})
    return Program(model, guide, times(data()), optim=optim, state=lambda: optim.calls)


@breaks("edits", "either")
def torch_optimiser_with_a_step_of_its_own():
    """Langevin dynamics: a draw in each update."""

    class Langevin(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            with torch.no_grad():
                for p in self.param_groups[0]["params"]:
                    p.add_(0.01 * torch.randn_like(p))

    return Program(model, guide, times(data()), optim=pyro.optim.PyroOptim(Langevin, {"lr": 0.01}))


@breaks("edits", "either")
def torch_optimiser_whose_step_is_replaced():
    optim = pyro.optim.Adam({"lr": 0.01})

    def replace():
        (inner,) = optim.optim_objs.values()
        inner.step = lambda: loc().data.zero_()

    return Program(model, guide, after(replace), optim=optim)


@breaks("edits", "either")
def hook_after_the_step_of_an_optimiser():
    optim = pyro.optim.Adam({"lr": 0.01})

    def clamp(inner, args, kwargs):
        for p in inner.param_groups[0]["params"]:
            p.data.clamp_(max=2.9)

    def hook():
        (inner,) = optim.optim_objs.values()
        inner.register_step_post_hook(clamp)

    return Program(model, guide, after(hook), optim=optim)


@breaks("edits", "either")
def hook_before_the_step_of_an_optimiser():
    optim = pyro.optim.SGD({"lr": 0.01})

    def turn(inner, args, kwargs):
        loc().grad.neg_()

    def hook():
        (inner,) = optim.optim_objs.values()
        inner.register_step_pre_hook(turn)

    return Program(model, guide, after(hook), optim=optim)


@breaks("edits", "either")
def hook_after_the_steps_of_all_optimisers():
    calls = []

    def steps(svi):
        handle = None
        try:
            for i in range(STEPS):
                if i == CHANGE:
                    handle = register_optimizer_step_post_hook(lambda *_: calls.append(loc().data.mul_(0.9).item()))
                yield svi.step(data())
        finally:
            if handle is not None:
                handle.remove()

    return Program(model, guide, steps, state=lambda: calls, optim=pyro.optim.Adam({"lr": 0.01}))


@breaks("edits", "either")
def clipping_changed_between_steps():
    optim = pyro.optim.SGD({"lr": 0.01}, {"clip_norm": 100.0})

    def clip():
        optim.grad_clip[loc()] = lambda p: p.grad.clamp_(-0.5, 0.5)

    return Program(model, guide, after(clip), optim=optim)


class Netted:
    """A model around a net, to which hooks are added."""

    def __init__(self) -> None:
        self.net = nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1))

    def model(self, x):
        pyro.module("net", self.net)
        seen(latent() + self.net(x[:, None])[:, 0], x)

    def program(self, change, state=lambda: None) -> Program:
        return Program(self.model, guide, after(change), modules=(self.net,), state=state)


@breaks("edits", "either")
def hook_after_forward():
    netted = Netted()
    return netted.program(lambda: netted.net[0].register_forward_hook(lambda module, args, out: 3 * out))


@breaks("edits", "either")
def hook_before_forward():
    netted = Netted()
    return netted.program(lambda: netted.net[2].register_forward_pre_hook(lambda module, args: (args[0] + 1,)))


@breaks("edits", "either")
def hook_on_backward():
    netted = Netted()

    def hook(module, inputs, outputs):
        return tuple(None if g is None else 0 * g for g in inputs)

    return netted.program(lambda: netted.net[2].register_full_backward_hook(hook))


@breaks("edits", "either")
def hook_before_backward():
    netted = Netted()
    return netted.program(
        lambda: netted.net[2].register_full_backward_pre_hook(lambda module, outputs: tuple(5 * g for g in outputs))
    )


@breaks("edits", "either")
def hook_on_a_module_that_collects_activations():
    netted, found = Netted(), []
    return netted.program(
        lambda: netted.net[1].register_forward_hook(lambda module, args, out: found.append(out.detach())),
        state=lambda: found,
    )


@breaks("edits", "either")
def hook_on_all_modules():
    netted = Netted()

    def steps(svi):
        handle = None
        try:
            for i in range(STEPS):
                if i == CHANGE:
                    handle = register_module_forward_hook(lambda module, args, out: out + 1)
                yield svi.step(data())
        finally:
            if handle is not None:
                handle.remove()

    return Program(netted.model, guide, steps, modules=(netted.net,))
