"""Lines that check whether the log-densities depend on what they may depend on, and on nothing else."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from pyro.distributions import Delta, TorchDistribution
from torch import Tensor
from torch.distributions import Multinomial

from pyro_vae.checks.inputs import Check, Inputs, named_leaves
from pyro_vae.checks.report import Finding
from pyro_vae.checks.statistics import equal
from pyro_vae.checks.teacher_forcing import find_cycle, influence, sees
from pyro_vae.distributions import innermost
from pyro_vae.model_guide import ModelGuide

__all__ = ["CHECKS"]

_SECTION = "Model and guide"
_LITTLE = 0.1  # of the spread in evaluation mode
_STARTS = 4  # of the search for means that a decoder can reach
_SEEN = "changes with the observed x: the model sees the data that it must explain"
_NO_COPY = "model and guide cannot be copied; plain functions never can. Make both methods of one nn.Module"


def _deterministic(inputs: Inputs) -> Finding:
    """Compare the log-densities under two seeds, in evaluation mode, with missing values held."""
    p = inputs.given.holding_missing()
    with torch.no_grad():
        z = p.draw(2)
        terms = []
        for key in (1, 2):
            with inputs.seeded(key):
                terms.append(p.terms(z).totals)
    for what, first, second in zip(("log p(x|z)", "log p(z)", "log q(z|x)"), *terms, strict=True):
        if not torch.equal(first, second):
            return Finding(
                "failed",
                f"{what} changes from call to call at the same z and x, in evaluation mode. Look for dropout or noise "
                "that model.eval() does not switch off, such as functional dropout with training=True",
                (first - second).abs().max().item(),
                tolerance=0.0,
            )
    return Finding("passed", difference=0.0, tolerance=0.0)


def _examples(inputs: Inputs) -> Finding:
    """Compare the log-densities of some examples within the whole batch and without the rest of it."""
    p, half = inputs.exact.holding_missing(), (inputs.exact.batch + 1) // 2
    if p.batch < 2:
        return Finding("skipped", "there is only one example")
    few = p.rows(0, half)
    with torch.no_grad():
        z = p.draw(2)
        names = ["log p(x|z)", "log p(z)", "log q(z|x)"]
        together, apart = [term[:, :half] for term in p.terms(z).totals], list(few.terms(z[:, :half]).totals)
        if inputs.is_point:  # a point has no density at any other z, even one that differs by rounding
            names[2], together[2], apart[2] = "z of q(z|x)", z[:, :half], few.draw(2)
    for what, all_, some in zip(names, together, apart, strict=True):
        found = equal(all_, some, max(inputs.rounding, 1e-8))
        if found.verdict == "failed":
            return Finding(
                "failed",
                f"{what} of an example depends on the other examples of the batch. Look for a softmax, mean or norm "
                "over dimension 0, batch norm in training mode, or a reshape that mixes examples",
                found.difference,
                tolerance=found.tolerance,
            )
    return found


def _modes(inputs: Inputs) -> Finding:
    """Compare a copy in training mode with one in evaluation mode; all other lines use evaluation mode."""
    p = inputs.given.copied()
    if p is None:
        return Finding("skipped", _NO_COPY)
    with torch.no_grad():
        z = p.draw(1)
    leaves, terms, points, spreads = [], [], [], []
    for training in (False, True):
        p.modules[0].train(training)
        with inputs.seeded(3):
            leaves.append({name for name, _ in named_leaves(p)})
        with inputs.seeded(4), torch.no_grad():
            points.append([_is_point(d) for d in (p.posterior(), p.prior(), p.likelihood(z[0]))])
            terms.append(p.terms(z).totals)
            spreads.append(p.draw(20).double().std(0).mean())
    for what, evaluated, trained in zip(("q(z|x)", "p(z)", "p(x|z)"), *points, strict=True):
        if trained and not evaluated:
            words = f"{what} is a point in training mode and has noise in evaluation mode"
            return Finding("failed", f"{words}: is a condition on self.training the wrong way round?")
    lost = sorted(leaves[0] - leaves[1])
    if lost:
        words = f"the bound depends on {lost[0]} in evaluation mode, but not in training mode"
        return Finding("failed", f"{words}: look for conditions on self.training", float(len(lost)))
    if all(torch.equal(a, b) for a, b in zip(*terms, strict=True)):
        return Finding("passed", difference=0.0)
    times = (spreads[1] / spreads[0]).item()
    said = "p or q differs in training mode: by dropout, batch norm, or a condition on self.training"
    if times < _LITTLE:
        said += f". There, draws of q(z|x) have {times:.2g} times the spread: is their noise left out?"
    return Finding("noted", said)


def _is_point(distribution: TorchDistribution) -> bool:
    """True if a distribution has no spread at all."""
    if isinstance(innermost(distribution), Delta):
        return True
    try:
        return bool((distribution.variance < 1e-12).all())
    except (NotImplementedError, AttributeError):  # it has no variance
        return False


def _peeking(inputs: Inputs) -> Finding:
    """Compare the model's densities at the same z when it is given x and when it is given other x."""
    p = inputs.exact
    if p.batch < 2 or torch.isnan(p.x).any():
        return Finding("skipped", "there is only one example" if p.batch < 2 else "NaN in x marks missing values")
    with torch.no_grad():
        z = p.draw(1)[0]
    found = sees(p, z, p.latent, max(inputs.rounding, 1e-8))
    if found.verdict == "failed":
        return replace(found, detail=f"p(z) {_SEEN}")
    if inputs.is_teacher_forced:
        return _order_of(inputs, z)
    return found


