"""Lines that check whether model and guide have the sites, shapes and supports that an ELBO needs."""

from __future__ import annotations

import warnings

import pyro
import torch
from pyro import poutine
from pyro.distributions import TorchDistribution
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoGuide
from pyro.poutine import Trace
from pyro.poutine.runtime import Message
from pyro.util import check_model_guide_match
from torch import Tensor

from pyro_vae.checks.in_place import changed_in_place
from pyro_vae.checks.inputs import Check, Inputs, describe_error
from pyro_vae.checks.report import UNSUPPORTED, Finding
from pyro_vae.checks.statistics import equal
from pyro_vae.distributions import base_constraint, check_inverse, innermost, stated_support, support_of
from pyro_vae.model_guide import ModelGuide, factors_of, listed, per_example, sampled_sites, sites_marked
from pyro_vae.terms import FROM_MODEL

__all__ = ["CHECKS"]

_SECTION = "Model and guide"
_DRAWS = 50
_DECLARE = "Declare every dimension after the batch with .to_event, and sample inside the plate of examples"
_INSIDE = "Sample inside the plate of examples, and declare only the dimensions after the batch with .to_event"


def _sites(inputs: Inputs) -> Finding:
    """Run model and guide under Pyro's own validation."""
    p = inputs.given
    if isinstance(p.guide, AutoGuide):
        return _not_supported(
            f"the guide is an {type(p.guide).__name__}: its parameters belong to these examples, and it may have "
            "further sites. Pass a guide that computes q(z|x) from x"
        )
    with warnings.catch_warnings(record=True) as caught, pyro.validation_enabled(True):
        warnings.simplefilter("always")
        try:
            if changed := _change_of_data(inputs):
                return Finding("failed", changed)
            guide = p.trace_guide()
            model = poutine.trace(poutine.replay(p.model, guide)).get_trace(p.x, *p.context, **p.named)
            if reason := _unsupported(p, model, guide):
                return _not_supported(reason)
            check_model_guide_match(model, guide)
            problem = _wrong_sites(p, model, guide) or _wrong_missing(model, guide)
            if not problem:
                Trace_ELBO().loss(p.model, p.guide, p.x, *p.context, **p.named)
        except Exception as error:  # any error of the user's programs is the finding
            return Finding("failed", describe_error(error, p.batch))
    said = [str(w.message) for w in caught if "/pyro/" in w.filename.replace("\\", "/")]
    said = [s for s in said if "guide" in s or "model" in s or "NaN" in s or "inf" in s]
    return Finding("failed", problem or said[0]) if problem or said else Finding("passed")


def _not_supported(reason: str) -> Finding:
    return Finding("skipped", f"{UNSUPPORTED}{reason}")


def _change_of_data(inputs: Inputs) -> str:
    """Say which program changes the data in place; empty if neither does."""
    p = inputs.given
    if changed := changed_in_place(p.guide, "the guide", p.x, *p.context, **p.named):
        return changed
    z = p.trace_guide().nodes.get(p.latent)
    model = p.model if z is None else poutine.condition(p.model, data={p.latent: z["value"]})
    return changed_in_place(model, "the model", p.x, *p.context, **p.named)


def _unsupported(p: ModelGuide, model: Trace, guide: Trace) -> str:
    """Say what no line can check, though Pyro runs it; empty if there is nothing of the kind."""
    in_model, in_guide = sampled_sites(model)[0], sampled_sites(guide)[0]
    if factors := factors_of(guide):
        return f"the guide has the pyro.factor {_quoted(factors)}, so q(z|x) is not the density of its draws"
    auxiliary = [n for n, s in guide.nodes.items() if s["type"] == "sample" and s["infer"].get("is_auxiliary")]
    if auxiliary:
        return f"the guide has the auxiliary site {_quoted(auxiliary)} (is_auxiliary), so it has no density of z alone"
    if p.observed in in_model:
        return ""  # which is a mistake
    if own := _known_at_own_draws(p, guide.nodes.get(p.latent)):
        return own
    latent = guide.nodes.get(p.latent)
    if latent is not None and latent["fn"].has_enumerate_support and p.draws_missing:
        return "z is discrete, and with a model of the mask the sum over its values has noise. Use data without gaps"
    if len(in_model) > 1 and sorted(in_model) == sorted(in_guide):
        return (
            f"model and guide have the latent sites {_quoted(in_model)}; a check needs one latent site per example. "
            "Put them into one site with a joint distribution"
        )
    summed = [n for n in in_model if n not in in_guide and model.nodes[n]["infer"].get("enumerate")]
    if summed:
        return f"the model enumerates {_quoted(summed)} itself. Give the guide a q of it"
    observed = _observed(model)
    if p.observed in factors_of(model) or (factors_of(model) and not observed):
        return "log p(x|z) is a pyro.factor, which cannot be drawn from. Observe x with a distribution"
    others = [n for n in observed if n != p.observed]
    if others and p.observed in observed:
        return f"the model observes {_quoted(others)} beside {p.observed!r}. Put all of them into one site"
    if local := _parameters_of_examples(model):
        return f"the model has parameters of its own for each example of a plate (event_dim=): {_quoted(local)}"
    return _takes_rows(p, model) or _wrong_dimension(p, [guide.nodes.get(p.latent), model.nodes.get(p.observed)])


