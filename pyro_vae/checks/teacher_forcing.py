"""Finds which factor of p(x|z) depends on which element of x, for a decoder that sees x (teacher forcing)."""

from __future__ import annotations

import torch
from pyro.distributions import MaskedDistribution
from pyro.poutine.runtime import Message
from torch import Tensor
from torch.distributions import Independent

from pyro_vae.checks.report import Finding
from pyro_vae.checks.statistics import equal
from pyro_vae.model_guide import ModelGuide
from pyro_vae.seeds import seeded

__all__ = ["find_cycle", "influence", "sees"]

_ELEMENTS = 100  # elements that are changed, one by one
_EXAMPLES = 8  # examples in which they are changed
_ROWS = 800  # rows that run at a time


def sees(p: ModelGuide, z: Tensor, name: str, tolerance: float) -> Finding:
    """Check whether a site's density, at the same z and value, changes with the x that the model is given.

    Args:
        p: the programs.
        z: ``(batch, *event)``.
        name: of the site.
        tolerance: the largest relative difference.

    Returns:
        A finding that failed if the density changes.
    """
    with torch.no_grad():
        given, other = p.trace_model(z).nodes[name], p.with_data(p.x.roll(1, 0)).trace_model(z).nodes[name]
        before, after = (site["fn"].log_prob(given["value"]) for site in (given, other))
    return equal(before, after, tolerance)


def influence(p: ModelGuide, z: Tensor, tolerance: float, seed: int) -> tuple[Tensor, Tensor]:
    """Find which factors of p(x|z) change if one element of x is replaced by another example's.

    A factor is the density of one element if p(x|z) is a product over elements, of one vector if it is a product over
    vectors, and of all of x if it is no product.

    Args:
        p: the programs.
        z: ``(batch, *event)``.
        tolerance: the largest relative difference.
        seed: for choosing among too many factors.

    Returns:
        The chosen factors, ``(chosen,)``, and whether factor j changes with the elements of factor k, ``[k, j]``.
    """
    p, z = p.rows(0, _EXAMPLES), z[:_EXAMPLES]
    with torch.no_grad():
        site = p.trace_model(z).nodes[p.observed]
        before = _factors(site, site["value"], p.x[0].numel())
        count = before.shape[1]
        chosen = _choice(count, seed).to(z.device)
        width, flat = p.x[0].numel() // count, p.x.reshape(p.batch, -1)
        found = []
        for part in chosen.split(max(1, _ROWS // p.batch)):
            changed = flat.repeat(len(part), 1, 1)
            for i, k in enumerate(part.tolist()):
                at = slice(k * width, (k + 1) * width)
                changed[i, :, at] = _another(flat[:, at])
            many = p.at(torch.arange(p.batch, device=z.device).repeat(len(part)))
            x = changed.reshape(len(part) * p.batch, *p.x.shape[1:])
            after = many.with_data(x).trace_model(z.repeat(len(part), *(1 for _ in z.shape[1:]))).nodes[p.observed]
            value = site["value"].repeat(len(part), *(1 for _ in site["value"].shape[1:]))
            differs = (_factors(after, value, p.x[0].numel()).unflatten(0, (len(part), -1)) - before).abs()
            found.append((differs > tolerance * before.abs().clamp_min(1.0)).any(1)[:, chosen])
    return chosen, torch.cat(found)


def find_cycle(seen: Tensor) -> list[int]:
    """Return elements that see each other, directly or not; empty if in some order each sees earlier ones only.

    Args:
        seen: whether factor j depends on element k, ``[k, j]``.
    """
    left = list(range(len(seen)))
    while left:
        among = seen[left][:, left].clone()
        among.fill_diagonal_(False)
        free = ~among.any(0)  # these depend on no element that is left
        if not free.any():
            return [left[i] for i in among.any(1).nonzero().flatten().tolist()]
        left = [k for k, is_free in zip(left, free.tolist(), strict=True) if not is_free]
    return []


def _choice(count: int, seed: int) -> Tensor:
    """Return all factors; of too many, some pairs of neighbours and both ends."""
    if count <= _ELEMENTS:
        return torch.arange(count)
    with seeded(seed):
        some = torch.randperm(count - 1)[: _ELEMENTS // 2 - 1]
    return torch.cat([some, some + 1, torch.tensor([0, count - 1])]).unique()


def _another(column: Tensor) -> Tensor:
    """Return the values of other examples, shifted so that as many values as possible differ."""
    shifts = [column.roll(i, 0) for i in range(1, len(column))]
    return max(shifts, key=lambda other: int((other != column).any(1).sum()))


def _factors(site: Message, value: Tensor, elements: int) -> Tensor:
    """Return the log-density of each factor, ``(batch, factors)``; one factor if they do not divide the elements."""
    distribution = site["fn"]
    while isinstance(distribution, Independent) or (
        isinstance(distribution, MaskedDistribution) and isinstance(distribution.base_dist, Independent)
    ):
        distribution = distribution.base_dist
    log_prob = distribution.log_prob(value)
    log_prob = log_prob.reshape(len(log_prob), -1)
    return log_prob if elements % log_prob.shape[1] == 0 else log_prob.sum(1, keepdim=True)
