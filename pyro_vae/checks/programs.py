"""Whether model and guide are what an ELBO needs: their sites, shapes, supports, determinism and parameters."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from pyro.poutine.util import site_is_subsample
from pyro.util import check_model_guide_match
from torch import Tensor
from torch.distributions import Multinomial
from torch.overrides import TorchFunctionMode

from pyro_vae.checks.case import Case, Check, base_constraint, loss_of, named_leaves
from pyro_vae.checks.report import Finding
from pyro_vae.checks.statistics import equal
from pyro_vae.programs import Programs

__all__ = ["CHECKS"]

_SECTION = "Model and guide"
_DRAWS = 50
_PROBS = "torch's clamp of probs=; give logits= instead"


def _sites(case: Case) -> Finding:
    """Runs both under Pyro's own validation."""
    p = case.given
    with warnings.catch_warnings(record=True) as caught, pyro.validation_enabled(True):
        warnings.simplefilter("always")
        try:
            guide = p.trace_guide()
            model = poutine.trace(poutine.replay(p.model, guide)).get_trace(p.x, *p.context, **p.named)
            check_model_guide_match(model, guide)
            problem = _wrong_sites(p, model, guide)
            if not problem:
                Trace_ELBO().loss(p.model, p.guide, p.x, *p.context, **p.named)
        except Exception as error:  # whatever the user's programs raise is the finding
            return Finding("failed", _first_sentences(error))
    said = [str(w.message) for w in caught if "/pyro/" in w.filename.replace("\\", "/")]
    said = [s for s in said if "guide" in s or "model" in s or "NaN" in s or "inf" in s]
    return Finding("failed", problem or said[0]) if problem or said else Finding("passed")


def _first_sentences(error: Exception) -> str:
    """What a user can act on, without the table of shapes that Pyro appends."""
    message = " ".join(str(error).split("Trace Shapes:")[0].split())
    shapes = any(word in message for word in ("shape", "size of tensor", "dimension"))
    hint = (
        " Declare every dimension after the batch with .to_event(...)" if shapes and "to_event" not in message else ""
    )
    return f"{type(error).__name__}: {message}{hint}"


def _wrong_sites(p: Programs, model: Any, guide: Any) -> str:
    latent = {"model": model, "guide": guide}
    names = {
        place: [
            n
            for n, s in trace.nodes.items()
            if s["type"] == "sample" and not s["is_observed"] and not site_is_subsample(s)
        ]
        for place, trace in latent.items()
    }
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
        if len(found) > 1:
            return f"the {place} samples {', '.join(map(repr, found))}; a check reads programs with one latent site"
    site = model.nodes.get(p.observed)
    if site is None or site["type"] != "sample" or not site["is_observed"]:
        observed = [n for n, s in model.nodes.items() if s["type"] == "sample" and s["is_observed"]]
        return (
            f"the model has no observed site {p.observed!r} (obs=x), but {observed or 'none'}. Without it nothing ties "
            "z to the data"
        )
    return ""


def _shapes(case: Case) -> Finding:
    """One log-density an example, at two batch sizes, so that no coincidence of sizes hides a missing dimension."""
    p = case.given
    for programs in (p, p.rows(0, max(1, p.batch - 1))):
        z = programs.trace_guide().nodes[p.latent]
        model = programs.trace_model(z["value"]).nodes
        for what, site in (("q(z|x)", z), ("p(z)", model[p.latent]), ("p(x|z)", model[p.observed])):
            shape = tuple(site["fn"].log_prob(site["value"]).shape)
            if shape != (programs.batch,):
                return Finding(
                    "failed",
                    f"log {what} has shape {shape} for {programs.batch} examples, where ({programs.batch},) is meant: "
                    f"batch shape {tuple(site['fn'].batch_shape)}, event shape {tuple(site['fn'].event_shape)}. "
                    "Declare every dimension after the batch with .to_event, and sample inside the plate of examples",
                )
    return Finding("passed")


def _supports(case: Case) -> Finding:
    p = case.given
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
    while hasattr(distribution, "base_dist"):
        distribution = distribution.base_dist
    return type(distribution).__name__


def _data(case: Case) -> Finding:
    p = case.given
    site = p.trace_model(p.draw(1)[0].detach()).nodes[p.observed]
    support = base_constraint(site["fn"].support)
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
    while hasattr(distribution, "base_dist"):
        distribution = distribution.base_dist
    arguments = getattr(distribution, "arg_constraints", {})
    scale = getattr(distribution, "scale", None)
    if "scale" in arguments and isinstance(scale, Tensor):
        return scale.requires_grad
    return True


