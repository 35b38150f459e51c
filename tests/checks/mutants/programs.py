"""Bugs in model and guide: gradients, supports, sites, shapes, plates, noise, parameters."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import kl_divergence
from torch.nn import functional as F

from pyro_vae import VAE
from tests.checks.mutants.common import (
    BATCH,
    BINARY,
    ELEMENTS,
    LATENTS,
    NOISY,
    PLAIN,
    Binary,
    Plain,
    Setup,
    bits,
    mutant,
    net,
    reals,
)

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


@mutant("supports", "a prior over positive z and a normal posterior, with validate_args=False", "no density")
def positive_prior_normal_posterior(wrong: bool) -> Setup:
    class Model(Plain):
        def prior(self, x: Tensor) -> Any:
            return dist.Exponential(x.new_ones(len(x), LATENTS), validate_args=False).to_event(1)

        def posterior(self, x: Tensor) -> Any:
            mean, log_variance = self.encode(x)
            family = dist.Normal if wrong else dist.LogNormal
            return family(mean, torch.exp(log_variance / 2)).to_event(1)

    return Setup(Model(), reals())


@mutant("supports", "a posterior over positive z under a normal prior", "never be the posterior", twin=PLAIN)
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


@mutant("sites", "obs=x is forgotten", "nothing ties", twin=PLAIN)
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


class Subsampled(Plain):
    """A plate of the size of all the data, of which x is a part."""

    size = 100

    def model(self, x: Tensor) -> None:
        pyro.module("vae", self)
        with pyro.plate("data", self.size, subsample=x):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", self.likelihood(z), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("vae", self)
        with pyro.plate("data", self.size, subsample=x):
            pyro.sample("z", self.posterior(x))


@mutant("plate", "the plate's size is not that of the data", "there are 100")
def plate_of_wrong_size(wrong: bool) -> Setup:
    class Model(Subsampled):
        size = 200 if wrong else 100

    return Setup(Model(), reals(), {"data_size": 100})


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


# What changes from call to call.


@mutant("deterministic", "functional dropout, which eval() does not switch off", "dropout")
def dropout_left_on(wrong: bool) -> Setup:
    class Model(Plain):
        def likelihood(self, z: Tensor) -> Any:
            mean = F.dropout(self.decoder(z), 0.2, training=True if wrong else self.training)
            return dist.Normal(mean, self.scale).to_event(1)

    return Setup(Model(), reals())


@mutant("deterministic", "noise is added to what the decoder gives", "log p(x|z) changes")
def noise_on_the_mean(wrong: bool) -> Setup:
    class Model(Plain):
        def likelihood(self, z: Tensor) -> Any:
            mean = self.decoder(z)
            return dist.Normal(mean + 0.1 * torch.randn_like(mean) if wrong else mean, self.scale).to_event(1)

    return Setup(Model().double(), reals().double())


# Examples that see each other.


@mutant("examples", "a softmax over dimension 0", "softmax")
def softmax_over_the_batch(wrong: bool) -> Setup:
    class Model(Plain):
        def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return super().encode(3 * torch.softmax(x, dim=0 if wrong else -1))

    return Setup(Model(), reals())


@mutant("examples", "batch norm by hand, with the statistics of the batch", "log q(z|x)")
def batch_norm_by_hand(wrong: bool) -> Setup:
    class Model(Plain):
        def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
            mean, std = (x.mean(0), x.std(0)) if wrong else (0.1, 1.1)  # the right ones are those of all data
            return super().encode((x - mean) / std)

    return Setup(Model(), reals())


@mutant("examples", "a reshape where a transpose is meant", "reshape")
def reshape_mixes_examples(wrong: bool) -> Setup:
    class Model(Plain):
        def likelihood(self, z: Tensor) -> Any:
            columns = torch.stack([self.decoder[:-1](z) @ w for w in self.decoder[-1].weight])  # (elements, batch)
            mean = columns.reshape(-1, ELEMENTS) if wrong else columns.T
            return dist.Normal(mean + self.decoder[-1].bias, self.scale).to_event(1)

    return Setup(Model(), reals())


@mutant("modes", "the mean is cut off in training mode alone", "in training mode", twin=PLAIN)
def mean_detached_in_training(wrong: bool) -> Setup:
    class Model(Plain):
        def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
            mean, log_variance = super().encode(x)
            if wrong and self.training:
                return torch.zeros_like(mean), torch.zeros_like(mean)
            return mean, log_variance

    return Setup(Model(), reals())


@mutant("sites", "the model divides x by 255 and leaves the density as it is", "other values than x", twin=PLAIN)
def scaled_in_the_model(wrong: bool) -> Setup:
    class Model(Plain):
        def model(self, x: Tensor) -> None:
            super().model(x / 255 if wrong else x)

    return Setup(Model(), reals())


@mutant("sites", "the model makes grey values zeros and ones by itself", "other values than x", twin=BINARY)
def binarised_in_the_model(wrong: bool) -> Setup:
    class Model(Binary):
        def model(self, x: Tensor) -> None:
            super().model((x > 0.5).float() if wrong else x)

    return Setup(Model(), torch.sigmoid(reals()) if wrong else bits())


@mutant("peeking", "the prior is made by the encoder, so that the KL is zero", "p(z) changes", twin=PLAIN)
def prior_from_the_encoder(wrong: bool) -> Setup:
    class Model(Plain):
        def prior(self, x: Tensor) -> Any:
            return self.posterior(x) if wrong else super().prior(x)

    return Setup(Model(), reals())


@mutant("peeking", "a skip connection past z, from x to the decoder", "p(x|z) changes", twin=PLAIN)
def skip_connection_past_the_code(wrong: bool) -> Setup:
    class Model(Plain):
        def model(self, x: Tensor) -> None:
            pyro.module("vae", self)
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", self.prior(x))
                mean = self.decoder(z) + (0.5 * x if wrong else 0.0)
                pyro.sample("x", dist.Normal(mean, self.scale).to_event(1), obs=x)

    return Setup(Model(), reals())


@mutant("noise", "noise of shape (1, latents), the same for all examples", "share", twin=NOISY)
def shared_noise(wrong: bool) -> Setup:
    class Ours(dist.Normal):
        def rsample(self, sample_shape: Any = ()) -> Tensor:
            *before, batch, latents = self._extended_shape(sample_shape)
            noise = torch.randn(*before, 1 if wrong else batch, latents, dtype=self.loc.dtype)
            return self.loc + self.scale * noise

    class Model(Plain):
        def posterior(self, x: Tensor) -> Any:
            mean, log_variance = self.encode(x)
            return Ours(mean, torch.exp(log_variance / 2)).to_event(1)

    return Setup(Model(), reals())


# Clamps.


@mutant("clamps", "a log-variance held in a range that it leaves", "clamp changed", twin=PLAIN)
def log_variance_clamped(wrong: bool) -> Setup:
    class Model(Plain):
        def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
            mean, log_variance = super().encode(x)
            return mean, log_variance.clamp(-1.0, 4.0) if wrong else log_variance

    return Setup(Model(), reals())


@mutant("clamps", "probs=sigmoid(...), which float32 saturates", "clamp changed")
def saturated_probabilities(wrong: bool) -> Setup:
    class Model(Plain):
        def likelihood(self, z: Tensor) -> Any:
            logits = 100 * self.decoder(z)
            return dist.Bernoulli(**({"probs": logits.sigmoid()} if wrong else {"logits": logits})).to_event(1)

    return Setup(Model(), bits())


@mutant("clamps", "nan_to_num over 0 log 0 in the loss", "nan_to_num changed")
def nan_hidden(wrong: bool) -> Setup:
    class Model(Binary):
        def likelihood(self, z: Tensor) -> Any:
            return dist.Bernoulli(logits=100 * self.decoder(z)).to_event(1)

    vae = Model()

    def objective(x: Tensor) -> Tensor:
        q = vae.posterior(x)
        logits = 100 * vae.decoder(q.rsample())
        if wrong:
            p = logits.sigmoid()
            recon = torch.nan_to_num(x * p.log() + (1 - x) * (1 - p).log())
        else:
            recon = -F.binary_cross_entropy_with_logits(logits, x, reduction="none")
        return kl_divergence(q, vae.prior(x)).sum() - recon.sum()

    return Setup(vae, bits(), {"objective": objective})


# What the decoder can say.


@mutant("reach", "Bernoulli(logits=sigmoid(...))", "sigmoid", twin=BINARY)
def sigmoid_as_logits(wrong: bool) -> Setup:
    class Model(Plain):
        def likelihood(self, z: Tensor) -> Any:
            raw = self.decoder(z)
            return dist.Bernoulli(logits=raw.sigmoid() if wrong else raw).to_event(1)

    return Setup(Model(), bits())


@mutant("reach", "a tanh at the end of the decoder, and data beyond 1", "another scale")
def tanh_too_small_for_the_data(wrong: bool) -> Setup:
    class Model(Plain):
        def likelihood(self, z: Tensor) -> Any:
            raw = self.decoder(z)
            return dist.Normal(raw.tanh() if wrong else raw, self.scale).to_event(1)

    return Setup(Model(), 5 * reals())


# Parameters.


@mutant("parameters", "mean and scale of the posterior are detached", "encoder", twin=PLAIN)
def posterior_detached(wrong: bool) -> Setup:
    class Model(Plain):
        def posterior(self, x: Tensor) -> Any:
            mean, log_variance = self.encode(x)
            if wrong:
                mean, log_variance = mean.detach(), log_variance.detach()
            return dist.Normal(mean, torch.exp(log_variance / 2)).to_event(1)

    return Setup(Model(), reals())


@mutant(
    "parameters",
    "a second model, and Pyro's store still holds the first one's parameters",
    "clear_param_store",
    twin=PLAIN,
)
def stale_store(wrong: bool) -> Setup:
    if wrong:
        pyro.module("vae", Plain())
    return Setup(Plain(), reals())


@mutant("parameters", "pyro.module is forgotten for the decoder", "decoder")
def decoder_not_declared(wrong: bool) -> Setup:
    class Model(Plain):
        def model(self, x: Tensor) -> None:
            if not wrong:
                pyro.module("decoder", self.decoder)
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", self.prior(x))
                pyro.sample("x", self.likelihood(z), obs=x)

        def guide(self, x: Tensor) -> None:
            pyro.module("encoder", self.encoder)
            with pyro.plate("data", len(x)):
                pyro.sample("z", self.posterior(x))

    return Setup(Model(), reals())


@mutant("parameters", "a layer that forward does not use", "skip")
def layer_not_used(wrong: bool) -> Setup:
    class Model(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.skip = net(LATENTS, ELEMENTS, seed=2)

        def likelihood(self, z: Tensor) -> Any:
            mean = self.decoder(z) if wrong else self.decoder(z) + self.skip(z)
            return dist.Normal(mean, self.scale).to_event(1)

    return Setup(Model(), reals())


@mutant("data", "grey levels under a density with a learned scale, not dequantised", "16")
def levels_not_dequantised(wrong: bool) -> Setup:
    class Model(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.raw = nn.Parameter(torch.zeros(()))

        def likelihood(self, z: Tensor) -> Any:
            return dist.Normal(self.decoder(z), F.softplus(self.raw) + 1e-6).to_event(1)

    generator = torch.Generator().manual_seed(2)
    levels = torch.randint(0, 16, (BATCH, ELEMENTS), generator=generator)
    noise = torch.zeros(()) if wrong else torch.rand(levels.shape, generator=generator)
    return Setup(Model(), (levels + noise) / 16)
