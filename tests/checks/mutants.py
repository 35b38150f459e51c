"""Bugs that people make in VAEs, each beside the same program with the one thing right."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import Tensor, nn
from torch.distributions import constraints, kl_divergence, register_kl
from torch.nn import functional as F

from pyro_vae import VAE

__all__ = ["MUTANTS", "Mutant", "Setup"]

BATCH, ELEMENTS, LATENTS = 16, 6, 2


@dataclass(frozen=True)
class Setup:
    """What goes into ``check(vae, x, **options)``."""

    vae: Any
    x: Tensor
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Mutant:
    """A bug.

    Args:
        name: of the bug.
        bug: in one line, as a user makes it.
        line: the line of the report that must be the first to fail.
        make: with True the program with the bug, with False its twin without.
        says: what the line's detail must say.
        twin: whose twin is the same program, where it is another's.
    """

    name: str
    bug: str
    line: str
    make: Callable[[bool], Setup]
    says: str = ""
    twin: str = ""


MUTANTS: list[Mutant] = []

# Whose twins stand for many: the plain VAE, the one over bits, and the one with draws by hand.
PLAIN, BINARY, NOISY = "kl_of_log_variance_as_log_scale", "double_sigmoid", "variance_as_scale_in_draws"


def mutant(
    line: str, bug: str, says: str = "", twin: str = ""
) -> Callable[[Callable[[bool], Setup]], Callable[[bool], Setup]]:
    """Puts a function of ``wrong`` into the table."""

    def add(make: Callable[[bool], Setup]) -> Callable[[bool], Setup]:
        MUTANTS.append(Mutant(make.__name__, bug, line, make, says, twin))
        return make

    return add


# A plain VAE, as it stands in many a script; the bugs are in one of its methods.


def net(*sizes: int, seed: int = 0) -> nn.Sequential:
    """A net with tanh between its layers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    between = [layer for linear in layers[:-1] for layer in (linear, nn.Tanh())]
    return nn.Sequential(*between, layers[-1])