def _deterministic(case: Case) -> Finding:
    """The same numbers under two seeds, in evaluation mode."""
    p = case.given
    with torch.no_grad():
        z = p.draw(2)
        terms = []
        for key in (1, 2):
            with case.seeded(key):
                terms.append(p.terms(z))
    for what, first, second in zip(("log p(x|z)", "log p(z)", "log q(z|x)"), *terms, strict=True):
        if not torch.equal(first, second):
            return Finding(
                "failed",
                f"{what} changes from call to call at the same z and x, in evaluation mode. Is there dropout or noise "
                "that model.eval() does not switch off (functional dropout with training=True)?",
                (first - second).abs().max().item(),
                tolerance=0.0,
            )
    return Finding("passed", difference=0.0, tolerance=0.0)


def _examples(case: Case) -> Finding:
    """The log-densities of some examples, among their neighbours and without them."""
    p, half = case.exact, (case.exact.batch + 1) // 2
    if p.batch < 2:
        return Finding("skipped", "there is only one example")
    with torch.no_grad():
        z = p.draw(2)
        together = p.terms(z)
        apart = p.rows(0, half).terms(z[:, :half])
    for what, all_, some in zip(("log p(x|z)", "log p(z)", "log q(z|x)"), together, apart, strict=True):
        found = equal(all_[:, :half], some, max(case.rounding, 1e-8))
        if found.verdict == "failed":
            return Finding(
                "failed",
                f"{what} of an example depends on the other examples of its batch. Look for a softmax, mean or norm "
                "over dimension 0, batch norm in training mode, or a reshape that mixes examples",
                found.difference,
                tolerance=found.tolerance,
            )
    return found


def _peeking(case: Case) -> Finding:
    """The model at the same z, and other x."""
    p = case.exact
    if p.batch < 2 or torch.isnan(p.x).any():
        return Finding(
            "skipped",
            "there is only one example" if p.batch < 2 else "what is missing tells the model what to leave out",
        )
    with torch.no_grad():
        z = p.draw(1)[0]
        given, other = p.trace_model(z).nodes, p.of(p.x.roll(1, 0)).trace_model(z).nodes
        for what, name in (("p(z)", p.latent), ("p(x|z)", p.observed)):
            value = given[name]["value"]
            found = equal(
                given[name]["fn"].log_prob(value), other[name]["fn"].log_prob(value), max(case.rounding, 1e-8)
            )
            if found.verdict == "failed":
                words = f"{what} changes with the x that is observed: the model has seen the data that it is to explain"
                return replace(found, detail=words)
    return found


class _Clamps(TorchFunctionMode):
    """Watches for clamps that change a value, and remembers where."""

    _NAMES = ("clamp", "clamp_", "clip", "clip_", "clamp_min", "clamp_min_", "clamp_max", "clamp_max_", "nan_to_num")

    def __init__(self) -> None:
        super().__init__()
        self.active: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        watched = name in self._NAMES and args and isinstance(args[0], Tensor)
        before = args[0].detach().clone() if watched else None
        out = func(*args, **(kwargs or {}))
        if before is not None:
            changed = int((out.detach() != before).sum())
            where = _line_of_user() if changed else ""
            if where:
                self.active.append(f"{name} changed {changed:,} of {before.numel():,} values ({where})")
        return out


def _line_of_user() -> str:
    """The line of the user's code that clamps; empty where a library does so for reasons of its own.

    torch's clamp of ``probs=`` is no such reason: it changes what the user asked for.
    """
    frame: Any = sys._getframe(2)
    by_probs = False
    while frame is not None:
        module, function = frame.f_globals.get("__name__", ""), frame.f_code.co_name
        if module.startswith("pyro_vae.programs"):
            return _PROBS if by_probs else ""
        if module.split(".")[0] not in ("torch", "pyro", "pyro_vae"):
            return (
                "torch's clamp of probs=; give logits= instead"
                if by_probs
                else f"{frame.f_code.co_filename}:{frame.f_lineno}"
            )
        by_probs = by_probs or function == "probs_to_logits"
        if not by_probs and function != "clamp_probs" and module.startswith(("torch.distributions", "pyro")):
            return ""
        frame = frame.f_back
    return ""


def _clamps(case: Case) -> Finding:
    p = case.given
    with torch.no_grad(), _Clamps() as clamps:
        p.terms(p.draw(1))
        if case.objective is not None:
            loss_of(case)
    if not clamps.active:
        return Finding("passed", difference=0.0)
    return Finding(
        "failed",
        f"{clamps.active[0]}: there the bound is that of another model, and the gradient is zero. Work with logits, "
        "and with softplus for scales",
        float(len(clamps.active)),
    )


