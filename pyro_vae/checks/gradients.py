"""Whether gradients are those of the bound: against finite differences, and estimators against each other."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pyro_vae.checks import estimators
from pyro_vae.checks.enumeration import enumerated_elbo
from pyro_vae.checks.inputs import Check, Inputs, named_leaves
from pyro_vae.checks.report import Finding, worst
from pyro_vae.checks.statistics import mean_is_zero
from pyro_vae.model_guide import ModelGuide

__all__ = ["CHECKS"]

_SECTION = "Gradients"
_DRAWS = 8  # of the estimators that need several


def _repeat(inputs: Inputs, key: int, estimate: Callable[[ModelGuide], Tensor]) -> Tensor:
    """Slopes of an estimator of the bound of a few examples, under so many seeds, ``(repeats, columns)``."""
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
    if not inputs.parameters:
        return Finding("skipped", "there are no parameters", applies=False)
    if inputs.is_point:
        return Finding("skipped", "q is a point; it has no density to draw from", applies=False)
    if not inputs.pathwise:
        return Finding("skipped", "no gradient goes through draws of this q", applies=False)
    return None


def _moving(inputs: Inputs) -> Finding | None:
    """Where q has no density in a part of its support, as of a box that moves, the score of log q has no mean zero."""
    with torch.no_grad(), inputs.seeded(46):
        z = inputs.few.prior().sample((100,))
        empty = torch.isneginf(inputs.few.log_posterior(z)).any()
    if empty:
        return Finding("skipped", "q(z|x) has no density at some draws of p(z): where that ends, log q has no score")
    return None


def _compare(inputs: Inputs, ours: Tensor, reference: Tensor, words: str, of: str = "pathwise") -> Finding:
    """Means of the same slopes, from independent or paired draws, and the ratio of their variances."""
    scale = reference.abs().mean(0).clamp_min(1e-12)
    found = mean_is_zero(
        ours - reference, inputs.level, f"{words} differs from the pathwise one on average", 1e-9 * scale
    )
    ratio = (ours.var(0).sum() / reference.var(0).sum()).item()
    detail = found.detail or f"variance {ratio:.3g} times that of the pathwise gradient"
    return Finding(found.verdict, detail, found.difference, found.standard_error, found.tolerance, found.p_value)


def _finite_differences(inputs: Inputs) -> Finding:
    """Of each bound that is a number with a gradient of its own."""
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
        how = "at fixed z, since draws of this q are differentiated implicitly: gradient-score has the way through z"
        return replace(at_z, detail=at_z.detail or how)
    found = [_differences(inputs, "the ELBO", estimators.pathwise)]
    if inputs.has_closed_kl:
        found.append(_differences(inputs, "the ELBO with KL in closed form", estimators.analytic_kl))
    if not inputs.is_point:
        weighted = partial(estimators.importance_weighted, num_particles=_DRAWS)
        found.append(_differences(inputs, "the importance-weighted bound", weighted))
    return worst(found)


def _differences(inputs: Inputs, what: str, bound: Callable[[ModelGuide], Tensor]) -> Finding:
    """The same noise before and after a small step along each direction."""
    parameters, directions = inputs.parameters, inputs.directions.whole
    # One step does not suit all units and networks with kinks: a gradient that is right agrees at one of these.
    steps, tolerance = ((1e-6, 1e-4, 1e-8, 1e-10), 1e-4) if inputs.rounding < 1e-6 else ((1e-2, 1e-3, 1e-1), 0.05)

    def value() -> Tensor:
        with inputs.seeded(42):
            return bound(inputs.few).sum()

    gradients = torch.autograd.grad(value(), parameters, allow_unused=True)
    found = [v.new_zeros(()) if g is None else (g * v).sum() for g, v in zip(gradients, directions, strict=True)]
    by_autograd = torch.stack(found)
    with torch.no_grad():
        slopes = [_slope(value, p, v, steps[0]) for p, v in zip(parameters, directions, strict=True)]
        settled = [math.inf] * len(slopes)  # how far two steps are apart at least: rounding, where that is much
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
        return Finding("skipped", f"finite differences of {what} are mostly rounding: its value is too large for them")
    most = int(off.nan_to_num(math.inf).masked_fill(unsettled, 0.0).argmax())
    name = {id(p): n for n, p in named_leaves(inputs.exact)}.get(id(parameters[most]), "a parameter")
    words = (
        f"along {name} the gradient of {what} is {by_autograd[most]:.4g} by autograd and {by_differences[most]:.4g} by "
        "finite differences: autograd does not see all ways in which it depends on its parameters. Look for detach(), "
        "no_grad(), sample() where rsample() is meant, .data or .item()"
    )
    return Finding("failed", words, off[most].item(), tolerance=tolerance)


def _slope(value: Callable[[], Tensor], p: Tensor, direction: Tensor, step: float) -> Tensor:
    """A central difference along a direction; the parameter is afterwards what it was."""
    before = p.clone()
    try:
        p.add_(step * direction)
        up = value()
        p.copy_(before - step * direction)
        return (up - value()) / (2 * step)
    finally:
        p.copy_(before)


class _Operations(TorchDispatchMode):
    """Remembers the names of the operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def _draws_by_rejection(inputs: Inputs) -> bool:
    """Whether z comes from a gamma, beta or Dirichlet variable or what is made of them.

    Torch gives such draws an implicit gradient (Figurnov, Mohamed and Mnih 2018, arXiv 1805.08498), which is right on
    average and not that of one draw under fixed noise: the sampler accepts or rejects.
    """
    with torch.no_grad(), _Operations() as operations:
        inputs.few.draw(1)
    return bool(operations.names & {"_standard_gamma", "_sample_dirichlet"})


