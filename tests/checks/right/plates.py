"""Right programs with plates as people write them: subsamples, scales, pixels."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import nn

from tests.checks.mutants.common import BATCH, ELEMENTS, LATENTS, Plain, Setup, reals
from tests.checks.mutants.plates import Pixels, Subsampled
from tests.checks.right.table import right


@right
def a_subsample_of_positions():
    return Setup(Subsampled(lambda x: {"subsample": torch.arange(len(x))}, 500), reals(), {"data_size": 500})


@right
def a_subsample_of_an_odd_size():
    return Setup(Subsampled(lambda x: {"subsample": x}, 1797), reals(13), {"data_size": 1797})


@right
def a_subsample_of_a_large_table():
    return Setup(Subsampled(lambda x: {"subsample": torch.arange(len(x))}, 50_000), reals(), {"data_size": 50_000})


@right
def a_subsample_that_pyro_chooses():
    return Setup(Subsampled(lambda x: {"subsample_size": len(x)}, 1000), reals(), {"data_size": 1000})


@right
def a_subsample_that_is_all_there_is():
    return Setup(Subsampled(lambda x: {"subsample": x}, BATCH), reals(), {"data_size": BATCH})


@right
def a_subsample_by_index_as_context():
    class Model(Plain):
        def model(self, x, index):
            pyro.module("vae", self)
            with pyro.plate("data", 300, subsample=index):
                z = pyro.sample("z", self.prior(x))
                pyro.sample("x", self.likelihood(z), obs=x)

        def guide(self, x, index):
            pyro.module("vae", self)
            with pyro.plate("data", 300, subsample=index):
                pyro.sample("z", self.posterior(x))

    return Setup(Model(), reals(), {"context": [torch.arange(BATCH) * 7 + 3], "data_size": 300})


@right
def closures_with_a_subsample():
    vae = Subsampled(lambda x: {"subsample": torch.arange(len(x))}, 1000)
    return Setup((lambda x: vae.model(x), lambda x: vae.guide(x)), reals())


@right
def a_scale_by_hand_in_float32():
    class Model(Plain):
        def model(self, x):
            with poutine.scale(scale=torch.tensor(500 / len(x))):
                super().model(x)

        def guide(self, x):
            with poutine.scale(scale=torch.tensor(500 / len(x))):
                super().guide(x)

    return Setup(Model(), reals(12), {"data_size": 500})


@right
def a_weight_for_each_example():
    class Model(Plain):
        def model(self, x, weight):
            with poutine.scale(scale=weight):
                super().model(x)

        def guide(self, x, weight):
            with poutine.scale(scale=weight):
                super().guide(x)

    weight = 0.5 + torch.rand(BATCH, generator=torch.Generator().manual_seed(0))
    return Setup(Model(), reals(), {"context": [weight]})


@right
def a_plate_of_pixels():
    return Setup(Pixels(), reals())


@right
def a_plate_of_pixels_in_a_subsample():
    return Setup(Pixels(500), reals(), {"data_size": 500})


@right
def plates_of_rows_and_columns():
    class Model(Plain):
        def model(self, x):
            pyro.module("vae", self)
            with pyro.plate("data", len(x), dim=-3):
                z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), 1, 1, LATENTS), 1.0).to_event(1))
                with pyro.plate("rows", 2, dim=-2), pyro.plate("columns", 3, dim=-1):
                    pyro.sample("x", dist.Normal(self.decoder(z).reshape(-1, 2, 3), 0.5), obs=x)

        def guide(self, x):
            pyro.module("vae", self)
            with pyro.plate("data", len(x), dim=-3):
                mean, log_variance = (t[:, None, None] for t in self.encode(x.flatten(1)))
                pyro.sample("z", dist.Normal(mean, torch.exp(log_variance / 2)).to_event(1))

    return Setup(Model(), reals().reshape(-1, 2, 3))


@right
def pixels_of_scalar_codes():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.raw = nn.Parameter(torch.linspace(-1, 1, ELEMENTS)), nn.Parameter(torch.zeros(()))

        def model(self, x):
            pyro.module("vae", self)
            with pyro.plate("data", len(x), dim=-2):
                z = pyro.sample("z", dist.Normal(0.0 * x[:, :1], 1.0))
                with pyro.plate("pixels", x.shape[1], dim=-1):
                    pyro.sample("x", dist.Normal(z * self.weight, 0.7), obs=x)

        def guide(self, x):
            pyro.module("vae", self)
            with pyro.plate("data", len(x), dim=-2):
                pyro.sample("z", dist.Normal((x @ self.weight)[:, None] / 3, self.raw.exp()))

    return Setup(Model(), reals())


@right
def codes_and_data_in_two_plates():
    class Model(Plain):
        def model(self, x):
            pyro.module("vae", self)
            with pyro.plate("codes", len(x)):
                z = pyro.sample("z", self.prior(x))
            with pyro.plate("data", len(x)):
                pyro.sample("x", self.likelihood(z), obs=x)

        def guide(self, x):
            pyro.module("vae", self)
            with pyro.plate("codes", len(x)):
                pyro.sample("z", self.posterior(x))

    return Setup(Model(), reals())


@right
def a_code_for_each_pixel():
    class Model(Pixels):
        def model(self, x):
            pyro.module("vae", self)
            with self.plate(x), self.pixels(x):
                z = pyro.sample("z", dist.Normal(x.new_zeros(*x.shape, LATENTS), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(self.decoder(z).mean(-1), self.scale), obs=x)

        def guide(self, x):
            pyro.module("vae", self)
            with self.plate(x), self.pixels(x):
                mean, log_variance = (t.unsqueeze(-2) for t in self.encode(x))
                pyro.sample("z", dist.Normal(mean + x.unsqueeze(-1), torch.exp(log_variance / 2)).to_event(1))

    return Setup(Model(), reals())
