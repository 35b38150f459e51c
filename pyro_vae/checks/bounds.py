"""Lines that compare the bounds with Pyro's losses, with closed forms, with each other, and with log p(x)."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Literal

import torch
from pyro.infer import ELBO, RenyiELBO, Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO, config_enumerate
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_vae import evaluation
from pyro_vae.bound import elbo, elbo_terms
from pyro_vae.checks.enumeration import enumerated_elbo
from pyro_vae.checks.inputs import Check, Inputs
from pyro_vae.checks.report import Finding, worst
from pyro_vae.checks.statistics import equal, mean_is_zero, not_above
from pyro_vae.checks.trials import plate_scale
from pyro_vae.evaluation.unconstrained import UnconstrainedCodes
from pyro_vae.model_guide import ModelGuide, factors_of, listed, weighs_examples
from pyro_vae.vae import VAE

__all__ = ["CHECKS"]

_ELBO, _BOUNDS = "ELBO", "Bounds and log p(x)"
_PARTICLES = 3  # for RenyiELBO
_WITNESSES = 7  # tests in `evidence`: three mean bounds, three largest bounds, and the overlap of the posteriors
_NO_DENSITY = "p or q is not a normalised density, or not the density of its draws"
_SIMULATED, _TEMPERATURES = 32, 100  # examples for annealing, and steps for each
_ANNEALED = 54  # densities that a step of annealing costs: 3 walks with 6 gradients each
_RUNGS = ((1, 200), (10, 60), (100, 20))  # importance samples, and how many such bounds are drawn


# Equal to rounding, with the same noise.


def _terms(inputs: Inputs, kl: Literal["analytic", "sampled"]) -> tuple[Tensor, Tensor]:
    """Return recon and kl without Pyro's losses, each ``(batch,)``, under the seed of the comparison."""
    p = inputs.exact
    with inputs.seeded(20):
        if isinstance(p.vae, VAE) and p.vae.model == p.model:
            terms = elbo_terms(p.vae, p.x, *p.context, kl=kl, mask=p.named.get("mask"))
            return terms.recon, terms.kl
        run = p.run_terms()
    return run.recon[0], kl_divergence(p.posterior(), p.prior()) if kl == "analytic" else run.kl[0]


def _loss(inputs: Inputs, objective: ELBO) -> Tensor:
    p = inputs.exact
    with inputs.seeded(20):
        loss = objective.loss(p.model, p.guide, p.x, *p.context, **p.named)
    return torch.as_tensor(loss, dtype=torch.float64)


def _same(inputs: Inputs, by_hand: Tensor, objective: ELBO) -> Finding:
    name, model = type(objective).__name__, inputs.exact.trace_model()
    if weighs_examples(model.nodes[inputs.exact.observed]):
        return Finding("skipped", "poutine.scale weights the examples differently, and log p(x) has no such weights")
    words = f"elbo(recon, kl) and {name} differ under the same noise"
    if factors := factors_of(model):
        words = (
            f"{name} counts the model's pyro.factor {listed(map(repr, factors))}, which is no part of log p(x, z): "
            "this is no bound on log p(x). Add a penalty to the objective, or give the optimiser a weight decay"
        )
    return equal(by_hand.double() * plate_scale(inputs.exact), -_loss(inputs, objective), inputs.rounding, words)


def _trace_elbo(inputs: Inputs) -> Finding:
    if inputs.is_discrete:
        return Finding("skipped", "z is discrete and summed over; see enum-elbo", applies=False)
    with torch.no_grad():
        recon, kl = _terms(inputs, "sampled")
        return _same(inputs, torch.as_tensor(elbo(recon.sum(), kl.sum())), Trace_ELBO())


def _mean_field_elbo(inputs: Inputs) -> Finding:
    if not inputs.has_closed_kl:
        return Finding("skipped", "KL(q || p) has no closed form here", applies=False)
    if not inputs.pathwise:
        return Finding("skipped", "TraceMeanField_ELBO needs a q that can be reparametrised", applies=False)
    with torch.no_grad():
        recon, kl = _terms(inputs, "analytic")
        return _same(inputs, torch.as_tensor(elbo(recon.sum(), kl.sum())), TraceMeanField_ELBO())


