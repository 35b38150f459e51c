"""Densities over vectors whose elements depend on each other, and over spheres."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.nn.functional import normalize

from tests.checks.mutants.common import BATCH, ELEMENTS, Binary, Plain, Setup, bits, mutant, net, reals

# Bits, levels and counts, one after the other.


class Autoregressive(dist.TorchDistribution):
    """Each element given those before it: log p(x) = Σ log p(x_i | x_<i)."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.independent(constraints.boolean, 1)

    def __init__(self, h: Tensor, weight: Tensor, mask: Tensor, backwards: bool = False) -> None:
        self.h, self.weight, self.mask, self.backwards = h, weight, mask, backwards
        super().__init__(h.shape[:-1], h.shape[-1:], validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return type(self)(self.h.expand(*batch_shape, -1), self.weight, self.mask, self.backwards)

    def given(self, x: Tensor) -> Tensor:
        return self.h + x @ (self.weight * self.mask.to(x)).T

    def element(self, x: Tensor) -> Any:
        return dist.Bernoulli(logits=self.given(x))

    def log_prob(self, x: Tensor) -> Tensor:
        return self.element(x).log_prob(x).sum(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            x = self.h.new_zeros(*sample_shape, *self.h.shape)
            order = range(x.shape[-1])
            for i in reversed(order) if self.backwards else order:
                x[..., i] = self.element(x).sample()[..., i]
            return x


def weights(scale: float = 1.0) -> Tensor:
    return scale * torch.randn(ELEMENTS, ELEMENTS, generator=torch.Generator().manual_seed(3))


def before() -> Tensor:
    """Which elements each may see."""
    return torch.tril(torch.ones(ELEMENTS, ELEMENTS), -1)


class Sequential(Binary):
    """Bits of which each is given those before it."""

    family: Any = Autoregressive
    scale = 1.5

    def __init__(self, mask: Tensor, backwards: bool = False) -> None:
        super().__init__()
        self.weight, self.mask, self.backwards = nn.Parameter(weights(self.scale)), mask, backwards

    def likelihood(self, z: Tensor) -> Any:
        return self.family(self.decoder(z), self.weight, self.mask, self.backwards)


@mutant("likelihood-mass", "an autoregressive mask with its diagonal: each bit is given itself", "see its own element")
def mask_leaks(wrong: bool) -> Setup:
    return Setup(Sequential(torch.tril(torch.ones(ELEMENTS, ELEMENTS)) if wrong else before()), bits())


@mutant("likelihood-draws", "bits are drawn from the last to the first, and each is given those before it", "follow")
def drawn_in_another_order(wrong: bool) -> Setup:
    return Setup(Sequential(before(), backwards=wrong), bits())


class Counting(Autoregressive):
    """Counts of which each is given those before it."""

    support = constraints.independent(constraints.nonnegative_integer, 1)
    wrong = False

    def element(self, x: Tensor) -> Any:
        return dist.Poisson(torch.exp(0.5 * torch.tanh(self.given(x))))

    def log_prob(self, x: Tensor) -> Tensor:
        rate = self.element(x).rate
        return (x * rate.log() - rate - (0 if self.wrong else torch.lgamma(x + 1))).sum(-1)


@mutant("likelihood-mass", "the Poisson density of counts in a row, without log x!", "mass is above 1")
def counts_without_factorial(wrong: bool) -> Setup:
    class Ours(Counting):
        pass

    class Model(Sequential):
        family, scale = Ours, 0.3

    Ours.wrong = wrong
    return Setup(Model(before()), torch.poisson(torch.ones(BATCH, ELEMENTS), torch.Generator().manual_seed(2)))


@mutant("likelihood-mass", "a multinomial without its coefficient", "normalisation")
def multinomial_without_coefficient(wrong: bool) -> Setup:
    class Ours(dist.Multinomial):
        def log_prob(self, x: Tensor) -> Tensor:
            return (x * self.logits.log_softmax(-1)).sum(-1) if wrong else super().log_prob(x)

        def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
            return Ours(self.total_count, logits=self.logits.expand(*batch_shape, -1), validate_args=False)

    class Model(Plain):
        def likelihood(self, z: Tensor) -> Any:
            return Ours(5, logits=self.decoder(z), validate_args=False)

    x = dist.Multinomial(5, logits=torch.zeros(BATCH, ELEMENTS))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Setup(Model(), x.sample())


@mutant("prior-mass", "the logits of one-hot groups normalised over the groups", "normalisation")
def softmax_over_groups(wrong: bool) -> Setup:
    class Groups(dist.TorchDistribution):
        """Three one-hot groups of four, without a list of their values."""

        arg_constraints: ClassVar[dict[str, Any]] = {}
        support = constraints.independent(constraints.one_hot, 1)

        def __init__(self, logits: Tensor) -> None:
            self.logits = logits
            super().__init__(logits.shape[:-2], logits.shape[-2:], validate_args=False)

        def log_prob(self, z: Tensor) -> Tensor:
            return (z * self.logits.log_softmax(-2 if wrong else -1)).sum((-2, -1))

        def sample(self, sample_shape: Any = ()) -> Tensor:
            return dist.OneHotCategorical(logits=self.logits).sample(sample_shape)

        def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
            return Groups(self.logits.expand(*batch_shape, -1, -1))

    class Model(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.logits = nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4))
            self.encoder, self.decoder = net(ELEMENTS, 8, 12), net(12, 8, ELEMENTS, seed=1)

        def prior(self, x: Tensor) -> Any:
            return Groups(self.logits.expand(len(x), 3, 4))

        def posterior(self, x: Tensor) -> Any:
            return dist.OneHotCategorical(logits=self.encoder(x).unflatten(-1, (3, 4))).to_event(1)

        def likelihood(self, z: Tensor) -> Any:
            return super().likelihood(z.flatten(-2))

    return Setup(Model(), reals())


# Spheres.


class OnSphere(Plain):
    """Codes on the unit sphere, of any dimension."""

    dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = net(ELEMENTS, 8, self.dim), net(self.dim, 8, ELEMENTS, seed=1)

    def prior(self, x: Tensor) -> Any:
        return Uniform(self.dim, len(x), x)

    def posterior(self, x: Tensor) -> Any:
        return Power(normalize(self.encoder(x), dim=-1), 8.0)


class Uniform(dist.TorchDistribution):
    """The uniform density on the sphere."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.real_vector  # of the class; set below, as torch has no sphere

    def __init__(self, dim: int, batch: int, like: Tensor) -> None:
        self.dim, self.like = dim, like
        super().__init__((batch,), (dim,), validate_args=False)

    def log_area(self) -> float:
        return math.log(2) + self.dim / 2 * math.log(math.pi) - math.lgamma(self.dim / 2)

    def log_prob(self, z: Tensor) -> Tensor:
        return z.new_full(z.shape[:-1], -self.log_area())

    def sample(self, sample_shape: Any = ()) -> Tensor:
        noise = torch.randn(*sample_shape, *self.batch_shape, self.dim, dtype=self.like.dtype)
        return normalize(noise, dim=-1)


class Power(dist.TorchDistribution):
    """Density proportional to (1 + μ·z)^κ (De Cao and Aziz 2020)."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Tensor, concentration: float) -> None:
        self.loc, self.concentration = loc, concentration
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    def log_constant(self) -> float:
        beta = (self.loc.shape[-1] - 1) / 2
        alpha = self.concentration + beta
        return (alpha + beta) * math.log(2) + beta * math.log(math.pi) + math.lgamma(alpha) - math.lgamma(alpha + beta)

    def log_prob(self, z: Tensor) -> Tensor:
        return self.concentration * torch.log1p((self.loc * z).sum(-1)) - self.log_constant()

    def height(self, sample_shape: Any) -> Tensor:
        """Draws of μ·z."""
        beta = (self.loc.shape[-1] - 1) / 2
        of_half = dist.Beta(self.loc.new_tensor(self.concentration + beta), self.loc.new_tensor(beta))
        return 2 * of_half.rsample((*sample_shape, *self.batch_shape, 1)) - 1

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        t = self.height(sample_shape)
        noise = torch.randn(*sample_shape, *self.loc.shape, dtype=self.loc.dtype)
        across = normalize(noise - (noise * self.loc).sum(-1, keepdim=True) * self.loc, dim=-1)
        return t * self.loc + torch.sqrt(1 - t**2) * across


Uniform.support = Power.support = dist.constraints.sphere


@mutant("posterior-mass", "a density on the sphere with the constant of one dimension more", "constant")
def constant_of_another_sphere(wrong: bool) -> Setup:
    class Ours(Power):
        def log_constant(self) -> float:
            more = Power(self.loc.new_zeros(self.loc.shape[-1] + 1), self.concentration)
            return more.log_constant() if wrong else super().log_constant()

    class Model(OnSphere):
        def posterior(self, x: Tensor) -> Any:
            return Ours(normalize(self.encoder(x), dim=-1), 8.0)

    return Setup(Model(), reals())


@mutant("prior-mass", "a uniform density on a sphere of 16 dimensions with the area of half of it", "constant")
def half_a_sphere(wrong: bool) -> Setup:
    class Ours(Uniform):
        def log_area(self) -> float:
            return super().log_area() - (math.log(2) if wrong else 0)

    class Model(OnSphere):
        dim = 16

        def prior(self, x: Tensor) -> Any:
            return Ours(self.dim, len(x), x)

    return Setup(Model(), reals())


@mutant("posterior-draws", "draws on the sphere without the concentration of their density", "follow")
def concentration_left_out_of_draws(wrong: bool) -> Setup:
    class Ours(Power):
        def height(self, sample_shape: Any) -> Tensor:
            return Power(self.loc, 1.0).height(sample_shape) if wrong else super().height(sample_shape)

    class Model(OnSphere):
        dim = 8

        def posterior(self, x: Tensor) -> Any:
            return Ours(normalize(self.encoder(x), dim=-1), 8.0)

    return Setup(Model(), reals())


# Normals with a covariance.


class Full(dist.TorchDistribution):
    """A normal by mean and scale_tril."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Tensor, scale_tril: Tensor) -> None:
        self.loc, self.scale_tril = loc, scale_tril
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    def log_determinant(self) -> Tensor:
        return self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def log_prob(self, z: Tensor) -> Tensor:
        factor = self.scale_tril.expand(*z.shape[:-1], *self.scale_tril.shape[-2:])
        white = torch.linalg.solve_triangular(factor, (z - self.loc).unsqueeze(-1), upper=False).squeeze(-1)
        return -0.5 * (white**2).sum(-1) - self.log_determinant() - z.shape[-1] / 2 * math.log(2 * math.pi)

    def factor(self) -> Tensor:
        """What draws multiply noise with."""
        return self.scale_tril

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        noise = torch.randn(*sample_shape, *self.loc.shape, dtype=self.loc.dtype)
        return self.loc + (self.factor() @ noise.unsqueeze(-1)).squeeze(-1)


def full(change: Any, latents: int = 5) -> Setup:
    """A posterior of this kind, of which ``change`` has the methods."""
    family: Any = type("Ours", (Full,), change)

    class Model(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = net(ELEMENTS, 8, latents), net(latents, 8, ELEMENTS, seed=1)
            below = torch.randn(latents, latents, generator=torch.Generator().manual_seed(4))
            scales = torch.linspace(0.3, 0.8, latents)
            self.scale_tril = nn.Parameter(torch.tril(0.3 * below, -1) + torch.diag(scales))

        def prior(self, x: Tensor) -> Any:
            return dist.Normal(x.new_zeros(len(x), latents), 1.0).to_event(1)

        def posterior(self, x: Tensor) -> Any:
            return family(self.encoder(x), self.scale_tril.tril().expand(len(x), latents, latents))

    return Setup(Model(), reals())


@mutant("posterior-draws", "z = mean + L^T noise, where the density has the covariance L L^T", "transposed")
def scale_tril_transposed_in_draws(wrong: bool) -> Setup:
    return full({"factor": lambda self: self.scale_tril.mT} if wrong else {})


_TWIN = "scale_tril_transposed_in_draws"  # the same program without the bug


@mutant("posterior-draws", "draws take the covariance for its inverse", "precision", twin=_TWIN)
def precision_for_covariance_in_draws(wrong: bool) -> Setup:
    return full({"factor": lambda self: torch.linalg.inv(self.scale_tril).mT} if wrong else {})


@mutant(
    "posterior-draws", "noise times the covariance in the place of its root", "variance taken for a scale", twin=_TWIN
)
def covariance_as_factor_in_draws(wrong: bool) -> Setup:
    return full({"factor": lambda self: self.scale_tril @ self.scale_tril.mT} if wrong else {})


@mutant("posterior-draws", "draws of the variances alone, without covariances", "off the diagonal", twin=_TWIN)
def covariances_left_out_of_draws(wrong: bool) -> Setup:
    def alone(self: Any) -> Tensor:
        return torch.diag_embed((self.scale_tril**2).sum(-1).sqrt())

    return full({"factor": alone} if wrong else {})


@mutant("posterior-draws", "the same in two dimensions, where the density is integrated", "transposed")
def scale_tril_transposed_in_the_plane(wrong: bool) -> Setup:
    return full({"factor": lambda self: self.scale_tril.mT} if wrong else {}, latents=2)


@mutant("posterior-mass", "a normal without the log-determinant of its scale_tril", "normalisation", twin=_TWIN)
def determinant_forgotten(wrong: bool) -> Setup:
    return full({"log_determinant": lambda self: self.loc.new_zeros(())} if wrong else {})
