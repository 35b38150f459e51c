"""Lines that compare the user's loss with the negative bound: its value, gradient, training mode and noise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from pyro.infer import ELBO, RenyiELBO
from scipy import stats
from torch import Tensor

from pyro_vae.checks.causes import Cause, cause_of_gradient, cause_of_loss
from pyro_vae.checks.in_place import changed_in_place
from pyro_vae.checks.inputs import Check, Inputs, Loss, loss_of, random_indices
from pyro_vae.checks.ranks import correlation_of_examples
from pyro_vae.checks.report import Finding, worst
from pyro_vae.checks.statistics import mean_is_zero
from pyro_vae.checks.trials import Part, Trials, in_training_mode, trials
from pyro_vae.model_guide import listed
from pyro_vae.objectives import BetaELBO, Objective

__all__ = ["CHECKS", "samples_of"]

_SECTION = "Objective"
_NONE = Finding("skipped", "no objective was given; pass the loss that you train with as objective=", applies=False)
_NOISES = 100  # draws of the objective's noise
_CLEAR = 5  # a gradient of fewer standard errors could be missing unnoticed
_EXAMPLES = 32  # examples whose noise is compared


def samples_of(objective: Loss | None, given: int) -> int:
    """Return the number of importance samples in an objective's bound; the user's number comes first.

    Args:
        objective: as given.
        given: ``importance_particles=``, 1 by default.
    """
    if given > 1:
        return given
    if isinstance(objective, RenyiELBO) and objective.alpha == 0:
        return int(objective.num_particles)
    known = objective.importance_particles if isinstance(objective, Objective) else None
    return int(known) if known else given


def _on_purpose(inputs: Inputs) -> str:
    """Say what an objective of ours or Pyro's is, if it differs from the bound on purpose; else empty."""
    objective = inputs.objective
    name = type(objective).__name__
    if isinstance(objective, BetaELBO) and objective.importance_particles is None:
        return f"{name} weights the KL on purpose"
    if isinstance(objective, Objective) and objective.importance_particles is None:
        return f"{name} is another objective than the ELBO on purpose"
    if isinstance(objective, RenyiELBO) and objective.alpha != 0:
        return f"{name} of alpha {objective.alpha:g} is another bound on purpose"
    return ""


def _changes(inputs: Inputs) -> str:
    """Say whether the objective changes its data in place; an ELBO does so only if model or guide does."""
    if inputs.objective is None or isinstance(inputs.objective, ELBO):
        return ""
    return changed_in_place(inputs.objective, "the objective", inputs.given.x, *inputs.given.context)


def _unfit(inputs: Inputs) -> Finding | None:
    """Return a finding if the objective cannot be compared with the bound."""
    if inputs.objective is None:
        return _NONE
    if changed := inputs.cached("in place", lambda: _changes(inputs)):
        return Finding("failed", changed)
    purpose = _on_purpose(inputs)
    return Finding("noted", f"{purpose}, so it is not compared with the ELBO") if purpose else None


def _not_again(inputs: Inputs) -> Finding | None:
    """Return :func:`_unfit` for later lines, as skipped: a failure or note is reported once."""
    unfit = _unfit(inputs)
    return None if unfit is None else replace(unfit, verdict="skipped", applies=False)


# The value.


def _value(inputs: Inputs) -> Finding:
    if isinstance(inputs.objective, BetaELBO) and isinstance(inputs.objective.beta, (int, float)):
        return _of_beta(inputs, float(inputs.objective.beta))
    return _unfit(inputs) or _value_of(trials(inputs), inputs, _to_say(inputs))


def _of_beta(inputs: Inputs, beta: float) -> Finding:
    """Compare the loss with beta KL - recon."""
    found = trials(inputs)
    if "bound" in found.parts or beta == 1:
        return _value_of(found, inputs, _to_say(inputs))
    weighted = (found.parts["recon"] - found.parts["kl"] * beta) * found.scale
    rest = found.loss.values + weighted.values
    finding = mean_is_zero(rest, inputs.level, slack=1e-5 * weighted.values.abs().mean())
    if finding.verdict == "failed":
        return replace(finding, detail=f"the objective is not log p(x|z) - {beta:g} KL, as its class says")
    return replace(finding, verdict="noted", detail=f"it is log p(x|z) - {beta:g} KL on purpose, not the ELBO")


