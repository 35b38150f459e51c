"""Whether model and guide have the sites, shapes and supports that an ELBO needs."""

from __future__ import annotations

import warnings
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoGuide
from pyro.poutine.util import site_is_subsample
from pyro.util import check_model_guide_match
from torch import Tensor

from pyro_vae.checks.in_place import changed_in_place
from pyro_vae.checks.inputs import Check, Inputs, told
from pyro_vae.checks.report import Finding
from pyro_vae.distributions import base_constraint, check_inverse, innermost
from pyro_vae.evaluation.unconstrained import support_of
from pyro_vae.model_guide import ModelGuide, factors_of, listed, per_example

__all__ = ["CHECKS"]

_SECTION = "Model and guide"
_DRAWS = 50
_DECLARE = "Declare every dimension after the batch with .to_event, and sample inside the plate of examples"
_INSIDE = "Sample inside the plate of examples, and declare no more than the dimensions after the batch with .to_event"


def _sites(inputs: Inputs) -> Finding:
    """Runs both under Pyro's own validation."""
    p = inputs.given
    if isinstance(p.guide, AutoGuide):
        return _not_supported(
            f"the guide is an {type(p.guide).__name__}, whose parameters belong to these very examples and which may "
            "have sites of its own. A guide that makes q(z|x) of x can be checked"
        )
    with warnings.catch_warnings(record=True) as caught, pyro.validation_enabled(True):
        warnings.simplefilter("always")
        try:
            if changed := _untouched(inputs):
                return Finding("failed", changed)
            guide = p.trace_guide()
            model = poutine.trace(poutine.replay(p.model, guide)).get_trace(p.x, *p.context, **p.named)
            if beyond := _beyond(p, model, guide):
                return _not_supported(beyond)
            check_model_guide_match(model, guide)
            problem = _wrong_sites(p, model, guide)
            if not problem:
                Trace_ELBO().loss(p.model, p.guide, p.x, *p.context, **p.named)
        except Exception as error:  # whatever the user's programs raise is the finding
            return Finding("failed", told(error, p.batch))
    said = [str(w.message) for w in caught if "/pyro/" in w.filename.replace("\\", "/")]
    said = [s for s in said if "guide" in s or "model" in s or "NaN" in s or "inf" in s]
    return Finding("failed", problem or said[0]) if problem or said else Finding("passed")


def _not_supported(words: str) -> Finding:
    return Finding("skipped", f"not supported: {words}")


def _untouched(inputs: Inputs) -> str:
    """Whether guide and model leave the data as they are, each looked at by itself; empty where they do."""
    p = inputs.given
    if changed := changed_in_place(p.guide, "the guide", p.x, *p.context, **p.named):
        return changed
    z = p.trace_guide().nodes.get(p.latent)
    model = p.model if z is None else poutine.condition(p.model, data={p.latent: z["value"]})
    return changed_in_place(model, "the model", p.x, *p.context, **p.named)


def _beyond(p: ModelGuide, model: Any, guide: Any) -> str:
    """What no line can look at, though Pyro runs it; empty where there is nothing such."""
    latents = {"model": _latents(model), "guide": _latents(guide)}
    if factors := factors_of(guide):
        return f"the guide has the factor {listed(factors)}, so that q(z|x) is no density of its draws"
    helpers = [n for n, s in guide.nodes.items() if s["type"] == "sample" and s["infer"].get("is_auxiliary")]
    if helpers:
        return f"the guide samples {listed(helpers)} as a help (is_auxiliary), so that it has no density of z alone"
    if p.observed in latents["model"]:
        return ""  # which is a mistake
    if own := _known_at_own_draws(p, guide.nodes.get(p.latent)):
        return own
    if len(latents["model"]) > 1 and sorted(latents["model"]) == sorted(latents["guide"]):
        return (
            f"model and guide have the latent sites {_few(latents['model'])}, and a check reads programs with one for "
            "each example. Put them into one site, whose distribution is over all of them"
        )
    summed = [n for n in latents["model"] if n not in latents["guide"] and model.nodes[n]["infer"].get("enumerate")]
    if summed:
        return f"the model sums over {listed(summed)} by itself (enumerate). Give the guide q of it"
    observed = _observed(model)
    if p.observed in factors_of(model) or (factors_of(model) and not observed):
        return "log p(x|z) is a pyro.factor, which cannot be drawn from. Make it a distribution, and observe x with it"
    others = [n for n in observed if n != p.observed]
    if others and p.observed in observed:
        return (
            f"the model observes {listed(others)} beside {p.observed!r}. Observe both in one site, whose distribution "
            "is over all of it"
        )
    if local := _parameters_of_examples(model):
        return f"the model has the parameters {listed(local)} for each example of a plate (event_dim=)"
    return _takes_rows(p, model) or _stands_right(p, [guide.nodes.get(p.latent), model.nodes.get(p.observed)])