def _quoted(names: list[str]) -> str:
    return listed(map(repr, names))


def _known_at_own_draws(p: ModelGuide, site: Message | None) -> str:
    """Say why q(z|x) has a density only at the tensors it drew, not at equal values; empty if it has it at both."""
    if site is None or not isinstance(site["value"], Tensor):
        return ""
    try:
        check_inverse(site["fn"], "q(z|x)", site["value"].clone())
    except ValueError as error:
        return str(error)
    if not hasattr(site["value"], "_unquantize"):
        return ""
    return (
        "q(z|x) is one of Pyro's relaxed straight-through distributions. Its density is known only at its own draws: "
        "it is the density of the relaxed values before rounding. Use the relaxed distribution, or one over the "
        "discrete values"
    )


def _parameters_of_examples(model: Trace) -> list[str]:
    """Return the parameters that each example of a plate has for itself; Pyro needs the whole plate for them."""
    return [
        name
        for name, site in model.nodes.items()
        if site["type"] == "param"
        and site["kwargs"].get("event_dim") is not None
        and any(frame.full_size not in (None, -1, frame.size) for frame in site["cond_indep_stack"])
    ]


def _takes_rows(p: ModelGuide, model: Trace) -> str:
    """Say which plate subsamples the rows of x itself; empty if none does."""
    site = model.nodes.get(p.observed)
    if site is None or not site["is_observed"] or site["value"].numel() == p.x.numel():
        return ""
    for frame in site["cond_indep_stack"]:
        if frame.full_size == p.batch > frame.size:
            return (
                f"the plate {frame.name!r} subsamples {frame.size} of the {p.batch} rows of x itself. Pass a batch of "
                f'the data, and write pyro.plate("{frame.name}", {p.batch}, subsample=x)'
            )
    return ""


def _wrong_dimension(p: ModelGuide, sites: list[Message | None]) -> str:
    """Say which site has the plate of examples to the right of another plate; empty if none has."""
    for site in filter(None, sites):
        shape = tuple(getattr(site["fn"], "batch_shape", ()))
        plates = {len(shape) + f.dim: f.name for f in site["cond_indep_stack"] if f.dim is not None}
        if len(shape) < 2 or shape[0] == p.batch or set(plates) != set(range(len(shape))):
            continue
        if p.batch in shape:
            name, left = plates[shape.index(p.batch)], plates[0]
            return (
                f"at the site {site['name']!r}, the plate of examples {name!r} is to the right of {left!r}. Give the "
                "plate of examples the leftmost dim="
            )
    return ""


def _observed(trace: Trace) -> list[str]:
    """Return the names of the observed sites without ``pyro.factor`` sites."""
    factors = factors_of(trace)
    return [name for name in sampled_sites(trace)[1] if name not in factors]


def _wrong_sites(p: ModelGuide, model: Trace, guide: Trace) -> str:
    """Say which site is missing, unobserved or superfluous; empty if the sites are right."""
    names = {"model": sampled_sites(model)[0], "guide": sampled_sites(guide)[0]}
    for place, found in names.items():
        if p.latent not in found:
            return (
                f"the {place} samples no latent site {p.latent!r}; it samples {listed(found) if found else 'nothing'}. "
                "Use one name in both, or name the site with latent="
            )
        if p.observed in found:
            return f"the {place} samples {p.observed!r} and does not observe it: obs=x is missing"
    for place, other in (("model", "guide"), ("guide", "model")):
        alone = [n for n in names[place] if n not in names[other]]
        if alone:
            return f"the {place} samples {_quoted(alone)}, and the {other} does not"
    site = model.nodes.get(p.observed)
    if site is None or site["type"] != "sample" or not site["is_observed"]:
        return _unobserved(p, _observed(model), _observed(guide))
    return _other_data(p, site["value"])


def _wrong_missing(model: Trace, guide: Trace) -> str:
    """Say which missing values the guide draws from another distribution than the model; empty if it draws none."""
    for site in sites_marked(model, FROM_MODEL):
        name, value = site["name"], site["value"]
        if name not in guide.nodes:
            return f"the model samples {name!r}, and the guide does not"
        ours, theirs = guide.nodes[name]["fn"].log_prob(value), site["fn"].log_prob(value)
        if equal(ours, theirs, 1e-4).verdict != "passed":
            return (
                f"the guide draws {name!r} from another distribution than the model, though the site is marked "
                f"{FROM_MODEL}: log q and log p of a draw differ by up to {(ours - theirs).abs().max():.3g}"
            )
    return ""


def _unobserved(p: ModelGuide, in_model: list[str], in_guide: list[str]) -> str:
    """Say that the model does not observe x, and the likeliest reason."""
    said = f"the model has no observed site {p.observed!r}"
    if p.observed in in_guide:
        return f"{said}, but the guide has one: pass (model, guide) in this order"
    if in_model:
        return f"{said}; it observes {listed(in_model)}. Name the site of x with observed="
    return f"{said} (obs=x). Without it, z does not depend on the data"