def _to_say(inputs: Inputs) -> Cause | None:
    """Return the cause for the words alone; what a second run says is not used if it fails too."""
    return None if inputs.attempt else cause(inputs)


def cause(inputs: Inputs, training: bool = False) -> Cause | None:
    """Return what explains a loss whose value is not the bound's, found once; None if the value is right."""
    found = trials(inputs, training)
    if _compared(found, inputs.level)[0].verdict == "passed" or not torch.isfinite(found.loss.values).all():
        return None
    return inputs.cached(f"cause {training}", lambda: cause_of_loss(found))


def _compared(found: Trials, level: float) -> tuple[Finding, bool]:
    """Compare the loss with the negative bound, and say whether it lacks the plate's scale.

    A loss without Pyro may be a sum over the batch alone, though the model's plate has a scale.
    """
    scaled = _difference(found, found.bound.values, level)
    if scaled.verdict == "passed" or found.scale == 1 or isinstance(found.inputs.objective, ELBO):
        return scaled, False
    unscaled = _difference(found, found.bound.values / found.scale, level)
    if unscaled.verdict != "passed":
        return scaled, False
    return replace(unscaled, detail=f"a sum over the batch, without the plate's scale of {found.scale:g}"), True


def _difference(found: Trials, bound: Tensor, level: float) -> Finding:
    return mean_is_zero(found.loss.values + bound, level, slack=1e-5 * bound.abs().mean())


def _value_of(found: Trials, inputs: Inputs, why: Cause | None) -> Finding:
    """Compare the loss's value with the negative bound, and explain a difference."""
    finding, _ = _compared(found, inputs.level)
    if finding.verdict == "passed":
        return finding
    words = (
        f"the objective is {found.loss.values.mean():.6g} on average, and the negative bound of this batch is "
        f"{-found.bound.values.mean():.6g}"
    )
    if why is not None:
        return replace(finding, detail=f"{words}: {why.words}{_advice(why)}")
    if bad := int((~torch.isfinite(found.loss.values)).sum()):
        words = f"the objective is NaN or infinite in {bad} of {len(found.loss.values)} draws"
        return replace(finding, detail=f"{words}. Look for log(0), a division by 0, and exp() of large numbers")
    if found.loss.values.std() <= 1e-6 * found.loss.values.abs().mean() and found.bound.values.std() > 0:
        words += ". It is the same in each call: does its draw of z lack noise, or does it set a seed?"
    return replace(finding, detail=words)


def _advice(why: Cause) -> str:
    """Return the remedy for a factor, or for a mean in place of a sum; empty for other causes."""
    if why.factor is not None:
        return f". Training is the same up to the learning rate; multiply by {1 / why.factor:.6g} to get the bound"
    if "(a mean over" in why.words:
        return ". Sum over elements and latents; if you divide by the batch, divide both terms"
    return ""


# The gradient.


def _gradient(inputs: Inputs) -> Finding:
    """Compare the gradient with that of the bound; what explains the value is not reported again."""
    if unfit := _not_again(inputs):
        return unfit
    if not (inputs.pathwise or (inputs.is_discrete and inputs.importance_particles == 1)):
        return Finding("skipped", "no gradient goes through draws of this q")
    found = trials(inputs)
    if not found.directions.parameters:
        return Finding("skipped", "there are no parameters", applies=False)
    finding = _gradient_of(found, inputs, cause(inputs))
    if finding.verdict == "failed" and inputs.is_straight_through and _value(inputs).verdict == "passed":
        words = "q(z|x) is a straight-through distribution: its gradient differs from the bound's on purpose"
        return Finding("noted", words)
    return finding


def _gradient_of(found: Trials, inputs: Inputs, why: Cause | None) -> Finding:
    """Compare the slopes of the loss with those of the negative bound, times the factor that explains the value."""
    factor = 1.0 if why is None or why.factor is None else why.factor
    if _compared(found, inputs.level)[1]:
        factor = 1 / found.scale
    bound = found.bound * factor
    slack = 1e-4 * bound.slopes.abs().mean(0) + 3e-6 * bound.slopes.abs().max()
    finding = mean_is_zero(found.loss.slopes + bound.slopes, inputs.level, slack=slack)
    if finding.verdict == "passed":
        if factor != 1.0:
            return replace(finding, detail=f"{factor:.4g} times that of the bound")
        return replace(finding, detail=_of_variance(found, bound))
    if why is not None and why.factor is None:
        return replace(finding, detail=f"as in the line objective: {why.words}")
    return replace(finding, detail=_off(found, bound))


