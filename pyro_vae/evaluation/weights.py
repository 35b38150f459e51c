"""Importance weights: the log of their mean, its error, and how heavy their tail is."""

from __future__ import annotations

import math
import warnings

import torch
from pyro.ops.stats import fit_generalized_pareto
from torch import Tensor

__all__ = ["TOO_HEAVY", "log_mean", "pareto_k", "warn_of_heavy_tails"]

TOO_HEAVY = 0.7  # estimates with a Pareto k̂ above this are unreliable (Vehtari et al. 2015)
_FEWEST = 5  # weights in a tail, at least, to estimate its shape
_OTHERS = (
    "Use evaluation.annealed_importance_sampling (quadrature for one or two dimensions, enumeration for discrete codes)"
)
_FLOW = "train a posterior that covers p(z | x) better, such as a flow"
_NUMBERS = 2**20  # weights per chunk, in float64: 8 MB per copy


def log_mean(log_weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the log of the mean of weights ``(draws, batch)``, its standard error, and the effective sample size.

    The standard error is the jackknife's, from the log of the mean without each draw in turn (Efron and Stein 1981).
    The delta method, which linearises the log, gives too small an error if a few draws have most of the weight. The
    effective sample size is (sum w)² / sum w² (Kong 1992).
    """
    columns = log_weights.split(max(1, _NUMBERS // len(log_weights)), 1)
    found = [_log_mean(part.double()) for part in columns]
    value, error, size = (torch.cat(parts).to(log_weights.dtype) for parts in zip(*found, strict=True))
    return value, error, size


def _log_mean(log_weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    draws = len(log_weights)
    log_sum = torch.logsumexp(log_weights, 0)
    shares = (log_weights - log_sum).exp()
    without = torch.log1p(-shares)
    # For the heaviest draw, sum over the others: 1 minus its share may have no digits left.
    heaviest = log_weights.argmax(0, keepdim=True)
    others = torch.logsumexp(log_weights.scatter(0, heaviest, -torch.inf), 0)
    without = without.scatter(0, heaviest, (others - log_sum).unsqueeze(0))
    error = without.std(0, correction=0) * math.sqrt(draws - 1) if draws > 1 else torch.full_like(log_sum, torch.nan)
    return log_sum - math.log(draws), error, 1 / shares.square().sum(0)


def pareto_k(log_weights: Tensor) -> Tensor:
    """Return the shape k̂ of a generalised Pareto distribution fitted to the largest weights of each example.

    Weights have a mean if k is below 1 and a variance if k is below 1/2. The tail is the largest min(0.2 S, 3 √S) of S
    weights, minus the next smaller one. The fit follows Zhang and Stephens (2009), with a little shrinkage to 1/2
    (Vehtari, Simpson, Gelman, Yao and Gabry 2015, arXiv 1507.02646). If the tail has fewer than 5 different weights,
    k̂ is infinite if the other weights are 0, and else NaN: with fewer than 21 draws, or discrete codes of few values.

    Args:
        log_weights: ``(draws, batch)``.
    """
    draws = len(log_weights)
    size = math.ceil(min(0.2 * draws, 3 * math.sqrt(draws)))
    if size < _FEWEST:
        return log_weights.new_full(log_weights.shape[1:], torch.nan)
    largest = log_weights.topk(size + 1, 0).values.double().cpu()
    return torch.tensor([_shape(column) for column in largest.T], dtype=torch.float64).to(log_weights)


def _shape(log_weights: Tensor) -> float:
    """Return k̂ of descending log weights, of which the last is the threshold of the tail."""
    heaviest, start = log_weights[0], log_weights[-1]
    if not torch.isfinite(heaviest):
        return math.nan
    tail = log_weights[log_weights > start]
    if len(tail.unique()) < _FEWEST:
        return math.inf if torch.isneginf(start) else math.nan  # few draws have any weight; or many have the same
    # log(w − start), which stays finite if the weight itself is too small for a float beside the heaviest.
    log_excess = tail - heaviest + torch.log(-torch.expm1(start - tail))
    smallest = math.log(torch.finfo(torch.float64).tiny)
    return fit_generalized_pareto(log_excess.clamp(min=smallest).exp())[0]


def warn_of_heavy_tails(shapes: Tensor, method: str, vae: object) -> None:
    """Warn once if Pareto k̂ is above 0.7 for some examples.

    Args:
        shapes: k̂ of each example, ``(batch,)``.
        method: the function that made the estimates.
        vae: of which they are. If it draws missing values, the warning names no estimator that refuses them.
    """
    heavy = shapes > TOO_HEAVY
    count = int(heavy.sum())
    if not count:
        return
    draws_missing = getattr(vae, "mask_likelihood", None) is not None or getattr(vae, "draws_missing", False)
    warnings.warn(
        f"{method}: Pareto k̂ is above {TOO_HEAVY} for {count:,} of {len(shapes):,} examples (the worst "
        f"{shapes[heavy].max():.2f}). For these, log p(x) is too low by more than its standard error says, and more "
        f"particles help little. {_FLOW.replace('train', 'Train') if draws_missing else f'{_OTHERS}, or {_FLOW}'}",
        stacklevel=3,
    )
