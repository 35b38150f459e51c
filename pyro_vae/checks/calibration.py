"""Simulation-based calibration: the ranks of true z among draws of q(z|x)."""

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
    """Return the rank of each true z among draws of q(z|x), for x simulated from that z; ties are broken at random.

    If q is the true posterior, all ranks from 0 to ``num_particles`` are equally likely (Talts et al. 2018,
    arXiv 1804.06788).

    Args:
        pair: model and guide, on data of any values.
        simulations: number of pairs of z and x.
        num_particles: draws of q for each pair.

    Returns:
        Whole numbers, ``(simulations, elements of z)``.
    """
    found = []
    with torch.no_grad():
        for _ in range(math.ceil(simulations / pair.batch)):
            z, x = pair.simulate_with_gaps()
            drawn = pair.with_data(x).posterior().sample((num_particles,))
            ties = (drawn == z).sum(0)
            rank = (drawn < z).sum(0) + (torch.rand(ties.shape, device=ties.device) * (ties + 1)).long()
            found.append(rank.reshape(len(rank), -1).cpu())
    return torch.cat(found)[:simulations]


def _calibration(inputs: Inputs) -> Finding:
    if inputs.is_point:
        return Finding("skipped", "q is a point: all of its draws are equal", applies=False)
    if inputs.given.named:
        return Finding("skipped", "data with missing values cannot be simulated")
    if inputs.is_teacher_forced:
        return Finding("skipped", "data cannot be simulated: p(x|z) depends on the x that the model is given")
    with inputs.seeded(50):
        found = ranks(inputs.exact, _SIMULATIONS, _DRAWS)
    inputs.ranks, inputs.rank_count = found, _DRAWS + 1
    bins = torch.nn.functional.one_hot(found * _BINS // (_DRAWS + 1), _BINS).sum(0).double()  # (elements, bins)
    expected = _SIMULATIONS / _BINS
    chi2 = ((bins - expected) ** 2 / expected).sum(-1)
    p = torch.as_tensor(stats.chi2.sf(chi2.numpy(), _BINS - 1))
    least = min(1.0, p.numel() * p.min().item())
    if least >= inputs.level:
        return Finding("passed", "the true z rank among draws of q as among draws of the posterior", p_value=least)
    off = int((p * p.numel() < inputs.level).sum())
    place = (found.double() + 0.5) / (_DRAWS + 1)
    spread = place.var(0)[p.argmin()].item() * 12
    shape = "too narrow" if spread > 1.2 else "too wide" if spread < 0.8 else "off centre"
    words = f"q(z|x) is not the true posterior in {off} of {p.numel()} dimensions; in the worst, it is {shape}"
    if inputs.exact_posterior:
        return Finding("failed", words, p_value=least)
    return Finding(
        "noted",
        f"{words}. For an approximate q(z|x) this is no error; it makes the ELBO smaller than log p(x)",
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
        "log p(x, z) - log q(z|x) at one z against other z",
        "For the true posterior it is log p(x) at every z.",
        _exact,
        "whether q(z|x) is the true posterior",
    ),
    Check(
        "calibration",
        _SECTION,
        "the ranks of true z among draws of q(z|x), for simulated data, against equally likely ranks",
        "Among draws of the true posterior all ranks are equally likely (Talts et al. 2018).",
        _calibration,
        "whether true z rank among draws of q(z|x) as they should",
    ),
]