class Plain(nn.Module):
    """p(z) = N(0, 1), p(x|z) = N(decoder(z), 1/2), q(z|x) = N(mean, exp(log_variance / 2)), scales second."""

    scale = 0.5

    def __init__(self) -> None:
        super().__init__()
        self.encoder = net(ELEMENTS, 8, 2 * LATENTS)
        self.decoder = net(LATENTS, 8, ELEMENTS, seed=1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(x).chunk(2, dim=-1)
        return 2 * mean, log_variance - 2  # a KL well above the noise of its estimates

    def prior(self, x: Tensor) -> Any:
        return dist.Normal(x.new_zeros(len(x), LATENTS), 1.0).to_event(1)

    def posterior(self, x: Tensor) -> Any:
        mean, log_variance = self.encode(x)
        return dist.Normal(mean, torch.exp(log_variance / 2)).to_event(1)

    def likelihood(self, z: Tensor) -> Any:
        return dist.Normal(self.decoder(z), self.scale).to_event(1)

    def model(self, x: Tensor) -> None:
        pyro.module("vae", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", self.likelihood(z), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("vae", self)
        with pyro.plate("data", len(x)):
            pyro.sample("z", self.posterior(x))


class Binary(Plain):
    """The same over bits."""

    def likelihood(self, z: Tensor) -> Any:
        return dist.Bernoulli(logits=self.decoder(z)).to_event(1)


def reals(batch: int = BATCH, seed: int = 1) -> Tensor:
    """Some data in float32."""
    return torch.randn(batch, ELEMENTS, generator=torch.Generator().manual_seed(seed))


def bits() -> Tensor:
    return (reals() > 0).float()


# Objectives by hand, beside a model and guide that are right.


def of_normal(vae: Plain, x: Tensor, z: Tensor) -> Tensor:
    """Log p(x|z) of :class:`Plain`, summed."""
    error = (x - vae.decoder(z)) ** 2
    return -(error / (2 * vae.scale**2) + math.log(vae.scale) + 0.5 * math.log(2 * math.pi)).sum()


def of_bits(vae: Plain, x: Tensor, z: Tensor) -> Tensor:
    return -F.binary_cross_entropy_with_logits(vae.decoder(z), x, reduction="sum")


def to_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(q || p), summed."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum()


def plain_loss(recon: Tensor, kl: Tensor) -> Tensor:
    return kl - recon


def with_objective(
    make: type[Plain] = Plain,
    log_x: Callable[[Plain, Tensor, Tensor], Tensor] = of_normal,
    kl: Callable[[Tensor, Tensor], Tensor] = to_prior,
    loss: Callable[[Tensor, Tensor], Tensor] = plain_loss,
    draw: Callable[[Tensor], Tensor] = lambda z: z,
) -> Setup:
    """A VAE and its loss by hand, made of exchangeable steps."""
    vae, x = make(), bits() if make is Binary else reals()

    def objective(x: Tensor) -> Tensor:
        mean, log_variance = vae.encode(x)
        z = draw(mean + torch.exp(log_variance / 2) * torch.randn_like(mean))
        return loss(log_x(vae, x, z), kl(mean, log_variance))

    return Setup(vae, x, {"objective": objective})


def wrong_step(name: str, bug: str, says: str = "", line: str = "objective", **step: Any) -> None:
    """A bug in one step of an objective by hand; all share one twin for each kind of data."""
    right = {"make": Binary, "log_x": of_bits} if step.get("make") is Binary else {}
    twin = BINARY if right else PLAIN
    MUTANTS.append(
        Mutant(
            name,
            bug,
            line,
            lambda wrong: with_objective(**(right | step if wrong else right)),
            says,
            "" if name == twin else twin,
        )
    )


wrong_step(
    "kl_of_log_variance_as_log_scale",
    "the KL takes the encoder's log-variance for a log-scale",
    kl=lambda mean, log_scale: 0.5 * (mean**2 + (2 * log_scale).exp() - 1 - 2 * log_scale).sum(),
)
wrong_step(
    "kl_without_half",
    "the factor 1/2 of the KL is missing",
    "a factor 1/2 is missing",
    kl=lambda mean, log_variance: (mean**2 + log_variance.exp() - 1 - log_variance).sum(),
)
wrong_step(
    "kl_mean_over_latents",
    "a mean over the latents instead of a sum",
    "KL / 2",
    kl=lambda mean, log_variance: 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean(1).sum(),
)
wrong_step(
    "kl_mean_over_batch",
    "a KL averaged over the batch beside a reconstruction that is summed over it",
    "- log p(x|z)",  # a sixteenth of the KL is within the noise of none
    kl=lambda mean, log_variance: 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean(),
)
wrong_step(
    "kl_turned_round",
    "KL(p || q) instead of KL(q || p)",
    kl=lambda mean, log_variance: 0.5 * ((mean**2 + 1) * (-log_variance).exp() - 1 + log_variance).sum(),
)
wrong_step("kl_left_out", "no KL at all: an autoencoder", "it is left out", loss=lambda recon, kl: -recon)
wrong_step(
    "recon_mean_over_elements",
    "the mean over the pixels instead of the sum",
    "a mean over the elements of x",
    loss=lambda recon, kl: kl - recon / ELEMENTS,
)
wrong_step(
    "mean_over_batch",
    "the loss is the mean over the batch",
    "a mean over the batch",
    loss=lambda recon, kl: (kl - recon) / BATCH,
)
wrong_step("in_bits", "base-2 logarithms", "in bits", loss=lambda recon, kl: (kl - recon) / math.log(2))
wrong_step("sign_turned_round", "the bound is minimised", "the sign is turned round", loss=lambda recon, kl: recon - kl)
wrong_step(
    "mse_without_scale",
    "half the squared error, as if the model's scale were 1",
    log_x=lambda vae, x, z: -0.5 * F.mse_loss(vae.decoder(z), x, reduction="sum"),
)
wrong_step(
    "mse_without_constant",
    "the squared error without the normal's constant",
    log_x=lambda vae, x, z: -F.mse_loss(vae.decoder(z), x, reduction="sum") / (2 * vae.scale**2),
)
wrong_step(
    "double_sigmoid",
    "binary_cross_entropy_with_logits of what is a probability already",
    make=Binary,
    log_x=lambda vae, x, z: -F.binary_cross_entropy_with_logits(vae.decoder(z).sigmoid(), x, reduction="sum"),
)
wrong_step(
    "mean_cross_entropy",
    "binary_cross_entropy_with_logits at its default, a mean over batch and pixels",
    "a mean over batch and elements",
    make=Binary,
    log_x=lambda vae, x, z: -F.binary_cross_entropy_with_logits(vae.decoder(z), x),
)
wrong_step(
    "draw_without_gradient",
    "sample() where rsample() is meant",
    "encoder",
    "objective-gradient",
    draw=lambda z: z.detach(),
)
wrong_step(
    "kl_detached",
    "the KL is detached, as where it was meant for the log file alone",
    "encoder",
    "objective-gradient",
    kl=lambda mean, log_variance: to_prior(mean, log_variance).detach(),
)
wrong_step(
    "decoder_detached",
    "the decoder's output is detached",
    "decoder",
    "objective-gradient",
    log_x=lambda vae, x, z: (
        -((x - vae.decoder(z).detach()) ** 2).sum() / (2 * vae.scale**2)
        - x.numel() * (math.log(vae.scale) + 0.5 * math.log(2 * math.pi))
    ),
)


@mutant("objective", "the importance-weighted bound without - log k")
def iwae_without_log_k(wrong: bool) -> Setup:
    vae, k = Plain().double(), 5

    def objective(x: Tensor) -> Tensor:
        q = vae.posterior(x)
        z = q.rsample((k,))
        log_weight = vae.likelihood(z).log_prob(x) + vae.prior(x).log_prob(z) - q.log_prob(z)
        bound = log_weight.logsumexp(0) - (0 if wrong else math.log(k))
        return -bound.sum()

    return Setup(vae, reals().double(), {"objective": objective, "importance_samples": k})


@mutant("objective", "an ELBO of Pyro's that weighs the KL twice", "a factor 1/2 is missing")
def elbo_class_with_two_kl(wrong: bool) -> Setup:
    class Ours(Trace_ELBO):
        def differentiable_loss(self, model: Any, guide: Any, *args: Any) -> Tensor:
            q = poutine.trace(guide).get_trace(*args)
            p = poutine.trace(poutine.replay(model, q)).get_trace(*args)
            log_q, log_p = q.log_prob_sum(), p.log_prob_sum(lambda name, site: name == "z")
            log_x = p.log_prob_sum(lambda name, site: name == "x")
            return (2 if wrong else 1) * (log_q - log_p) - log_x

    return Setup(Plain(), reals(), {"objective": Ours()})


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


# Densities.


class Mixture(dist.TorchDistribution):
    """Normals with weights, over vectors."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.real_vector
    locs = torch.tensor([[1.5, 0.0], [-1.5, 0.5], [0.0, -1.5]])
    logits = torch.tensor([1.0, 0.0, -1.0])

    def __init__(self, batch: int, like: Tensor) -> None:
        self.locs, self.logits = self.locs.to(like), self.logits.to(like)
        super().__init__((batch,), (LATENTS,), validate_args=False)

    def weights(self) -> Tensor:
        return torch.log_softmax(self.logits, -1)

    def choose(self, shape: Any) -> Tensor:
        return dist.Categorical(logits=self.logits).sample(shape)

    def log_prob(self, z: Tensor) -> Tensor:
        log_p = dist.Normal(self.locs, 0.7).to_event(1).log_prob(z.unsqueeze(-2))
        return (self.weights() + log_p).logsumexp(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        loc = self.locs[self.choose((*sample_shape, *self.batch_shape))]
        return loc + 0.7 * torch.randn_like(loc)


@mutant("prior-mass", "the log-weights of a mixture are not normalised", "normalisation")
def weights_not_normalised(wrong: bool) -> Setup:
    class Ours(Mixture):
        def weights(self) -> Tensor:
            return self.logits if wrong else super().weights()

    class Model(Plain):
        def prior(self, x: Tensor) -> Any:
            return Ours(len(x), x)

    return Setup(Model(), reals())


@mutant("prior-draws", "a mixture is drawn from as if all its components had one weight", "component")
def weights_ignored_in_draws(wrong: bool) -> Setup:
    class Ours(Mixture):
        def choose(self, shape: Any) -> Tensor:
            return torch.randint(len(self.logits), shape) if wrong else super().choose(shape)

    class Model(Plain):
        def prior(self, x: Tensor) -> Any:
            return Ours(len(x), x)

    return Setup(Model(), reals())


@mutant("likelihood-mass", "a normal's log-density without its - log(2 pi) / 2", "constant")
def normal_without_constant(wrong: bool) -> Setup:
    class Ours(dist.Normal):
        def log_prob(self, x: Tensor) -> Tensor:
            constant = 0.0 if wrong else 0.5 * math.log(2 * math.pi)
            return -0.5 * ((x - self.loc) / self.scale) ** 2 - self.scale.log() - constant

    class Model(Plain):
        def likelihood(self, z: Tensor) -> Any:
            return Ours(self.decoder(z), self.scale).to_event(1)

    return Setup(Model(), reals())


@mutant("likelihood-mass", "log(p + 0.01), to be safe", "mass is 1.02")
def epsilon_in_the_logarithm(wrong: bool) -> Setup:
    class Ours(dist.Bernoulli):
        def log_prob(self, x: Tensor) -> Tensor:
            p = self.logits.sigmoid()
            if wrong:
                return x * torch.log(p + 0.01) + (1 - x) * torch.log(1 - p + 0.01)
            return super().log_prob(x)

    class Model(Plain):
        def likelihood(self, z: Tensor) -> Any:
            return Ours(logits=self.decoder(z)).to_event(1)

    return Setup(Model(), bits())


@mutant("posterior-mass", "a squashed posterior without the tanh's Jacobian", "Jacobian")
def jacobian_forgotten(wrong: bool) -> Setup:
    class Squashed(dist.TransformedDistribution):
        def log_prob(self, z: Tensor) -> Tensor:
            return self.base_dist.log_prob(z.atanh()) if wrong else super().log_prob(z)

    class Model(Plain):
        def prior(self, x: Tensor) -> Any:
            return dist.Uniform(-x.new_ones(len(x), LATENTS), 1.0).to_event(1)

        def posterior(self, x: Tensor) -> Any:
            mean, log_variance = self.encode(x)
            normal = dist.Normal(mean, torch.exp(log_variance / 2))
            return Squashed(normal, [dist.transforms.TanhTransform()]).to_event(1)

    return Setup(Model(), reals())


# Draws.


@mutant("posterior-draws", "draws with exp(log_variance), their density with exp(log_variance / 2)", "variance")
def variance_as_scale_in_draws(wrong: bool) -> Setup:
    class Ours(dist.Normal):
        def rsample(self, sample_shape: Any = ()) -> Tensor:
            noise = torch.randn(self._extended_shape(sample_shape), dtype=self.loc.dtype)
            return self.loc + (self.scale**2 if wrong else self.scale) * noise

    class Model(Plain):
        def posterior(self, x: Tensor) -> Any:
            mean, log_variance = self.encode(x)
            return Ours(mean, torch.exp(log_variance / 2)).to_event(1)

    return Setup(Model(), reals())


@mutant("posterior-draws", "one noise for all draws of z for an example", twin=NOISY)
def one_noise_for_all_particles(wrong: bool) -> Setup:
    class Ours(dist.Normal):
        def rsample(self, sample_shape: Any = ()) -> Tensor:
            shape = self._extended_shape(sample_shape)
            noise = torch.randn(self.batch_shape if wrong else shape, dtype=self.loc.dtype)
            return self.loc + self.scale * noise.expand(shape)

    class Model(Plain):
        def posterior(self, x: Tensor) -> Any:
            mean, log_variance = self.encode(x)
            return Ours(mean, torch.exp(log_variance / 2)).to_event(1)

    return Setup(Model(), reals())


@mutant("likelihood-draws", "x is drawn with the variance for a scale", "variance")
def variance_as_scale_in_x(wrong: bool) -> Setup:
    class Ours(dist.Normal):
        def sample(self, sample_shape: Any = ()) -> Tensor:
            with torch.no_grad():
                wide = self.loc.expand(self._extended_shape(sample_shape))
                return torch.normal(wide, (self.scale**2 if wrong else self.scale).expand_as(wide))

    class Model(Plain):
        def likelihood(self, z: Tensor) -> Any:
            return Ours(self.decoder(z), self.scale).to_event(1)

    return Setup(Model(), reals())


# Closed forms.


class RightlyKnown(dist.Normal):
    """A normal with its KL to the prior by hand."""


class WronglyKnown(dist.Normal):
    """The same, without the factor 1/2."""


@register_kl(RightlyKnown, dist.Normal)
def _right(q: Any, p: Any) -> Tensor:
    return 0.5 * (q.loc**2 + q.scale**2 - 1 - 2 * q.scale.log())


@register_kl(WronglyKnown, dist.Normal)
def _wrong(q: Any, p: Any) -> Tensor:
    return q.loc**2 + q.scale**2 - 1 - 2 * q.scale.log()


@mutant("kl", "register_kl of a formula without its 1/2", "formula")
def registered_kl_without_half(wrong: bool) -> Setup:
    class Model(Plain):
        def posterior(self, x: Tensor) -> Any:
            mean, log_variance = self.encode(x)
            family = WronglyKnown if wrong else RightlyKnown
            return family(mean, torch.exp(log_variance / 2)).to_event(1)

    return Setup(Model(), reals())


# Sites that the sum over sites counts and the bound does not.


@mutant("trace-elbo", "a penalty on the weights, put into the model by pyro.factor")
def penalty_as_factor(wrong: bool) -> Setup:
    class Model(Plain):
        def model(self, x: Tensor) -> None:
            super().model(x)
            if wrong:
                pyro.factor("penalty", -0.1 * sum((p**2).sum() for p in self.decoder.parameters()))

    return Setup(Model(), reals())


# Discrete codes.


@mutant("enum-elbo", "a decoder that counts the dimensions of z from the left", "Error")
def decoder_not_for_enumeration(wrong: bool) -> Setup:
    class Model(Plain):
        def prior(self, x: Tensor) -> Any:
            return dist.OneHotCategorical(logits=x.new_zeros(len(x), LATENTS))

        def posterior(self, x: Tensor) -> Any:
            return dist.OneHotCategorical(logits=self.encode(x)[0])

        def likelihood(self, z: Tensor) -> Any:
            return super().likelihood(z.flatten(1) if wrong else z.flatten(-1))

        def guide(self, x: Tensor) -> None:
            pyro.module("vae", self)
            with pyro.plate("data", len(x)):
                pyro.sample("z", self.posterior(x), infer={"enumerate": "parallel"})

    return Setup(Model(), reals())


# The true posterior.


def conjugate(x: Tensor, variance: Callable[[float], float], see: Callable[[Tensor], Tensor]) -> Setup:
    """x = W z + noise, with orthogonal columns in W, of which the posterior is known."""
    generator = torch.Generator().manual_seed(3)
    weight, _ = torch.linalg.qr(torch.randn(ELEMENTS, LATENTS, dtype=torch.float64, generator=generator))
    noise = 0.5

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), LATENTS), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ weight.T, noise).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        spread = 1 / (1 + 1 / variance(noise))
        with pyro.plate("data", len(x)):
            mean = spread * (see(x) @ weight) / variance(noise)
            pyro.sample("z", dist.Normal(mean, math.sqrt(spread)).to_event(1))

    return Setup((model, guide), x, {"exact": True})


@mutant("exact-posterior", "the noise's scale for its variance in the true posterior", "changes with z")
def scale_for_variance_in_the_posterior(wrong: bool) -> Setup:
    return conjugate(reals().double(), lambda scale: scale if wrong else scale**2, lambda x: x)


@mutant("calibration", "the encoder drops outliers, of which these data have none", "not the true posterior")
def outliers_dropped(wrong: bool) -> Setup:
    def see(x: Tensor) -> Tensor:
        return torch.where(x.abs() < 0.3, x, 0.0) if wrong else x

    return conjugate(0.05 * reals().double(), lambda scale: scale**2, see)