def _other_data(p: ModelGuide, observed: Tensor) -> str:
    """Say how the observed values differ from x; empty if they are x, in any shape, with missing values filled."""
    if observed.numel() != p.x.numel():
        return (
            f"the model observes {observed.numel()} values, of shape {tuple(observed.shape)}, and x has {p.x.numel()}: "
            "pass the observed values as x, and everything else as context"
        )
    seen = ~torch.isnan(p.x)
    if isinstance(p.named.get("mask"), Tensor):
        seen = seen & p.named["mask"]
    off = (observed.reshape(p.x.shape).double() - p.x.double()).abs()[seen]  # bools cannot be subtracted
    if not off.any():
        return ""
    return (
        f"the model observes other values than x, off by up to {off.max():.3g}: clamped, rounded or scaled data have "
        "another log p(x). Change x before you pass it, and the density with it"
    )


def _shapes(inputs: Inputs) -> Finding:
    """Check for one log-density per example, at two batch sizes: at one, equal sizes could hide a missing dimension."""
    p = inputs.given
    for pair in (p, p.rows(0, max(1, p.batch - 1))):
        try:
            z = pair.trace_guide().nodes[p.latent]
            model = pair.trace_model(z["value"]).nodes
        except Exception as error:  # any error of the user's programs is the finding
            return Finding("failed", describe_error(error, pair.batch))
        for what, site in (("q(z|x)", z), ("p(z)", model[p.latent]), ("p(x|z)", model[p.observed])):
            shape = _shape(site, pair.batch)
            if shape != (pair.batch,):
                return Finding(
                    "failed",
                    f"log {what} has shape {shape} for {pair.batch} examples and must have shape ({pair.batch},): "
                    f"its batch shape is {tuple(site['fn'].batch_shape)}, its event shape "
                    f"{tuple(site['fn'].event_shape)}. {_DECLARE if len(shape) > 1 else _INSIDE}",
                )
    return Finding("passed")


def _shape(site: Message, rows: int) -> tuple[int, ...]:
    """Return the shape of a site's log-density, summed over plates to the right of the examples' plate."""
    try:
        distribution = per_example(site, "model", rows)
    except ValueError:
        distribution = site["fn"]
    return tuple(distribution.log_prob(site["value"]).shape)


def _supports(inputs: Inputs) -> Finding:
    """Check draws of q(z|x) against the support of p(z), draws of p(z) against that of q(z|x), and x."""
    p = inputs.given
    z = p.draw(_DRAWS).detach()
    prior, posterior = p.prior(), p.posterior()
    from_prior = prior.sample((_DRAWS,))
    outside = [
        (prior, z, "draws of q(z|x) lie outside the support of the prior p(z): KL(q || p) is infinite"),
        (posterior, from_prior, "draws of the prior lie outside the support of q(z|x): q cannot be the posterior"),
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
            f"{_name(site['fn'])}: the values lie in [{x.min():.4g}, {x.max():.4g}]. Transform the data (for example, "
            "binarise grey values) or choose a likelihood over such values",
            float((~inside).double().mean()),
        )
    return Finding("passed", difference=0.0)


def _inside(distribution: TorchDistribution, value: Tensor) -> Tensor:
    """True for each value in the support, or with a finite log-density if the support is unknown."""
    support = stated_support(distribution)
    return torch.isfinite(distribution.log_prob(value)) if support is None else support.check(value)


def _name(distribution: TorchDistribution) -> str:
    return type(innermost(distribution)).__name__


def _data(inputs: Inputs) -> Finding:
    """Look for data on a grid under a continuous density."""
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
        "in pyro_vae.data) or choose a likelihood over levels"
    )
    return Finding("failed" if _can_sharpen(site["fn"]) else "noted", words)


def _can_sharpen(distribution: TorchDistribution) -> bool:
    """True if the density can grow without bound: its scale is learned, or it has no scale to limit it."""
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
        "the sites of model and guide, under Pyro's validation",
        "The guide must sample what the model samples, and the model must observe x.",
        _sites,
        "whether model and guide have the sites that an ELBO needs",
    ),
    Check(
        "shapes",
        _SECTION,
        "the shapes of log p(x|z), log p(z) and log q(z|x)",
        "Each is one number per example; undeclared dimensions are summed or broadcast by accident.",
        _shapes,
        "whether each log-density is one number per example",
    ),
    Check(
        "supports",
        _SECTION,
        "draws of q(z|x) against the support of p(z), draws of p(z) against that of q(z|x), x against that of p(x|z)",
        "Outside the support, the log-density and the bound are minus infinity or mean nothing.",
        _supports,
        "whether x and the draws of p(z) and q(z|x) lie in the supports",
    ),
    Check(
        "data",
        _SECTION,
        "the values of x against the kind of p(x|z)",
        "On data that lie on a grid, a density over the reals can grow without bound.",
        _data,
        "whether p(x|z) is of the same kind as the data",
    ),
]
