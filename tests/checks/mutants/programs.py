"""Bugs in model and guide: gradients, supports, sites, shapes, plates, noise, parameters."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor
from torch.nn import functional as F

from pyro_vae import VAE
from tests.checks.mutants.common import (
    BINARY,
    ELEMENTS,
    LATENTS,
    NOISY,
    PLAIN,
    Plain,
    Setup,
    bits,
    mutant,
    net,
    reals,
)
from tests.checks.mutants.plates import Subsampled

# Gradients of the programs themselves.


@mutant("gradient", "a distribution of one's own says has_rsample and draws without gradient", "rsample()", twin=NOISY)
def rsample_without_gradient(wrong: bool) -> Setup:
    class Ours(dist.Normal):
        def rsample(self, sample_shape: Any = ()) -> Tensor:
            noise = torch.randn(self._extended_shape(sample_shape), dtype=self.loc.dtype)
            z = self.loc + self.scale * noise
            return z.detach() if wrong else z

    class Model(Plain):
        def posterior(self, x: Tensor) -> Any:
            mean, log_variance = self.encode(x)
            return Ours(mean, torch.exp(log_variance / 2)).to_event(1)

    return Setup(Model(), reals())


@mutant("gradient", "tied weights that the decoder takes by .data", ".data")
def tied_weights_by_data(wrong: bool) -> Setup:
    class Model(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = net(LATENTS, 8)

        def likelihood(self, z: Tensor) -> Any:
            weight = self.encoder[0].weight  # (8, elements)
            mean = torch.tanh(self.decoder(z)) @ (weight.data if wrong else weight)
            return dist.Normal(3 * mean, self.scale).to_event(1)

    return Setup(Model().double(), reals().double())


@mutant("gradient", "log q(z|x) with its parameters held, but for the wrong half of the estimator")
def density_detached(wrong: bool) -> Setup:
    class Ours(dist.Normal):
        def log_prob(self, z: Tensor) -> Tensor:
            scale = self.scale.detach() if wrong else self.scale
            return dist.Normal(self.loc, scale).log_prob(z)

    class Model(Plain):
        def posterior(self, x: Tensor) -> Any:
            mean, log_variance = self.encode(x)
            return Ours(mean, torch.exp(log_variance / 2)).to_event(1)

    return Setup(Model(), reals())


# Supports.


@mutant("supports", "grey values under a Bernoulli, with validate_args=False", "Bernoulli")
def grey_values_as_bits(wrong: bool) -> Setup:
    class Model(Plain):
        def likelihood(self, z: Tensor) -> Any:
            return dist.Bernoulli(logits=self.decoder(z), validate_args=False).to_event(1)

    grey = reals().sigmoid()
    return Setup(Model(), grey if wrong else (grey > 0.5).float())


@mutant("supports", "a prior over positive z and a normal posterior, with validate_args=False", "outside the support")
def positive_prior_normal_posterior(wrong: bool) -> Setup:
    class Model(Plain):
        def prior(self, x: Tensor) -> Any:
            return dist.Exponential(x.new_ones(len(x), LATENTS), validate_args=False).to_event(1)

        def posterior(self, x: Tensor) -> Any:
            mean, log_variance = self.encode(x)
            family = dist.Normal if wrong else dist.LogNormal
            return family(mean, torch.exp(log_variance / 2)).to_event(1)

    return Setup(Model(), reals())


@mutant("supports", "a posterior over positive z under a normal prior", "cannot be the posterior", twin=PLAIN)
def normal_prior_positive_posterior(wrong: bool) -> Setup:
    class Model(Plain):
        def posterior(self, x: Tensor) -> Any:
            mean, log_variance = self.encode(x)
            family = dist.LogNormal if wrong else dist.Normal
            return family(mean, torch.exp(log_variance / 2), validate_args=False).to_event(1)

    return Setup(Model(), reals())


@mutant("sites", "missing values as NaN, with validate_args=False", "NaN")
def nan_in_the_data(wrong: bool) -> Setup:
    class Model(Plain):
        def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return super().encode(torch.where(torch.isnan(x), 0.0, x))

        def likelihood(self, z: Tensor) -> Any:
            return dist.Normal(self.decoder(z), self.scale, validate_args=False).to_event(1)

    x = reals()
    x[3, 2] = math.nan if wrong else 0.0
    return Setup(Model(), x)


# Sites.


@mutant("sites", "the latent site has another name in the guide", "code", twin=PLAIN)
def site_of_another_name(wrong: bool) -> Setup:
    class Model(Plain):
        def guide(self, x: Tensor) -> None:
            pyro.module("vae", self)
            with pyro.plate("data", len(x)):
                pyro.sample("code" if wrong else "z", self.posterior(x))

    return Setup(Model(), reals())


@mutant("sites", "the net's raw output as probs=", "probs", twin=BINARY)
def raw_output_as_probs(wrong: bool) -> Setup:
    class Model(Plain):
        def likelihood(self, z: Tensor) -> Any:
            raw = self.decoder(z)
            return dist.Bernoulli(**({"probs": raw} if wrong else {"logits": raw})).to_event(1)

    return Setup(Model(), bits())


@mutant("sites", "obs=x is forgotten", "obs=x is missing", twin=PLAIN)
def x_not_observed(wrong: bool) -> Setup:
    class Model(Plain):
        def model(self, x: Tensor) -> None:
            pyro.module("vae", self)
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", self.prior(x))
                pyro.sample("x", self.likelihood(z), obs=None if wrong else x)

    return Setup(Model(), reals())


@mutant("sites", "the encoder's raw output as a scale", "scale")
def raw_output_as_scale(wrong: bool) -> Setup:
    encoder, decoder = net(ELEMENTS, 8, 2 * LATENTS), net(LATENTS, 8, ELEMENTS)

    def posterior(x: Tensor) -> Any:
        mean, raw = encoder(x).chunk(2, dim=-1)
        return dist.Normal(mean, raw if wrong else F.softplus(raw) + 1e-6).to_event(1)

    vae = VAE(
        prior=lambda: dist.Normal(torch.zeros(LATENTS), 1.0).to_event(1),
        likelihood=lambda z: dist.Normal(decoder(z), 0.5).to_event(1),
        posterior=posterior,
    )
    return Setup(vae, reals())


# Shapes: most of them Pyro's own validation finds, in the line "sites".


@mutant("sites", "to_event(1) is forgotten on the posterior", "at site z", twin=PLAIN)
def no_event_on_z(wrong: bool) -> Setup:
    class Model(Plain):
        def posterior(self, x: Tensor) -> Any:
            q = super().posterior(x)
            return q.base_dist if wrong else q

    return Setup(Model(), reals())


@mutant("sites", "to_event(1) is forgotten on the likelihood", "at site x", twin=PLAIN)
def no_event_on_x(wrong: bool) -> Setup:
    class Model(Plain):
        def likelihood(self, z: Tensor) -> Any:
            return dist.Normal(self.decoder(z), self.scale).to_event(0 if wrong else 1)

    return Setup(Model(), reals())


@mutant("shapes", "the code is drawn outside the plate: one for all examples", "inside the plate", twin=PLAIN)
def code_outside_the_plate(wrong: bool) -> Setup:
    class Model(Plain):
        def model(self, x: Tensor) -> None:
            pyro.module("vae", self)
            if wrong:
                z = pyro.sample("z", self.prior(x[0]))
            with pyro.plate("data", len(x)):
                if not wrong:
                    z = pyro.sample("z", self.prior(x))
                pyro.sample("x", self.likelihood(z), obs=x)

        def prior(self, x: Tensor) -> Any:
            return dist.Normal(x.new_zeros(*x.shape[:-1], LATENTS), 1.0).to_event(1)

        def guide(self, x: Tensor) -> None:
            if not wrong:
                super().guide(x)
                return
            pyro.module("vae", self)
            pyro.sample("z", self.posterior(x.mean(0)))

    return Setup(Model(), reals())


@mutant("shapes", "no plate, and to_event(2) to silence Pyro: one event of the whole batch", "has shape ()", twin=PLAIN)
def batch_in_the_event(wrong: bool) -> Setup:
    class Model(Plain):
        def model(self, x: Tensor) -> None:
            if not wrong:
                super().model(x)
                return
            pyro.module("vae", self)
            z = pyro.sample("z", self.prior(x).to_event(1))
            pyro.sample("x", self.likelihood(z).to_event(1), obs=x)

        def guide(self, x: Tensor) -> None:
            if not wrong:
                super().guide(x)
                return
            pyro.module("vae", self)
            pyro.sample("z", self.posterior(x).to_event(1))

    return Setup(Model(), reals())


@mutant("examples", "to_event(2) inside the plate: each example counts the log-density of them all", "log p(x|z)")
def event_of_the_batch_in_the_plate(wrong: bool) -> Setup:
    class Model(Plain):
        def likelihood(self, z: Tensor) -> Any:
            return dist.Normal(self.decoder(z), self.scale).to_event(2 if wrong else 1)

    return Setup(Model(), reals())


# Plates and scales.


@mutant("plate", "the plate's size is not that of the data", "there are 100")
def plate_of_wrong_size(wrong: bool) -> Setup:
    return Setup(Subsampled(lambda x: {"subsample": x}, 200 if wrong else 100), reals(), {"data_size": 100})


@mutant("plate", "a weight on the likelihood's site, a beta in hiding", "scaled differently", twin=PLAIN)
def likelihood_scaled(wrong: bool) -> Setup:
    class Model(Plain):
        def model(self, x: Tensor) -> None:
            pyro.module("vae", self)
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", self.prior(x))
                with poutine.scale(scale=0.25 if wrong else 1.0):
                    pyro.sample("x", self.likelihood(z), obs=x)

    return Setup(Model(), reals())


@mutant("plate", "the model is scaled to all data and the guide is not", "q(z|x) by 1")
def guide_not_scaled(wrong: bool) -> Setup:
    class Model(Plain):
        def model(self, x: Tensor) -> None:
            with poutine.scale(scale=100 / len(x)):
                super().model(x)

        def guide(self, x: Tensor) -> None:
            with poutine.scale(scale=1.0 if wrong else 100 / len(x)):
                super().guide(x)

    return Setup(Model(), reals(), {"data_size": 100})