def _renyi_elbo(inputs: Inputs) -> Finding:
    if len(_plates(inputs.exact)) != 1:
        return Finding("skipped", "RenyiELBO weights examples one by one only if z and x are in one plate and no other")
    with torch.no_grad():
        with inputs.seeded(20):
            weights = [inputs.exact.run_terms().weight for _ in range(_PARTICLES)]
        # A plate's scale multiplies the log-weights: the weights are raised to that power.
        weight = plate_scale(inputs.exact) * torch.cat(weights)
        found = []
        for alpha in (0.0, 0.5):
            power = 1 - alpha
            bound = ((power * weight).logsumexp(0) - math.log(_PARTICLES)).sum() / power
            found.append(
                _same(inputs, bound / plate_scale(inputs.exact), RenyiELBO(alpha=alpha, num_particles=_PARTICLES))
            )
        return worst(found)


def _plates(p: ModelGuide) -> set[str]:
    """Return the names of the plates that z and x share."""
    nodes = p.trace_model().nodes
    stacks = (nodes[name]["cond_indep_stack"] for name in (p.latent, p.observed))
    return set.intersection(*({frame.name for frame in stack} for stack in stacks))


def _enum_elbo(inputs: Inputs) -> Finding:
    if not inputs.is_discrete:
        return Finding("skipped", "z is not discrete", applies=False)
    p = inputs.exact
    if inputs.is_straight_through:
        return Finding("skipped", "TraceEnum_ELBO does not sum over a straight-through distribution")
    guide = p.trace_guide()
    said = "enumerate" in guide.nodes[p.latent]["infer"]
    sites = (guide.nodes[p.latent], *(p.trace_model().nodes[name] for name in (p.latent, p.observed)))
    plates = max(len(site["fn"].batch_shape) for site in sites)
    summed = p if said else p.with_guide(config_enumerate(p.guide, "parallel"))
    with torch.no_grad():
        by_hand = enumerated_elbo(p).sum()
        try:
            return _same(replace(inputs, exact=summed), by_hand, TraceEnum_ELBO(max_plate_nesting=plates))
        except (RuntimeError, ValueError):  # a model for draws alone is right if the guide does not enumerate
            if said:
                raise
    return Finding("skipped", "the model cannot run on all values of z at once, and the guide does not ask for it")


# Equal on average.


def _kl(inputs: Inputs) -> Finding:
    if not inputs.has_closed_kl or inputs.is_point:
        return Finding("skipped", "KL(q || p) has no closed form here", applies=False)
    p = inputs.exact
    with torch.no_grad(), inputs.seeded(21):
        posterior, prior = p.posterior(), p.prior()
        z = posterior.sample((1000,))
        sampled = (posterior.log_prob(z) - prior.log_prob(z)).sum(-1)
        closed = kl_divergence(posterior, prior).sum()
    words = (
        f"KL(q || p) is {closed:.6g} in closed form, and the mean of log q - log p over draws is {sampled.mean():.6g}: "
        "the formula or a density is wrong"
    )
    return mean_is_zero(sampled - closed, inputs.level, words, slack=10 * inputs.rounding * closed.abs().item())


# The order of the bounds, and log p(x).


