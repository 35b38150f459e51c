"""Trainings of any model and guide, and of SVI by hand."""

from __future__ import annotations

import pyro
from pyro.infer import SVI, Trace_ELBO
from torch import nn

from pyro_vae import fit
from pyro_vae.data import batches
from pyro_vae.seeds import derive, seeded
from pyro_vae.training.optimizer import learning_rate
from pyro_vae.training.streams import TRAIN_DATA, TRAIN_NOISE
from pyro_vae.value_checks import without_validation
from tests.test_targets import data_for

X = data_for("functions", n=40)


def train(target, x=X, **options):
    return fit(target, x, **{"epochs": 3, "batch_size": 10, "lr": 0.02, "progress": False, **options})


def by_hand(target, x, *, epochs=3, lr=0.02, seed=0, objective=None):
    """The losses of pyro.infer.SVI with pyro.optim.SGD, on the batches and with the noise of fit."""
    model, guide = target if isinstance(target, tuple) else (target.model, target.guide)
    supply = batches(x, 10, shuffle=True, seed=derive(seed, TRAIN_DATA), dtype=x.dtype)
    losses = []
    for epoch in range(1, epochs + 1):
        with seeded(derive(seed, TRAIN_NOISE, epoch)), without_validation():
            total = 0.0
            for step, (batch,) in enumerate(supply.epoch(epoch)):
                number = (epoch - 1) * len(supply) + step
                rate = learning_rate(lr, "cosine", number, len(supply), number / len(supply) / epochs)
                svi = SVI(model, guide, pyro.optim.SGD({"lr": rate}), objective or Trace_ELBO())
                total += svi.step(batch)
        losses.append(total / len(x))
    return losses


def state_of(target):
    """Parameters and buffers of a target, copied."""
    tensors = dict(pyro.get_param_store().named_parameters())
    if isinstance(target, nn.Module):
        tensors |= target.state_dict()
    for program in target if isinstance(target, tuple) else ():
        owner = getattr(program, "__self__", program)
        tensors |= owner.state_dict() if isinstance(owner, nn.Module) else {}
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