def _of_variance(found: Trials, bound: Part) -> str:
    """Say how noisy the gradient is, relative to that of the bound, and whether the noise could hide mistakes."""
    ours, theirs = (part.slopes.var(0).sum().item() for part in (found.loss, bound))
    said = f"variance {ours / theirs:.3g} times that of the pathwise gradient" if min(ours, theirs) > 1e-20 else ""
    noise = (found.loss.slopes + bound.slopes).std(0) / math.sqrt(len(bound.slopes))
    clear = (bound.slopes.mean(0).abs() > _CLEAR * noise).cpu().numpy()
    names = np.array(found.directions.columns)
    noisy = [name for name in dict.fromkeys(names) if not clear[names == name].any()]
    if not noisy:
        return said
    hidden = f"too noisy along {listed(noisy)} to see whether it is cut off there; raise repeats="
    return f"{said}; {hidden}" if said else hidden


def _off(found: Trials, bound: Part) -> str:
    """Say along which tensor the gradient is off most, and why."""
    off = found.loss.slopes + bound.slopes
    error = off.std(0) / math.sqrt(len(off)) + 1e-4 * bound.slopes.abs().max() + 1e-30
    most = int((off.mean(0).abs() / error).argmax())
    names = np.array(found.directions.columns)
    words = (
        f"along {names[most]} the objective's gradient is {found.loss.slopes[:, most].mean():.4g} on average, and that "
        f"of the negative bound is {-bound.slopes[:, most].mean():.4g}"
    )
    if why := cause_of_gradient(found, np.flatnonzero(names == names[most])):
        return f"{words}: {why}"
    cut = (found.loss.slopes == 0).all(0) & (bound.slopes.abs().mean(0) > 1e-6 * bound.slopes.abs().max())
    if cut.any():
        return f"{words}. No gradient reaches parts of {listed(names[cut.cpu().numpy()])}: look for detach()"
    return f"{words}. Look for sample() in place of rsample(), for detach(), and for weights of the terms"


# Modes.


def _training(inputs: Inputs) -> Finding:
    """Compare the loss in both modes under the same seeds; if p or q differs, compare it with their bound."""
    if unfit := _not_again(inputs):
        return unfit
    modules = inputs.given.all_modules
    if not modules:
        return Finding("skipped", "no module has a training mode", applies=False)
    evaluated, usual = trials(inputs), cause(inputs)
    part = replace(inputs, level=inputs.level / 4)
    with in_training_mode(modules):
        found = trials(inputs, training=True)
        if _same(found.loss, evaluated.loss):
            return Finding("passed", "the same in both modes, under the same seeds", 0.0)
        why = cause(inputs, training=True)
        if why is not None and usual is not None and why.words == usual.words:
            return Finding("passed", "the finding of the line objective holds in training mode too")
        another = not all(_same(one, evaluated.parts[name]) for name, one in found.parts.items())
        findings = [_value_of(found, part, why), _gradient_of(found, part, why)]
        findings += [] if another else [_spread(found, evaluated, part), _noise_of(part)]
    line = worst(findings)
    if line.verdict == "failed":
        return replace(line, detail=f"in training mode {line.detail}. Look for conditions on self.training")
    if line.verdict == "noted":
        return replace(line, detail=f"in training mode {line.detail}")
    what = "p or q differs, and the objective is their bound" if another else "the objective has other noise"
    return replace(line, detail=f"in training mode {what}")


def _spread(found: Trials, evaluated: Trials, inputs: Inputs) -> Finding:
    """Compare the distribution of the losses in both modes, which must be the same if p and q are."""
    pair = [t.loss.values.cpu().numpy() for t in (found, evaluated)]
    p = float(stats.ks_2samp(*pair).pvalue)
    spreads = [v.std(ddof=1) for v in pair]
    words = (
        f"the objective has a standard deviation of {spreads[0]:.3g} nats over its noise, and of {spreads[1]:.3g} in "
        "evaluation mode, though p and q are the same: is the noise different, or the number of draws?"
    )
    return Finding("noted" if p < inputs.level else "passed", words if p < inputs.level else "", p_value=p)


