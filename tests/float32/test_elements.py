"""Likelihoods of independent elements in float32, at the corners of their parameters, against 50 digits."""

from __future__ import annotations

import mpmath as mp
import pytest
import torch

from tests.likelihoods.cases import ELEMENTS

TOLERANCE = 1e-3


def error(got: float, right: mp.mpf) -> float:
    """Relative where what is right is above 1, absolute below."""
    return float(abs(mp.mpf(got) - right) / max(abs(right), 1)) if got == got else float("inf")


def errors(name, dtype=torch.float32):
    """The error at each point, with the point, what came and what is right; and the gradients by the raw outputs."""
    likelihood, corners = ELEMENTS[name]
    points = corners.points()
    raws = torch.tensor([raw for raw, _ in points], dtype=dtype, requires_grad=True)
    xs = torch.tensor([x for _, x in points], dtype=dtype)
    got = corners.log_prob(likelihood, raws, xs)
    (gradients,) = torch.autograd.grad(got.sum(), raws)
    rights = [corners.log_density(*map(mp.mpf, raw), mp.mpf(x)) for raw, x in points]
    found = [(error(g, r), point, g, float(r)) for g, r, point in zip(got.tolist(), rights, points, strict=True)]
    return found, gradients


@pytest.mark.parametrize("name", ELEMENTS)
def test_log_prob_and_its_gradient_are_right_at_the_corners(name):
    _, corners = ELEMENTS[name]
    found, gradients = errors(name)
    worst = max(found, key=lambda f: f[0])
    print(f"| {name} | {len(found)} | {worst[0]:.1e} |")
    assert worst[0] <= TOLERANCE, f"(raw outputs, x) = {worst[1]}: {worst[2]} for {worst[3]}"
    assert gradients.isfinite().all()
    for (raw, x), gradient in list(zip(corners.points(), gradients.tolist(), strict=True))[::7]:
        for i, g in enumerate(gradient):
            right = mp.diff(
                lambda r, raw=raw, x=x, i=i: corners.log_density(*raw[:i], r, *raw[i + 1 :], mp.mpf(x)), raw[i]
            )
            assert error(g, right) <= TOLERANCE, f"gradient by raw output {i} at {(raw, x)}: {g} for {float(right)}"


@pytest.mark.parametrize("name", [n for n in ELEMENTS if "Binomial" in n or n in ("Poisson", "Beta", "Gamma")])
def test_float64_has_ten_digits(name):
    worst = max(errors(name, torch.float64)[0], key=lambda f: f[0])
    assert worst[0] <= 1e-10, f"{worst[1]}: {worst[2]} for {worst[3]}"