def _rungs(inputs: Inputs, examples: int) -> dict[int, Tensor]:
    """Return draws of the importance-weighted bound, ``(draws, examples)``, for each number of importance samples."""

    def make() -> dict[int, Tensor]:
        p, found = inputs.exact.rows(0, examples), {}
        for key, (k, repeats) in enumerate(_RUNGS):
            with torch.no_grad(), inputs.seeded(24, key):
                weight = torch.cat([p.draw_terms(k * part).weight for part in _parts(repeats, 500 // k)])
            found[k] = weight.unflatten(0, (repeats, k)).logsumexp(1) - math.log(k)
        return found

    return inputs.cached(f"rungs of {examples}", make)


def _bound_name(num_particles: int) -> str:
    return "ELBO" if num_particles == 1 else f"IWAE({num_particles})"


def _parts(total: int, most: int) -> list[int]:
    return [min(most, total - i) for i in range(0, total, most)]


def _order(inputs: Inputs) -> Finding:
    if inputs.is_point:
        return Finding("skipped", "q is a point; it has no density", applies=False)
    rungs = _rungs(inputs, inputs.affordable("examples under the bounds", 16, sum(k * n for k, n in _RUNGS)))
    found = []
    for (k, low), (more, high) in itertools.pairwise(rungs.items()):
        words = (
            f"the bound with {k} importance samples is above the one with {more}: the draws of z for one example are "
            "not independent, or their weights are not p(x, z) / q(z|x)"
        )
        slack = 1e-9 * abs(high.mean().item())
        found.append(not_above(low.mean(1), high.mean(1), inputs.level / 2, words, slack=slack))
    line = worst(found)
    said = ", ".join(f"{_bound_name(k)} {v.mean():.5g}" for k, v in rungs.items())
    return replace(line, detail=line.detail or said)


def _evidence(inputs: Inputs) -> Finding:
    """Compare the bounds with log p(x): exact for discrete z or two dimensions, else between two annealed bounds."""
    if inputs.is_point:
        return Finding("skipped", "q is a point; it has no density", applies=False)
    p = inputs.exact.rows(0, 16)
    if inputs.is_discrete:
        return _against(inputs, p, evaluation.enumeration(p), "by the sum over all values of z")
    try:
        dims = UnconstrainedCodes(p, "log p(x)").dim
    except ValueError as error:
        return Finding("skipped", str(error))
    # In two dimensions, each example takes tens of thousands of decodings.
    integrated = inputs.affordable("examples with log p(x)", 4, 20_000, least=0) if dims == 2 else 4
    if dims <= 2 and integrated:
        p = p.rows(0, integrated)
        exact = evaluation.quadrature(p, tolerance=1e-5, nodes=True, seed=inputs.draw_seed)
        if not exact.converged.all():
            return Finding("skipped", f"the quadrature is off by up to {exact.error.max():.2g} nats")
        return _against(inputs, p, exact, f"by quadrature to {max(exact.error.max().item(), 1e-12):.0e}")
    if p.named:
        return Finding("skipped", "data with missing values cannot be simulated")
    if inputs.is_teacher_forced:
        return Finding("skipped", "data cannot be simulated: p(x|z) depends on the x that the model is given")
    return _between(inputs, inputs.given)


def _against(inputs: Inputs, p: ModelGuide, exact: evaluation.Enumeration | evaluation.Quadrature, how: str) -> Finding:
    """Check that no bound exceeds log p(x) and, if p(z|x) can be drawn from, that q overlaps with it as a density."""
    truth = exact.mean
    said = f"log p(x) is {truth:.6g} {how}"
    found = []
    drawn = _rungs(inputs, p.batch)
    for k, bounds in drawn.items():
        name = _bound_name(k)
        words = f"{said}, and {name} is {bounds.mean():.6g}, above it: {_NO_DENSITY}"
        slack = 1e-4 + 1e-6 * abs(truth)  # of quadrature
        found.append(not_above(bounds.mean(1), torch.tensor(truth), inputs.level / _WITNESSES, words, slack=slack))
        excess = bounds - exact.log_prob.to(bounds) - slack
        found.append(_by_markov(excess, 1, inputs.level / _WITNESSES, f"{said} on average, and a {name}"))
    if isinstance(exact, evaluation.Quadrature):
        with torch.no_grad(), inputs.seeded(25):
            from_q = torch.sigmoid(p.draw_terms(1000).weight - exact.log_prob)
            from_p = torch.sigmoid(exact.log_prob - p.terms(exact.sample(1000, inputs.draw_seed)).weight)
        words = (
            f"{said}, but p(x, z) / q(z|x) at draws of q and of p(z|x) gives another: q is not the density of its draws"
        )
        # The mean weight is p(x), but weights may have infinite variance; these lie between 0 and 1 (bridge sampling).
        found.append(mean_is_zero(from_q - from_p, inputs.level / _WITNESSES, words, slack=2e-3))
    line = worst(found)
    bounds_of = ", ".join(f"{_bound_name(k)} {v.mean():.6g}" for k, v in drawn.items())
    return replace(line, detail=line.detail or f"{said}; {bounds_of}")


def _by_markov(excess: Tensor, estimates: int, level: float, words: str) -> Finding:
    """Check how far estimates lie above log p(x): their exponentials have mean p(x), so P(excess >= t) <= exp(-t).

    This holds for each estimate, whatever its distribution; a mean of a few says nothing about heavy tails.

    Args:
        excess: in nats, of any shape.
        estimates: how many of the numbers in the difference are random; of two, one must be off by half of it.
        level: the rate of false alarms.
        words: how the detail starts.
    """
    most = excess.max().item() if not torch.isnan(excess).any() else math.inf
    count = estimates * excess.numel()
    p = min(1.0, count * math.exp(-max(most, 0.0) / estimates))
    words = (
        f"{words} of one example is {most:.4g} nats above, which happens by chance once in {1 / max(p, 1e-300):.3g} "
        "checks"
    )
    failed = not p >= level
    allowed = estimates * math.log(count / level)
    return Finding(
        "failed" if failed else "passed", f"{words}: {_NO_DENSITY}" if failed else "", most, None, allowed, p
    )


def _between(inputs: Inputs, p: ModelGuide) -> Finding:
    """Run bidirectional Monte Carlo on data simulated from the model, whose true z are known."""
    examples, temperatures = _annealing(inputs)
    p = p.at(torch.arange(examples) % p.batch)
    # One chain per example, and many examples: the two ends are compared over the examples.
    annealing = evaluation.Annealing(temperatures, leapfrog_steps=5)
    found = evaluation.sandwich(p, num_particles=1, annealing=annealing, seed=inputs.draw_seed)
    with torch.no_grad(), inputs.seeded(26):
        weight = torch.cat([p.with_data(found.x).draw_terms(20).weight for _ in range(5)])
    bound = weight.logsumexp(0) - math.log(len(weight))
    low, high = found.lower.log_prob, found.upper.log_prob
    said = (
        f"for simulated data log p(x) lies between {low.mean():.5g} and {high.mean():.5g}, and IWAE(100) is "
        f"{bound.mean():.5g}"
    )
    zero = torch.zeros((), dtype=low.dtype)
    crossed = not_above(low - high, zero, inputs.level / 4, f"{said}: the two ends have crossed")
    above = not_above(bound - high, zero, inputs.level / 4, f"{said}, above it: q is not the density of its draws")
    far = [_by_markov(low - high, 2, inputs.level / 4, f"{said}; the lower end")]
    far += [_by_markov(bound - high, 2, inputs.level / 4, f"{said}; an IWAE(100)")]
    line = worst([crossed, above, *far])
    return replace(line, detail=line.detail or said)


def _annealing(inputs: Inputs) -> tuple[int, int]:
    """Return how many examples are annealed, and in how many steps; fewer of both if they cost too much."""
    steps = inputs.affordable("steps of annealing", _SIMULATED * _TEMPERATURES, _ANNEALED, least=8 * 25)
    examples = round((steps * _SIMULATED / _TEMPERATURES) ** 0.5)
    return examples, steps // examples


_TIGHTER = "The bound with more importance samples is tighter (Burda et al. 2015)."

CHECKS = [
    Check(
        "trace-elbo",
        _ELBO,
        "elbo(recon, kl) against Trace_ELBO, with the same noise",
        "Both are log p(x|z) + log p(z) - log q(z|x) at the same z, so only rounding differs.",
        _trace_elbo,
        "whether the ELBO is that of Trace_ELBO",
    ),
    Check(
        "mean-field-elbo",
        _ELBO,
        "elbo(recon, kl) with KL in closed form against TraceMeanField_ELBO, with the same noise",
        "Both take the same KL(q || p) and log p(x|z) at the same z.",
        _mean_field_elbo,
        "whether the ELBO is that of TraceMeanField_ELBO",
    ),
    Check(
        "renyi-elbo",
        _ELBO,
        "the bound from the weights p(x, z) / q(z|x) against RenyiELBO (alpha 0 and 1/2), with the same noise",
        "Both use the same weights.",
        _renyi_elbo,
        "whether the bounds are those of RenyiELBO",
    ),
    Check(
        "enum-elbo",
        _ELBO,
        "the sum over all values of z against TraceEnum_ELBO",
        "Both are the same finite sum.",
        _enum_elbo,
        "whether the ELBO is that of TraceEnum_ELBO",
    ),
    Check(
        "kl",
        _ELBO,
        "the mean of log q(z|x) - log p(z) over draws against KL(q || p) in closed form",
        "KL(q || p) is the mean of log q - log p over q.",
        _kl,
        "whether KL(q || p) in closed form is right",
    ),
    Check(
        "order",
        _BOUNDS,
        "ELBO against IWAE(10), and IWAE(10) against IWAE(100)",
        _TIGHTER,
        _order,
        "whether more importance samples give a higher bound",
    ),
    Check(
        "evidence",
        _BOUNDS,
        "ELBO and IWAE against log p(x), computed from the model",
        "No bound is above log p(x), and draws of q and of p(z|x) give the same log p(x).",
        _evidence,
        "whether the bounds lie below log p(x)",
    ),
]
