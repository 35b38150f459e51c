"""Densities and draws that do not belong together, closed forms, and what is no density."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints, register_kl

from tests.checks.mutants.common import (
    ELEMENTS,
    LATENTS,
    NOISY,
    Plain,
    Setup,
    bits,
    mutant,
    reals,
)

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
