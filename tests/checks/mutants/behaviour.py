"""Bugs in what model and guide depend on: noise, neighbours, x itself, clamps, what a decoder can say, parameters."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence
from torch.nn import functional as F

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


@mutant(
    "modes", "the condition is turned round: in training mode z is the mean", "is a point in training mode", twin=PLAIN
)
def a_point_in_training(wrong: bool) -> Setup:
    class Model(Plain):
        def posterior(self, x: Tensor) -> Any:
            q = super().posterior(x)
            return dist.Delta(q.mean, event_dim=1) if wrong and self.training else q

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


@mutant("reach", "a ReLU at the end of the decoder, and data below zero", "another scale", twin=PLAIN)
def relu_at_the_end(wrong: bool) -> Setup:
    class Model(Plain):
        def likelihood(self, z: Tensor) -> Any:
            raw = self.decoder(z)
            return dist.Normal(raw.relu() if wrong else raw, self.scale).to_event(1)

    return Setup(Model(), reals())


@mutant("reach", "a sigmoid as the mean of grey values, and x / 255 is forgotten", "another scale")
def grey_values_not_scaled(wrong: bool) -> Setup:
    class Model(Plain):
        def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return super().encode(x / 255 if wrong else x)

        def likelihood(self, z: Tensor) -> Any:
            return dist.Normal(self.decoder(z).sigmoid(), self.scale).to_event(1)

    grey = 255 * reals().sigmoid()
    return Setup(Model(), grey if wrong else grey / 255)


@mutant("reach", "the log of a rate without its exp, as softplus of a sigmoid", "another scale")
def rate_without_exp(wrong: bool) -> Setup:
    class Model(Plain):
        def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return super().encode(torch.log1p(x))

        def likelihood(self, z: Tensor) -> Any:
            raw = self.decoder(z)
            return dist.Poisson(F.softplus(raw.sigmoid()) if wrong else raw.exp()).to_event(1)

    return Setup(Model(), torch.poisson(20 * reals().sigmoid(), generator=torch.Generator().manual_seed(3)))
