"""What the bugs are made of: the table, a plain VAE, and data."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

__all__ = [
    "BATCH",
    "BINARY",
    "ELEMENTS",
    "LATENTS",
    "MUTANTS",
    "NOISY",
    "PLAIN",
    "Binary",
    "Mutant",
    "Plain",
    "Setup",
    "bits",
    "mutant",
    "net",
    "reals",
]

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
