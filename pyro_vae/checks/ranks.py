"""Rank correlations between examples, which are tame whatever is ranked."""

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
    """Whether numbers of different examples are independent: rank correlations of any two examples.

    Args:
        draws: ``(draws, examples, numbers)``, of which different numbers are not compared.
        level: the rate of false alarms.
        seed: of what is looked at, where there is too much.
    """
    batch = draws.shape[1]
    scores = rank_scores(draws.detach().double())
    spread = draws.amax(0) - draws.amin(0)
    scores[:, ~(spread > 1e-5 * draws.abs().amax(0))] = torch.nan  # what never changes has no correlation
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
    """Ranks over the first dimension, of mean 0 and variance 1, equal draws in random order.

    Their products are tame whatever the draws are: those of two rare categories are zero hundreds of times, and huge
    once.
    """
    shuffled = torch.rand_like(draws).argsort(0)
    order = shuffled.gather(0, draws.gather(0, shuffled).argsort(dim=0, stable=True))
    ranks = order.argsort(0).to(draws.dtype)
    return (ranks - ranks.mean(0)) / ranks.std(0)
