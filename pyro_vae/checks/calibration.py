"""Simulation-based calibration: where true codes rank among draws of the posterior."""

from __future__ import annotations

import math

import torch
from scipy import stats
from torch import Tensor

from pyro_vae.checks.inputs import Check, Inputs
from pyro_vae.checks.report import Finding
from pyro_vae.model_guide import ModelGuide

__all__ = ["CHECKS", "ranks"]

_SECTION = "Calibration"
_SIMULATIONS, _DRAWS, _BINS = 320, 63, 16


def ranks(pair: ModelGuide, simulations: int, num_particles: int) -> Tensor:
    """The rank of each true z among draws of q(z|x), for x simulated from the model with that z; ties by lot.

    Where q is the true posterior, each rank from 0 to ``draws`` is as likely as any other (Talts et al. 2018,
    arXiv 1804.06788).

    Args:
        pair: model and guide, on data of any values.
        simulations: how many pairs of z and x.
        num_particles: of q for each.

    Returns:
        ``(simulations, elements of z)``, whole numbers.
    """
    found = []
    with torch.no_grad():
        for _ in range(math.ceil(simulations / pair.batch)):
            z, x = pair.simulate()
            drawn = pair.of(x).posterior().sample((num_particles,))
            ties = (drawn == z).sum(0)
            rank = (drawn < z).sum(0) + (torch.rand(ties.shape, device=ties.device) * (ties + 1)).long()
            found.append(rank.reshape(len(rank), -1).cpu())
    return torch.cat(found)[:simulations]


def _calibration(inputs: Inputs) -> Finding:
    if inputs.is_point:
        return Finding("skipped", "q is a point; it has no draws to rank among", applies=False)
    if inputs.given.named:
        return Finding("skipped", "the ranks are not looked at: data with missing values cannot be simulated")
    if inputs.is_teacher_forced:
        return Finding("skipped", "the ranks are not looked at: p(x|z) depends on the x that it is given")
    with inputs.seeded(50):
        found = ranks(inputs.exact, _SIMULATIONS, _DRAWS)
    inputs.ranks, inputs.rank_count = found, _DRAWS + 1
    bins = torch.nn.functional.one_hot(found * _BINS // (_DRAWS + 1), _BINS).sum(0).double()  # (elements, bins)
    expected = _SIMULATIONS / _BINS
    chi2 = ((bins - expected) ** 2 / expected).sum(-1)
    p = torch.as_tensor(stats.chi2.sf(chi2.numpy(), _BINS - 1))
    least = min(1.0, p.numel() * p.min().item())
    if least >= inputs.level:
        return Finding(
            "passed", "the true codes rank among draws of q as they would among draws of the posterior", p_value=least
        )
    off = int((p * p.numel() < inputs.level).sum())
    place = (found.double() + 0.5) / (_DRAWS + 1)
    spread = place.var(0)[p.argmin()].item() * 12
    shape = "too narrow" if spread > 1.2 else "too wide" if spread < 0.8 else "off centre"
    words = f"in {off} of {p.numel()} dimensions q(z|x) is not the true posterior; worst: {shape}"
    if inputs.exact_posterior:
        return Finding("failed", words, p_value=least)
    return Finding(
        "noted",
        f"{words}. That is no error where q(z|x) is an approximation: it is the gap between the ELBO and log p(x)",
        p_value=least,
    )


def _exact(inputs: Inputs) -> Finding:
    if not inputs.exact_posterior:
        return Finding("skipped", "q is not said to be the true posterior (exact=True)", applies=False)
    with torch.no_grad(), inputs.seeded(51):
        weight = inputs.exact.terms(inputs.exact.draw(20)).weight
    spread = weight.std(0).max().item()
    tolerance = 1e4 * inputs.rounding
    words = "log p(x, z) - log q(z|x) changes with z: q is not the true posterior"
    failed = not spread <= tolerance
    return Finding("failed" if failed else "passed", words if failed else "", spread, tolerance=tolerance)


CHECKS = [
    Check(
        "exact-posterior",
        _SECTION,
        "log p(x, z) - log q(z|x) at several z",
        "For the true posterior it is log p(x), whatever z is.",
        _exact,
        "whether q(z|x) is the true posterior",
    ),
    Check(
        "calibration",
        _SECTION,
        "ranks of the true z among draws of q(z|x), for data simulated from the model",
        "Among draws of the true posterior each rank is equally likely (Talts et al. 2018).",
        _calibration,
        "whether true codes rank among draws of q(z|x) as they should",
    ),
]
