"""The same parameters under an optimiser, and under the updates that stand for it in a graph; in float64."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.optim.clipped_adam import ClippedAdam

from pyro_vae.svi.optimizer import SharedOptim
from pyro_vae.svi.updates import updates_of

SHAPES = ((3, 2), (4,), ())
RULES = {
    "adam": (torch.optim.Adam, {"lr": 0.03}),
    "adam-options": (
        torch.optim.Adam,
        {"lr": 0.03, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.2, "maximize": True},
    ),
    "adam-decoupled": (torch.optim.Adam, {"lr": 0.03, "weight_decay": 0.2, "decoupled_weight_decay": True}),
    "adam-foreach": (torch.optim.Adam, {"lr": 0.03, "foreach": True}),
    "adamw": (torch.optim.AdamW, {"lr": 0.03}),
    "adamw-options": (torch.optim.AdamW, {"lr": 0.03, "betas": (0.5, 0.99), "weight_decay": 0.3, "maximize": True}),
    "adamw-fused": (torch.optim.AdamW, {"lr": 0.03, "fused": True}),
    "adamw-no-decay": (torch.optim.AdamW, {"lr": 0.03, "weight_decay": 0.0}),
    "clipped": (ClippedAdam, {"lr": 0.03}),
    "clipped-lrd": (ClippedAdam, {"lr": 0.03, "lrd": 0.9, "clip_norm": 0.7}),
    "clipped-centered": (ClippedAdam, {"lr": 0.03, "centered_variance": True, "betas": (0.7, 0.8), "eps": 1e-2}),
    "clipped-decay": (ClippedAdam, {"lr": 0.03, "weight_decay": 0.2, "clip_norm": 0.5, "lrd": 0.99}),
    "sgd": (torch.optim.SGD, {"lr": 0.03}),
    "sgd-momentum": (torch.optim.SGD, {"lr": 0.03, "momentum": 0.9}),
    "sgd-nesterov": (torch.optim.SGD, {"lr": 0.03, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
    "sgd-options": (torch.optim.SGD, {"lr": 0.03, "momentum": 0.5, "weight_decay": 0.2, "maximize": True}),
    "sgd-decay": (torch.optim.SGD, {"lr": 0.03, "weight_decay": 0.2}),
}
every = pytest.mark.parametrize("rule", RULES)


def parameters(seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(s, dtype=dtype, generator=generator).requires_grad_() for s in SHAPES]


def gradients(steps, seed=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(s, dtype=dtype, generator=generator) for s in SHAPES] for _ in range(steps)]


def stock_step(optimizer, params, grads):
    for p, g in zip(params, grads, strict=True):
        p.grad = g.clone()
    optimizer.step()
    for p in params:
        p.grad = None


class Pair:
    """The same parameters under an optimiser, and under the updates that stand for it, after one step of its own."""

    def __init__(self, make, options, started=True, size=1.0, **kwargs):
        self.params, self.other = parameters(**kwargs), parameters(**kwargs)
        self.stock, self.ours = make(self.params, **options), make(self.other, **options)
        if started:
            for params, optimizer in ((self.params, self.stock), (self.other, self.ours)):
                stock_step(optimizer, params, [size * g for g in gradients(1, seed=5, **kwargs)[0]])
        self.renew()

    def renew(self):
        """As for a new graph."""
        self.updates = updates_of(SharedOptim(self.ours), self.other, {})

    def step(self, grads):
        stock_step(self.stock, self.params, grads)
        self.our_step(grads)

    def our_step(self, grads):
        if not self.updates.fit([]):
            self.renew()
        if self.updates is None:  # it steps by itself
            return stock_step(self.ours, self.other, grads)
        numbers = self.updates.numbers()[0]
        assert numbers.dtype == torch.float64
        with torch.no_grad():
            self.updates.apply([g.clone() for g in grads], numbers)
        return self.updates.count()

    def state(self, optimizer, params):
        found = {}
        for i, p in enumerate(params):
            for name, value in optimizer.state[p].items():
                found[f"{name} of {i}"] = torch.as_tensor(value) if value is not None else None
        return found

    def assert_equal(self, rtol=1e-12):
        for p, q in zip(self.params, self.other, strict=True):
            torch.testing.assert_close(q, p, rtol=rtol, atol=rtol)
        expected, found = self.state(self.stock, self.params), self.state(self.ours, self.other)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            if value is None:
                assert found[name] is None
            else:
                torch.testing.assert_close(found[name], value, rtol=rtol, atol=rtol, msg=name)
        for a, b in zip(self.stock.param_groups, self.ours.param_groups, strict=True):
            assert b["lr"] == pytest.approx(a["lr"], rel=1e-14)


class Steps:
    """The same programs under ``pyro.optim``, which has an optimiser a parameter."""

    def __init__(self, make):
        pyro.clear_param_store()
        self.params = []
        for i, value in enumerate(parameters()):
            pyro.param(f"p{i}", value.detach().clone())
            self.params.append(pyro.get_param_store()._params[f"p{i}"])
        self.optim = make()

    def stock(self, grads):
        for p, g in zip(self.params, grads, strict=True):
            p.grad = g.clone()
        self.optim(self.params)
        for p in self.params:
            p.grad = None
