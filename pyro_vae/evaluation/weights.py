"""Weights of importance sampling: log of their mean, its error, and how heavy their tail is."""

from __future__ import annotations

import math
import warnings

import torch
from pyro.ops.stats import fit_generalized_pareto
from torch import Tensor

__all__ = ["TOO_HEAVY", "log_mean", "pareto_k", "warn_of_heavy_tails"]

TOO_HEAVY = 0.7  # the Pareto k̂ above which an estimate is not to be trusted (Vehtari et al. 2015)
_FEWEST = 5  # weights in a tail from which its shape can be told
_NUMBERS = 2**20  # of weights that are worked on at a time, in float64: 8 MB a copy


def log_mean(log_weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log of the mean of weights ``(draws, batch)``, its standard error, and the effective sample size.

    The standard error is the jackknife's: from what log of the mean would be without each of the draws in turn (Efron
    and Stein 1981). The delta method, which takes the log for a straight line, gives too little where few draws have
    most of the weight. The effective sample size is (sum w)² / sum w² (Kong 1992).
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
    # Of the heaviest draw from the others: 1 less its share may have no digits left.
    heaviest = log_weights.argmax(0, keepdim=True)
    others = torch.logsumexp(log_weights.scatter(0, heaviest, -torch.inf), 0)
    without = without.scatter(0, heaviest, (others - log_sum).unsqueeze(0))
    error = without.std(0, correction=0) * math.sqrt(draws - 1) if draws > 1 else torch.full_like(log_sum, torch.nan)
    return log_sum - math.log(draws), error, 1 / shares.square().sum(0)


def pareto_k(log_weights: Tensor) -> Tensor:
    """The shape k̂ of a generalised Pareto distribution fitted to the largest weights ``(draws, batch)``, ``(batch,)``.

    Weights have a mean if k is below 1 and a variance if it is below 1/2. The tail are the largest min(0.2 S, 3 √S) of
    S weights, less the next smaller one; the fit is Zhang and Stephens' (2009), a little drawn to 1/2 (Vehtari,
    Simpson, Gelman, Yao and Gabry 2015, arXiv 1507.02646). Where the tail holds fewer than 5 different weights, k̂ is
    infinite if the others are 0, and else NaN: for fewer than 21 draws, and for discrete codes of few values.
    """
    draws = len(log_weights)
    size = math.ceil(min(0.2 * draws, 3 * math.sqrt(draws)))
    if size < _FEWEST:
        return log_weights.new_full(log_weights.shape[1:], torch.nan)
    largest = log_weights.topk(size + 1, 0).values.double().cpu()
    return torch.tensor([_shape(column) for column in largest.T], dtype=torch.float64).to(log_weights)


def _shape(log_weights: Tensor) -> float:
    """K̂ of the weights, of which the last and smallest is where the tail begins."""
    heaviest, start = log_weights[0], log_weights[-1]
    if not torch.isfinite(heaviest):
        return math.nan
    tail = log_weights[log_weights > start]
    if len(tail.unique()) < _FEWEST:
        return math.inf if torch.isneginf(start) else math.nan  # hardly any draw has a weight; or many have the same
    # log(w − start), which is not 0 where the weight itself is too small for a float beside the heaviest.
    log_excess = tail - heaviest + torch.log(-torch.expm1(start - tail))
    smallest = math.log(torch.finfo(torch.float64).tiny)
    return fit_generalized_pareto(log_excess.clamp(min=smallest).exp())[0]


def warn_of_heavy_tails(shapes: Tensor, method: str) -> None:
    """Warns once where Pareto k̂ of some examples ``(batch,)`` is above 0.7.

    Args:
        shapes: k̂ of each example.
        method: the function whose estimates these are.
    """
    heavy = shapes > TOO_HEAVY
    count = int(heavy.sum())
    if not count:
        return
    warnings.warn(
        f"{method}: Pareto k̂ is above {TOO_HEAVY} for {count:,} of {len(shapes):,} examples (the worst "
        f"{shapes[heavy].max():.2f}). For these log p(x) is too low, by more than its standard error says, and more "
        "draws help little. Use evaluation.annealed_importance_sampling (quadrature for one or two dimensions, "
        "enumeration for discrete codes), or train a posterior that covers p(z | x) better, such as a flow",
        stacklevel=3,
    )