def _reach(case: Case) -> Finding:
    """Trains a copy until the mean of p(x|z) is at the largest, and at the smallest, value of x."""
    p = case.exact.copied()
    if p is None:
        return Finding("skipped", "the programs are plain functions, of which there is no copy to train")
    x = torch.nan_to_num(p.x.flatten(1))
    reached = 0.0
    span = (x.max() - x.min()).item()
    if span == 0:
        return Finding("skipped", "all values of x are the same")
    for index in (int(x.argmax()), int(x.argmin())):
        row, element = divmod(index, x.shape[1])
        miss = _miss(p.rows(row, row + 1), element, x[row, element], 0.05 * span)
        if miss is None:
            return Finding("skipped", "p(x|z) has no mean, or no parameters that move it")
        reached = max(reached, miss)
    if reached <= 0.05 * span:
        return Finding("passed", "", reached / span, tolerance=0.05)
    return Finding(
        "failed",
        f"whatever its weights, the mean of p(x|z) stays {reached:.3g} away from values of x that are there. Is"
        " there a sigmoid or tanh too many (logits= takes the net's output as it is), or x on another scale?",
        reached / span,
        tolerance=0.05,
    )


def _miss(p: Programs, element: int, target: Tensor, enough: float) -> float | None:
    """How near the mean of one element comes to its target, in training for that alone."""
    with torch.no_grad():
        z = p.draw(1)[0]
    parameters = [q for m in p.modules for q in m.parameters() if q.requires_grad]
    try:
        mean = _mean(p, z, element)
    except NotImplementedError:
        return None
    if not parameters or not mean.requires_grad:
        return None
    # A tiny eps: far out on a sigmoid the gradient is tiny, and its direction is all that counts.
    optimizer = torch.optim.Adam(parameters, lr=0.02, eps=1e-30)
    for _ in range(400):
        mean = _mean(p, z, element)
        miss = (mean - target).abs()
        if miss <= enough:
            break
        optimizer.zero_grad()
        miss.backward()
        optimizer.step()
    return float(miss)


def _mean(p: Programs, z: Tensor, element: int) -> Tensor:
    """The mean of one element of one example."""
    likelihood = p.likelihood(z)
    # A multinomial's mean is that of documents of one length, whatever the length of x.
    share = p.x.sum() / likelihood.total_count if isinstance(likelihood, Multinomial) else 1.0
    return share * likelihood.mean.flatten()[element]


def _parameters(case: Case) -> Finding:
    """What Pyro is told of, what the loss is computed from, and what the modules hold: all three must agree."""
    p = case.given
    guide = p.trace_guide()
    model = poutine.trace(poutine.replay(p.model, guide)).get_trace(p.x, *p.context, **p.named)
    declared = {
        id(site["value"].unconstrained()): site["name"]
        for trace in (guide, model)
        for site in trace.nodes.values()
        if site["type"] == "param" and hasattr(site["value"], "unconstrained")
    }
    computed = {id(leaf): name for name, leaf in named_leaves(p)}
    owned = {id(q): name for module in p.modules for name, q in module.named_parameters() if q.requires_grad}
    stale = [name for i, name in declared.items() if i not in computed]
    if stale:
        same = [name for i, name in owned.items() if i in computed and i not in declared]
        return Finding(
            "failed",
            f"Pyro is told to train {_some(stale)}, which the loss does not depend on"
            + (
                f", while it depends on {_some(same)}, which Pyro is not told of: its store holds older tensors "
                "under these names. Call pyro.clear_param_store() before you build another model"
                if same
                else ": is it cut off by detach() or no_grad()?"
            ),
            float(len(stale)),
        )
    idle = [name for i, name in owned.items() if i not in computed]
    if idle:
        return Finding(
            "failed",
            f"the loss does not depend on {_some(idle)}: is it cut off by detach() or no_grad(), or is it of no use?",
            float(len(idle)),
        )
    if not declared:
        if computed:
            return Finding(
                "noted", "no parameter is declared to Pyro: SVI would train nothing, an optimiser of torch's would"
            )
        return Finding("passed", "there are no parameters")
    untold = [name for i, name in computed.items() if i not in declared]
    if untold:
        return Finding(
            "failed",
            f"the loss depends on {_some(untold)}, which Pyro is not told of, so SVI will not train it. Declare it "
            "with pyro.module, or make the class a PyroModule",
            float(len(untold)),
        )
    return Finding("passed", f"{len(declared)} tensors, all trained", 0.0)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _plate(case: Case) -> Finding:
    """The scales of the sites, and the loss of parts of the batch beside that of the whole."""
    p = case.exact
    with torch.no_grad():
        z = p.draw(1)[0].detach()
        scales = _scales(p, z)
        if len(set(scales.values())) > 1:
            words = ", ".join(f"{name} by {scale:g}" for name, scale in scales.items())
            return Finding(
                "failed",
                f"log-densities are scaled differently: {words}. Their sum is then no bound on log p(x); put a weight "
                "of the KL into the objective, not into one site",
            )
        scale = scales["p(x|z)"]
        if case.data_size is not None and abs(scale * p.batch / case.data_size - 1) > 1e-6:
            return Finding(
                "failed",
                f"each of the {p.batch} examples counts {scale:g} times, so the loss stands for {scale * p.batch:g} "
                f"examples; there are {case.data_size}. The plate's size must be the size of the data",
                scale * p.batch,
            )
        half = p.batch // 2
        if half < 1:
            return Finding("skipped", "there is only one example")
        whole = _scaled(p, z)
        parts = torch.stack([_scaled(p.rows(i, i + half), z[i : i + half]) for i in (0, half)])
        if p.batch % 2:
            whole = _scaled(p.rows(0, 2 * half), z[: 2 * half])
    # A plate of fixed size makes each part an estimate of the whole; one of the batch's size makes parts add up.
    fixed = _scales(p.rows(0, half), z[:half])["p(x|z)"] != scale
    found = equal(parts.mean() if fixed else parts.sum(), whole, max(case.rounding, 1e-8))
    detail = "the loss of parts of the batch is not, on average, that of the whole" if found.verdict == "failed" else ""
    return Finding(found.verdict, detail, found.difference, tolerance=found.tolerance)