def _known_at_own_draws(p: ModelGuide, site: Any) -> str:
    """Whether q(z|x) has its density at the very tensors that it drew, and no other one at equal values."""
    if site is None or not isinstance(site["value"], Tensor):
        return ""
    try:
        check_inverse(site["fn"], "q(z|x)", site["value"].clone())
    except ValueError as error:
        return str(error)
    if not hasattr(site["value"], "_unquantize"):
        return ""
    return (
        "q(z|x) is a relaxed straight-through distribution of Pyro's, whose density is known at its own draws alone: "
        "it is that of the relaxed values that were rounded. Check the relaxed distribution, or one over the discrete "
        "values"
    )


def _parameters_of_examples(model: Any) -> list[str]:
    """Those that Pyro gives to the examples of a plate, which it does only for as many rows as the plate is large."""
    return [
        name
        for name, site in model.nodes.items()
        if site["type"] == "param"
        and site["kwargs"].get("event_dim") is not None
        and any(frame.full_size not in (None, -1, frame.size) for frame in site["cond_indep_stack"])
    ]


def _takes_rows(p: ModelGuide, model: Any) -> str:
    """Whether a plate takes a part of the rows of x by itself."""
    site = model.nodes.get(p.observed)
    if site is None or not site["is_observed"] or site["value"].numel() == p.x.numel():
        return ""
    for frame in site["cond_indep_stack"]:
        if frame.full_size == p.batch > frame.size:
            return (
                f"the plate {frame.name!r} takes {frame.size} of the {p.batch} rows of x by itself. Give it a "
                f'part of the data and pyro.plate("{frame.name}", {p.batch}, subsample=x)'
            )
    return ""


def _stands_right(p: ModelGuide, sites: list[Any]) -> str:
    """Whether a site has its examples in a plate that is not the leftmost."""
    for site in sites:
        shape = tuple(getattr(site["fn"], "batch_shape", ())) if site else ()
        plates = {len(shape) + f.dim: f.name for f in site["cond_indep_stack"] if f.dim is not None} if site else {}
        if len(shape) < 2 or shape[0] == p.batch or set(plates) != set(range(len(shape))):
            continue
        if p.batch in shape:
            name, left = plates[shape.index(p.batch)], plates[0]
            return (
                f"the site {site['name']!r} has its examples in the plate {name!r}, to the right of {left!r}. Give the "
                "plate of the examples the leftmost dim="
            )
    return ""


def _few(names: list[str]) -> str:
    return listed(names) if len(names) <= 4 else f"{listed(names[:3])} and {len(names) - 3} more"


def _latents(trace: Any) -> list[str]:
    return [
        n
        for n, s in trace.nodes.items()
        if s["type"] == "sample"
        and not s["is_observed"]
        and not site_is_subsample(s)
        and not s["infer"].get("_deterministic")
    ]


def _observed(trace: Any) -> list[str]:
    """What is observed, without factors and without what is computed."""
    factors = factors_of(trace)
    return [
        n
        for n, s in trace.nodes.items()
        if s["type"] == "sample" and s["is_observed"] and n not in factors and not s["infer"].get("_deterministic")
    ]


