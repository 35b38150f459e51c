"""Programs that set or restore the state of a generator in a run."""

from __future__ import annotations

import random

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

from tests.svi.drop_in.breaking.table import breaks
from tests.svi.drop_in.harness import Program
from tests.svi.drop_in.tiny import after, data, guide, latent, model, seen, times


def wide(*_):
    """A guide whose draws affect the loss."""
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))


@breaks("seeds", "either")
def guide_with_a_seed_around():
    return Program(model, poutine.seed(wide, rng_seed=7), times(data()))


@breaks("seeds", "either")
def model_with_a_seed_around():
    def noisy(x):
        seen(latent() + torch.randn(x.shape), x)

    return Program(poutine.seed(noisy, rng_seed=7), wide, times(data()))


@breaks("seeds", "either")
def seed_of_pyro_in_the_model():
    def seeded(x):
        z = latent()
        pyro.set_rng_seed(3)
        seen(z + torch.randn(()), x)

    return Program(seeded, wide, times(data()))


@breaks("seeds", "either")
def seed_of_torch_in_the_guide():
    """Common random numbers: each step has the same draws."""

    def seeded(x):
        torch.manual_seed(3)
        wide()

    return Program(model, seeded, times(data()))


@breaks("seeds", "either")
def seed_that_counts():
    runs = [0]

    def seeded(x):
        runs[0] += 1
        torch.manual_seed(runs[0])
        wide()

    return Program(model, seeded, times(data()), state=lambda: runs)


@breaks("seeds", "either")
def fork_of_the_generator():
    """Draws inside do not move the generator."""

    def forked(x):
        with torch.random.fork_rng():
            noise = torch.randn(x.shape)
        seen(latent() + noise, x)

    return Program(forked, wide, times(data()))


@breaks("seeds", "either")
def projection_from_a_seed_of_its_own():
    def projected(x):
        with torch.random.fork_rng():
            torch.manual_seed(11)
            projection = torch.randn(x.shape)
        seen(latent() + projection, x)

    return Program(projected, wide, times(data()))


@breaks("seeds", "either")
def state_saved_and_restored():
    """The model draws what the guide drew."""
    kept = []

    def keeps(x):
        kept[:] = [torch.get_rng_state()]
        wide()

    def restores(x):
        torch.set_rng_state(kept[0])
        seen(latent() + torch.randn(()), x)

    return Program(restores, keeps, times(data()))


@breaks("seeds", "either")
def seed_of_numpy():
    def seeded(x):
        np.random.seed(5)  # noqa: NPY002  as users do
        seen(latent() + float(np.random.normal()), x)  # noqa: NPY002

    return Program(seeded, wide, times(data()))


@breaks("seeds", "either")
def seed_of_python():
    def seeded(x):
        random.seed(5)
        seen(latent() + random.random(), x)

    return Program(seeded, wide, times(data()))


@breaks("seeds", "either")
def seed_that_is_set_without_a_draw():
    """No graph shows it; only the user's next draw does."""

    def seeded(x):
        random.seed(8)
        seen(latent(), x)

    return Program(seeded, guide, times(data()))


@breaks("seeds", "either")
def generator_of_its_own():
    own = torch.Generator().manual_seed(1)

    def drawn(x):
        seen(latent() + torch.randn(x.shape, generator=own), x)

    return Program(drawn, wide, times(data()), state=own.get_state)


@breaks("seeds", "graph")
def seed_set_between_steps():
    """The user sets it outside, and the graph's draws follow it."""
    return Program(model, wide, after(lambda: pyro.set_rng_seed(9)))
