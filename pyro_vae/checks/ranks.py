"""Rank correlations between examples; ranks have light tails whatever is ranked."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pyro_vae.checks.inputs import random_indices
from pyro_vae.checks.report import Finding
from pyro_vae.checks.statistics import mean_is_zero

__all__ = ["correlation_of_examples", "rank_scores"]

_PAIRS = 10_000
_SMALL = 0.05  # a correlation that does not matter


def correlation_of_examples(draws: Tensor, level: float, seed: int) -> Finding:
    """Check whether different examples are independent, by the rank correlations of any two of them.

    Args:
        draws: ``(draws, examples, numbers)``; the same number of different examples is compared.
        level: the rate of false alarms.
        seed: for choosing among too many pairs.
    """
    batch = draws.shape[1]
    scores = rank_scores(draws.detach().double())
    spread = draws.amax(0) - draws.amin(0)
    scores[:, ~(spread > 1e-5 * draws.abs().amax(0))] = torch.nan  # a constant has no correlation
    first, second = torch.triu_indices(batch, batch, 1, device=draws.device)
    keep = random_indices(draws.new_empty(len(first), draws.shape[-1]), _PAIRS, seed)
    pair, number = keep // draws.shape[-1], keep % draws.shape[-1]
    products = scores[:, first[pair], number] * scores[:, second[pair], number]
    products = products[:, torch.isfinite(products).all(0)]
    if not products.numel():
        return Finding("skipped", "there is no noise", applies=False)
    found = mean_is_zero(products, level)
    if found.verdict == "failed" and abs(found.difference or 0) > _SMALL:
        return found
    return replace(found, verdict="passed")


def rank_scores(draws: Tensor) -> Tensor:
    """Return ranks over the first dimension with mean 0 and variance 1; equal draws are ranked in random order.

    Products of ranks have light tails, whatever the draws are. Products of draws have not: those of two rare categories
    are zero hundreds of times and then huge once.
    """
    shuffled = torch.rand_like(draws).argsort(0)
    order = shuffled.gather(0, draws.gather(0, shuffled).argsort(dim=0, stable=True))
    ranks = order.argsort(0).to(draws.dtype)
    return (ranks - ranks.mean(0)) / ranks.std(0)