def _wrong_sites(p: ModelGuide, model: Any, guide: Any) -> str:
    names = {"model": _latents(model), "guide": _latents(guide)}
    for place, found in names.items():
        if p.latent not in found:
            return (
                f"the {place} samples no latent site {p.latent!r}, but {', '.join(found) or 'nothing'}. Give both the "
                "same name, or tell the check with latent="
            )
        if p.observed in found:
            return (
                f"the {place} samples {p.observed!r} and does not observe it: obs=x is missing, and nothing ties z to x"
            )
    for place, other in (("model", "guide"), ("guide", "model")):
        alone = [n for n in names[place] if n not in names[other]]
        if alone:
            return f"the {place} samples {listed(alone)}, and the {other} does not"
    site = model.nodes.get(p.observed)
    if site is None or site["type"] != "sample" or not site["is_observed"]:
        return _unobserved(p, _observed(model), _observed(guide))
    return _other_data(p, site["value"])


def _unobserved(p: ModelGuide, in_model: list[str], in_guide: list[str]) -> str:
    """That x is not observed, and the likeliest reason."""
    said = f"the model has no observed site {p.observed!r}"
    if p.observed in in_guide:
        return f"{said}, and the guide has: the pair is (model, guide), in this order"
    if in_model:
        return f"{said}, but {', '.join(in_model)}. Tell the check the name of x's site with observed="
    return f"{said} (obs=x). Without it nothing ties z to the data"


def _other_data(p: ModelGuide, observed: Tensor) -> str:
    """Whether the model observes x itself, in whatever shape; what is missing may be filled."""
    if observed.numel() != p.x.numel():
        return (
            f"the model observes {observed.numel()} values, of shape {tuple(observed.shape)}, and x has {p.x.numel()}: "
            "pass what it observes as x, and the rest as context"
        )
    seen = ~torch.isnan(p.x)
    if isinstance(p.named.get("mask"), Tensor):
        seen = seen & p.named["mask"]
    off = (observed.reshape(p.x.shape).double() - p.x.double()).abs()[seen]  # of bools there is no difference
    if not off.any():
        return ""
    return (
        f"the model observes other values than x, off by up to {off.max():.3g}: clamped, rounded or scaled data have "
        "another log p(x). Change x before, and the density with it"
    )


def _shapes(inputs: Inputs) -> Finding:
    """One log-density per example, at two batch sizes, so that no coincidence of sizes hides a missing dimension."""
    p = inputs.given
    for pair in (p, p.rows(0, max(1, p.batch - 1))):
        try:
            z = pair.trace_guide().nodes[p.latent]
            model = pair.trace_model(z["value"]).nodes
        except Exception as error:  # whatever the user's programs raise is the finding
            return Finding("failed", told(error, pair.batch))
        for what, site in (("q(z|x)", z), ("p(z)", model[p.latent]), ("p(x|z)", model[p.observed])):
            shape = _shape(site, pair.batch)
            if shape != (pair.batch,):
                return Finding(
                    "failed",
                    f"log {what} has shape {shape} for {pair.batch} examples, where ({pair.batch},) is meant: "
                    f"batch shape {tuple(site['fn'].batch_shape)}, event shape {tuple(site['fn'].event_shape)}. "
                    + (_DECLARE if len(shape) > 1 else _INSIDE),
                )
    return Finding("passed")


def _shape(site: Any, rows: int) -> tuple[int, ...]:
    """That of the log-density; with plates to the right of the examples' summed, where there are such."""
    try:
        distribution = per_example(site, "model", rows)
    except ValueError:
        distribution = site["fn"]
    return tuple(distribution.log_prob(site["value"]).shape)


