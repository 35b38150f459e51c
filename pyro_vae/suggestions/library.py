"""The rules for sparse counts, judged given the total of each row: its library size."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyro_vae.data import BadDataError, Counts, DataSet, DataSource
from pyro_vae.data.frames import is_sparse
from pyro_vae.suggestions.rules import FITS, OVER, SIGMAS, ZEROS, Suggestion
from pyro_vae.suggestions.values import ROWS, percent

__all__ = ["LOG1P", "as_counts", "judge_counts"]

LOG1P = 'Counts have long tails: build(..., inputs="log1p")'


def as_counts(data: DataSource | DataSet[Any]) -> Counts | None:
    """Return sparse counts of at least two columns, of a split, a data set or a matrix; None for other data."""
    split = data.everything if isinstance(data, DataSet) and isinstance(data.train, Counts) else data
    if is_sparse(split):
        try:
            split = Counts(split)
        except BadDataError:  # other numbers
            return None
    return split if isinstance(split, Counts) and split.event_shape[0] > 1 else None


def judge_counts(counts: Counts) -> list[Suggestion]:
    """Judge counts of at least two columns by their variance and zeros around library size × share of the column.

    The variance is that of all counts, which need not be dense for it. The zeros are those of at most 1,000 rows and 25
    columns.

    Raises:
        ValueError: if all counts are 0.
    """
    counts, _ = counts.without_empty_rows()
    if not len(counts):
        raise ValueError("data must vary; every count is 0, which needs no likelihood")
    if counts.matrix.data.max() == 1:
        return [Suggestion("Bernoulli", "0 and 1 are the only values")]
    totals = counts.matrix.sum(1)
    above = counts.matrix.nnz / (len(counts) * counts.event_shape[0])
    ratio, z = _variance(counts)
    seen = (
        f"counts, {percent(above)} of them above 0, with totals of {totals.min():,} to {totals.max():,} in a row; "
        f"given these, their variance is {ratio:.2g} times their mean"
    )
    poisson = Suggestion({"class": "Poisson", "library": True}, f"{seen}; for a Poisson it is 1", LOG1P)
    negative = Suggestion({"class": "NegativeBinomial", "library": True}, seen, LOG1P)
    words = {"class": "Multinomial", "total_count": max(1, round(float(totals.mean())))}
    multinomial = Suggestion(words, f"{seen}; each row is then drawn with its own total", LOG1P)
    if z < SIGMAS or ratio < OVER:
        return [poisson, replace(negative, reason=f"{seen}; in case it is larger elsewhere"), multinomial]
    others = [
        replace(negative, reason=f"{seen}; the latent may explain a part of that"),
        replace(poisson, reason=f"{seen}; enough if the latent explains that"),
        multinomial,
    ]
    zeros, explained, gain = _zeros(counts, totals)
    if gain < SIGMAS**2 or zeros - explained < ZEROS:
        return others
    extra = f"with {percent(zeros)} zeros, of which a negative binomial explains {percent(explained)}"
    inflated = {"class": "ZeroInflatedNegativeBinomial", "library": True}
    return [Suggestion(inflated, f"{seen}, {extra}", LOG1P), *others]


def _variance(counts: Counts) -> tuple[float, float]:
    """Return variance over mean, and the score test against Poisson (Dean and Lawless 1989), around l_i p_j."""
    x = counts.matrix.astype(np.float64)
    n, columns = x.shape
    totals, shares = x.sum(1), x.sum(0) / x.sum()
    squared_means = (totals**2).sum() * (shares**2).sum()
    squares = (x.data**2).sum() - 2 * totals @ (x @ shares) + squared_means
    squares /= (1 - 1 / n if n > 1 else 1) * (1 - 1 / columns)  # the totals and the shares are estimates
    return float(squares / totals.sum()), float((squares - totals.sum()) / math.sqrt(2 * squared_means))


def _zeros(counts: Counts, totals: NDArray[np.integer]) -> tuple[float, float, float]:
    """Return the share of zeros, the share that the counts of a zero-inflated negative binomial explain, and the gain.

    A negative binomial with and without extra zeros is fitted to each column by maximum likelihood. The gain of the
    extra zeros is twice the difference of the log-likelihoods minus one per column, which is twice the gain by chance.
    """
    rows = slice(None, None, -(-len(counts) // (ROWS // 4)))
    some = counts.matrix[rows]
    with_counts = np.flatnonzero(some.sum(0))
    chosen = with_counts[:: -(-len(with_counts) // FITS)]
    x = torch.from_numpy(some[:, chosen].toarray()).double()
    size = torch.from_numpy(totals[rows] / totals.mean())[:, None]
    start = torch.stack([(x.mean(0) / size.mean()).log(), torch.zeros(len(chosen), dtype=x.dtype)])
    without, fitted = _fit(x, size, start)
    with_gate, fitted = _fit(x, size, torch.cat([fitted, torch.full_like(fitted[:1], -2.0)]))
    explained = _log_prob(torch.zeros_like(x), size, fitted[:2]).exp().mean()
    return (x == 0).double().mean().item(), explained.item(), 2 * (with_gate - without) - len(chosen)


def _fit(x: Tensor, size: Tensor, start: Tensor) -> tuple[float, Tensor]:
    """Return the largest log-likelihood, and the parameters of each column at which it is reached."""
    parameters = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([parameters], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = -_log_prob(x, size, parameters).mean()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    found = parameters.detach()
    return _log_prob(x, size, found).sum().item(), found


def _log_prob(x: Tensor, size: Tensor, parameters: Tensor) -> Tensor:
    """Return log p(x) of negative binomials of mean size × exp(first) and dispersion exp(-second), and a gate third."""
    mean, r = size * parameters[0].exp(), parameters[1].clamp(-8, 8).exp()
    log_p = torch.lgamma(x + r) - torch.lgamma(r) - torch.lgamma(x + 1)
    log_p = log_p - r * torch.log1p(mean / r) - x * torch.log1p(r / mean)
    if len(parameters) == 2:
        return log_p
    gate = parameters[2]
    from_counts = logsigmoid(-gate) + log_p
    return torch.where(x > 0, from_counts, torch.logaddexp(logsigmoid(gate).expand_as(x), from_counts))