def _nodes(p: Programs, z: Tensor) -> dict[str, Any]:
    guide = poutine.trace(poutine.condition(p.guide, data={p.latent: z}))
    model = p.trace_model(z).nodes
    q = guide.get_trace(p.x, *p.context, **p.named).nodes[p.latent]
    return {"p(x|z)": model[p.observed], "p(z)": model[p.latent], "q(z|x)": q}


def _scales(p: Programs, z: Tensor) -> dict[str, float]:
    return {name: float(torch.as_tensor(site["scale"]).double().mean()) for name, site in _nodes(p, z).items()}


def _scaled(p: Programs, z: Tensor) -> Tensor:
    sums = [(site["scale"] * site["fn"].log_prob(site["value"])).sum() for site in _nodes(p, z).values()]
    return sums[0] + sums[1] - sums[2]


CHECKS = [
    Check(
        "sites",
        _SECTION,
        "the sites of model and guide, with Pyro's validation on",
        "The guide must sample what the model samples, and the model must observe x.",
        _sites,
    ),
    Check(
        "shapes",
        _SECTION,
        "the shapes of log p(x|z), log p(z) and log q(z|x)",
        "Each is one number an example; what is not declared is summed or broadcast by accident.",
        _shapes,
    ),
    Check(
        "supports",
        _SECTION,
        "draws of q(z|x) with the support of p(z) and back, x with that of p(x|z)",
        "A value without a density makes the bound minus infinity, or meaningless where nobody looks.",
        _supports,
    ),
    Check(
        "data",
        _SECTION,
        "the values of x with the kind of p(x|z)",
        "A density over the reals has no largest value on data that lie on a grid.",
        _data,
    ),
    Check(
        "deterministic",
        _SECTION,
        "the log-densities at the same z and x, twice",
        "In evaluation mode p and q are fixed; what still changes is noise that training did not mean.",
        _deterministic,
    ),
    Check(
        "examples",
        _SECTION,
        "the log-densities of an example within its batch and without the others",
        "The bound is a sum over independent examples; neighbours must not change it.",
        _examples,
    ),
    Check(
        "peeking",
        _SECTION,
        "p(z) and p(x|z) in a model that observes x, and one that observes other x, at the same z",
        "A model says how x comes about without having seen it; else its likelihood means nothing.",
        _peeking,
    ),
    Check(
        "clamps",
        _SECTION,
        "values before and after each clamp in model, guide and objective",
        "Where a clamp is active the bound is that of another model, and no gradient leads back.",
        _clamps,
    ),
    Check(
        "reach",
        _SECTION,
        "the mean of p(x|z), trained for that alone, with the extremes of x",
        "A decoder that cannot say what is in the data has the wrong output layer.",
        _reach,
    ),
    Check(
        "parameters",
        _SECTION,
        "parameters that Pyro is told of, that the loss depends on, that the modules hold",
        "SVI trains what it is told of; the three must be the same.",
        _parameters,
    ),
    Check(
        "plate",
        _SECTION,
        "the scales of the sites, and the loss of halves of the batch with that of the whole",
        "Minibatches must estimate the bound of all data without bias, and every term with the same weight.",
        _plate,
    ),
]