def _supports(inputs: Inputs) -> Finding:
    p = inputs.given
    z = p.draw(_DRAWS).detach()
    prior, posterior = p.prior(), p.posterior()
    from_prior = prior.sample((_DRAWS,))
    outside = [
        (prior, z, "draws of q(z|x) lie where the prior p(z) has no density: KL(q || p) is infinite"),
        (posterior, from_prior, "draws of the prior lie where q(z|x) has no density, so q can never be the posterior"),
    ]
    for distribution, value, message in outside:
        share = 1 - _inside(distribution, value).double().mean().item()
        if share > 0:
            return Finding("failed", f"{100 * share:.3g} % of {message}. Give both the same support", share)
    site = p.trace_model(z[0]).nodes[p.observed]
    inside = _inside(site["fn"], site["value"])
    x = site["value"]
    if not torch.isfinite(x).all():
        return Finding("failed", f"x has {int((~torch.isfinite(x)).sum())} values that are NaN or infinite")
    if not inside.all():
        return Finding(
            "failed",
            f"{int((~inside).sum())} of {inside.numel()} examples of x lie outside the support of p(x|z), "
            f"{_name(site['fn'])}: values in [{x.min():.4g}, {x.max():.4g}]. Transform the data (binarise grey values, "
            "say) or take a likelihood over such values",
            float((~inside).double().mean()),
        )
    return Finding("passed", difference=0.0)


def _inside(distribution: Any, value: Tensor) -> Tensor:
    """Whether each value lies in the support, as far as that is known."""
    try:
        return distribution.support.check(value)
    except NotImplementedError:
        return torch.isfinite(distribution.log_prob(value))


def _name(distribution: Any) -> str:
    return type(innermost(distribution)).__name__


def _data(inputs: Inputs) -> Finding:
    p = inputs.given
    site = p.trace_model(p.draw(1)[0].detach()).nodes[p.observed]
    support = base_constraint(support_of(site["fn"]))
    if support.is_discrete or hasattr(support, "cseq"):
        return Finding("passed")
    values = site["value"].detach().flatten()
    distinct = torch.unique(values)
    if distinct.numel() < 2 or distinct.numel() > values.numel() / 4:
        return Finding("passed")
    steps = distinct.diff()
    if (steps / steps.min()).sub((steps / steps.min()).round()).abs().max() > 0.01:
        return Finding("passed")
    words = (
        f"x has only {distinct.numel()} distinct values in steps of {steps.min():.3g}, and p(x|z) is a density over "
        "real numbers, which can grow without bound at each of them. Add uniform noise within a step (dequantize=True "
        "in pyro_vae.data) or take a likelihood over levels"
    )
    return Finding("failed" if _can_sharpen(site["fn"]) else "noted", words)


def _can_sharpen(distribution: Any) -> bool:
    """Whether the density can grow: it has a learned scale, or bounds to lean against."""
    distribution = innermost(distribution)
    arguments = getattr(distribution, "arg_constraints", {})
    scale = getattr(distribution, "scale", None)
    if "scale" in arguments and isinstance(scale, Tensor):
        return scale.requires_grad
    return True


CHECKS = [
    Check(
        "sites",
        _SECTION,
        "the sites of model and guide, with Pyro's validation on",
        "The guide must sample what the model samples, and the model must observe x.",
        _sites,
        "whether model and guide have the sites that an ELBO needs",
    ),
    Check(
        "shapes",
        _SECTION,
        "the shapes of log p(x|z), log p(z) and log q(z|x)",
        "Each is one number per example; what is not declared is summed or broadcast by accident.",
        _shapes,
        "whether each log-density is one number per example",
    ),
    Check(
        "supports",
        _SECTION,
        "draws of q(z|x) with the support of p(z) and back, x with that of p(x|z)",
        "A value without a density makes the bound minus infinity, or meaningless where nobody looks.",
        _supports,
        "whether x and the draws of p(z) and q(z|x) lie where there is a density",
    ),
    Check(
        "data",
        _SECTION,
        "the values of x with the kind of p(x|z)",
        "A density over the reals has no largest value on data that lie on a grid.",
        _data,
        "whether p(x|z) is of the same kind as the data",
    ),
]
