"""What the four estimates share: how they run the programs, and log-densities of many rows, some at a time."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions import Delta
from torch import Tensor, nn

from pyro_vae.distributions import innermost
from pyro_vae.model_guide import ModelGuide, kept_store
from pyro_vae.seeds import derive, seeded
from pyro_vae.vae import evaluating

__all__ = [
    "EXAMPLES",
    "Estimate",
    "blocks",
    "check_density",
    "log_joint",
    "running",
]

# Noise is drawn for so many examples together, each such block from a seed of its own. The number is fixed, so that
# what is drawn does not depend on the chunk size, which only says how much of it is decoded at a time.
EXAMPLES = 64


@dataclass(frozen=True)
class Estimate:
    """Log p(x) of each example, in nats.

    Args:
        log_prob: the estimates, ``(batch,)``.
        standard_error: their standard errors from the draws, ``(batch,)``; 0 where nothing was drawn.
    """

    log_prob: Tensor
    standard_error: Tensor

    @property
    def mean(self) -> float:
        """The mean over the examples."""
        return self.log_prob.double().mean().item()

    @property
    def mean_standard_error(self) -> float:
        """The standard error of :attr:`mean` from the draws alone: what other draws for these examples would change."""
        return self.standard_error.double().square().sum().sqrt().item() / len(self.standard_error)

    @property
    def data_standard_error(self) -> float:
        """The standard error of :attr:`mean` from the spread over the examples: what other examples would change.

        The draws' error is in it already. NaN for one example.
        """
        n = len(self.log_prob)
        return self.log_prob.double().std(correction=1).item() / math.sqrt(n) if n > 1 else math.nan


@contextlib.contextmanager
def running(
    vae: Any, x: Tensor | None, context: tuple[Tensor, ...], named: dict[str, Any], seed: int
) -> Iterator[ModelGuide]:
    """The programs on x, in evaluation mode, without gradients, with torch's generators and Pyro's store kept."""
    if not isinstance(vae, ModelGuide):
        if x is None:
            raise ValueError("x must be a tensor (batch, *event_shape); got None. Only ModelGuide bring their own x")
        pair = ModelGuide(vae, x, *context, **named)
    elif context or named:
        raise ValueError(
            "vae is ModelGuide, which have their context and names already: give them to ModelGuide instead"
        )
    else:
        pair = vae if x is None else vae.of(x)
    if pair.batch == 0:
        raise ValueError(f"x must have at least one example; got shape {tuple(pair.x.shape)}")
    pair.check_event_shape()
    with evaluating(nn.ModuleList(pair.all_modules)), kept_store(), seeded(derive(seed)):
        try:
            yield pair.alone()
        except ValueError as error:
            said, dump, _ = str(error).partition("Trace Shapes:")  # a table that Pyro appends
            if not dump or type(error) is not ValueError:
                raise
            raise ValueError(said.strip()) from None


def check_density(posterior: Any, method: str) -> Any:
    """The posterior; raises a ValueError where it is a point, which has no density."""
    if isinstance(innermost(posterior), Delta):
        raise ValueError(
            f"{method} needs a guide with a density; got Delta, a point. Use quadrature, or "
            'annealed_importance_sampling with start="prior"'
        )
    return posterior


def blocks(pair: ModelGuide, size: int = EXAMPLES) -> Iterator[tuple[int, ModelGuide]]:
    """The programs on so many examples at a time, numbered."""
    for number, start in enumerate(range(0, pair.batch, size)):
        stop = min(start + size, pair.batch)
        yield number, pair if stop - start == pair.batch else pair.rows(start, stop)


def log_joint(pair: ModelGuide, z: Tensor, chunk_size: int) -> tuple[Tensor, Tensor]:
    """Log p(x | z) and log p(z) at z ``(draws, batch, *event)``, at most ``chunk_size`` rows at a time."""
    draws, batch = z.shape[:2]
    examples = min(batch, chunk_size)
    step = chunk_size // examples
    likelihood, prior = [], []
    for number, part in blocks(pair, examples):
        columns = z[:, number * examples : (number + 1) * examples]
        parts = [part.log_joint(columns[i : i + step]) for i in range(0, draws, step)]
        likelihood.append(torch.cat([p[0] for p in parts]))
        prior.append(torch.cat([p[1] for p in parts]))
    return torch.cat(likelihood, 1), torch.cat(prior, 1)
