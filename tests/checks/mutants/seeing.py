"""Bugs in decoders that are given x: teacher forcing and causal masks."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.checks.mutants.common import BATCH, ELEMENTS, LATENTS, Setup, bits, mutant, net, reals
from tests.checks.mutants.plates import InPlate

TOKENS, LENGTH = 4, 5
CAUSAL, MASKED = "convolution_that_looks_ahead", "mask_with_its_diagonal"


class MaskedLinear(InPlate):
    """Bits, each given those before it, by a matrix that is zero above."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.7 * torch.randn(ELEMENTS, ELEMENTS, generator=torch.Generator().manual_seed(3)))

    def seen(self, x: Tensor) -> Tensor:
        return x @ torch.tril(self.weight, -1).T

    def likelihood_given(self, z: Tensor, x: Tensor) -> Any:
        return dist.Bernoulli(logits=self.decoder(z) + self.seen(x)).to_event(1)


class CausalConvolution(InPlate):
    """Numbers in a row, each given the two before it."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(4)
            self.convolution = nn.Conv1d(1, 1, 2)

    def seen(self, x: Tensor) -> Tensor:
        before = F.pad(x.unsqueeze(1), (2, 0))[..., :-1]
        return self.convolution(before).squeeze(1)

    def likelihood_given(self, z: Tensor, x: Tensor) -> Any:
        return dist.Normal(self.decoder(z) + self.seen(x), self.scale).to_event(1)


class Recurrent(InPlate):
    """Tokens in a row by a GRU, which is fed the one before; as in models of sentences."""

    shift = 1

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = net(LENGTH * TOKENS, 8, 2 * LATENTS), net(LATENTS, 6, seed=1)
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.gru, self.out = nn.GRU(TOKENS, 6, batch_first=True), nn.Linear(6, TOKENS)

    def one_hot(self, x: Tensor) -> Tensor:
        return F.one_hot(x, TOKENS).to(self.out.weight.dtype)

    def prior(self, x: Tensor) -> Any:
        return dist.Normal(self.out.weight.new_zeros(len(x), LATENTS), 1.0).to_event(1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().encode(self.one_hot(x).flatten(1))

    def likelihood_given(self, z: Tensor, x: Tensor) -> Any:
        fed = F.pad(self.one_hot(x), (0, 0, self.shift, 0))[:, : x.shape[1]]
        hidden, _ = self.gru(fed, self.decoder(z).unsqueeze(0))
        return dist.Categorical(logits=self.out(hidden)).to_event(1)


def tokens() -> Tensor:
    return torch.arange(BATCH * LENGTH).reshape(BATCH, LENGTH) * 7 % 11 % TOKENS


@mutant("peeking", "the input of a recurrent decoder is not shifted by one", "depends on that very element")
def tokens_not_shifted(wrong: bool) -> Setup:
    class Model(Recurrent):
        shift = 0 if wrong else 1

    return Setup(Model(), tokens())


@mutant("peeking", "the causal mask leaves the diagonal in", "depends on that very element")
def mask_with_its_diagonal(wrong: bool) -> Setup:
    class Model(MaskedLinear):
        def seen(self, x: Tensor) -> Tensor:
            return x @ torch.tril(self.weight, 0 if wrong else -1).T

    return Setup(Model(), bits())


@mutant("peeking", "all elements but its own are given to each element", "each depend on the others", twin=MASKED)
def all_the_others(wrong: bool) -> Setup:
    class Model(MaskedLinear):
        def seen(self, x: Tensor) -> Tensor:
            weight = self.weight - torch.diag(self.weight.diagonal()) if wrong else torch.tril(self.weight, -1)
            return x @ weight.T

    return Setup(Model(), bits())


@mutant("peeking", "a convolution with padding on both sides, in the place of a causal one", "that very element")
def convolution_that_looks_ahead(wrong: bool) -> Setup:
    class Model(CausalConvolution):
        def seen(self, x: Tensor) -> Tensor:
            if not wrong:
                return super().seen(x)
            return self.convolution(F.pad(x.unsqueeze(1), (1, 0))).squeeze(1)

    return Setup(Model(), reals())


@mutant("peeking", "a residual connection past a causal mask", "that very element", twin=CAUSAL)
def residual_past_the_mask(wrong: bool) -> Setup:
    class Model(CausalConvolution):
        def seen(self, x: Tensor) -> Tensor:
            return super().seen(x) + (0.1 * x if wrong else 0.0)

    return Setup(Model(), reals())


@mutant("peeking", "the mean of x as an input of the decoder", "that very element", twin=CAUSAL)
def mean_of_the_data(wrong: bool) -> Setup:
    class Model(CausalConvolution):
        def seen(self, x: Tensor) -> Tensor:
            return x.mean(-1, keepdim=True) if wrong else super().seen(x)

    return Setup(Model(), reals())
