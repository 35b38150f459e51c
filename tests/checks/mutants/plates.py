"""Bugs in plates: subsamples and scales, sites beside them, and data that are changed on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from tests.checks.mutants.common import BATCH, ELEMENTS, LATENTS, PLAIN, Plain, Setup, mutant, reals

SUBSAMPLED, PIXELS = "plate_of_the_batch_in_the_guide", "pixels_scaled_to_the_image"


class InPlate(Plain):
    """With a plate and a likelihood that subclasses change."""

    def plate(self, x: Tensor) -> Any:
        return pyro.plate("data", len(x))

    def likelihood_given(self, z: Tensor, x: Tensor) -> Any:
        return self.likelihood(z)

    def model(self, x: Tensor) -> None:
        pyro.module("vae", self)
        with self.plate(x):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", self.likelihood_given(z, x), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("vae", self)
        with self.plate(x):
            pyro.sample("z", self.posterior(x))


class Subsampled(InPlate):
    """A plate of the size of all the data, of which x is a part."""

    def __init__(self, choose: Callable[[Tensor], dict[str, Any]], size: int) -> None:
        super().__init__()
        self.choose, self.size = choose, size

    def plate(self, x: Tensor) -> Any:
        return pyro.plate("data", self.size, **self.choose(x))


class Pixels(Plain):
    """Plates of examples and of pixels, without to_event."""

    def __init__(self, size: int | None = None) -> None:
        super().__init__()
        self.size = size

    def plate(self, x: Tensor) -> Any:
        size = {} if self.size is None else {"subsample": x}
        return pyro.plate("data", self.size or len(x), dim=-2, **size)

    def pixels(self, x: Tensor) -> Any:
        return pyro.plate("pixels", ELEMENTS, dim=-1)

    def model(self, x: Tensor) -> None:
        pyro.module("vae", self)
        with self.plate(x):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), 1, LATENTS), 1.0).to_event(1))
            with self.pixels(x):
                pyro.sample("x", dist.Normal(self.decoder(z).squeeze(-2), self.scale), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("vae", self)
        with self.plate(x):
            mean, log_variance = (t.unsqueeze(-2) for t in self.encode(x))
            pyro.sample("z", dist.Normal(mean, torch.exp(log_variance / 2)).to_event(1))


def positions(x: Tensor) -> dict[str, Any]:
    return {"subsample": torch.arange(len(x))}


# Subsamples: x is a part of 500 examples.


@mutant("plate", "the guide's plate is of the batch, the model's of all the data", "q(z|x) by 1")
def plate_of_the_batch_in_the_guide(wrong: bool) -> Setup:
    class Model(Subsampled):
        def guide(self, x: Tensor) -> None:
            pyro.module("vae", self)
            with pyro.plate("data", len(x)) if wrong else self.plate(x):
                pyro.sample("z", self.posterior(x))

    return Setup(Model(positions, 500), reals(), {"data_size": 500})


@mutant("plate", "a plate of all the data, and poutine.scale to all the data around it", "there are 500", SUBSAMPLED)
def scaled_twice(wrong: bool) -> Setup:
    class Model(Subsampled):
        def model(self, x: Tensor) -> None:
            with poutine.scale(scale=self.size / len(x) if wrong else 1.0):
                super().model(x)

        def guide(self, x: Tensor) -> None:
            with poutine.scale(scale=self.size / len(x) if wrong else 1.0):
                super().guide(x)

    return Setup(Model(positions, 500), reals(), {"data_size": 500})


@mutant("plate", "the size of the plate is the number of batches", "there are 500", SUBSAMPLED)
def plate_of_batches(wrong: bool) -> Setup:
    size = 32 if wrong else 500
    return Setup(Subsampled(positions, size), reals(), {"data_size": 500})


@mutant("plate", "the code is sampled in another plate than x, of the batch", "scaled differently", SUBSAMPLED)
def codes_in_a_plate_of_the_batch(wrong: bool) -> Setup:
    class Model(Subsampled):
        def model(self, x: Tensor) -> None:
            pyro.module("vae", self)
            with pyro.plate("codes", len(x)) if wrong else self.plate(x):
                z = pyro.sample("z", self.prior(x))
            with self.plate(x) if not wrong else pyro.plate("data", self.size, subsample=x):
                pyro.sample("x", self.likelihood(z), obs=x)

        def guide(self, x: Tensor) -> None:
            pyro.module("vae", self)
            with pyro.plate("codes", len(x)) if wrong else self.plate(x):
                pyro.sample("z", self.posterior(x))

    return Setup(Model(positions, 500), reals(), {"data_size": 500})


@mutant(
    "sites", "the indices that the plate drew for all the data, used in the batch", "other values than x", SUBSAMPLED
)
def subsampled_again(wrong: bool) -> Setup:
    class Model(Subsampled):
        def model(self, x: Tensor) -> None:
            pyro.module("vae", self)
            with self.plate(x) as index:
                observed = x[index % len(x)] if wrong else x
                z = pyro.sample("z", self.prior(x))
                pyro.sample("x", self.likelihood(z), obs=observed)

    return Setup(Model(lambda x: {"subsample_size": len(x)}, 500), reals(), {"data_size": 500})


@mutant("plate", "the plate of pixels is scaled to a larger image", "p(x|z) by 4")
def pixels_scaled_to_the_image(wrong: bool) -> Setup:
    class Model(Pixels):
        def pixels(self, x: Tensor) -> Any:
            size = 4 * ELEMENTS if wrong else ELEMENTS
            return pyro.plate("pixels", size, subsample=torch.arange(ELEMENTS), dim=-1)

    return Setup(Model(), reals())


@mutant("sites", "the plates of examples and of pixels have each other's place", "Shape mismatch", PIXELS)
def plates_in_the_wrong_order(wrong: bool) -> Setup:
    class Model(Pixels):
        def model(self, x: Tensor) -> None:
            if not wrong:
                super().model(x)
                return
            pyro.module("vae", self)
            with pyro.plate("data", len(x), dim=-1):
                z = pyro.sample("z", self.prior(x))
                with pyro.plate("pixels", ELEMENTS, dim=-2):
                    pyro.sample("x", dist.Normal(self.decoder(z), self.scale), obs=x)

        def guide(self, x: Tensor) -> None:
            if not wrong:
                super().guide(x)
                return
            pyro.module("vae", self)
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("z", self.posterior(x))

    return Setup(Model(), reals())


@mutant("shapes", "a plate of the size of this very batch", "whatever x is", SUBSAMPLED)
def plate_of_a_fixed_size(wrong: bool) -> Setup:
    return Setup(Subsampled(lambda _: {}, BATCH) if wrong else Subsampled(positions, 500), reals())


# Data that are changed on the way.


@mutant("sites", "the guide normalises x in place", "the guide changes x in place", twin=PLAIN)
def normalised_in_place(wrong: bool) -> Setup:
    class Model(Plain):
        def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
            if wrong:
                x -= 0.1
            return super().encode(x)

    return Setup(Model(), reals())


@mutant(
    "sites", "the model clamps x in place, to values that these data do not reach", "the model changes x", twin=PLAIN
)
def clamped_in_place(wrong: bool) -> Setup:
    class Model(Plain):
        def model(self, x: Tensor) -> None:
            super().model(x.clamp_(-100, 100) if wrong else x)

    return Setup(Model(), reals())


@mutant("sites", "the guide writes into x through NumPy", "the guide changes x in place", twin=PLAIN)
def changed_through_numpy(wrong: bool) -> Setup:
    class Model(Plain):
        def guide(self, x: Tensor) -> None:
            if wrong:
                x.numpy()[:, 0] = 0.0
            super().guide(x)

    return Setup(Model(), reals())


# Terms beside log p(x, z).


@mutant("trace-elbo", "a second data term by pyro.factor: the squared error again", "pyro.factor 'error'", twin=PLAIN)
def squared_error_as_factor(wrong: bool) -> Setup:
    class Model(Plain):
        def model(self, x: Tensor) -> None:
            pyro.module("vae", self)
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", self.prior(x))
                pyro.sample("x", self.likelihood(z), obs=x)
                if wrong:
                    pyro.factor("error", -(self.decoder(z) - x).square().sum(-1))

    return Setup(Model(), reals())


@mutant("sites", "a latent site that the guide forgets", "the guide does not", twin=PLAIN)
def latent_without_a_guide(wrong: bool) -> Setup:
    class Model(Plain):
        def likelihood(self, z: Tensor) -> Any:
            noise = pyro.sample("noise", dist.LogNormal(z.new_zeros(len(z)), 0.1)) if wrong else z.new_ones(len(z))
            return dist.Normal(self.decoder(z), self.scale * noise[:, None]).to_event(1)

    return Setup(Model(), reals())