def _analytic(inputs: Inputs) -> Finding:
    if unfit := _unfit(inputs):
        return unfit
    if not inputs.has_closed_kl:
        return Finding("skipped", "this pair of q and p has no KL in closed form", applies=False)
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
        return Finding("skipped", "nothing to compare it with")
    truth = inputs.directions.slopes_of(enumerated_elbo(inputs.few).sum())
    return mean_is_zero(ours - truth, inputs.level, "the score-function gradient differs from the exact one on average")


def _one_weight_counts(inputs: Inputs) -> bool:
    """Whether of a few draws mostly one has all the weight, so that what depends on the others is hardly ever seen."""
    with torch.no_grad(), inputs.seeded(45):
        weight = torch.stack([inputs.few.draw_terms(_DRAWS).weight for _ in range(20)])
    size = 1 / torch.softmax(weight, 1).square().sum(1)
    return bool(size.median() < 2)


def _doubly(inputs: Inputs) -> Finding:
    if unfit := _unfit(inputs) or _moving(inputs):
        return unfit
    if _one_weight_counts(inputs):
        return Finding("skipped", "one importance weight of an example outweighs all others: too few draws count")
    reference = _cached(inputs, "iwae", 2, lambda p: estimators.importance_weighted(p, _DRAWS))
    ours = _cached(inputs, "dreg", 2, lambda p: estimators.doubly_reparametrised(p, inputs.parameters, _DRAWS))
    return _compare(inputs, ours, reference, "the doubly reparametrised gradient", "importance-weighted")


_SAME = "Estimators of one gradient differ in their noise, not on average."

CHECKS = [
    Check(
        "gradient",
        _SECTION,
        "gradients of ELBO and IWAE by autograd with finite differences, under the same noise",
        "Training follows the gradient; it must be that of the bound and not of a part of it.",
        _finite_differences,
        "whether autograd sees the whole gradient",
    ),
    Check(
        "gradient-analytic-kl",
        _SECTION,
        "the gradient with KL in closed form with that of Trace_ELBO, on average",
        _SAME,
        _analytic,
        "whether the gradient with KL in closed form is right",
    ),
    Check(
        "gradient-score",
        _SECTION,
        "the score-function gradient with the pathwise one, on average",
        "One needs no path through the draws, the other no density of them: they share no mistake.",
        _score,
        "whether the score-function gradient is right",
    ),
    Check(
        "gradient-landing",
        _SECTION,
        "the gradient of sticking the landing with that of Trace_ELBO, on average",
        "The score of log q has mean zero where draws and density belong together.",
        _sticking,
        "whether the gradient of sticking the landing is right",
    ),
    Check(
        "gradient-doubly",
        _SECTION,
        "the doubly reparametrised gradient with that of the importance-weighted bound",
        _SAME,
        _doubly,
        "whether the doubly reparametrised gradient is right",
    ),
]