def _order_of(inputs: Inputs, z: Tensor) -> Finding:
    """Look for an order of the elements of x in which each is given z and earlier elements only.

    If there is one, p(x|z) is the product of its conditionals, and the decoder may see x.
    """
    p = inputs.exact
    factors, seen = influence(p, z, max(inputs.rounding, 1e-8), inputs.seed)
    if len(factors) == 1:
        return Finding("failed", f"p(x|z) {_SEEN}", 1.0)
    own = factors[seen.diagonal()].tolist()
    if own:
        return Finding(
            "failed",
            f"p(x|z) {_SEEN}. The factor of element {own[0]} of x depends on that very element, a mistake in "
            f"{len(own)} of the {len(factors)} factors examined. For each element, a decoder may use earlier elements "
            "of x only: shift its input by one, or mask the element itself too",
            float(len(own)),
        )
    if cycle := factors[find_cycle(seen)].tolist():
        return Finding(
            "failed",
            f"p(x|z) {_SEEN}. The factors of elements {', '.join(map(str, cycle[:3]))} of x each depend on the others, "
            "so no order exists in which x could be drawn. For each element, a decoder may use earlier elements of x "
            "only (a causal mask)",
            float(len(cycle)),
        )
    return Finding("passed", "p(x|z) is a product of conditionals: each element of x sees only earlier ones", 0.0)


def _reach(inputs: Inputs) -> Finding:
    """Train copies until the mean of p(x|z) is at the largest value of x, and at the smallest."""
    if inputs.exact.copied() is None:
        return Finding("skipped", _NO_COPY)
    x = torch.nan_to_num(inputs.exact.x.reshape(inputs.exact.batch, -1).double())  # bools too
    reached = 0.0
    span = (x.max() - x.min()).item()
    if span == 0:
        return Finding("skipped", "all values of x are the same")
    for index in (int(x.argmax()), int(x.argmin())):
        miss = _nearest(inputs, index, x.flatten()[index], 0.05 * span)
        if miss is None:
            return Finding("skipped", "p(x|z) has no mean, or none that its parameters move")
        reached = max(reached, miss)
    if reached <= 0.05 * span:
        return Finding("passed", "", reached / span, tolerance=0.05)
    return Finding(
        "failed",
        f"with any weights, the mean of p(x|z) stays {reached:.3g} away from some values of x. Is there one sigmoid or "
        "tanh too many (logits= takes the net's output unchanged), or is x on another scale?",
        reached / span,
        tolerance=0.05,
    )