def _same(first: Part, second: Part) -> bool:
    return torch.allclose(first.values, second.values, 1e-5) and torch.allclose(
        first.slopes, second.slopes, 1e-4, 1e-5 * float(second.slopes.abs().amax()) if second.slopes.numel() else 0.0
    )


# Noise.


def _noise(inputs: Inputs) -> Finding:
    """Check that each example has its own noise, by correlations between gradients by x of different examples."""
    return _not_again(inputs) or _noise_of(inputs)


def _noise_of(inputs: Inputs) -> Finding:
    """Check the noise in the current mode of the modules."""
    if not inputs.given.x.is_floating_point() or inputs.given.batch < 2:
        return Finding("skipped", "x has no gradient, or there is only one example")
    if inputs.is_point:
        return Finding("skipped", "q is a point and has no noise", applies=False)
    try:
        slopes = _slopes_by_example(inputs)
    except RuntimeError as error:  # for example, x is changed in place or given to NumPy
        return Finding("skipped", f"the objective cannot be differentiated by x: {error}")
    found = correlation_of_examples(slopes, inputs.level, inputs.seed)
    if found.verdict == "failed" and _couples(inputs):
        words = "the loss of an example depends on the other examples of the batch. Look for a mean or norm over dim=0"
        return replace(found, detail=words)
    if found.verdict == "failed":
        words = (
            f"the losses of different examples have a correlation of {found.difference:.2g}: do they share one noise? "
            "Draw noise in the shape of the scale, for example with torch.randn_like(scale)"
        )
        return replace(found, detail=words)
    return found


def _couples(inputs: Inputs) -> bool:
    """True if the gradient by some examples changes when the others are replaced, under the same noise."""
    x, half = inputs.given.x, inputs.given.batch // 2
    other = torch.cat([x[:half], x.roll(1, 0)[half:]])
    before, after = (_slope_by_x(inputs, given, 0)[:half] for given in (x, other))
    return not torch.allclose(before, after, 1e-4, 1e-5 * float(before.abs().max()))


def _slopes_by_example(inputs: Inputs) -> Tensor:
    """Return the gradient of the loss by each example of x, ``(draws, examples, directions)``."""
    p = inputs.given
    with inputs.seeded(27):
        directions = torch.randn(3, *p.x.shape[1:], dtype=p.x.dtype, device=p.x.device).flatten(1)
    keep = random_indices(p.x.new_empty(p.batch), _EXAMPLES, inputs.seed)
    found = []
    for i in range(inputs.affordable("draws of the objective's noise", _NOISES, 6 * p.batch, least=50)):
        found.append(_slope_by_x(inputs, p.x, i).flatten(1)[keep] @ directions.T)
    return torch.stack(found)


def _slope_by_x(inputs: Inputs, x: Tensor, key: int) -> Tensor:
    x = x.detach().clone().requires_grad_()
    with inputs.seeded(28, key):
        loss = loss_of(inputs, x)
    (gradient,) = torch.autograd.grad(loss, x, allow_unused=True) if loss.requires_grad else (None,)
    if gradient is None:
        raise RuntimeError("its gradient does not reach x")
    return gradient


CHECKS = [
    Check(
        "objective",
        _SECTION,
        "the objective against the negative bound, on average",
        "Training must optimise the bound: a sum over elements and examples, in nats.",
        _value,
        "whether the objective is the bound",
    ),
    Check(
        "objective-gradient",
        _SECTION,
        "the gradient of the objective against that of the bound, on average",
        "An objective can have the right value and still train something else.",
        _gradient,
        "whether the objective has the gradient of the bound",
    ),
    Check(
        "objective-training",
        _SECTION,
        "the objective in training mode against evaluation mode, or against the bound if p or q differs there",
        "Training uses training mode; all other lines use evaluation mode.",
        _training,
        "whether the objective is the bound in training mode",
    ),
    Check(
        "objective-noise",
        _SECTION,
        "the loss of one example against that of others, over many draws",
        "Each example has its own noise; shared noise keeps the mean and makes the loss far noisier.",
        _noise,
        "whether the objective draws separate noise for each example",
    ),
]
