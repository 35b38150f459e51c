"""Short trainings of tiny VAEs."""

from __future__ import annotations

import torch

from pyro_vae import fit
from tests.conftest import make_x


def train(vae, x=None, **options):
    x = make_x(n=40) if x is None else x
    return fit(vae, x, **{"epochs": 3, "batch_size": 16, "progress": False, **options})


def weights(vae):
    return {name: value.clone() for name, value in vae.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def records(history):
    return [(r.epoch, r.loss, r.elbo, r.recon, r.kl, r.valid_elbo) for r in history]