def _nearest(inputs: Inputs, index: int, target: Tensor, enough: float) -> float | None:
    """Return how near the mean of one element comes to its target from several starts; None if nothing moves it.

    An untrained encoder may map large counts to a z so far out that the decoder has no gradient there, and a ReLU may
    start without a gradient. So the first z is drawn from the prior, and later starts have other weights.
    """
    row, element = divmod(index, inputs.exact.x[0].numel())
    nearest, moved = math.inf, 0
    for start in range(4 * _STARTS):  # starts without a gradient take no time and do not count
        p = inputs.exact.rows(row, row + 1).copied()
        assert p is not None  # because the copy of all rows was not
        with torch.no_grad(), inputs.seeded(5, index, start):
            z = p.draw(1)[0] if start == 1 else p.prior().sample()
            for tensor in _trained(p) if start > 1 else ():
                tensor.add_(torch.randn_like(tensor) * (0.1 + 0.5 * tensor.square().mean().sqrt()))
        found = _miss(p, z, element, target, enough)
        if found is None and start == 0:
            return None
        miss, steps = found or (math.inf, 0)
        nearest, moved = min(miss, nearest), moved + (steps > 0)
        if nearest <= enough or moved == _STARTS:
            break
    return nearest


def _trained(p: ModelGuide) -> list[Tensor]:
    return [q for m in p.modules for q in m.parameters() if q.requires_grad]


def _miss(p: ModelGuide, z: Tensor, element: int, target: Tensor, enough: float) -> tuple[float, int] | None:
    """Train for the mean of one element alone; return how near it comes to its target, and in how many steps.

    None if there is no mean, or nothing that moves it.
    """
    parameters = _trained(p)
    try:
        mean = _mean(p, z, element)
    except NotImplementedError:
        return None
    if not parameters or not mean.requires_grad or not torch.isfinite(mean):  # a Cauchy's mean is NaN
        return None
    # A tiny eps: far out on a sigmoid the gradient is tiny, and only its direction counts. The steps grow, for data in
    # any unit; if they pass the target, it can be reached.
    optimizer = torch.optim.Adam(parameters, lr=0.02, eps=1e-30)
    side = torch.sign(mean - target)
    nearest, step = math.inf, 0
    for step in range(400):
        miss = (mean - target).abs()
        if not torch.isfinite(miss):
            break
        nearest = min(nearest, miss.item())
        if nearest <= enough:
            break
        optimizer.zero_grad()
        miss.backward()
        if not any(q.grad is not None and q.grad.any() for q in parameters):
            break  # no later step would change this
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] *= 1.03
        mean = _mean(p, z, element)
        if torch.sign(mean - target) == -side:
            return 0.0, step
    return nearest, step


def _mean(p: ModelGuide, z: Tensor, element: int) -> Tensor:
    """Return the mean of one element of one example."""
    likelihood = p.likelihood(z)
    # A multinomial's mean is that of its own total count, which may differ from the total of x.
    share = p.x.sum() / likelihood.total_count if isinstance(likelihood, Multinomial) else 1.0
    return share * likelihood.mean.flatten()[element]


CHECKS = [
    Check(
        "deterministic",
        _SECTION,
        "the log-densities against a second call, at the same z and x",
        "In evaluation mode p and q are fixed; noise that is left there is a mistake.",
        _deterministic,
        "whether p and q stay the same from call to call",
    ),
    Check(
        "modes",
        _SECTION,
        "p and q in training mode against those in evaluation mode",
        "Training optimises the first, and everything else uses the second.",
        _modes,
        "whether training mode changes p or q",
    ),
    Check(
        "examples",
        _SECTION,
        "the log-densities of an example in the whole batch against those in a part of it",
        "The bound is a sum over independent examples; other examples must not change it.",
        _examples,
        "whether examples are independent",
    ),
    Check(
        "peeking",
        _SECTION,
        "p(z) and p(x|z) if the model is given x against those if it is given other x, at the same z",
        "A model must describe x without having seen it; otherwise its likelihood means nothing.",
        _peeking,
        "whether the model sees the x that it explains",
    ),
    Check(
        "reach",
        _SECTION,
        "the mean of p(x|z), trained for this alone, against the extremes of x",
        "A decoder whose mean cannot reach the data has the wrong output layer.",
        _reach,
        "whether p(x|z) can reach the data",
    ),
]
