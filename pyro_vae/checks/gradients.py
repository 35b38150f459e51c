"""Lines that compare gradients of the bounds with finite differences, and estimators with each other."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from pyro_vae.checks import estimators
from pyro_vae.checks.enumeration import enumerated_elbo
from pyro_vae.checks.inputs import Check, Inputs, named_leaves
from pyro_vae.checks.operations import OperationCounter
from pyro_vae.checks.report import Finding, worst
from pyro_vae.checks.statistics import mean_is_zero
from pyro_vae.model_guide import ModelGuide

__all__ = ["CHECKS"]

_SECTION = "Gradients"
_DRAWS = 8  # of the estimators that need several


def _repeat(inputs: Inputs, key: int, estimate: Callable[[ModelGuide], Tensor]) -> Tensor:
    """Return an estimator's slopes for a few examples, under several seeds, ``(repeats, columns)``."""
    found = []
    for i in range(inputs.repeats):
        with inputs.seeded(41, key, i):
            found.append(inputs.directions.slopes_of(estimate(inputs.few).sum()))
    return torch.stack(found)


def _cached(inputs: Inputs, name: str, key: int, estimate: Callable[[ModelGuide], Tensor]) -> Tensor:
    return inputs.cached(name, lambda: _repeat(inputs, key, estimate))


def _pathwise(inputs: Inputs) -> Tensor:
    return _cached(inputs, "pathwise", 0, estimators.pathwise)


def _unfit(inputs: Inputs) -> Finding | None:
    """Return a finding if there is no pathwise gradient to compare."""
    if not inputs.parameters:
        return Finding("skipped", "there are no parameters", applies=False)
    if inputs.is_point:
        return Finding("skipped", "q is a point; it has no density", applies=False)
    if not inputs.pathwise:
        return Finding("skipped", "no gradient goes through draws of this q", applies=False)
    return None


def _moving(inputs: Inputs) -> Finding | None:
    """Return a finding if the support of q moves, as a box may: then the mean of the score of log q is not zero."""
    with torch.no_grad(), inputs.seeded(46):
        z = inputs.few.prior().sample((100,))
        empty = torch.isneginf(inputs.few.log_posterior(z)).any()
    if empty:
        return Finding("skipped", "q(z|x) is zero at some draws of p(z); log q has no score at the edge of its support")
    return None


def _compare(inputs: Inputs, ours: Tensor, reference: Tensor, words: str, of: str = "pathwise") -> Finding:
    """Compare the means of two sets of slopes, from independent or paired draws, and report their variances' ratio."""
    scale = reference.abs().mean(0).clamp_min(1e-12)
    found = mean_is_zero(ours - reference, inputs.level, f"{words} differs on average from the {of} one", 1e-9 * scale)
    ratio = (ours.var(0).sum() / reference.var(0).sum()).item()
    detail = found.detail or f"variance {ratio:.3g} times that of the {of} gradient"
    return Finding(found.verdict, detail, found.difference, found.standard_error, found.tolerance, found.p_value)


def _finite_differences(inputs: Inputs) -> Finding:
    """Compare autograd with finite differences for each bound whose value has that gradient."""
    if not inputs.parameters:
        return Finding("skipped", "there are no parameters", applies=False)
    if inputs.is_discrete:
        return _differences(inputs, "the ELBO", enumerated_elbo)
    if not inputs.pathwise:
        return Finding("skipped", "draws of this q jump with the parameters")
    if _draws_by_rejection(inputs):
        with torch.no_grad(), inputs.seeded(42):
            z = inputs.few.draw(1)
        at_z = _differences(inputs, "the ELBO", lambda pair: pair.terms(z).weight.mean(0))
        how = "at fixed z, because draws of this q have implicit gradients; gradient-score checks those"
        return replace(at_z, detail=at_z.detail or how)
    found = [_differences(inputs, "the ELBO", estimators.pathwise)]
    if inputs.has_closed_kl:
        found.append(_differences(inputs, "the ELBO with KL in closed form", estimators.analytic_kl))
    if not inputs.is_point:
        weighted = partial(estimators.importance_weighted, num_particles=_DRAWS)
        found.append(_differences(inputs, "the importance-weighted bound", weighted))
    return worst(found)


