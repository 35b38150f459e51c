"""Whether what is trained is what the loss depends on, and each example counts as it should."""

from __future__ import annotations

from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_vae.checks.inputs import Check, Inputs, named_leaves
from pyro_vae.checks.report import Finding
from pyro_vae.checks.statistics import equal
from pyro_vae.model_guide import ModelGuide, scale_of

__all__ = ["CHECKS"]

_SECTION = "Model and guide"
_ROUNDING = 1e-6  # of a scale that somebody works out in float32


def _parameters(inputs: Inputs) -> Finding:
    """What Pyro is told of, what the loss is computed from, and what the modules hold: all three must agree."""
    p = inputs.given
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
                "noted",
                "Pyro is told of no parameter: SVI would train nothing. Call pyro.module in model and guide, or train "
                "with an optimiser of torch's",
            )
        return Finding("passed", "there are no parameters")
    untold = [name for i, name in computed.items() if i not in declared]
    if untold:
        return Finding(
            "failed",
            f"the loss depends on {_some(untold)}, which Pyro is not told of, so SVI will not train them. Declare them "
            "with pyro.module in model and guide",
            float(len(untold)),
        )
    return Finding("passed", f"{len(declared)} tensors, all trained", 0.0)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _plate(inputs: Inputs) -> Finding:
    """The scales of the sites, and the loss of parts of the batch beside that of the whole."""
    p = inputs.exact
    with torch.no_grad():
        z = p.draw(1)[0].detach()
        scales = _scales(p, z)
        if max(scales.values()) > (1 + _ROUNDING) * min(scales.values()):
            words = ", ".join(f"{name} by {scale:g}" for name, scale in scales.items())
            return Finding(
                "failed",
                f"log-densities are scaled differently: {words}. Their sum is then no bound on log p(x); put a weight "
                "of the KL into the objective, not into one site",
            )
        scale = scales["p(x|z)"]
        if inputs.data_size is not None and abs(scale * p.batch / inputs.data_size - 1) > _ROUNDING:
            return Finding(
                "failed",
                f"each of the {p.batch} examples counts {scale:g} times, so the loss stands for {scale * p.batch:g} "
                f"examples; there are {inputs.data_size}. The plate's size must be the size of the data",
                scale * p.batch,
            )
        half = p.batch // 2
        if half < 1:
            return Finding("skipped", "there is only one example")

        def loss(start: int, stop: int) -> Tensor:
            some = p.rows(start, stop)
            # Beside a point there is no density at all, be it by rounding.
            return _scaled(some, some.draw(1)[0] if inputs.is_point else z[start:stop])

        whole, parts = loss(0, 2 * half), torch.stack([loss(0, half), loss(half, 2 * half)])
    # A plate of fixed size makes each part an estimate of the whole; one of the batch's size makes parts add up.
    of_half = half * _scales(p.rows(0, half), z[:half])["p(x|z)"]
    fixed = abs(of_half - p.batch * scale) <= _ROUNDING * abs(of_half)
    found = equal(parts.mean() if fixed else parts.sum(), whole, max(inputs.rounding, 1e-8))
    detail = "the loss of parts of the batch is not, on average, that of the whole" if found.verdict == "failed" else ""
    return Finding(found.verdict, detail, found.difference, tolerance=found.tolerance)


def _nodes(p: ModelGuide, z: Tensor) -> dict[str, Any]:
    guide = poutine.trace(poutine.condition(p.guide, data={p.latent: z}))
    model = p.trace_model(z).nodes
    q = guide.get_trace(p.x, *p.context, **p.named).nodes[p.latent]
    return {"p(x|z)": model[p.observed], "p(z)": model[p.latent], "q(z|x)": q}


def _scales(p: ModelGuide, z: Tensor) -> dict[str, float]:
    return {name: scale_of(site) for name, site in _nodes(p, z).items()}


def _scaled(p: ModelGuide, z: Tensor) -> Tensor:
    sums = [(site["scale"] * site["fn"].log_prob(site["value"])).sum() for site in _nodes(p, z).values()]
    return sums[0] + sums[1] - sums[2]


CHECKS = [
    Check(
        "parameters",
        _SECTION,
        "parameters that Pyro is told of, that the loss depends on, that the modules hold",
        "SVI trains what it is told of; the three must be the same.",
        _parameters,
        "whether all parameters are trained",
    ),
    Check(
        "plate",
        _SECTION,
        "the scales of the sites, and the loss of halves of the batch with that of the whole",
        "Minibatches must estimate the bound of all data without bias, and every term with the same weight.",
        _plate,
        "whether each example counts as it should",
    ),
]
