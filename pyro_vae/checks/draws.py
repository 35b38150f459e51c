"""Whether draws follow the density: frequencies of what can be counted, Stein's identity for the rest."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from pyro.distributions.constraints import sphere
from scipy.stats import binom
from torch import Tensor

from pyro_vae.checks.case import Case, base_constraint, small
from pyro_vae.checks.mass import ELEMENTS, counts_of, is_circle, is_lossy, to_reals, values_of
from pyro_vae.checks.report import Finding
from pyro_vae.checks.statistics import mean_is_zero
from pyro_vae.evaluation.real_codes import support_of

__all__ = ["draws_of"]

Draw = Callable[[tuple[int, ...]], Tensor]  # what a distribution's sample or rsample is

_DRAWS = 2000
_UNLIKE = (
    "draws do not follow the density: look for a scale taken for a variance, a Jacobian, a wrong component, or one "
    "noise for all draws"
)


def draws_of(d: Any, draw: Draw, case: Case) -> Finding:
    """Draws of a distribution without dimensions that only count, beside its density."""
    if isinstance(d, dist.Delta):
        return Finding("skipped", "a point has no density", applies=False)
    support = base_constraint(support_of(d))
    if (values := values_of(d)) is not None:
        return _frequencies(d, draw, values, case)
    if support.is_discrete:
        return _counts(d, draw, case)
    if support is sphere:
        return _on_sphere(d, draw, case)
    if is_circle(d):
        return (
            Finding("skipped", "no identity on a torus is known here") if d.event_shape else _on_circle(d, draw, case)
        )
    transform = to_reals(d)
    if transform is None:
        return Finding("skipped", "no map of the support to the reals is known")
    return _stein(d, draw, transform, case)


# What can be counted.


def _frequencies(d: Any, draw: Draw, values: Tensor, case: Case) -> Finding:
    """How often each value is drawn."""
    p = d.log_prob(values).exp()  # (values, *batch)
    keep = small(p, 1000, case.seed)
    value, element = keep // p[0].numel(), keep % p[0].numel()
    flat = (p[0].numel(), -1)
    drawn = draw((_DRAWS,)).reshape(_DRAWS, *flat)[:, element]
    count = (drawn == values.reshape(len(values), *flat)[value, element]).all(-1).sum(0)
    return _binomial(count, p.flatten()[keep], _DRAWS, case)


def _counts(d: Any, draw: Draw, case: Case) -> Finding:
    """How often some values are drawn, and how often less than these: values that were drawn before, from low to high.

    They are compared one by one and not as a mean, as rare large counts make means that are far from normal.
    """
    if isinstance(found := counts_of(d), str):
        return Finding("skipped", found)
    counts, log_p = found
    drawn = draw((_DRAWS,))
    keep = small(drawn[0], ELEMENTS, case.seed)
    counts, p, drawn = (t.reshape(len(t), -1)[:, keep] for t in (counts, log_p.exp(), drawn))
    before, drawn = drawn[:200].sort(0).values, drawn[200:]
    at = before[[4, 20, 50, 100, 150, 180, 196]].unsqueeze(1)  # (places, 1, elements)
    same, below = ((p * (counts == at)).sum(1), (p * (counts <= at)).sum(1))
    seen = torch.stack([(drawn == at).sum(1), (drawn <= at).sum(1)])
    return _binomial(seen.flatten(), torch.stack([same, below]).flatten(), len(drawn), case)


def _binomial(count: Tensor, p: Tensor, n: int, case: Case) -> Finding:
    """Counts out of n beside the binomial distribution of each; Bonferroni over them."""
    k, chance = count.cpu().numpy(), p.detach().clamp(0, 1).double().cpu().numpy()
    tail = 2 * np.minimum(binom.cdf(k, n, chance), binom.sf(k - 1, n, chance))
    most = int(tail.argmin())
    least = min(1.0, len(tail) * float(tail[most]))
    failed = not least >= case.level
    off, error = k[most] / n - chance[most], math.sqrt(chance[most] * (1 - chance[most]) / n)
    return Finding("failed" if failed else "passed", _UNLIKE if failed else "", float(off), error, None, least)


# Stein's identity: E[f' + f d log p] = 0 for every f that the density takes to nothing at its ends.


def _slope(d: Any, at: Tensor, transform: Any = None) -> Tensor:
    """The gradient of the log-density of u = at, of the shape of at."""
    at = at.detach().clone().requires_grad_()
    value = at if transform is None else transform(at)
    log_p = d.log_prob(value).sum()
    if transform is not None:
        log_p = log_p + transform.log_abs_det_jacobian(at, value).sum()
    return torch.autograd.grad(log_p, at)[0] if log_p.requires_grad else torch.zeros_like(at)


def _stein(d: Any, draw: Draw, transform: Any, case: Case) -> Finding:
    """With f = 1 and f = tanh of each dimension: E[s_j] = 0 and E[tanh(u_i) s_j] = −[i = j] E[1 − tanh(u_i)²].

    In the reals u, with s = ∂ log p(u); u itself for tanh(u) would have no variance where tails are heavy.
    """
    drawn = draw((_DRAWS,)).detach()
    u = transform.inv(drawn)
    lossy = is_lossy(transform, drawn, u)
    before, u = u[:200].sort(0).values, u[200:]
    middle, width = before[100], (before[150] - before[50]).clamp_min(1e-12)
    slope, at = _slope(d, u, transform) * width, torch.tanh((u - middle) / width)
    lossy = lossy.any(0) | ~(torch.isfinite(slope) & torch.isfinite(at)).all(0)
    at, slope, lossy = at.reshape(len(at), -1), slope.reshape(len(at), -1), lossy.flatten()
    if not d.event_shape:
        keep = small(lossy, ELEMENTS, case.seed)
        keep = keep[~lossy[keep]]
        pairs = (at * slope + 1 - at**2)[:, keep]
        both = torch.cat([slope[:, keep], pairs], dim=1)
    else:
        n = u.shape[-1]
        keep = small(u[0, ..., 0].new_empty(n), 12, case.seed)
        at, slope, lossy = (t.unflatten(-1, (-1, n))[..., keep] for t in (at, slope, lossy))
        usable = ~lossy.any(-1)
        at, slope = at[:, usable], slope[:, usable]
        pairs = at.unsqueeze(-1) * slope.unsqueeze(-2) + torch.diag_embed(1 - at**2)
        both = torch.cat([slope.flatten(1), pairs.flatten(1)], dim=1)
    if not both.numel():
        return Finding("skipped", "rounding takes draws to the edge of the support")
    return mean_is_zero(both, case.level, _UNLIKE)


def _on_circle(d: Any, draw: Draw, case: Case) -> Finding:
    """With f = sin and f = cos, which have no ends."""
    if d.event_shape:
        return Finding("skipped", "no identity on a torus is known here")
    x = draw((_DRAWS,)).detach()
    keep = small(x[0], ELEMENTS, case.seed)
    x, slope = (t.reshape(_DRAWS, -1)[:, keep] for t in (x, _slope(d, x)))
    both = torch.cat([x.sin() * slope + x.cos(), x.cos() * slope - x.sin()], dim=1)
    return mean_is_zero(both, case.level, _UNLIKE)


def _on_sphere(d: Any, draw: Draw, case: Case) -> Finding:
    """On the sphere in n dimensions: E[(g − (g·x) x) − (n − 1) x] = 0, with g = ∇ log p."""
    x = draw((_DRAWS,)).detach()
    slope = _slope(d, x)
    tangent = slope - (slope * x).sum(-1, keepdim=True) * x
    return mean_is_zero(tangent - (x.shape[-1] - 1) * x, case.level, _UNLIKE)
