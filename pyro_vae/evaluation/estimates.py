"""What the estimates of log p(x) share: how they run model and guide, and densities of many rows in chunks."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Number
from typing import Any

import torch
from pyro.distributions import Delta, TorchDistribution
from torch import Tensor, nn

from pyro_vae.data.arrays import Array, as_tensor
from pyro_vae.data.batches import DataSource
from pyro_vae.data.gathering import gathered, is_supply
from pyro_vae.distributions import innermost
from pyro_vae.model_guide import ModelGuide, Target, kept_store
from pyro_vae.seeds import derive, seeded
from pyro_vae.vae import evaluating

__all__ = [
    "EXAMPLES",
    "Estimate",
    "Named",
    "blocks",
    "check_density",
    "check_exact",
    "log_joint",
    "running",
]

# Noise is drawn for blocks of so many examples, each with its own seed. The number is fixed, so the draws do not depend
# on the chunk size, which only says how many rows are decoded at a time.
EXAMPLES = 64

Named = Array | str | None
"""Data that model and guide take by name, such as ``mask``; or the name of a site, ``latent`` or ``observed``."""

_DRAWS = "particles", "n_particles", "draws", "samples", "num_samples", "n_samples", "num_draws", "chains", "num_chains"
_ROWS = "chunksize", "chunk", "chunks", "batch_size"
_MEANT = {**dict.fromkeys(_DRAWS, "draws of z are num_particles"), **dict.fromkeys(_ROWS, "rows are chunk_size")}


@dataclass(frozen=True)
class Estimate:
    """Log p(x) of each example, in nats.

    Args:
        log_prob: the estimates, ``(batch,)``.
        standard_error: their standard errors, from the draws, ``(batch,)``; 0 if nothing was drawn.
    """

    log_prob: Tensor
    standard_error: Tensor

    def __repr__(self) -> str:
        """Return the mean and its errors in one line."""
        return f"{type(self).__name__}({self.summary()})"

    def summary(self) -> str:
        """Return the mean and its standard errors in words."""
        n, draws, data = len(self.log_prob), self.mean_standard_error, self.data_standard_error
        errors = [f"{draws:.2g} from the draws"] * (draws != 0) + [f"{data:.2g} from the data"] * (n > 1)
        mean = (
            f"mean log p(x) = {self.mean:.4f} nats over {n:,} examples" if n > 1 else f"log p(x) = {self.mean:.4f} nats"
        )
        return f"{mean}, standard error {', '.join(errors)}" if errors else mean

    @property
    def mean(self) -> float:
        """The mean of ``log_prob`` over the examples."""
        return self.log_prob.double().mean().item()

    @property
    def mean_standard_error(self) -> float:
        """The standard error of :attr:`mean` from the draws alone: how much it changes with other draws."""
        return self.standard_error.double().square().sum().sqrt().item() / len(self.standard_error)

    @property
    def data_standard_error(self) -> float:
        """The standard error of :attr:`mean` from the spread over the examples: how much it changes with others.

        It includes the error from the draws. NaN for one example.
        """
        n = len(self.log_prob)
        return self.log_prob.double().std(correction=1).item() / math.sqrt(n) if n > 1 else math.nan


@contextlib.contextmanager
def running(
    vae: Target,
    x: DataSource | None,
    context: tuple[Array, ...],
    named: Mapping[str, Named],
    seed: int,
    of_x: str = "x",
) -> Iterator[ModelGuide]:
    """Give model and guide on x, in evaluation mode and without gradients; restore generators and Pyro's store after.

    Args:
        vae: a target.
        x: data ``(batch, *event_shape)``, of any kind that :class:`ModelGuide` takes; None for a ``ModelGuide``, which
            has its own.
        context: tensors ``(batch, ...)``.
        named: tensors that the programs take by name, and the names of the sites.
        seed: of the draws.
        of_x: the name of the argument x, for errors.

    Raises:
        TypeError: if one of ``named`` is no tensor, or is the context.
        ValueError: if x is missing or empty, or if context comes both in a ``ModelGuide`` and beside it.
    """
    _check_named(named)
    pair = _model_guide(vae, x, context, named, of_x)
    if pair.batch == 0:
        raise ValueError(f"{of_x} must have at least one example; got shape {tuple(pair.x.shape)}")
    pair.check_event_shape()
    with evaluating(nn.ModuleList(pair.all_modules)), kept_store(), seeded(derive(seed)):
        yield pair.strict()


def _check_named(named: Mapping[str, Named]) -> None:
    """Raise a TypeError for context by name, and for a number or a string where a tensor belongs."""
    if "context" in named:
        raise TypeError("context must come by position, after x: f(vae, x, c); got it by name")
    for name, value in named.items():
        if name not in ("latent", "observed", "mask") and isinstance(value, Number | str):
            meant = f"; {_MEANT[name]}" if name in _MEANT else ""
            raise TypeError(
                f"{name}={value!r} is no argument of this function{meant}. The model and guide take other arguments "
                "by name, such as mask, but only tensors and NumPy arrays"
            )


def _model_guide(
    vae: Target, x: DataSource | None, context: tuple[Array, ...], named: Mapping[str, Named], of_x: str
) -> ModelGuide:
    if isinstance(vae, ModelGuide):
        if context or named:
            raise ValueError(
                "vae is a ModelGuide, which has its own context and names: give them to ModelGuide instead"
            )
        if x is None:
            return vae
        x, *rest = x if isinstance(x, tuple) and x else (x,)
        if rest:
            raise ValueError("vae is a ModelGuide, which has its own context; got another one beside x")
        given: Any = x
        x = gathered(x, device=vae.x.device)[0] if is_supply(x) else as_tensor("x", given, device=vae.x.device)
        return vae.with_data(x)
    if x is None:
        raise ValueError(f"{of_x} must be a tensor (batch, *event_shape); got None. Only a ModelGuide brings its own x")
    tensors: Any = named
    return ModelGuide(vae, x, *context, **tensors)


def check_density(posterior: TorchDistribution, method: str) -> TorchDistribution:
    """Return the posterior.

    Raises:
        ValueError: if the posterior is a point, which has no density.
    """
    if isinstance(innermost(posterior), Delta):
        raise ValueError(
            f"{method} needs a guide with a density; got Delta, a point. Use quadrature, or "
            "annealed_importance_sampling from the prior"
        )
    return posterior


def check_exact(pair: ModelGuide, method: str) -> None:
    """Raise a ValueError if log p(x | z) is known on average only, since the model draws missing values of x."""
    if pair.draws_missing:
        raise ValueError(
            f"{method} needs log p(x | z) itself; with a model of the mask, it is an integral over the missing values "
            "too. Use importance_sampling, which draws them"
        )


def blocks(pair: ModelGuide, size: int = EXAMPLES) -> Iterator[tuple[int, ModelGuide]]:
    """Yield model and guide on ``size`` examples at a time, with the number of each block."""
    for number, start in enumerate(range(0, pair.batch, size)):
        stop = min(start + size, pair.batch)
        yield number, pair if stop - start == pair.batch else pair.rows(start, stop)


def log_joint(pair: ModelGuide, z: Tensor, chunk_size: int) -> tuple[Tensor, Tensor]:
    """Return log p(x | z) and log p(z) at z ``(num_particles, batch, *event)``, ``(num_particles, batch)`` each.

    At most ``chunk_size`` rows run at a time.
    """
    num_particles, batch = z.shape[:2]
    examples = min(batch, chunk_size)
    step = chunk_size // examples
    likelihood, prior = [], []
    for number, part in blocks(pair, examples):
        columns = z[:, number * examples : (number + 1) * examples]
        parts = [part.log_joint(columns[i : i + step]) for i in range(0, num_particles, step)]
        likelihood.append(torch.cat([p[0] for p in parts]))
        prior.append(torch.cat([p[1] for p in parts]))
    return torch.cat(likelihood, 1), torch.cat(prior, 1)