def _differences(inputs: Inputs, what: str, bound: Callable[[ModelGuide], Tensor]) -> Finding:
    """Compare autograd with finite differences along each direction, under the same noise."""
    parameters, directions = inputs.parameters, inputs.directions.whole
    # No step suits all units and all networks with kinks: the right gradient agrees at one of these.
    steps, tolerance = ((1e-6, 1e-4, 1e-8, 1e-10), 1e-4) if inputs.rounding < 1e-6 else ((1e-2, 1e-3, 1e-1), 0.05)

    def value() -> Tensor:
        with inputs.seeded(42):
            return bound(inputs.few).sum()

    gradients = torch.autograd.grad(value(), parameters, allow_unused=True)
    found = [v.new_zeros(()) if g is None else (g * v).sum() for g, v in zip(gradients, directions, strict=True)]
    by_autograd = torch.stack(found)
    with torch.no_grad():
        slopes = [_slope(value, p, v, steps[0]) for p, v in zip(parameters, directions, strict=True)]
        settled = [math.inf] * len(slopes)  # the smallest difference between two steps; if large, it is rounding
        scale = torch.maximum(by_autograd.abs().max(), torch.stack(slopes).abs().max()).clamp_min(1e-12)
        for i, (p, v) in enumerate(zip(parameters, directions, strict=True)):
            for step in steps[1:]:
                if (slopes[i] - by_autograd[i]).abs() <= tolerance * scale:
                    break
                again = _slope(value, p, v, step)
                settled[i] = min(settled[i], (again - slopes[i]).abs().item())
                if (again - by_autograd[i]).abs() < (slopes[i] - by_autograd[i]).abs():
                    slopes[i] = again
    by_differences = torch.stack(slopes)
    off = (by_autograd - by_differences).abs() / scale
    if bool((off <= tolerance).all()):
        return Finding("passed", "", off.max().item(), tolerance=tolerance)
    unsettled = torch.tensor(settled).to(off) > 0.5 * off * scale
    if bool((unsettled | (off <= tolerance)).all()):
        return Finding("skipped", f"{what} is so large that its finite differences are mostly rounding")
    most = int(off.nan_to_num(math.inf).masked_fill(unsettled, 0.0).argmax())
    name = {id(p): n for n, p in named_leaves(inputs.exact)}.get(id(parameters[most]), "a parameter")
    words = (
        f"along {name} the gradient of {what} is {by_autograd[most]:.4g} by autograd and {by_differences[most]:.4g} by "
        "finite differences: autograd misses a part of it. Look for detach(), no_grad(), sample() in place of "
        "rsample(), .data and .item()"
    )
    return Finding("failed", words, off[most].item(), tolerance=tolerance)


def _slope(value: Callable[[], Tensor], p: Tensor, direction: Tensor, step: float) -> Tensor:
    """Return a central difference along a direction; the parameter is restored."""
    before = p.clone()
    try:
        p.add_(step * direction)
        up = value()
        p.copy_(before - step * direction)
        return (up - value()) / (2 * step)
    finally:
        p.copy_(before)


def _draws_by_rejection(inputs: Inputs) -> bool:
    """True if z is computed from a gamma, beta or Dirichlet variable.

    Torch gives such draws an implicit gradient (Figurnov, Mohamed and Mnih 2018, arXiv 1805.08498). It is right on
    average, but not for one draw under fixed noise, because the sampler accepts or rejects.
    """
    with torch.no_grad(), OperationCounter() as counted:
        inputs.few.draw(1)
    return bool(counted.names & {"_standard_gamma", "_sample_dirichlet"})


def _analytic(inputs: Inputs) -> Finding:
    if unfit := _unfit(inputs):
        return unfit
    if not inputs.has_closed_kl:
        return Finding("skipped", "KL(q || p) has no closed form here", applies=False)
    ours = _cached(inputs, "analytic", 0, estimators.analytic_kl)  # the same noise as the pathwise one
    return _compare(inputs, ours, _pathwise(inputs), "the gradient with KL(q || p) in closed form")


def _sticking(inputs: Inputs) -> Finding:
    if unfit := _unfit(inputs) or _moving(inputs):
        return unfit
    ours = _cached(inputs, "stl", 0, lambda p: estimators.sticking_the_landing(p, inputs.parameters))
    return _compare(inputs, ours, _pathwise(inputs), "the gradient without the score of log q")


def _score(inputs: Inputs) -> Finding:
    if not inputs.parameters or inputs.is_point:
        return Finding("skipped", "there are no parameters" if not inputs.parameters else "q is a point", applies=False)
    if not inputs.is_discrete and (moving := _moving(inputs)):
        return moving
    ours = _cached(inputs, "score", 1, lambda p: estimators.score_function(p, _DRAWS))
    if inputs.pathwise:
        return _compare(inputs, ours, _pathwise(inputs), "the score-function gradient")
    if not inputs.is_discrete:
        return Finding("skipped", "there is no other gradient to compare it with")
    truth = inputs.directions.slopes_of(enumerated_elbo(inputs.few).sum())
    return mean_is_zero(ours - truth, inputs.level, "the score-function gradient differs from the exact one on average")


def _one_weight_counts(inputs: Inputs) -> bool:
    """True if one of a few draws usually has all the weight: then the other draws hardly count."""
    with torch.no_grad(), inputs.seeded(45):
        weight = torch.stack([inputs.few.draw_terms(_DRAWS).weight for _ in range(20)])
    size = 1 / torch.softmax(weight, 1).square().sum(1)
    return bool(size.median() < 2)


def _doubly(inputs: Inputs) -> Finding:
    if unfit := _unfit(inputs) or _moving(inputs):
        return unfit
    if _one_weight_counts(inputs):
        return Finding("skipped", "one importance weight of each example outweighs all others, so too few draws count")
    # Each of these takes the terms more than once, which must have the same weights.
    reference = _cached(inputs, "iwae", 2, lambda p: estimators.importance_weighted(p.holding_missing(), _DRAWS))
    ours = _cached(
        inputs,
        "dreg",
        2,
        lambda p: estimators.doubly_reparametrised(p.holding_missing(), inputs.parameters, _DRAWS),
    )
    return _compare(inputs, ours, reference, "the doubly reparametrised gradient", "importance-weighted")


_SAME = "Estimators of one gradient differ in their noise, but not on average."

CHECKS = [
    Check(
        "gradient",
        _SECTION,
        "gradients of ELBO and IWAE by autograd against finite differences, under the same noise",
        "Training follows the gradient, which must be that of the whole bound.",
        _finite_differences,
        "whether autograd sees the whole gradient",
    ),
    Check(
        "gradient-analytic-kl",
        _SECTION,
        "the gradient with KL in closed form against that of Trace_ELBO, on average",
        _SAME,
        _analytic,
        "whether the gradient with KL in closed form is right",
    ),
    Check(
        "gradient-score",
        _SECTION,
        "the score-function gradient against the pathwise one, on average",
        "The first needs no path through the draws, the second no density of them: they share no mistake.",
        _score,
        "whether the score-function gradient is right",
    ),
    Check(
        "gradient-landing",
        _SECTION,
        "the gradient by sticking the landing against that of Trace_ELBO, on average",
        "The score of log q has mean zero if the draws follow the density.",
        _sticking,
        "whether the gradient by sticking the landing is right",
    ),
    Check(
        "gradient-doubly",
        _SECTION,
        "the doubly reparametrised gradient against that of the importance-weighted bound, on average",
        _SAME,
        _doubly,
        "whether the doubly reparametrised gradient is right",
    ),
]
